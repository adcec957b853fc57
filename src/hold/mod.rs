//! Step 3, hold: the amount is set aside at the source, or the transfer is refused.
//!
//! State before: REQUESTED. State after: HELD, or REJECTED. One transaction a batch on the
//! source's shard: the sources' rows are locked in id order, decided on in the order of the
//! events, and written with exact counts.

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
use crate::turn::{Decision, GoesBy, Stored, transfers_of};
use crate::worker::Step;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
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

    async fn ready(&self, lane: Shard) {
        self.context.turns.free(lane).await;
    }

    async fn apply(&self, lane: Shard, batch: Arc<Vec<Input>>) -> Result<Vec<Outcome>, StoreError> {
        let timeout = self.context.policy.hold_timeout;
        self.context.turns.take(lane, Arc::new(Holds { batch, timeout })).await
    }
}

/// The decision about a batch.
pub struct Holds {
    /// `requested` events, each of another transfer.
    pub batch: Arc<Vec<Input>>,
    /// How long a hold stands before it may be given up.
    pub timeout: Duration,
}

impl Decision for Holds {
    fn accounts(&self) -> BTreeSet<AccountId> {
        self.batch.iter().map(|input| input.event.terms.source.clone()).collect()
    }

    fn transfers(&self) -> Vec<TransferId> {
        transfers_of(&self.batch)
    }

    fn goes_by(&self) -> GoesBy {
        GoesBy::Transfers
    }

    fn decide(
        &self,
        accounts: &BTreeMap<AccountId, AccountRow>,
        stored: Option<&Stored>,
        stamp: &Stamp,
    ) -> Plan {
        let stored = stored.map(|stored| &stored.transfers);
        decide(&self.batch, accounts, stored, stamp, self.timeout)
    }
}
