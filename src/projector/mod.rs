//! Step 6, projector: balances for reading follow the accounts' rows.
//!
//! State before and after: whatever the event says. The rows that events carry are written to
//! `balances` and Redis; a newer or equal version wins, so replay and reordering change nothing.
//! What cannot be written is let go: a rolling comparison copies the decision row over every
//! projection that stayed behind.

use crate::backlog;
use crate::broker::Topic;
use crate::context::Context;
use crate::domain::{
    AccountId, AccountRow, AccountSnapshot, Event, Input, Outcome, Shard, Velocity,
};
use crate::meters::table::REFRESHED;
use crate::roles::Role;
use crate::store::{BalanceRow, StoreError};
use crate::turn::newest;
use crate::worker::Step;
use async_trait::async_trait;
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

/// A lane holds so many batches of the other steps.
const BATCHES: usize = 4;

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

struct Projector {
    context: Arc<Context>,
}

#[async_trait]
impl Step for Projector {
    fn role(&self) -> Role {
        Role::Projector
    }

    fn topics(&self, shard: Shard) -> Vec<Topic> {
        backlog::topics(Role::Projector, shard)
    }

    fn account<'e>(&self, event: &'e Event) -> Option<&'e AccountId> {
        event.accounts().next().map(|account| &account.id)
    }

    fn lets_go(&self, _own_shard: bool) -> bool {
        true
    }

    fn one_event_a_transfer(&self) -> bool {
        false
    }

    fn most(&self, _lane: Shard, batch: usize) -> usize {
        batch * BATCHES
    }

    async fn ready(&self, lane: Shard) {
        self.context.projections.free(lane).await;
    }

    fn answered(&self, lane: Shard) -> Option<Instant> {
        self.context.projections.answered(lane)
    }

    async fn apply(&self, lane: Shard, batch: Arc<Vec<Input>>) -> Result<Vec<Outcome>, StoreError> {
        let rows = newest(batch.iter().flat_map(|input| projections(&input.event)));
        self.context.projections.write(lane, rows, batch.len()).await?;
        Ok(vec![Outcome::Done; batch.len()])
    }
}

/// The rows that an event carries, all of accounts of one shard, as they are projected.
pub fn projections(event: &Event) -> impl Iterator<Item = BalanceRow> {
    event.accounts().map(|account| BalanceRow { row: projected(account), as_of: event.at })
}

fn projected(account: &AccountSnapshot) -> AccountRow {
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
        velocity: Velocity::NONE,
    }
}

/// Goes through the accounts of the shard, page by page, for ever.
async fn refresh(context: Arc<Context>, shard: Shard, stop: CancellationToken) {
    let refreshed = REFRESHED.counter(&[&shard.to_string()]);
    let mut after: Option<AccountId> = None;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let mut rest = PAGE_INTERVAL;
        match context.store.refresh_balances(shard, after.as_ref(), PAGE).await {
            Ok((copied, next)) => {
                refreshed.increment(copied.len() as u64);
                context.projections.cache(&copied).await;
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
