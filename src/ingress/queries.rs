//! Reads: nothing here writes.

use super::{Ingress, Refusal};
use crate::domain::{AccountId, Reason, Timestamp, TransferId};
use crate::store::{BalanceRow, TransferRecord};

/// A balance and where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Row and time.
    pub balance: BalanceRow,
}

/// The state that the API shows: the stored one, or `credited` where the pivot says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the contract's and say it all")]
pub enum ViewState {
    Requested,
    Held,
    Credited,
    Committed,
    Rejected,
    Cancelled,
}

/// A transfer as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferView {
    /// As it is stored.
    pub transfer: TransferRecord,
    /// The state to be shown.
    pub state: ViewState,
}

/// One thing that happened to a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEvent {
    /// The event's type.
    pub event: &'static str,
    /// When, by the database time of the shard it happened on.
    pub at: Timestamp,
    /// The role that did it.
    pub stage: &'static str,
    /// The shard it happened on.
    pub shard: u16,
    /// Topic of the event that caused it.
    pub topic: Option<String>,
    /// Its partition.
    pub partition: Option<u32>,
    /// Its offset.
    pub offset: Option<i64>,
    /// Its attempt.
    pub attempt: u32,
    /// Why, where it was refused; or other words for a person.
    pub detail: Option<Reason>,
}

impl Ingress {
    /// The transfer as it is stored at its source's shard.
    pub async fn transfer_record(&self, _id: TransferId) -> Result<TransferRecord, Refusal> {
        todo!()
    }

    /// The balance: strong from the account's shard; else from Redis, the projection, the shard,
    /// whichever has it first.
    pub async fn balance(&self, _id: &AccountId, _strong: bool) -> Result<Balance, Refusal> {
        todo!()
    }
}
