//! Rows as the port hands them over. Amounts are minor units; times are database times.

use crate::broker::Record;
pub use crate::domain::{AccountChange, Cause, Entry, EntryRow, Side, StageWrite, TransferRow};
use crate::domain::{
    AccountId, AccountRow, Client, ClusterId, Currency, Generation, IdempotencyKey, Stamp, State,
    Terms, Timestamp, TransferId,
};

/// What every shard stores about itself and every writing transaction compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// Raised on all shards after a promotion that may have lost commits.
    pub generation: Generation,
    /// Version of the shard map.
    pub map_version: u32,
    /// Partitions of every topic.
    pub partitions: u32,
    /// Fingerprint of the shard map.
    pub map_fingerprint: String,
}

impl Identity {
    /// What the events of a transaction at `at` have in common.
    pub fn stamp(&self, at: Timestamp) -> Stamp {
        Stamp { cluster: self.cluster, generation: self.generation, at }
    }
}

/// An account with all that the API shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The decision row.
    pub row: AccountRow,
    /// A JSON object of strings, as text; `{}` where the caller gave none.
    pub metadata: String,
    /// When it was created; ignored on insert, where database time is written.
    pub created_at: Timestamp,
}

/// New settings of an account, decided under its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSettings {
    /// The row as it becomes; its version is one more than `version_before`.
    pub row: AccountRow,
    /// The version that was locked.
    pub version_before: i64,
    /// New metadata, as text; none leaves it.
    pub metadata: Option<String>,
}

/// A row of the projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// The decision row as it was projected; `quarantined` is not projected and reads false.
    pub row: AccountRow,
    /// When that row was written or read, by its shard's database time.
    pub as_of: Timestamp,
}

/// Who claims a request: unique per client, source account and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    /// The account that pays.
    pub source: AccountId,
    /// The principal.
    pub client: Client,
    /// The caller's key.
    pub key: IdempotencyKey,
}

/// What a claim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The transfer that the key stands for.
    pub transfer: TransferId,
    /// Fingerprint of the request, 32 bytes.
    pub fingerprint: [u8; 32],
    /// How the fingerprint was computed.
    pub fingerprint_version: u8,
}

/// A transfer and its claim, to be inserted in state REQUESTED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransfer {
    /// Its terms.
    pub terms: Terms,
    /// Whose claim.
    pub claim: ClaimKey,
    /// Fingerprint of the request.
    pub fingerprint: [u8; 32],
    /// How it was computed.
    pub fingerprint_version: u8,
    /// The caller's text.
    pub description: Option<String>,
    /// The caller's reference.
    pub reference: Option<String>,
    /// A JSON object of strings, as text.
    pub metadata: Option<String>,
    /// When it is accepted.
    pub at: Timestamp,
}

/// A transfer with all that the API and the timeline show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRecord {
    /// What the steps know.
    pub row: TransferRow,
    /// Whose claim it was accepted under.
    pub claim: ClaimKey,
    /// The caller's text.
    pub description: Option<String>,
    /// The caller's reference.
    pub reference: Option<String>,
    /// A JSON object of strings, as text.
    pub metadata: Option<String>,
    /// What caused the hold, or the refusal at hold.
    pub hold_cause: Cause,
    /// What caused the end.
    pub final_cause: Cause,
}

/// An unsent row of the outbox: the records of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxRow {
    /// Its auto-increment id.
    pub id: u64,
    /// When its transaction began.
    pub at: Timestamp,
    /// Its records, in order; or why they cannot be read, with the bytes.
    pub records: Result<Vec<Record>, String>,
}

/// Which accounts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountFilter {
    /// Ids that begin with this.
    pub prefix: Option<String>,
    /// Only this currency.
    pub currency: Option<Currency>,
    /// Only this status.
    pub status: Option<crate::domain::AccountStatus>,
}

/// Which transfers to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferFilter {
    /// Only this stored state (outgoing only).
    pub state: Option<State>,
    /// Only this reference (outgoing only).
    pub reference: Option<String>,
    /// Accepted at or after.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub to: Option<Timestamp>,
}

/// How far the reconciler has looked through the transfers of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Of the continuous scan, which stays close behind acceptance.
    Recent,
    /// Of the slow sweep from the oldest on, which catches what committed behind the other.
    Sweep,
}

/// A transfer on the reconciler's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckTransfer {
    /// The row as it is stored now.
    pub row: TransferRow,
    /// How often it was driven again.
    pub attempts: u32,
    /// When it was put on the list.
    pub since: Timestamp,
    /// When it was due to be looked at.
    pub due_at: Timestamp,
}

/// Transfers that are not final, for `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Currency.
    pub currency: Currency,
    /// REQUESTED or HELD.
    pub state: State,
    /// How many.
    pub transfers: u64,
    /// Sum in minor units.
    pub amount: i128,
    /// When the oldest was accepted.
    pub oldest: Timestamp,
}
