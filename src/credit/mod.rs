//! Step 4, credit: the destination is credited, or the transfer is refused, by one row that is
//! written once: the pivot.
//!
//! State before: HELD at the source. State after: the same, with a pivot CREDITED or REFUSED on
//! the destination's shard. One transaction a batch and destination shard; a shard that does not
//! answer delays only its own transfers.

#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm
)]

mod decide;

pub use decide::decide;

use crate::broker::Topic;
use crate::context::Context;
use crate::domain::{
    AccountId, AccountRow, Event, EventType, Input, Outcome, Plan, Shard, Stamp, TransferId,
};
use crate::roles::Role;
use crate::store::StoreError;
use crate::turn::{Decision, Reads, Stored, transfers_of};
use crate::worker::Step;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Runs the role for one source shard until `stop`, through every outage.
pub async fn run(
    context: Arc<Context>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let step = Arc::new(Credit { context: Arc::clone(&context) });
    crate::worker::run(context, step, shard, stop).await
}

struct Credit {
    context: Arc<Context>,
}

#[async_trait]
impl Step for Credit {
    fn role(&self) -> Role {
        Role::Credit
    }

    fn topics(&self, shard: Shard) -> Vec<Topic> {
        vec![Topic::of(EventType::Held, shard)]
    }

    fn account<'e>(&self, event: &'e Event) -> Option<&'e AccountId> {
        Some(&event.terms.destination)
    }

    fn lets_go(&self, own_shard: bool) -> bool {
        !own_shard
    }

    fn most(&self, lane: Shard, batch: usize) -> usize {
        batch.min(self.context.turns.full(lane))
    }

    async fn ready(&self, lane: Shard) {
        self.context.turns.free(lane).await;
    }

    fn answered(&self, lane: Shard) -> Option<Instant> {
        self.context.turns.answered(lane)
    }

    async fn apply(&self, lane: Shard, batch: Arc<Vec<Input>>) -> Result<Vec<Outcome>, StoreError> {
        self.context.turns.take(lane, Arc::new(Credits { batch })).await
    }
}

/// The decision about a batch.
pub struct Credits {
    /// `held` events of transfers to one shard, each of another transfer.
    pub batch: Arc<Vec<Input>>,
}

impl Decision for Credits {
    fn accounts(&self) -> BTreeSet<AccountId> {
        self.batch.iter().map(|input| input.event.terms.destination.clone()).collect()
    }

    fn transfers(&self) -> Vec<TransferId> {
        transfers_of(&self.batch)
    }

    fn reads(&self) -> Reads {
        Reads { pivots: self.transfers(), ..Reads::default() }
    }

    /// The pivots are read only where one was there already, and could not be inserted.
    fn decide(
        &self,
        rows: &mut BTreeMap<AccountId, AccountRow>,
        stored: Option<&Stored>,
        stamp: &Stamp,
    ) -> Plan {
        let none = HashMap::new();
        let pivots = stored.map_or(&none, |stored| &stored.pivots);
        decide(&self.batch, rows, pivots, stamp)
    }
}
