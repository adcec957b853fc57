//! Pauses: nobody stops anything in the simulation.

use super::SimStore;
use super::session::SimTx;
use async_trait::async_trait;
use holdfast::domain::Shard;
use holdfast::store::{PauseReads, PauseRow, PausesTx, StoreError};

#[async_trait]
impl PauseReads for SimStore {
    async fn pauses(&self, shard: Shard) -> Result<Vec<PauseRow>, StoreError> {
        self.read("pauses", shard, |_| Vec::new()).await
    }
}

#[async_trait]
impl PausesTx for SimTx {
    async fn put_pause(&mut self, _row: &PauseRow) -> Result<bool, StoreError> {
        unreachable!("nobody stops anything in the simulation")
    }
}
