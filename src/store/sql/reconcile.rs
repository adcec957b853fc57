//! What the reconciler keeps: marks, the list of stuck transfers, leases; and the deletion of old
//! claims, which scans transfers the same way.

use super::driver::{Driver, Hex};
use super::tx::SqlTx;
use super::{SqlStore, bound_at, decode, id_arg, statements};
use crate::domain::{Shard, State, Timestamp, TransferId};
use crate::store::{Mark, Standing, StoreError, StuckTransfer};
use std::time::Duration;

/// The mark of the deletion of claims.
const CLAIMS: &str = "claims";

impl Mark {
    const fn name(self) -> &'static str {
        match self {
            Self::Recent => "recent",
            Self::Sweep => "sweep",
        }
    }
}

impl<D: Driver> SqlStore<D> {
    pub(super) async fn scan(
        &self,
        shard: Shard,
        mark: Mark,
        until: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        let mut tx = self.write(shard).await?;
        let from = lock_mark(&mut tx, mark.name()).await?;
        let args = [id_arg(from), bound_at(until), i64::from(limit).into()];
        let rows = tx.fetch(statements::SCAN_TRANSFERS, &args).await?;
        let seen = decode::all(rows, |row| Ok((row.transfer()?, row.coded(State::from_code)?)))?;
        let open = seen.iter().filter(|(_, state)| !state.is_final()).map(|(id, _)| *id);
        let open: Vec<TransferId> = open.collect();
        let listed = !open.is_empty();
        list(&mut tx, open, 0).await?;
        let last = seen.last().map_or(from, |(id, _)| *id);
        let next = match mark {
            Mark::Sweep if seen.len() < limit as usize => TransferId::from_bytes([0; 16]),
            Mark::Sweep | Mark::Recent => last,
        };
        // A sweep that ends in the page it began with leaves its mark where it is.
        if next != from || listed {
            move_mark(&mut tx, mark.name(), next).await?;
            tx.finish().await?;
        }
        Ok(u32::try_from(seen.len()).unwrap_or(u32::MAX))
    }

    /// Those that are over are taken off the list page by page, until there is one that is not.
    pub(super) async fn due(
        &self,
        shard: Shard,
        limit: u32,
    ) -> Result<Vec<StuckTransfer>, StoreError> {
        loop {
            let mut tx = self.write(shard).await?;
            let args = [tx.at().into(), i64::from(limit).into()];
            let rows = tx.fetch(statements::STUCK, &args).await?;
            let full = rows.len() == limit as usize;
            let mut due = Vec::new();
            let mut done = Vec::new();
            for row in rows {
                match stuck(row)? {
                    Ok(stuck) => due.push(stuck),
                    Err(id) => done.push(id),
                }
            }
            if !done.is_empty() {
                let batch = super::transfer_batch::<D>(done);
                tx.execute(D::STATEMENTS.forget_stuck, &[batch]).await?;
                tx.finish().await?;
            }
            if !due.is_empty() || !full || limit == 0 {
                return Ok(due);
            }
        }
    }

    pub(super) async fn note_stuck(
        &self,
        shard: Shard,
        seen: &[(TransferId, u32, Timestamp)],
    ) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        let rows =
            seen.into_iter().map(|(id, attempts, next)| (Hex::from(id), attempts, next.micros()));
        let mut tx = self.write(shard).await?;
        tx.execute(D::STATEMENTS.stuck_seen, &[D::rows(rows)]).await?;
        tx.finish().await
    }

    pub(super) async fn unlist(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut tx = self.write(shard).await?;
        let batch = super::transfer_batch::<D>(ids.to_vec());
        tx.execute(D::STATEMENTS.remove_stuck, &[batch]).await?;
        tx.finish().await
    }

    pub(super) async fn unfinished(&self, shard: Shard) -> Result<Vec<Standing>, StoreError> {
        let rows = self.read(shard, self.texts().standing, &[]).await?;
        decode::all(rows, |row| {
            Ok(Standing {
                currency: row.parse()?,
                state: row.coded(State::from_code)?,
                transfers: row.number()?,
                amount: row.sum()?,
                oldest: row.time()?,
            })
        })
    }

    pub(super) async fn take_lease(
        &self,
        shard: Shard,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write(shard).await?;
        let now = tx.at();
        tx.execute(self.texts().lock_lease, &[name.into()]).await?;
        let args = [holder.into(), now.plus(ttl).into(), name.into(), holder.into(), now.into()];
        let taken = tx.execute(statements::TAKE_LEASE, &args).await?;
        tx.finish().await?;
        Ok(taken == 1)
    }

    pub(super) async fn delete_claims(
        &self,
        shard: Shard,
        before: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        let mut tx = self.write(shard).await?;
        let from = lock_mark(&mut tx, CLAIMS).await?;
        let args = [id_arg(from), bound_at(before), i64::from(limit).into()];
        let rows = tx.fetch(statements::SCAN_CLAIMS, &args).await?;
        let mut old = decode::all(rows, decode::claimed)?;
        let Some((_, last)) = old.last() else { return Ok(0) };
        let last = *last;
        old.sort_unstable();
        let batch = D::rows(old.iter().map(|(claim, id)| {
            (claim.source.as_str(), claim.client.as_str(), claim.key.as_str(), Hex::from(*id))
        }));
        tx.execute(self.texts().delete_claims, &[batch]).await?;
        move_mark(&mut tx, CLAIMS, last).await?;
        tx.finish().await?;
        Ok(u32::try_from(old.len()).unwrap_or(u32::MAX))
    }
}

/// A transfer of the list, or the id of one that is over: final without an attempt, or not there.
fn stuck(mut row: super::Row) -> Result<Result<StuckTransfer, TransferId>, StoreError> {
    let (id, attempts) = (row.transfer()?, row.number()?);
    let (since, due_at) = (row.time()?, row.time()?);
    if row.peek_null() {
        return Ok(Err(id));
    }
    let transfer = decode::transfer(&mut row)?;
    if transfer.state.is_final() && attempts == 0 {
        return Ok(Err(id));
    }
    Ok(Ok(StuckTransfer { row: transfer, attempts, since, due_at }))
}

/// Puts transfers on the list, due at once, with at least so many attempts.
pub(super) async fn list<D: Driver>(
    tx: &mut SqlTx<D>,
    ids: Vec<TransferId>,
    attempts: u32,
) -> Result<(), StoreError> {
    if ids.is_empty() {
        return Ok(());
    }
    let since = tx.at().micros();
    let batch = D::rows(ids.into_iter().map(|id| (Hex::from(id), attempts, since)));
    tx.execute(D::STATEMENTS.add_stuck, &[batch]).await?;
    Ok(())
}

async fn lock_mark<D: Driver>(
    tx: &mut SqlTx<D>,
    name: &'static str,
) -> Result<TransferId, StoreError> {
    let rows = tx.fetch(D::STATEMENTS.lock_mark, &[name.into()]).await?;
    let mark = decode::first(rows, super::Row::transfer)?;
    mark.ok_or_else(|| StoreError::Corrupt {
        shard: crate::store::Tx::shard(tx),
        detail: format!("reconciler_mark has no row {name}"),
    })
}

async fn move_mark<D: Driver>(
    tx: &mut SqlTx<D>,
    name: &'static str,
    to: TransferId,
) -> Result<(), StoreError> {
    tx.execute(statements::MOVE_MARK, &[id_arg(to), name.into()]).await?;
    Ok(())
}
