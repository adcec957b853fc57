//! Replicas: no process of the simulation reads from any.

use super::SimStore;
use async_trait::async_trait;
use holdfast::domain::Shard;
use holdfast::store::{Executed, Replication, StoreError};

#[async_trait]
impl Replication for SimStore {
    async fn executed(&self, shard: Shard) -> Result<Option<Executed>, StoreError> {
        self.read("executed", shard, |_| None).await
    }

    async fn has_executed(&self, shard: Shard, _executed: &Executed) -> Result<bool, StoreError> {
        self.read("has executed", shard, |_| false).await
    }
}
