//! What operators have stopped.

use super::driver::Driver;
use super::row::Row;
use super::tx::SqlTx;
use super::{SqlStore, decode, statements};
use crate::domain::Shard;
use crate::store::{PauseReads, PauseRow, PausesTx, StoreError};
use async_trait::async_trait;

#[async_trait]
impl<D: Driver> PauseReads for SqlStore<D> {
    async fn pauses(&self, shard: Shard) -> Result<Vec<PauseRow>, StoreError> {
        decode::all(self.read(shard, statements::PAUSES, &[]).await?, pause)
    }
}

#[async_trait]
impl<D: Driver> PausesTx for SqlTx<D> {
    async fn put_pause(&mut self, row: &PauseRow) -> Result<bool, StoreError> {
        let args = [
            row.mode.as_str().into(),
            row.revision.into(),
            row.since.into(),
            row.operator.as_str().into(),
            row.reason.as_deref().into(),
            row.scope.as_str().into(),
        ];
        let known = self.fetch(statements::PAUSE_REVISION, &[row.scope.as_str().into()]).await?;
        match decode::first(known, Row::int)? {
            Some(revision) if revision >= row.revision => return Ok(false),
            Some(_) => self.execute(statements::UPDATE_PAUSE, &args).await?,
            None => self.execute(statements::INSERT_PAUSE, &args).await?,
        };
        Ok(true)
    }
}

fn pause(row: &mut Row) -> Result<PauseRow, StoreError> {
    Ok(PauseRow {
        scope: row.text()?,
        mode: row.text()?,
        revision: row.int()?,
        since: row.time()?,
        operator: row.text()?,
        reason: row.opt_text()?,
    })
}
