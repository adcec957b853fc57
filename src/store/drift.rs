//! What the continuous drift check reads and remembers. Each page is bounded, and each account of
//! it is read in one snapshot: a page is one statement.

use super::{AccountSums, EntryFault, StoreError};
use crate::domain::{AccountId, Shard, Timestamp, TransferId};
use async_trait::async_trait;

/// A pass of the drift check over one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Transfers accepted since.
    Recent,
    /// Pivots of transfers accepted since.
    RecentPivots,
    /// All accounts.
    Accounts,
    /// All transfers.
    Transfers,
    /// All pivots.
    Pivots,
}

impl Pass {
    /// The name in the table and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Recent => "recent",
            Self::RecentPivots => "recent_pivots",
            Self::Accounts => "accounts",
            Self::Transfers => "transfers",
            Self::Pivots => "pivots",
        }
    }
}

/// How far a pass has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last id that was looked at; empty at the beginning.
    pub position: String,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it came to its end, if it has.
    pub ended_at: Option<Timestamp>,
}

/// What the drift check reads and remembers.
#[async_trait]
pub trait Drift {
    /// Accounts in id order, after `after`, with the sums of all their entries and held transfers.
    /// Reads everything that the accounts of the page have.
    async fn account_page(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountSums>, StoreError>;

    /// The same of these accounts alone.
    async fn account_sums_of(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<AccountSums>, StoreError>;

    /// These accounts at a glance: instead of the sum of the entries the balance after the newest
    /// of them, instead of the sum of the held transfers that of those on the reconciler's list or
    /// before its mark. Costs what is unfinished, not what is stored. A held transfer that was
    /// accepted behind the mark is missing: a difference calls for [`Drift::account_sums_of`].
    async fn account_glances(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<AccountSums>, StoreError>;

    /// Entries of these transfers on this shard that do not follow from the entry before them.
    async fn entry_faults_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<EntryFault>, StoreError>;

    /// Entries of these accounts that do not follow from the entry before them.
    async fn chain_faults_of(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<EntryFault>, StoreError>;

    /// How far a pass has come; none where it never began.
    async fn drift_progress(
        &self,
        shard: Shard,
        pass: Pass,
    ) -> Result<Option<Progress>, StoreError>;

    /// Moves a pass on from where it was, and remembers transfers to be looked at again, in one
    /// transaction. False, and nothing is written, where another process has moved it.
    async fn move_drift(
        &self,
        shard: Shard,
        pass: Pass,
        from: Option<&Progress>,
        to: &Progress,
        watch: &[TransferId],
    ) -> Result<bool, StoreError>;

    /// Transfers to be looked at again, in id order, after `after`.
    async fn drift_watched(
        &self,
        shard: Shard,
        after: TransferId,
        limit: u32,
    ) -> Result<Vec<TransferId>, StoreError>;

    /// Takes transfers off that list.
    async fn drift_seen(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError>;
}
