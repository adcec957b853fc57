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
use crate::store::{StoreError, Tx, Work, expect_rows, transact};
use async_trait::async_trait;

/// Ends a REQUESTED transfer in its own row. False where it is no longer REQUESTED.
pub async fn cancel_requested(
    context: &Context,
    terms: &Terms,
    reason: Reason,
) -> Result<bool, StoreError> {
    let shard = context.store.map().shard_of(&terms.source);
    let work = CancelRequested { context, terms, reason };
    let done = transact(&*context.store, shard, &work).await?;
    if done {
        context.wake.outbox_written(shard);
        context.wake.finals_written();
    }
    Ok(done)
}

/// Writes a REFUSED pivot unless the transfer has a pivot already, and returns the one it has now.
/// The first insert wins, for ever: the caller answers by what it is given.
pub async fn refuse(context: &Context, terms: &Terms, reason: Reason) -> Result<Pivot, StoreError> {
    let shard = context.store.map().shard_of(&terms.destination);
    let pivot = transact(&*context.store, shard, &Refuse { context, terms, reason }).await?;
    context.wake.outbox_written(shard);
    Ok(pivot)
}

struct CancelRequested<'a> {
    context: &'a Context,
    terms: &'a Terms,
    reason: Reason,
}

#[async_trait]
impl Work for CancelRequested<'_> {
    type Output = bool;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<bool, StoreError> {
        let write = StageWrite {
            terms: self.terms.clone(),
            from: State::Requested,
            to: State::Cancelled,
            reason: Some(self.reason),
            hold_deadline: None,
            at: tx.now(),
            cause: Cause::default(),
        };
        if tx.advance_transfers(&[write]).await? == 0 {
            return Ok(false);
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
        Ok(true)
    }
}

struct Refuse<'a> {
    context: &'a Context,
    terms: &'a Terms,
    reason: Reason,
}

#[async_trait]
impl Work for Refuse<'_> {
    type Output = Pivot;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Pivot, StoreError> {
        let id = self.terms.id;
        let pivot = match tx.pivots(&[id]).await?.remove(&id) {
            Some(pivot) => pivot,
            None => {
                let mark =
                    EntryRow::pivot_row(self.terms, Err(self.reason), tx.now(), Cause::default());
                let inserted = tx.insert_entries(std::slice::from_ref(&mark)).await?;
                expect_rows(tx.shard(), "entries", 1, inserted)?;
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
        Ok(pivot)
    }
}
