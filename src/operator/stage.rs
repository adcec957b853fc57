//! Finding the stage that a transfer stands in, and emitting its event once more.

use super::OperatorError;
use crate::context::Context;
use crate::domain::{EventType, PivotDecision, State, TransferId};
use crate::stage::Stage;
use crate::store::{Action, Actor, StoreError, TransferRecord, Tx, Work, transact};
use async_trait::async_trait;
use serde_json::json;

/// The stage that a transfer stands in: by its row, and while it is HELD by its pivot.
pub async fn stage(context: &Context, id: TransferId) -> Result<Stage, OperatorError> {
    let shard = context.store.map().shard_of_transfer(id);
    let found = context.store.transfer_records(shard, &[id]).await?.pop();
    let transfer = found.ok_or(OperatorError::NoTransfer(id))?;
    if transfer.row.state != State::Held {
        return Ok(Stage::by_row(transfer));
    }
    let (kind, reason) = match decision(context, &transfer).await? {
        None => (EventType::Held, None),
        Some(PivotDecision::Credited) => (EventType::Credited, None),
        Some(PivotDecision::Refused(reason)) => (EventType::Refused, Some(reason)),
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
