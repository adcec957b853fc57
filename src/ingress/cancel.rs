//! Cancelling.

use super::{Ingress, Refusal};
use crate::domain::{Reason, TransferId};
use crate::store::TransferRecord;

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
    pub async fn cancel(&self, _id: TransferId, _reason: Reason) -> Result<Cancelled, Refusal> {
        todo!()
    }
}
