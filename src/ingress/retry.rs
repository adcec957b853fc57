//! An operator's retry: the event of the stage a transfer stands in is emitted again.

use super::{Ingress, Refusal};
use crate::broker::envelope;
use crate::context::Context;
use crate::domain::{
    Cause, Event, EventType, Pivot, PivotDecision, Reason, State, Timestamp, TransferId,
};
use crate::store::{StoreError, TransferRecord, Tx, Work, transact};
use async_trait::async_trait;

impl Ingress {
    /// Emits what holds for the transfer once more, through the outbox of its source's shard;
    /// the ordinary workers do the rest. Repeating it is harmless. Returns the event's type.
    pub async fn retry(&self, id: TransferId) -> Result<(TransferRecord, EventType), Refusal> {
        let transfer = self.transfer_record(id).await?;
        let (kind, reason) = match transfer.row.state {
            State::Held => match self.pivot(&transfer).await?.map(|pivot| pivot.decision) {
                None => (EventType::Held, None),
                Some(PivotDecision::Credited) => (EventType::Credited, None),
                Some(PivotDecision::Refused(reason)) => (EventType::Refused, Some(reason)),
            },
            state => (EventType::announcing(state), transfer.row.reason),
        };
        let shard = self.context.store.map().shard_of_transfer(id);
        let work = Emit { context: &self.context, transfer: &transfer, kind, reason };
        transact(&*self.context.store, shard, &work).await?;
        self.context.wake.outbox_written(shard);
        Ok((transfer, kind))
    }

    async fn pivot(&self, transfer: &TransferRecord) -> Result<Option<Pivot>, Refusal> {
        let terms = &transfer.row.terms;
        let shard = self.context.store.map().shard_of(&terms.destination);
        let entries = self.context.store.entries_of(shard, &[terms.id]).await?;
        Ok(entries.iter().find_map(crate::domain::EntryRow::pivot))
    }
}

struct Emit<'a> {
    context: &'a Context,
    transfer: &'a TransferRecord,
    kind: EventType,
    reason: Option<Reason>,
}

#[async_trait]
impl Work for Emit<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        let at: Timestamp = tx.now();
        let stamp = self.context.store.identity().stamp(at);
        let causes: [Cause; 2] = [self.transfer.hold_cause, self.transfer.final_cause];
        let attempt = causes.iter().map(|cause| cause.attempt).max().unwrap_or(0) + 1;
        let event = Event {
            attempt,
            reason: self.reason,
            ..stamp.event(self.kind, &self.transfer.row.terms)
        };
        tx.insert_outbox(&[envelope::record(&event, self.context.store.map())]).await
    }
}
