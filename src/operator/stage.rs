//! The stage a transfer stands in, and its event once more.

use super::OperatorError;
use crate::broker::{Record, envelope};
use crate::context::Context;
use crate::domain::{Event, EventType, PivotDecision, Reason, RequestDetails, State, TransferId};
use crate::store::{Action, Actor, StoreError, TransferRecord, Tx, Work, transact};
use async_trait::async_trait;
use serde_json::json;

/// What holds for a transfer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// As it is stored.
    pub transfer: TransferRecord,
    /// The event that announces it.
    pub kind: EventType,
    /// Why, where it is refused or ended for a reason.
    pub reason: Option<Reason>,
}

/// The stage that a transfer stands in: by its row, and while it is HELD by its pivot.
pub async fn stage(context: &Context, id: TransferId) -> Result<Stage, OperatorError> {
    let shard = context.store.map().shard_of_transfer(id);
    let found = context.store.transfer_records(shard, &[id]).await?.pop();
    let transfer = found.ok_or(OperatorError::NoTransfer(id))?;
    let (kind, reason) = match transfer.row.state {
        State::Held => match decision(context, &transfer).await? {
            None => (EventType::Held, None),
            Some(PivotDecision::Credited) => (EventType::Credited, None),
            Some(PivotDecision::Refused(reason)) => (EventType::Refused, Some(reason)),
        },
        state => (EventType::announcing(state), transfer.row.reason),
    };
    Ok(Stage { transfer, kind, reason })
}

/// What the transfer's pivot says, by its destination's shard.
async fn decision(
    context: &Context,
    transfer: &TransferRecord,
) -> Result<Option<PivotDecision>, StoreError> {
    let terms = &transfer.row.terms;
    let shard = context.store.map().shard_of(&terms.destination);
    let entries = context.store.entries_of(shard, &[terms.id]).await?;
    let pivot = entries.iter().find_map(crate::domain::EntryRow::pivot);
    Ok(pivot.map(|pivot| pivot.decision))
}

impl Stage {
    /// The record that announces it, for the outbox of the transfer's shard. With a requested
    /// event goes what was asked for, so that the transfer could be made again from it.
    pub async fn record(&self, context: &Context, tx: &mut dyn Tx) -> Result<Record, StoreError> {
        let stamp = context.store.identity().stamp(tx.now());
        let causes = [self.transfer.hold_cause, self.transfer.final_cause];
        let attempt = causes.iter().map(|cause| cause.attempt).max().unwrap_or(0) + 1;
        let request = match self.kind {
            EventType::Requested => self.request(tx).await?,
            _ => None,
        };
        let event = stamp.event(self.kind, &self.transfer.row.terms);
        let event = Event { attempt, reason: self.reason, request, ..event };
        Ok(envelope::record(&event, context.store.map()))
    }

    async fn request(&self, tx: &mut dyn Tx) -> Result<Option<RequestDetails>, StoreError> {
        let (key, id) = (&self.transfer.claim, self.transfer.row.terms.id);
        let claims = tx.claims(std::slice::from_ref(key)).await?;
        let claim = claims.get(key).filter(|claim| claim.transfer == id);
        Ok(claim.map(|claim| RequestDetails::of(&self.transfer.clone().into_new(claim))))
    }
}

/// Emits what holds for the transfer once more, through the outbox of its source's shard; the
/// ordinary workers do the rest. Repeating it is harmless.
pub async fn retry(
    context: &Context,
    id: TransferId,
    actor: &Actor,
) -> Result<Stage, OperatorError> {
    let stage = stage(context, id).await?;
    let shard = context.store.map().shard_of_transfer(id);
    transact(&*context.store, shard, &Emit { context, stage: &stage, actor }).await?;
    context.wake.outbox_written(shard);
    Ok(stage)
}

struct Emit<'a> {
    context: &'a Context,
    stage: &'a Stage,
    actor: &'a Actor,
}

#[async_trait]
impl Work for Emit<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        let row = &self.stage.transfer.row;
        let record = self.stage.record(self.context, tx).await?;
        tx.insert_outbox(&[record]).await?;
        let before = json!({ "state": row.state.as_str() });
        let after = json!({ "emitted": self.stage.kind.as_str() });
        let act = self.actor.act(Action::RetryTransfer, &row.terms.id, &before, &after);
        tx.record_acts(&[act]).await
    }
}
