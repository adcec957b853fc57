//! Recovery after a promotion. That one is not finished is kept among the leases, as one that never
//! runs out.

use super::driver::{Arg, Driver};
use super::link::Link;
use super::row::Row;
use super::{SqlStore, decode, identity, reconcile, statements};
use crate::domain::{Generation, Shard, TransferId};
use crate::store::{Lease, Recovery, Store, StoreError};
use async_trait::async_trait;

/// The lease that stands for an unfinished recovery.
const RECOVERY: &str = "recovery";

#[async_trait]
impl<D: Driver> Recovery for SqlStore<D> {
    async fn stored_generation(&self, shard: Shard) -> Result<Generation, StoreError> {
        let rows = self.read(shard, statements::IDENTITY, &[]).await?;
        let found = decode::first(rows, identity::decode)?
            .ok_or_else(|| identity::missing(shard, self.driver.address(shard)))?;
        Ok(found.identity.generation)
    }

    async fn raise_generation(&self, shard: Shard, to: Generation) -> Result<(), StoreError> {
        self.must_exist(shard)?;
        let mut link = Link::writer(&self.driver, shard).await?;
        link.begin(self.texts().begin_unchecked).await?;
        let cluster = Arg::Bytes(self.identity.cluster.0.as_bytes().to_vec());
        let to = Arg::from(i64::from(to.0));
        let args = [to.clone(), cluster, i64::from(shard.0).into(), to];
        if link.execute(statements::RAISE_GENERATION, &args).await? != 1 {
            let detail = format!(
                "the generation of {} was not raised: it is another shard, or its generation was \
                 raised meanwhile; begin again",
                self.driver.address(shard)
            );
            return Err(StoreError::Identity { shard, detail });
        }
        link.execute(self.texts().lock_lease, &[RECOVERY.into()]).await?;
        link.execute(statements::SET_LEASE, &[i64::MAX.into(), RECOVERY.into()]).await?;
        link.commit().await
    }

    async fn recovery_unfinished(&self, shard: Shard) -> Result<bool, StoreError> {
        let until = self.lease_end(shard, RECOVERY).await?;
        Ok(until.is_some_and(|until| until == i64::MAX))
    }

    async fn finish_recovery(&self, shard: Shard) -> Result<(), StoreError> {
        let mut tx = self.write(shard).await?;
        tx.execute(statements::SET_LEASE, &[0.into(), RECOVERY.into()]).await?;
        tx.finish().await
    }

    async fn keeps_commits(&self, shard: Shard) -> Result<bool, StoreError> {
        let rows = self.read(shard, self.texts().keeps_commits, &[]).await?;
        Ok(decode::first(rows, Row::flag)?.unwrap_or(false))
    }

    async fn leases(&self, shard: Shard) -> Result<Vec<Lease>, StoreError> {
        let now = self.now(shard).await?;
        let args = [now.into(), RECOVERY.into()];
        let rows = self.read(shard, statements::LEASES, &args).await?;
        decode::all(rows, |row| {
            Ok(Lease { name: row.text()?, holder: row.text()?, until: row.time()? })
        })
    }

    async fn watch(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let mut tx = self.write(shard).await?;
        reconcile::list(&mut tx, ids.to_vec(), 1).await?;
        tx.finish().await
    }
}

impl<D: Driver> SqlStore<D> {
    async fn lease_end(&self, shard: Shard, name: &str) -> Result<Option<i64>, StoreError> {
        let rows = self.read(shard, statements::LEASE_END, &[name.into()]).await?;
        decode::first(rows, Row::int)
    }
}
