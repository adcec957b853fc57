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
use crate::domain::{AccountId, Event, EventType, Input, Outcome, Shard};
use crate::roles::Role;
use crate::store::{Identity, StoreError, Tx, Work, transact};
use crate::worker::{Step, write_plan, write_unread_plan};
use async_trait::async_trait;
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

    async fn apply(&self, lane: Shard, batch: &[Input]) -> Result<Vec<Outcome>, StoreError> {
        let work = HoldBatch {
            batch,
            identity: self.context.store.identity(),
            timeout: self.context.policy.hold_timeout,
        };
        transact(&*self.context.store, lane, &work).await
    }
}

struct HoldBatch<'a> {
    batch: &'a [Input],
    identity: &'a Identity,
    timeout: Duration,
}

#[async_trait]
impl Work for HoldBatch<'_> {
    type Output = Vec<Outcome>;

    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<Vec<Outcome>, StoreError> {
        let sources = self.batch.iter().map(|input| input.event.terms.source.clone()).collect();
        let accounts = tx.lock_accounts(&sources).await?;
        let ids: Vec<_> = self.batch.iter().map(|input| input.event.terms.id).collect();
        let stored = if attempt == 0 { None } else { Some(tx.transfers(&ids).await?) };
        let stamp = self.identity.stamp(tx.now());
        let plan = decide(self.batch, &accounts, stored.as_ref(), &stamp, self.timeout);
        match stored {
            None => write_unread_plan(tx, &plan).await?,
            Some(_) => write_plan(tx, &plan).await?,
        }
        Ok(plan.outcomes)
    }
}
