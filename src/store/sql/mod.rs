//! The store over SQL, written once for both databases: a [`Driver`] runs texts, [`Statements`]
//! are the texts that differ, everything else is here.
//!
//! A transaction is `BEGIN` and the identity's row in one round trip, one statement for each call
//! of [`Tx`](super::Tx), and `COMMIT`. A single read is one statement.

mod audit;
pub mod cells;
pub mod columns;
pub mod connections;
mod credentials;
mod decode;
mod drift;
pub mod driver;
mod identity;
mod inserts;
pub mod late;
mod link;
mod migrate;
mod operations;
mod outbox;
mod pauses;
mod projection;
mod proposals;
mod reconcile;
mod recovery;
mod replication;
mod row;
mod sealing;
mod stages;
pub mod statements;
mod store;
mod tx;
mod velocity;

pub use driver::{Arg, Driver, Hex};
use link::Link;
use row::Row;
use sealing::Seals;
use statements::Statements;
use tx::SqlTx;

pub use identity::Opening;
pub use migrate::{MigrationReport, PendingShard, Schema, ShardMigration, migrate, pending};

use super::{Identity, StoreError};
use crate::domain::{Shard, Timestamp, TransferId};
use crate::routing::ShardMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The shards of one cluster, on one kind of database.
pub struct SqlStore<D> {
    driver: Arc<D>,
    map: ShardMap,
    identity: Identity,
    /// Shards whose identity was compared since they last failed to answer. Writing transactions
    /// compare it every time; reads rely on this.
    verified: Vec<AtomicBool>,
    /// Where personal fields are encrypted.
    seals: Option<Arc<Seals>>,
}

impl<D: Driver> SqlStore<D> {
    /// The same cluster on other servers, none of which was asked for anything yet: what each says it
    /// is is compared before the first read of it.
    pub(super) fn elsewhere(&self, driver: D) -> Self {
        Self {
            driver: Arc::new(driver),
            map: self.map.clone(),
            identity: self.identity.clone(),
            verified: self.verified.iter().map(|_| AtomicBool::new(false)).collect(),
            seals: None,
        }
    }

    fn texts(&self) -> &'static Statements {
        D::STATEMENTS
    }

    /// Begins a writing transaction; before it, reads the keys of personal fields where the last one
    /// would have needed them.
    async fn write(&self, shard: Shard) -> Result<SqlTx<D>, StoreError> {
        self.must_exist(shard)?;
        if let Some(seals) = &self.seals
            && seals.take_wanted(shard)
        {
            self.prepare_seals(seals, shard).await;
        }
        self.begin_writing(shard).await
    }

    async fn begin_writing(&self, shard: Shard) -> Result<SqlTx<D>, StoreError> {
        self.must_exist(shard)?;
        let mut link = Link::writer(&self.driver, shard).await?;
        let rows = link.begin(self.texts().begin).await?;
        let mut row = rows
            .into_iter()
            .next()
            .ok_or_else(|| identity::missing(shard, self.driver.address(shard)))?;
        let now = D::time(row.opt_int()?);
        self.compare(shard, &mut row)?;
        Ok(SqlTx::new(link, now, self.identity.cluster, self.seals.clone()))
    }

    /// One statement outside transactions.
    async fn read(
        &self,
        shard: Shard,
        sql: &'static str,
        args: &[Arg],
    ) -> Result<Vec<Row>, StoreError> {
        let answer = match self.reader(shard).await {
            Ok(mut link) => link.fetch(sql, args).await,
            Err(error) => Err(error),
        };
        if let Err(StoreError::Unavailable { .. }) = answer {
            self.verified[usize::from(shard.0)].store(false, Ordering::Relaxed);
        }
        answer
    }

    /// One statement of the audit, which may go over a whole table.
    async fn read_patiently(
        &self,
        shard: Shard,
        sql: &'static str,
        args: &[Arg],
    ) -> Result<Vec<Row>, StoreError> {
        let mut link = self.reader(shard).await?;
        link.be_patient();
        link.fetch(sql, args).await
    }

    /// A connection for reads, of a shard that was seen to be the right one.
    async fn reader(&self, shard: Shard) -> Result<Link<D>, StoreError> {
        self.must_exist(shard)?;
        let mut link = Link::reader(&self.driver, shard).await?;
        if !self.verified[usize::from(shard.0)].load(Ordering::Relaxed) {
            let rows = link.fetch(statements::IDENTITY, &[]).await?;
            let mut row = rows
                .into_iter()
                .next()
                .ok_or_else(|| identity::missing(shard, self.driver.address(shard)))?;
            self.compare(shard, &mut row)?;
        }
        Ok(link)
    }

    /// Compares a shard's identity with the one that the store was opened with.
    fn compare(&self, shard: Shard, row: &mut Row) -> Result<(), StoreError> {
        let found = identity::decode(row)?;
        identity::compare(&self.identity, shard, self.driver.address(shard), &found)?;
        self.verified[usize::from(shard.0)].store(true, Ordering::Relaxed);
        Ok(())
    }

    fn must_exist(&self, shard: Shard) -> Result<(), StoreError> {
        if usize::from(shard.0) < self.verified.len() {
            return Ok(());
        }
        let detail = format!("there are {} shards, from 0", self.verified.len());
        Err(StoreError::Failed { shard, detail })
    }
}

/// A batch of transfer ids, in id order and each once, so that locks are taken in one order.
fn transfer_batch<D: Driver>(ids: impl IntoIterator<Item = TransferId>) -> Arg {
    let ids: BTreeSet<TransferId> = ids.into_iter().collect();
    D::rows(ids.into_iter().map(|id| (Hex::from(id),)))
}

/// Where the transfers accepted at `at` begin in id order: a bound of scans. An id has 48 bits for
/// the milliseconds; times outside are taken as its first and last.
fn bound_at(at: Timestamp) -> Arg {
    const LAST: Timestamp = Timestamp::from_micros(((1 << 48) - 1) * 1000);
    id_arg(TransferId::first_at(at.clamp(Timestamp::default(), LAST)))
}

fn id_arg(id: TransferId) -> Arg {
    Arg::Bytes(id.bytes().to_vec())
}
