//! The audit log, reasons of quarantines, and dead letters that were dealt with.

use super::driver::{Arg, Driver};
use super::row::Row;
use super::tx::{SqlTx, account_ids};
use super::{SqlStore, bound_at, decode, id_arg, statements};
use crate::broker::{Family, Topic};
use crate::domain::{AccountId, Partition, Shard, StuckTransfer, Suspicion, Timestamp, TransferId};
use crate::store::{
    Act, ActFilter, Actor, Handled, LetterMark, LoggedAct, Operations, OperationsTx, Quarantined,
    StoreError, Tx,
};
use async_trait::async_trait;
use std::collections::BTreeSet;

/// Characters that columns of sentences take.
const SENTENCE: usize = 1024;

/// As much of a sentence as its column takes.
pub(super) fn short(sentence: &str) -> String {
    sentence.chars().take(SENTENCE).collect()
}

#[async_trait]
impl<D: Driver> Operations for SqlStore<D> {
    async fn acts(
        &self,
        shard: Shard,
        filter: &ActFilter,
        (at, id): (Timestamp, i64),
        limit: u32,
    ) -> Result<Vec<LoggedAct>, StoreError> {
        let action = filter.action.map_or("", |action| action.as_str());
        let target = filter.target.as_deref().unwrap_or("");
        let args = [
            at.into(),
            at.into(),
            id.into(),
            action.into(),
            action.into(),
            target.into(),
            target.into(),
            i64::from(limit).into(),
        ];
        decode::all(self.read(shard, statements::ACTS, &args).await?, logged)
    }

    async fn quarantines(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<Quarantined>, StoreError> {
        let args = [after.map_or("", AccountId::as_str).into(), i64::from(limit).into()];
        decode::all(self.read(shard, statements::QUARANTINES, &args).await?, quarantined)
    }

    async fn quarantine_of(
        &self,
        shard: Shard,
        account: &AccountId,
    ) -> Result<Option<Quarantined>, StoreError> {
        let args = [account.as_str().into()];
        decode::first(self.read(shard, statements::QUARANTINE_OF, &args).await?, quarantined)
    }

    async fn open_transfers(
        &self,
        shard: Shard,
        after: TransferId,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StuckTransfer>, StoreError> {
        let args = [id_arg(after), bound_at(until), i64::from(limit).into()];
        decode::all(self.read(shard, self.texts().open_transfers, &args).await?, open)
    }

    async fn letter_marks(
        &self,
        shard: Shard,
        partition: Partition,
        from: i64,
        to: i64,
    ) -> Result<Vec<LetterMark>, StoreError> {
        let args = [Arg::Text(topic(shard)), i64::from(partition.0).into(), from.into(), to.into()];
        decode::all(self.read(shard, statements::LETTER_MARKS, &args).await?, mark)
    }
}

#[async_trait]
impl<D: Driver> OperationsTx for SqlTx<D> {
    async fn record_acts(&mut self, acts: &[Act]) -> Result<(), StoreError> {
        let at = self.at().micros();
        let rows = acts.iter().map(|act| {
            let Actor { operator, reason, request } = &act.actor;
            let reason = reason.as_deref().map(short);
            (at, operator, &act.action, &act.target, reason, &act.before, &act.after, request)
        });
        self.execute_batch(D::STATEMENTS.insert_acts, rows.collect()).await?;
        Ok(())
    }

    async fn forget_quarantines(&mut self, ids: &BTreeSet<AccountId>) -> Result<u64, StoreError> {
        self.execute_batch(D::STATEMENTS.forget_quarantines, account_ids(ids)).await
    }

    async fn mark_letters(&mut self, marks: &[LetterMark]) -> Result<(), StoreError> {
        let (topic, at) = (topic(self.shard()), self.at().micros());
        let rows = marks.iter().map(|mark| {
            let place = (mark.partition.0, mark.offset);
            let reason = mark.reason.as_deref().map(short);
            (&topic, place.0, place.1, mark.handled.code(), &mark.operator, reason, at)
        });
        self.execute_batch(D::STATEMENTS.insert_letter_marks, rows.collect()).await?;
        Ok(())
    }

    async fn rebuild_projections(&mut self, ids: &BTreeSet<AccountId>) -> Result<u64, StoreError> {
        let as_of = self.at().micros();
        self.execute_batch(D::STATEMENTS.forget_balances, account_ids(ids)).await?;
        let rows = ids.iter().map(|id| (id.as_str(), as_of)).collect();
        self.execute_batch(D::STATEMENTS.copy_balances, rows).await
    }
}

fn topic(shard: Shard) -> String {
    Topic { family: Family::DeadLetter, shard }.to_string()
}

fn logged(row: &mut Row) -> Result<LoggedAct, StoreError> {
    let (id, at, operator) = (row.int()?, row.time()?, row.text()?);
    let (action, target, reason) = (row.text()?, row.text()?, row.opt_text()?);
    let (before, after, request) = (row.text()?, row.text()?, row.opt_text()?);
    let actor = Actor { operator, reason, request };
    Ok(LoggedAct { id, at, act: Act { actor, action, target, before, after } })
}

fn open(row: &mut Row) -> Result<StuckTransfer, StoreError> {
    let (attempts, since, due_at) = (row.opt_int()?, row.opt_time()?, row.opt_time()?);
    let transfer = decode::transfer(row)?;
    let asked = transfer.requested_at;
    Ok(StuckTransfer {
        attempts: attempts.and_then(|attempts| u32::try_from(attempts).ok()).unwrap_or(0),
        since: since.unwrap_or(asked),
        due_at: due_at.unwrap_or(asked),
        row: transfer,
    })
}

fn quarantined(row: &mut Row) -> Result<Quarantined, StoreError> {
    Ok(Quarantined {
        account: row.parse()?,
        currency: row.parse()?,
        since: row.time()?,
        suspicion: Suspicion {
            reason: row.text()?,
            amount: row.int()?,
            transfer: row.opt_transfer()?,
        },
    })
}

fn mark(row: &mut Row) -> Result<LetterMark, StoreError> {
    Ok(LetterMark {
        partition: Partition(row.number()?),
        offset: row.int()?,
        handled: row.coded(Handled::from_code)?,
        operator: row.text()?,
        reason: row.opt_text()?,
        at: row.time()?,
    })
}
