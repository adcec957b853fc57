//! The only two ways in which anybody but hold and commit ends a transfer: a REQUESTED one in its
//! own row, and any other by the pivot, which commit then follows. Used by ingress for callers and
//! by the reconciler for what stands still. Neither touches posted or held.
//!
//! What is to be announced goes through the outbox of the same transaction, so that it cannot be
//! lost between the two.

use crate::broker::envelope;
use crate::context::Context;
use crate::domain::{
    Cause, EntryRow, EventType, Pivot, PivotDecision, Reason, StageWrite, State, Terms,
};
use crate::meters::Tally;
use crate::store::{Action, Actor, StoreError, Tx, Work, expect_rows, transact};
use async_trait::async_trait;
use serde_json::{Value, json};

/// Ends a REQUESTED transfer in its own row. False where it is no longer REQUESTED. Where an
/// operator does it, that is in the audit log of the transfer's shard.
pub async fn cancel_requested(
    context: &Context,
    terms: &Terms,
    reason: Reason,
    by: Option<&Actor>,
) -> Result<bool, StoreError> {
    let shard = context.store.map().shard_of(&terms.source);
    let work = CancelRequested { context, terms, reason, by };
    let done = transact(&*context.store, shard, &work).await?;
    if let Some(write) = &done {
        context.money.count(shard, &Tally::moved([write].into_iter()));
        context.wake.outbox_written(shard);
        context.wake.finals_written(shard);
    }
    Ok(done.is_some())
}

/// Writes a REFUSED pivot unless the transfer has a pivot already, and returns the one it has now.
/// The first insert wins, for ever: the caller answers by what it is given. Where an operator does
/// it, that is in the audit log of the pivot's shard.
pub async fn refuse(
    context: &Context,
    terms: &Terms,
    reason: Reason,
    by: Option<&Actor>,
) -> Result<Pivot, StoreError> {
    let shard = context.store.map().shard_of(&terms.destination);
    let pivot = transact(&*context.store, shard, &Refuse { context, terms, reason, by }).await?;
    context.wake.outbox_written(shard);
    Ok(pivot)
}

struct CancelRequested<'a> {
    context: &'a Context,
    terms: &'a Terms,
    reason: Reason,
    by: Option<&'a Actor>,
}

#[async_trait]
impl Work for CancelRequested<'_> {
    /// None where the transfer is no longer REQUESTED.
    type Output = Option<StageWrite>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let write = StageWrite {
            terms: self.terms.clone(),
            from: State::Requested,
            to: State::Cancelled,
            reason: Some(self.reason),
            hold_deadline: None,
            at: tx.now(),
            cause: Cause::default(),
        };
        if tx.advance_transfers(std::slice::from_ref(&write)).await? == 0 {
            return Ok(None);
        }
        if let Some(original) = self.terms.reverses {
            let back = [(original, -self.terms.amount.minor())].into();
            let changed = tx.add_reversed(&back).await?;
            expect_rows(tx.shard(), "reversals", 1, changed)?;
        }
        let stamp = self.context.store.identity().stamp(tx.now());
        let mut event = stamp.event(EventType::Cancelled, self.terms);
        event.reason = Some(self.reason);
        tx.insert_outbox(&[envelope::record(&event, self.context.store.map())]).await?;
        if let Some(actor) = self.by {
            let before = json!({ "state": State::Requested.as_str() });
            let after = json!({ "state": State::Cancelled.as_str(), "reason": self.reason });
            let act = actor.act(Action::CancelTransfer, &self.terms.id, &before, &after);
            tx.record_acts(&[act]).await?;
        }
        Ok(Some(write))
    }
}

struct Refuse<'a> {
    context: &'a Context,
    terms: &'a Terms,
    reason: Reason,
    by: Option<&'a Actor>,
}

#[async_trait]
impl Work for Refuse<'_> {
    type Output = Pivot;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Pivot, StoreError> {
        let id = self.terms.id;
        let found = tx.pivots(&[id]).await?.remove(&id);
        let before = found.as_ref().map(|pivot| pivot.decision);
        let pivot = match found {
            Some(pivot) => pivot,
            None => {
                let mark =
                    EntryRow::pivot_row(self.terms, Err(self.reason), tx.now(), Cause::default());
                tx.insert_entries(std::slice::from_ref(&mark)).await?;
                mark.pivot().expect("a credit-side row is a pivot")
            }
        };
        if !pivot.fits(self.terms) {
            let detail = format!("the pivot of {id} belongs to a transfer with other terms");
            return Err(StoreError::Corrupt { shard: tx.shard(), detail });
        }
        let stamp = self.context.store.identity().stamp(tx.now());
        let event = match pivot.decision {
            PivotDecision::Credited => stamp.event(EventType::Credited, self.terms),
            PivotDecision::Refused(reason) => crate::domain::Event {
                reason: Some(reason),
                ..stamp.event(EventType::Refused, self.terms)
            },
        };
        tx.insert_outbox(&[envelope::record(&event, self.context.store.map())]).await?;
        if let Some(actor) = self.by {
            let (before, after) = (said(before), said(Some(pivot.decision)));
            let act = actor.act(Action::CancelTransfer, &id, &before, &after);
            tx.record_acts(&[act]).await?;
        }
        Ok(pivot)
    }
}

/// What a pivot says, for the audit log.
fn said(decision: Option<PivotDecision>) -> Value {
    match decision {
        None => json!({ "pivot": null }),
        Some(PivotDecision::Credited) => json!({ "pivot": "credited" }),
        Some(PivotDecision::Refused(reason)) => json!({ "pivot": "refused", "reason": reason }),
    }
}
