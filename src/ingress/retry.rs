//! An operator's retry: the event of the stage a transfer stands in is emitted again.

use super::{Ingress, Refusal};
use crate::broker::envelope;
use crate::context::Context;
use crate::domain::{
    Cause, Event, EventType, Pivot, PivotDecision, Reason, State, Timestamp, TransferId,
};
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

impl Ingress {
    /// The stage that a transfer stands in: by its row, and while it is HELD by its pivot.
    pub async fn stage(&self, id: TransferId) -> Result<Stage, Refusal> {
        let transfer = self.transfer_record(id).await?;
        let (kind, reason) = match transfer.row.state {
            State::Held => match self.pivot(&transfer).await?.map(|pivot| pivot.decision) {
                None => (EventType::Held, None),
                Some(PivotDecision::Credited) => (EventType::Credited, None),
                Some(PivotDecision::Refused(reason)) => (EventType::Refused, Some(reason)),
            },
            state => (EventType::announcing(state), transfer.row.reason),
        };
        Ok(Stage { transfer, kind, reason })
    }

    /// Emits what holds for the transfer once more, through the outbox of its source's shard;
    /// the ordinary workers do the rest. Repeating it is harmless.
    pub async fn retry(&self, id: TransferId, actor: &Actor) -> Result<Stage, Refusal> {
        let stage = self.stage(id).await?;
        let shard = self.context.store.map().shard_of_transfer(id);
        let work = Emit { context: &self.context, stage: &stage, actor };
        transact(&*self.context.store, shard, &work).await?;
        self.context.wake.outbox_written(shard);
        Ok(stage)
    }

    /// The transfer's pivot, from its destination's shard.
    pub(super) async fn pivot(&self, transfer: &TransferRecord) -> Result<Option<Pivot>, Refusal> {
        let terms = &transfer.row.terms;
        let shard = self.context.store.map().shard_of(&terms.destination);
        let entries = self.context.store.entries_of(shard, &[terms.id]).await?;
        Ok(entries.iter().find_map(crate::domain::EntryRow::pivot))
    }
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
        let Stage { transfer, kind, reason } = self.stage;
        let at: Timestamp = tx.now();
        let stamp = self.context.store.identity().stamp(at);
        let causes: [Cause; 2] = [transfer.hold_cause, transfer.final_cause];
        let attempt = causes.iter().map(|cause| cause.attempt).max().unwrap_or(0) + 1;
        let event = Event { attempt, reason: *reason, ..stamp.event(*kind, &transfer.row.terms) };
        tx.insert_outbox(&[envelope::record(&event, self.context.store.map())]).await?;
        let before = json!({ "state": transfer.row.state.as_str() });
        let after = json!({ "emitted": kind.as_str() });
        let id = transfer.row.terms.id;
        tx.record_acts(&[self.actor.act(Action::RetryTransfer, &id, &before, &after)]).await
    }
}
