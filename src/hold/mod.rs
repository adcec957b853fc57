//! Step 3, hold: the amount is set aside at the source, or the transfer is refused.
//!
//! State before: REQUESTED. State after: HELD, or REJECTED; where the destination is on the same
//! shard, the transfer's end (`onward.rs`). One transaction a batch on the source's shard: the rows
//! of the accounts are locked in id order, decided on in the order of the events, and written with
//! exact counts.

#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm
)]

mod decide;
mod onward;

use crate::broker::Topic;
use crate::context::Context;
use crate::domain::{
    AccountId, AccountRow, Event, EventType, Input, Outcome, Plan, Shard, Stamp, Terms, TransferId,
};
use crate::roles::Role;
use crate::routing::ShardMap;
use crate::store::StoreError;
use crate::turn::{Decision, Reads, Stored, transfers_of};
use crate::worker::Step;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Runs the role for one shard until `stop`, through every outage.
pub async fn run(
    context: Arc<Context>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let step = Arc::new(Hold { context: Arc::clone(&context) });
    crate::worker::run(context, step, shard, stop).await
}

struct Hold {
    context: Arc<Context>,
}

#[async_trait]
impl Step for Hold {
    fn role(&self) -> Role {
        Role::Hold
    }

    fn topics(&self, shard: Shard) -> Vec<Topic> {
        vec![Topic::of(EventType::Requested, shard)]
    }

    fn account<'e>(&self, event: &'e Event) -> Option<&'e AccountId> {
        Some(&event.terms.source)
    }

    fn lets_go(&self, _own_shard: bool) -> bool {
        false
    }

    /// A hold may be a transfer's whole way; but what fills a turn alone is enough.
    fn most(&self, lane: Shard, batch: usize) -> usize {
        (2 * batch).min(self.context.turns.full(lane))
    }

    async fn ready(&self, lane: Shard) {
        self.context.turns.free(lane).await;
    }

    fn answered(&self, lane: Shard) -> Option<Instant> {
        self.context.turns.answered(lane)
    }

    async fn apply(&self, lane: Shard, batch: Arc<Vec<Input>>) -> Result<Vec<Outcome>, StoreError> {
        self.decide(lane, batch, Some(self.context.store.map().clone())).await
    }

    async fn apply_alone(
        &self,
        lane: Shard,
        event: Arc<Vec<Input>>,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.decide(lane, event, None).await
    }
}

impl Hold {
    /// Those who wait for ends are told where there are some.
    async fn decide(
        &self,
        lane: Shard,
        batch: Arc<Vec<Input>>,
        map: Option<ShardMap>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let timeout = self.context.policy.hold_timeout;
        let outcomes =
            self.context.turns.take(lane, Arc::new(Holds { batch, timeout, map })).await?;
        let goes_on = |outcome: &Outcome| match outcome {
            Outcome::Emit(event) => event.kind == EventType::Held,
            Outcome::Done | Outcome::LetGo(_) | Outcome::Dead { .. } => true,
        };
        if !outcomes.iter().all(goes_on) {
            self.context.wake.finals_written(lane);
        }
        Ok(outcomes)
    }
}

/// The decision about a batch.
pub struct Holds {
    /// `requested` events, each of another transfer.
    pub batch: Arc<Vec<Input>>,
    /// How long a hold stands before it may be given up.
    pub timeout: Duration,
    /// Where accounts are, so that what stays on a shard goes on to its end at once. Without it
    /// every transfer is left to the next step, which sees to an account of its own.
    pub map: Option<ShardMap>,
}

impl Holds {
    /// Whether the destination is where the source is.
    fn stays(&self, terms: &Terms) -> bool {
        self.map
            .as_ref()
            .is_some_and(|map| map.shard_of_transfer(terms.id) == map.shard_of(&terms.destination))
    }

    fn staying(&self) -> impl Iterator<Item = &Terms> {
        self.batch.iter().map(|input| &input.event.terms).filter(|terms| self.stays(terms))
    }
}

impl Decision for Holds {
    fn accounts(&self) -> BTreeSet<AccountId> {
        let sources = self.batch.iter().map(|input| input.event.terms.source.clone());
        sources.chain(self.staying().map(|terms| terms.destination.clone())).collect()
    }

    fn transfers(&self) -> Vec<TransferId> {
        transfers_of(&self.batch)
    }

    fn reads(&self) -> Reads {
        let pivots = self.staying().map(|terms| terms.id).collect();
        Reads { transfers: self.transfers(), pivots }
    }

    fn decide(
        &self,
        rows: &mut BTreeMap<AccountId, AccountRow>,
        stored: Option<&Stored>,
        stamp: &Stamp,
    ) -> Plan {
        let transfers = stored.map(|stored| &stored.transfers);
        let plan = decide::decide(&self.batch, rows, transfers, stamp, self.timeout);
        onward::decide(plan, &self.batch, |terms| self.stays(terms), rows, stored, stamp)
    }
}
