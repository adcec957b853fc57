//! Cancelling: a REQUESTED transfer in its own row, a HELD one by its pivot, never by an event.

use super::{Ingress, Refusal};
use crate::cancel::{cancel_requested, refuse};
use crate::domain::{EntryRow, PivotDecision, Reason, State, TransferId};
use crate::store::{Actor, TransferRecord};

/// How often a transfer that moves on meanwhile is looked at again.
const LOOKS: u32 = 5;

/// A promise that the transfer ends CANCELLED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// As it is stored now; perhaps still HELD.
    pub transfer: TransferRecord,
    /// Whether it was cancelled before.
    pub repeated: bool,
}

impl Ingress {
    /// Cancels a transfer that is not credited; `reason` is one of `cancelled_by_client` and
    /// `cancelled_by_operator`.
    pub async fn cancel(&self, id: TransferId, reason: Reason) -> Result<Cancelled, Refusal> {
        assert_eq!(reason.final_state(), State::Cancelled, "{reason:?} does not cancel");
        self.end(id, reason, None).await
    }

    /// The same by an operator, as `cancelled_by_operator`; what it changed is in the audit log.
    pub async fn cancel_by(&self, id: TransferId, actor: &Actor) -> Result<Cancelled, Refusal> {
        self.end(id, Reason::CancelledByOperator, Some(actor)).await
    }

    /// What [`Ingress::cancel_by`] would do now, in one sentence; or why it would be refused.
    pub async fn would_cancel(&self, id: TransferId) -> Result<&'static str, Refusal> {
        let transfer = self.transfer_record(id).await?;
        match transfer.row.state {
            State::Cancelled => Ok("nothing: it is cancelled already"),
            State::Committed | State::Rejected => Err(Refusal::TransferFinal(id)),
            State::Requested => Ok("cancel it in its row; nothing is held for it yet"),
            State::Held => match self.decision(&transfer).await? {
                None => Ok("write its pivot REFUSED; commit then releases what is held"),
                Some(PivotDecision::Credited) => Err(Refusal::TransferCredited(id)),
                Some(PivotDecision::Refused(found)) if found.final_state() == State::Cancelled => {
                    Ok("announce again that its pivot is REFUSED; commit releases what is held")
                }
                Some(PivotDecision::Refused(_)) => Err(Refusal::TransferFinal(id)),
            },
        }
    }

    /// What the transfer's pivot says, by its destination's shard.
    async fn decision(&self, transfer: &TransferRecord) -> Result<Option<PivotDecision>, Refusal> {
        let terms = &transfer.row.terms;
        let shard = self.context.store.map().shard_of(&terms.destination);
        let entries = self.context.store.entries_of(shard, &[terms.id]).await?;
        Ok(entries.iter().find_map(EntryRow::pivot).map(|pivot| pivot.decision))
    }

    async fn end(
        &self,
        id: TransferId,
        reason: Reason,
        by: Option<&Actor>,
    ) -> Result<Cancelled, Refusal> {
        for _ in 0..LOOKS {
            let transfer = self.transfer_record(id).await?;
            match transfer.row.state {
                State::Cancelled => return Ok(Cancelled { transfer, repeated: true }),
                State::Committed | State::Rejected => return Err(Refusal::TransferFinal(id)),
                State::Held => return self.cancel_held(transfer, reason, by).await,
                State::Requested => {
                    if cancel_requested(&self.context, &transfer.row.terms, reason, by).await? {
                        let transfer = self.transfer_record(id).await?;
                        return Ok(Cancelled { transfer, repeated: false });
                    }
                }
            }
        }
        Err(Refusal::ShardUnavailable)
    }

    async fn cancel_held(
        &self,
        transfer: TransferRecord,
        reason: Reason,
        by: Option<&Actor>,
    ) -> Result<Cancelled, Refusal> {
        let terms = &transfer.row.terms;
        let pivot = refuse(&self.context, terms, reason, by).await?;
        match pivot.decision {
            PivotDecision::Credited => Err(Refusal::TransferCredited(terms.id)),
            PivotDecision::Refused(found) if found.final_state() == State::Cancelled => {
                Ok(Cancelled { transfer, repeated: false })
            }
            PivotDecision::Refused(_) => Err(Refusal::TransferFinal(terms.id)),
        }
    }
}
