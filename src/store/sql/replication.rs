//! How far a server has come.

use super::driver::Driver;
use super::row::Row;
use super::{SqlStore, decode};
use crate::domain::Shard;
use crate::store::{Executed, Replication, StoreError};
use async_trait::async_trait;

#[async_trait]
impl<D: Driver> Replication for SqlStore<D> {
    async fn executed(&self, shard: Shard) -> Result<Option<Executed>, StoreError> {
        let rows = self.read(shard, self.texts().executed, &[]).await?;
        let told = decode::first(rows, Row::opt_text)?.flatten();
        // Nothing at all: what was committed before transactions were numbered is not in it.
        Ok(told.filter(|told| !told.is_empty()).map(Executed))
    }

    async fn has_executed(&self, shard: Shard, executed: &Executed) -> Result<bool, StoreError> {
        let args = [executed.0.as_str().into()];
        let rows = self.read(shard, self.texts().has_executed, &args).await?;
        Ok(decode::first(rows, Row::flag)? == Some(true))
    }
}
