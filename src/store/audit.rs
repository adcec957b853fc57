//! What the audit reads. Nothing here writes.

use super::StoreError;
use crate::domain::{
    AccountId, AccountRow, Currency, PivotDecision, Shard, State, Terms, Timestamp, TransferId,
};
use async_trait::async_trait;

/// An account whose row, entries and held transfers do not add up, or whose projection is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSums {
    /// The decision row.
    pub row: AccountRow,
    /// Sum of its entries, debits negative.
    pub entries: i128,
    /// Sum of its transfers in stored state HELD.
    pub held: i128,
    /// The projection: posted, held, version; none where there is none.
    pub projected: Option<(i64, i64, i64)>,
}

/// An entry that does not follow from the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryFault {
    /// The account.
    pub account: AccountId,
    /// Its version at the entry.
    pub version: i64,
    /// The entry's transfer.
    pub transfer: TransferId,
    /// `posted` after it, as stored.
    pub balance_after: i64,
    /// `posted` after it, as it follows from the entry before.
    pub expected: i128,
}

/// One shard, read in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSnapshot {
    /// Database time of the snapshot.
    pub at: Timestamp,
    /// Number of accounts looked at.
    pub accounts: u64,
    /// Number of entries looked at (marks left out).
    pub entries: u64,
    /// Sum of posted per currency.
    pub posted: Vec<(Currency, i128)>,
    /// Accounts where posted differs from the entries, held from the transfers, or the projection
    /// from the row (behind or not), or whose row breaks an invariant of its own.
    pub faulty_accounts: Vec<AccountSums>,
    /// Entries that do not follow from the one before them in version order.
    pub faulty_entries: Vec<EntryFault>,
}

/// A transfer as its source's shard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFact {
    /// Its terms.
    pub terms: Terms,
    /// The stored state.
    pub state: State,
    /// The amount of its debit entry, if there is one.
    pub debit: Option<i64>,
    /// When it became final.
    pub completed_at: Option<Timestamp>,
}

/// A pivot as the destination's shard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditFact {
    /// The transfer.
    pub transfer: TransferId,
    /// The account that pays.
    pub source: AccountId,
    /// The account that is paid.
    pub destination: AccountId,
    /// The currency.
    pub currency: Currency,
    /// Minor units credited; 0 where refused.
    pub amount: i64,
    /// What it says.
    pub decision: PivotDecision,
}

/// Reads for the audit.
#[async_trait]
pub trait Audit {
    /// Entries against posted, holds against held, the projection and the chain of entries, in
    /// one snapshot of a shard. Sums are computed by the database, in one pass over each table.
    async fn audit_snapshot(&self, shard: Shard) -> Result<AuditSnapshot, StoreError>;

    /// Transfers in id order after `after` and before `before`, with their debit entries.
    async fn source_facts(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<SourceFact>, StoreError>;

    /// The same for these transfers alone.
    async fn source_facts_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<SourceFact>, StoreError>;

    /// Pivots in transfer order after `after` and before `before`.
    async fn credit_facts(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<CreditFact>, StoreError>;

    /// The pivots of these transfers alone.
    async fn credit_facts_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<CreditFact>, StoreError>;

    /// Debit entries in transfer order after `after` and before `before` whose transfer does not
    /// exist on this shard: each is a fault.
    async fn debits_without_transfer(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<TransferId>, StoreError>;

    /// Decision rows in id order, for a comparison with Redis.
    async fn decision_rows(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRow>, StoreError>;
}
