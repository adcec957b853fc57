//! What the drift check reads and remembers. Reads that may go over many entries are patient.

use super::audit::{account_sums, entry_fault};
use super::driver::{Arg, Driver};
use super::row::Row;
use super::{SqlStore, decode, id_arg, statements, transfer_batch};
use crate::domain::{AccountId, Shard, TransferId};
use crate::store::transact::again;
use crate::store::{AccountSums, Drift, EntryFault, Pass, Progress, StoreError};
use async_trait::async_trait;
use std::collections::BTreeSet;

fn accounts<D: Driver>(ids: &[AccountId]) -> Arg {
    let ids: BTreeSet<&AccountId> = ids.iter().collect();
    D::rows(ids.into_iter().map(|id| (id.as_str(),)))
}

#[async_trait]
impl<D: Driver> Drift for SqlStore<D> {
    async fn account_page(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountSums>, StoreError> {
        let args = [after.map_or("", AccountId::as_str).into(), i64::from(limit).into()];
        let rows = self.read_patiently(shard, self.texts().account_page, &args).await?;
        decode::all(rows, account_sums)
    }

    async fn account_sums_of(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<AccountSums>, StoreError> {
        let rows =
            self.read_patiently(shard, self.texts().account_sums_of, &[accounts::<D>(ids)]).await;
        decode::all(rows?, account_sums)
    }

    async fn account_glances(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<AccountSums>, StoreError> {
        let rows =
            self.read_patiently(shard, self.texts().account_glances, &[accounts::<D>(ids)]).await;
        decode::all(rows?, glance)
    }

    async fn entry_faults_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<EntryFault>, StoreError> {
        let batch = [transfer_batch::<D>(ids.iter().copied())];
        faulty(self.read_patiently(shard, self.texts().entry_faults_of, &batch).await?)
    }

    async fn chain_faults_of(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<EntryFault>, StoreError> {
        let batch = [accounts::<D>(ids)];
        faulty(self.read_patiently(shard, self.texts().chain_faults_of, &batch).await?)
    }

    async fn drift_progress(
        &self,
        shard: Shard,
        pass: Pass,
    ) -> Result<Option<Progress>, StoreError> {
        let rows = self.read(shard, statements::DRIFT_PROGRESS, &[pass.as_str().into()]).await?;
        decode::first(rows, progress)
    }

    async fn move_drift(
        &self,
        shard: Shard,
        pass: Pass,
        from: Option<&Progress>,
        to: &Progress,
        watch: &[TransferId],
    ) -> Result<bool, StoreError> {
        again(|_| self.move_pass(shard, pass, from, to, watch)).await
    }

    async fn drift_watched(
        &self,
        shard: Shard,
        after: TransferId,
        limit: u32,
    ) -> Result<Vec<TransferId>, StoreError> {
        let args = [id_arg(after), i64::from(limit).into()];
        decode::all(self.read(shard, statements::DRIFT_WATCHED, &args).await?, Row::transfer)
    }

    async fn drift_seen(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        again(|_| self.forget_watched(shard, ids)).await
    }
}

impl<D: Driver> SqlStore<D> {
    async fn move_pass(
        &self,
        shard: Shard,
        pass: Pass,
        from: Option<&Progress>,
        to: &Progress,
        watch: &[TransferId],
    ) -> Result<bool, StoreError> {
        let mut tx = self.write(shard).await?;
        let found = tx.fetch(self.texts().lock_drift_progress, &[pass.as_str().into()]).await?;
        if decode::first(found, progress)?.as_ref() != from {
            return Ok(false);
        }
        let args = [
            to.position.as_str().into(),
            to.begun_at.into(),
            Arg::from(to.ended_at),
            pass.as_str().into(),
        ];
        let text = match from {
            Some(_) => statements::MOVE_DRIFT,
            None => statements::BEGIN_DRIFT,
        };
        tx.execute(text, &args).await?;
        if !watch.is_empty() {
            let batch = transfer_batch::<D>(watch.iter().copied());
            tx.execute(self.texts().watch_drift, &[batch]).await?;
        }
        tx.finish().await?;
        Ok(true)
    }

    async fn forget_watched(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        let mut tx = self.write(shard).await?;
        let batch = transfer_batch::<D>(ids.iter().copied());
        tx.execute(self.texts().forget_watched, &[batch]).await?;
        tx.finish().await
    }
}

/// What is held has two parts: before the reconciler's mark, and on its list.
fn glance(row: &mut Row) -> Result<AccountSums, StoreError> {
    let account = decode::account(row)?;
    let (entries, recent, listed) = (row.sum()?, row.sum()?, row.sum()?);
    let projected = super::audit::projected(row)?;
    Ok(AccountSums { row: account, entries, held: recent + listed, projected })
}

fn faulty(rows: Vec<Row>) -> Result<Vec<EntryFault>, StoreError> {
    let mut faults = decode::all(rows, entry_fault)?;
    faults.retain(|fault| i128::from(fault.balance_after) != fault.expected);
    Ok(faults)
}

fn progress(row: &mut Row) -> Result<Progress, StoreError> {
    Ok(Progress { position: row.text()?, begun_at: row.time()?, ended_at: row.opt_time()? })
}
