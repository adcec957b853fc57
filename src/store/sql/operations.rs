//! The audit log, reasons of quarantines, and dead letters that were dealt with.

use super::driver::{Arg, Driver, Hex};
use super::row::Row;
use super::tx::{SqlTx, account_ids};
use super::{SqlStore, bound_at, decode, id_arg, statements};
use crate::broker::{Family, Topic};
use crate::domain::{AccountId, Partition, Shard, StuckTransfer, Suspicion, Timestamp, TransferId};
use crate::store::chain::{ChainHash, ChainHead, ChainOf, ChainPage, ChainedAct};
use crate::store::{
    Act, ActFilter, Actor, Handled, LetterMark, LoggedAct, Operations, OperationsTx, Quarantined,
    StoreError, Tx, expect_rows,
};
use async_trait::async_trait;
use serde::Serialize;
use std::collections::BTreeSet;

/// Characters that columns take.
const SENTENCE: usize = 1024;
const OPERATOR: usize = 128;
const ACTION: usize = 64;
const TARGET: usize = 255;
const REQUEST: usize = 64;

/// As much of a sentence as its column takes.
pub(super) fn short(sentence: &str) -> String {
    sentence.chars().take(SENTENCE).collect()
}

/// As much of a text as a column of ASCII takes.
fn ascii(text: &str, most: usize) -> String {
    let seen = |character: char| if character.is_ascii() { character } else { '?' };
    text.chars().take(most).map(seen).collect()
}

/// An act as its columns take it: what is hashed is what will be read.
fn fitted(act: &Act) -> Act {
    let Actor { operator, reason, request } = &act.actor;
    Act {
        actor: Actor {
            operator: operator.chars().take(OPERATOR).collect(),
            reason: reason.as_deref().map(short),
            request: request.as_deref().map(|request| ascii(request, REQUEST)),
        },
        action: ascii(&act.action, ACTION),
        target: ascii(&act.target, TARGET),
        before: act.before.clone(),
        after: act.after.clone(),
    }
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

    async fn chained_acts(
        &self,
        shard: Shard,
        after: i64,
        limit: u32,
    ) -> Result<ChainPage, StoreError> {
        let mut link = self.reader(shard).await?;
        link.be_patient();
        link.begin(self.texts().begin_snapshot).await?;
        let args = [after.into(), i64::from(limit).into()];
        let rows = decode::all(link.fetch(statements::CHAINED_ACTS, &args).await?, chained)?;
        let head = decode::first(link.fetch(statements::CHAIN_HEAD, &[]).await?, head)?;
        link.commit().await?;
        Ok(ChainPage { head, rows })
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
        if acts.is_empty() {
            return Ok(());
        }
        let acts: Vec<Act> = acts.iter().map(fitted).collect();
        let (head, first) = self.lock_chain().await?;
        let chain = ChainOf { cluster: self.cluster(), shard: self.shard() };
        let (mut link, mut last) = (head.follows(chain), head.last_id);
        let mut rows = Vec::new();
        for (id, act) in (first..).zip(&acts) {
            (link, last) = (ChainedAct::of(id, self.at(), act).after(&link), id);
            rows.push(act_columns(id, self.at(), act, &link));
        }
        self.execute_batch(D::STATEMENTS.insert_acts, rows).await?;
        let args = [last.into(), Arg::Bytes(link.0.to_vec()), head.last_id.into()];
        let moved = self.execute(statements::MOVE_CHAIN, &args).await?;
        expect_rows(self.shard(), "the head of the audit log", 1, moved)
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

impl<D: Driver> SqlTx<D> {
    /// Locks the head of the audit log's chain; where it ends, and the id of the next row. Rows
    /// that somebody has put behind the head are left behind: `audit verify` names them.
    async fn lock_chain(&mut self) -> Result<(ChainHead, i64), StoreError> {
        let found = self.fetch(D::STATEMENTS.lock_chain, &[]).await?;
        let found = decode::first(found, |row| Ok((head(row)?, row.opt_int()?)))?;
        let corrupt = |detail: &str| StoreError::Corrupt {
            shard: self.shard(),
            detail: format!("the audit log cannot be written: {detail}"),
        };
        let (head, highest) = found.ok_or_else(|| corrupt("its head, audit_chain, has no row"))?;
        let last = highest.map_or(head.last_id, |highest| highest.max(head.last_id));
        let next = last.checked_add(1).ok_or_else(|| corrupt("no higher id is left"))?;
        Ok((head, next))
    }
}

fn act_columns<'a>(
    id: i64,
    at: Timestamp,
    act: &'a Act,
    hash: &ChainHash,
) -> impl Serialize + Send + use<'a> {
    let Actor { operator, reason, request } = &act.actor;
    let (operator, reason, request) = (operator.as_str(), reason.as_deref(), request.as_deref());
    let (action, target) = (act.action.as_str(), act.target.as_str());
    let (before, after) = (act.before.as_str(), act.after.as_str());
    (id, at.micros(), operator, action, target, reason, before, after, request, Hex(hash.0))
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

/// The columns as they are, whatever they are.
fn chained(row: &mut Row) -> Result<ChainedAct, StoreError> {
    let (id, at) = (row.int()?, row.time()?);
    let mut columns = [const { None }; 7];
    for column in &mut columns {
        *column = row.opt_bytes()?;
    }
    Ok(ChainedAct { id, at, columns, hash: row.opt_bytes()? })
}

fn head(row: &mut Row) -> Result<ChainHead, StoreError> {
    let (began_after, last_id) = (row.int()?, row.int()?);
    Ok(ChainHead { began_after, last_id, last_hash: row.opt_bytes()? })
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
