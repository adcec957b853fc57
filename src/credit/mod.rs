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
use crate::domain::{AccountId, Event, EventType, Input, Outcome, Shard};
use crate::roles::Role;
use crate::store::{Identity, StoreError, Tx, Work, transact};
use crate::worker::{Step, write_plan, write_unread_plan};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;
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

    async fn apply(&self, lane: Shard, batch: &[Input]) -> Result<Vec<Outcome>, StoreError> {
        let work = CreditBatch { batch, identity: self.context.store.identity() };
        transact(&*self.context.store, lane, &work).await
    }
}

struct CreditBatch<'a> {
    batch: &'a [Input],
    identity: &'a Identity,
}

#[async_trait]
impl Work for CreditBatch<'_> {
    type Output = Vec<Outcome>;

    /// The pivots are read only where one was there already, and could not be inserted.
    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<Vec<Outcome>, StoreError> {
        let terms = || self.batch.iter().map(|input| &input.event.terms);
        let destinations = terms().map(|terms| terms.destination.clone()).collect();
        let accounts = tx.lock_accounts(&destinations).await?;
        let ids: Vec<_> = terms().map(|terms| terms.id).collect();
        let pivots = if attempt == 0 { HashMap::new() } else { tx.pivots(&ids).await? };
        let plan = decide(self.batch, &accounts, &pivots, &self.identity.stamp(tx.now()));
        if attempt == 0 {
            write_unread_plan(tx, &plan).await?;
        } else {
            write_plan(tx, &plan).await?;
        }
        Ok(plan.outcomes)
    }
}
