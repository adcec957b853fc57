//! What recovery after a promotion needs.

use super::SimStore;
use super::session::retry;
use super::tables::Stuck;
use crate::world::pass;
use async_trait::async_trait;
use holdfast::domain::{Generation, Shard, Timestamp, TransferId};
use holdfast::store::{Lease, Recovery, StoreError};
use std::time::Duration;

/// The lease that stands for an unfinished recovery.
const RECOVERY: &str = "recovery";

#[async_trait]
impl Recovery for SimStore {
    async fn stored_generation(&self, shard: Shard) -> Result<Generation, StoreError> {
        self.enter("stored generation", shard).await?;
        let mut state = self.gate.world.lock();
        Ok(state.database(shard).generation.0)
    }

    async fn raise_generation(&self, shard: Shard, to: Generation) -> Result<(), StoreError> {
        self.enter("raise generation", shard).await?;
        // The identity row is taken exclusively: every transaction has it in share mode.
        for _ in 0..500 {
            {
                let mut state = self.gate.world.lock();
                let database = state.database(shard);
                if database.open.is_empty() {
                    if database.generation.0 >= to {
                        let detail = "the generation was raised meanwhile".to_owned();
                        return Err(StoreError::Identity { shard, detail });
                    }
                    database.generation.0 = to;
                    let lease = (String::new(), Timestamp::from_micros(i64::MAX));
                    database.tables.leases.insert(RECOVERY.to_owned(), lease);
                    return Ok(());
                }
            }
            pass(Duration::from_millis(10)).await;
        }
        Err(retry(shard, "lock wait timeout exceeded"))
    }

    async fn recovery_unfinished(&self, shard: Shard) -> Result<bool, StoreError> {
        self.read("recovery unfinished", shard, |tables| {
            let lease = tables.leases.get(RECOVERY);
            lease.is_some_and(|(_, until)| until.micros() == i64::MAX)
        })
        .await
    }

    async fn finish_recovery(&self, shard: Shard) -> Result<(), StoreError> {
        self.write("finish recovery", shard, |tables, _| {
            tables.leases.remove(RECOVERY);
        })
        .await
    }

    async fn leases(&self, shard: Shard) -> Result<Vec<Lease>, StoreError> {
        let now = holdfast::store::Store::now(self, shard).await?;
        self.read("leases", shard, |tables| {
            let held =
                tables.leases.iter().filter(|(name, (_, until))| *name != RECOVERY && *until > now);
            held.map(|(name, (holder, until))| Lease {
                name: name.clone(),
                holder: holder.clone(),
                until: *until,
            })
            .collect()
        })
        .await
    }

    async fn watch(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.write("watch", shard, |tables, now| {
            for id in ids {
                let new = Stuck { attempts: 1, since: now, next: now };
                let stuck = tables.stuck.entry(*id).or_insert(new);
                stuck.attempts = stuck.attempts.max(1);
            }
        })
        .await
    }
}
