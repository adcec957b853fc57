//! Cancelling: a REQUESTED transfer in its own row, a HELD one by its pivot, never by an event.

use super::{Ingress, Refusal};
use crate::cancel::{cancel_requested, refuse};
use crate::domain::{PivotDecision, Reason, State, TransferId};
use crate::store::TransferRecord;

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
        for _ in 0..LOOKS {
            let transfer = self.transfer_record(id).await?;
            match transfer.row.state {
                State::Cancelled => return Ok(Cancelled { transfer, repeated: true }),
                State::Committed | State::Rejected => return Err(Refusal::TransferFinal(id)),
                State::Held => return self.cancel_held(transfer, reason).await,
                State::Requested => {
                    if cancel_requested(&self.context, &transfer.row.terms, reason).await? {
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
    ) -> Result<Cancelled, Refusal> {
        let terms = &transfer.row.terms;
        let pivot = refuse(&self.context, terms, reason).await?;
        match pivot.decision {
            PivotDecision::Credited => Err(Refusal::TransferCredited(terms.id)),
            PivotDecision::Refused(found) if found.final_state() == State::Cancelled => {
                Ok(Cancelled { transfer, repeated: false })
            }
            PivotDecision::Refused(_) => Err(Refusal::TransferFinal(terms.id)),
        }
    }
}
