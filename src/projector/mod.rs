//! Step 6, projector: balances for reading follow the accounts' rows.
//!
//! State before and after: whatever the event says. The rows that events carry are written to
//! `balances` and Redis; a newer or equal version wins, so replay and reordering change nothing.
//! What cannot be written is let go: a rolling comparison copies the decision row over every
//! projection that stayed behind.

use crate::broker::Topic;
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{
    AccountId, AccountRow, AccountSnapshot, Event, EventType, Input, Outcome, Shard,
};
use crate::roles::Role;
use crate::store::{BalanceRow, StoreError};
use crate::worker::Step;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Accounts compared at once; the next are at least so long after, and so many times as long as
/// that took.
const PAGE: u32 = 1000;
const PAGE_INTERVAL: Duration = Duration::from_secs(1);
const PAGE_SHARE: u32 = 50;
/// But no longer: a page that was slow for once does not put off the repair of what was let go.
const LONGEST_PAGE_REST: Duration = Duration::from_secs(10);

/// Between two rounds: one row of an account stands for all its versions since the last.
const SHORT_ROUND: Duration = Duration::from_millis(100);
/// The same of a lane that is busy.
const ROUND: Duration = Duration::from_millis(500);
/// From so many events on it is.
const BUSY: usize = 64;
/// A round holds so many batches of the other steps.
const BATCHES: usize = 8;

/// Runs the role for one shard until `stop`, through every outage.
pub async fn run(
    context: Arc<Context>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let refresher =
        AbortOnDropHandle::new(tokio::spawn(refresh(Arc::clone(&context), shard, stop.clone())));
    let step = Arc::new(Projector { context: Arc::clone(&context) });
    let ended = crate::worker::run(context, step, shard, stop).await;
    refresher.await?;
    ended
}

/// The topics whose events carry rows.
pub fn topics(shard: Shard) -> Vec<Topic> {
    [
        EventType::Held,
        EventType::Credited,
        EventType::Committed,
        EventType::Rejected,
        EventType::Cancelled,
    ]
    .map(|kind| Topic::of(kind, shard))
    .to_vec()
}

struct Projector {
    context: Arc<Context>,
}

#[async_trait]
impl Step for Projector {
    fn role(&self) -> Role {
        Role::Projector
    }

    fn topics(&self, shard: Shard) -> Vec<Topic> {
        topics(shard)
    }

    fn account<'e>(&self, event: &'e Event) -> Option<&'e AccountId> {
        event.account.as_ref().map(|account| &account.id)
    }

    fn lets_go(&self, _own_shard: bool) -> bool {
        true
    }

    fn one_event_a_transfer(&self) -> bool {
        false
    }

    fn most(&self, batch: usize) -> usize {
        batch * BATCHES
    }

    fn rest(&self, events: usize) -> Duration {
        if events < BUSY { SHORT_ROUND } else { ROUND }
    }

    async fn apply(&self, lane: Shard, batch: &[Input]) -> Result<Vec<Outcome>, StoreError> {
        let rows = newest(batch);
        self.context.store.project_balances(lane, &rows).await?;
        crash::at(Role::Projector, Place::Projected);
        write_cache(&self.context, &rows).await;
        Ok(vec![Outcome::Done; batch.len()])
    }
}

/// The newest row of each account in a batch, in id order.
fn newest(batch: &[Input]) -> Vec<BalanceRow> {
    let mut newest: HashMap<&AccountId, BalanceRow> = HashMap::new();
    for input in batch {
        let Some(account) = &input.event.account else { continue };
        let known = newest.get(&account.id).map(|known| known.row.version);
        if known.is_none_or(|version| version <= account.version) {
            newest.insert(&account.id, BalanceRow { row: row_of(account), as_of: input.event.at });
        }
    }
    let mut rows: Vec<_> = newest.into_values().collect();
    rows.sort_unstable_by(|one, other| one.row.id.cmp(&other.row.id));
    rows
}

fn row_of(account: &AccountSnapshot) -> AccountRow {
    AccountRow {
        id: account.id.clone(),
        currency: account.currency,
        kind: account.kind,
        status: account.status,
        quarantined: false,
        overdraft_limit: account.overdraft_limit,
        posted: account.posted,
        held: account.held,
        version: account.version,
    }
}

/// Redis is a convenience: without it balances come from the shards.
async fn write_cache(context: &Context, rows: &[BalanceRow]) {
    if let Some(cache) = &context.cache
        && let Err(error) = cache.set_newer(rows).await
    {
        metrics::counter!("holdfast_cache_errors_total").increment(1);
        tracing::debug!(%error, "balances were not written to Redis");
    }
}

/// Goes through the accounts of the shard, page by page, for ever.
async fn refresh(context: Arc<Context>, shard: Shard, stop: CancellationToken) {
    let mut after: Option<AccountId> = None;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let mut rest = PAGE_INTERVAL;
        match context.store.refresh_balances(shard, after.as_ref(), PAGE).await {
            Ok((copied, next)) => {
                metrics::counter!("holdfast_projection_refreshed_total", "shard" => shard.to_string())
                    .increment(copied.len() as u64);
                write_cache(&context, &copied).await;
                after = next;
                rest = page_rest(began.elapsed());
            }
            Err(error) => tracing::debug!(%shard, %error, "projections were not compared"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

fn page_rest(took: Duration) -> Duration {
    took.saturating_mul(PAGE_SHARE).clamp(PAGE_INTERVAL, LONGEST_PAGE_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shard that hung for half a minute is not left alone for half an hour.
    #[test]
    fn the_rest_after_a_page_is_bounded_both_ways() {
        assert_eq!(page_rest(Duration::from_millis(1)), PAGE_INTERVAL);
        assert_eq!(page_rest(Duration::from_millis(100)), Duration::from_secs(5));
        assert_eq!(page_rest(Duration::from_secs(30)), LONGEST_PAGE_REST);
    }
}
