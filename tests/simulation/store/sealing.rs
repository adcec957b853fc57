//! Keys of personal fields: no process of the simulation encrypts any.

use super::SimStore;
use async_trait::async_trait;
use holdfast::domain::Shard;
use holdfast::store::{Actor, DataKeyRow, Sealing, StoreError};
use std::time::Duration;

#[async_trait]
impl Sealing for SimStore {
    async fn data_keys(&self, shard: Shard) -> Result<Vec<DataKeyRow>, StoreError> {
        self.read("data keys", shard, |_| Vec::new()).await
    }

    async fn rotate_data_key(
        &self,
        _shard: Shard,
        _older_than: Duration,
        _actor: &Actor,
    ) -> Result<Option<u32>, StoreError> {
        unreachable!("no process of the simulation has keys")
    }

    async fn rewrap_data_keys(&self, _shard: Shard, _actor: &Actor) -> Result<u32, StoreError> {
        unreachable!("no process of the simulation has keys")
    }
}
