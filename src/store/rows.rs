//! Rows as the port hands them over. Amounts are minor units; times are database times.

use crate::broker::Record;
pub use crate::domain::{
    AccountChange, Cause, Claim, ClaimKey, Entry, EntryRow, NewTransfer, Side, StageWrite,
    StuckTransfer, TransferRow,
};
use crate::domain::{
    AccountRow, Client, ClusterId, Currency, Generation, Sealed, Stamp, State, Timestamp,
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

/// The metadata of an account whose key is not configured, or which was changed.
pub const UNREADABLE: &str = "";

/// An account with all that the API shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRecord {
    /// The decision row.
    pub row: AccountRow,
    /// A JSON object of strings, as text; `{}` where the caller gave none, and [`UNREADABLE`] where it
    /// is encrypted and cannot be read.
    pub metadata: String,
    /// When it was created; ignored on insert, where database time is written.
    pub created_at: Timestamp,
    /// Whose it is; one of nobody is seen by those only who see all.
    pub owner: Option<Client>,
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
    /// Another owner; none leaves the one there is.
    pub owner: Option<Client>,
}

/// A row of the projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// The decision row as it was projected; `quarantined` is not projected and reads false.
    pub row: AccountRow,
    /// When that row was written or read, by its shard's database time.
    pub as_of: Timestamp,
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
    /// These three as they are stored, where they are encrypted. What can be read of it stands above.
    pub sealed: Option<Sealed>,
    /// What caused the hold, or the refusal at hold.
    pub hold_cause: Cause,
    /// What caused the end.
    pub final_cause: Cause,
}

impl TransferRecord {
    /// Whether fields are there that cannot be read: their key is not configured, or what is stored
    /// was changed.
    pub fn is_unreadable(&self) -> bool {
        let read = [&self.description, &self.reference, &self.metadata];
        self.sealed.is_some() && read.iter().all(|field| field.is_none())
    }

    /// As it was inserted, with what its claim says.
    pub fn into_new(self, claim: &Claim) -> NewTransfer {
        NewTransfer {
            terms: self.row.terms,
            claim: self.claim,
            fingerprint: claim.fingerprint,
            fingerprint_version: claim.fingerprint_version,
            description: self.description,
            reference: self.reference,
            metadata: self.metadata,
            sealed: self.sealed,
            at: self.row.requested_at,
        }
    }
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
    /// Only this owner's.
    pub owner: Option<Client>,
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
