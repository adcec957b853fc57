//! Projected balances of a shard's accounts, written in rounds: one row of an account stands for all
//! its versions since the last.

use super::queue::{Queues, Serve};
use crate::cache::BalanceCache;
use crate::crash::{self, Place};
use crate::domain::{AccountId, Shard};
use crate::meters::table::CACHE_ERRORS;
use crate::roles::Role;
use crate::store::{BalanceRow, Store, StoreError};
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Between two rounds.
const SHORT_ROUND: Duration = Duration::from_millis(100);
/// The same where there is much to do.
const ROUND: Duration = Duration::from_millis(500);
/// Events from which on there is.
const BUSY: usize = 64;
/// Events from which on a round takes no more.
const FULL: usize = 8000;
/// Events behind which the next round need not be waited for: workers hold a bounded number of them,
/// and would fall behind.
const CROWDED: usize = 3000;

/// Projections of all steps of a process.
pub struct Projections {
    rounds: Queues<Projecting>,
    cache: Option<Arc<BalanceCache>>,
}

impl Projections {
    /// To the shards of a store and, where there is one, the cache.
    pub fn new(store: Arc<dyn Store>, cache: Option<Arc<BalanceCache>>) -> Self {
        let shards = store.map().shards();
        Self { rounds: Queues::new(Projecting { store, cache: cache.clone() }, shards), cache }
    }

    /// Until rows that are brought now are part of the next round.
    pub async fn free(&self, shard: Shard) {
        self.rounds.free(shard).await;
    }

    /// When the shard last answered.
    pub fn answered(&self, shard: Shard) -> Option<Instant> {
        self.rounds.answered(shard)
    }

    /// Writes rows, which stand for so many events, in the shard's next round; a newer or equal version wins.
    pub async fn write(
        &self,
        shard: Shard,
        rows: Vec<BalanceRow>,
        events: usize,
    ) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.rounds.ask(shard, Asked { rows, events, answer });
        answered.await.unwrap_or_else(|_| {
            let detail = "the process is ending".to_owned();
            Err(StoreError::Retry { shard, detail })
        })
    }

    /// Tells the cache of rows that are in the store.
    pub async fn cache(&self, rows: &[BalanceRow]) {
        write_cache(self.cache.as_deref(), rows).await;
    }
}

struct Asked {
    rows: Vec<BalanceRow>,
    events: usize,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

struct Projecting {
    store: Arc<dyn Store>,
    cache: Option<Arc<BalanceCache>>,
}

#[async_trait]
impl Serve for Projecting {
    type Asked = Asked;

    fn next(&self, _: Shard, waiting: &mut VecDeque<Asked>) -> (Vec<Asked>, usize) {
        let (mut turn, mut events) = (Vec::new(), 0);
        while events < FULL {
            let Some(asked) = waiting.pop_front() else { break };
            events += asked.events;
            turn.push(asked);
        }
        (turn, events)
    }

    async fn serve(&self, shard: Shard, turn: Vec<Asked>) -> bool {
        let (rows, answers): (Vec<_>, Vec<_>) =
            turn.into_iter().map(|asked| (asked.rows, asked.answer)).unzip();
        let rows = newest(rows.into_iter().flatten());
        let result = self.store.project_balances(shard, &rows).await;
        if result.is_ok() {
            crash::at(Role::Projector, Place::Projected);
            write_cache(self.cache.as_deref(), &rows).await;
        }
        for answer in answers {
            // Who asked may have let it go.
            let _ = answer.send(result.clone());
        }
        result.is_ok()
    }

    fn rest(&self, _: Shard, events: usize, _: Duration) -> Duration {
        match events {
            ..BUSY => SHORT_ROUND,
            BUSY..CROWDED => ROUND,
            CROWDED.. => Duration::ZERO,
        }
    }
}

/// The newest row of each account, in id order.
pub fn newest(rows: impl IntoIterator<Item = BalanceRow>) -> Vec<BalanceRow> {
    let mut newest: BTreeMap<AccountId, BalanceRow> = BTreeMap::new();
    for row in rows {
        match newest.get_mut(&row.row.id) {
            Some(known) if known.row.version <= row.row.version => *known = row,
            Some(_) => {}
            None => drop(newest.insert(row.row.id.clone(), row)),
        }
    }
    newest.into_values().collect()
}

/// Redis is a convenience: without it balances come from the shards.
async fn write_cache(cache: Option<&BalanceCache>, rows: &[BalanceRow]) {
    if let Some(cache) = cache
        && let Err(error) = cache.set_newer(rows).await
    {
        CACHE_ERRORS.counter(&[]).increment(1);
        tracing::debug!(%error, "balances were not written to Redis");
    }
}
