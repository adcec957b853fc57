//! The ledger's rows: a port with two adapters, MySQL and SQLite. The only place with SQL.
//!
//! Money is decided on in transactions of one shard: [`transact`] opens one, which reads the
//! shard's identity in share mode and compares it (protocol, rule 5), runs the work, commits, and
//! starts again where the database says that it may (deadlock, lock timeout).

mod anywhere;
mod audit;
pub mod chain;
mod credentials;
mod drift;
pub mod mysql;
mod operations;
mod pauses;
mod proposals;
mod recovery;
mod replication;
mod rows;
mod sealing;
mod sql;
pub mod sqlite;
mod transact;

pub use anywhere::now_of_any;
pub use audit::{AccountSums, Audit, AuditSnapshot, CreditFact, EntryFault, SourceFact};
pub use credentials::{ApiKeyRow, Credentials, CredentialsTx};
pub use drift::{Drift, Pass, Progress};
pub use operations::{
    Act, ActFilter, Action, Actor, Handled, LetterMark, LoggedAct, NEWEST, Operations,
    OperationsTx, Quarantined, record,
};
pub use pauses::{PauseReads, PauseRow, PausesTx};
pub use proposals::{Proposals, ProposalsTx};
pub use recovery::{Lease, Recovery};
pub use replication::{Executed, Replication};
pub use rows::{
    AccountChange, AccountFilter, AccountRecord, AccountSettings, BalanceRow, Cause, Claim,
    ClaimKey, Entry, EntryRow, Identity, Mark, NewTransfer, OutboxRow, Side, StageWrite, Standing,
    StuckTransfer, TransferFilter, TransferRecord, TransferRow, UNREADABLE,
};
pub use sealing::{DataKeyRow, Sealing};
pub use sql::{MigrationReport, Opening, PendingShard, ShardMigration};
pub use transact::{Work, transact, transact_repeatable};

use crate::broker::Record;
use crate::domain::{
    AccountId, AccountRow, Client, IdempotencyKey, Pivot, Plan, Shard, Suspicion, Timestamp,
    TransferId, UsageChange, Velocity,
};
use crate::routing::ShardMap;
use crate::sealing::Sealer;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// A constraint that an insert can run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Constraint {
    /// The claim exists: somebody was faster with the same key.
    Claim,
    /// The transfer exists.
    Transfer,
    /// The entry of this transfer and side exists: for credits, the pivot was decided.
    Entry,
    /// An entry of this account and version exists: an invariant is violated. An insert that runs
    /// into both may name either.
    EntryVersion,
    /// The account exists.
    Account,
    /// Any other.
    Other,
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database gave the transaction up (deadlock, lock timeout, a count that was short):
    /// nothing was written, do all of it again.
    #[error("shard {shard}: the transaction must be run again: {detail}")]
    Retry {
        /// Which shard.
        shard: Shard,
        /// The database's words.
        detail: String,
    },
    /// The database does not answer and no COMMIT was sent: nothing was written; wait.
    #[error("shard {shard} at {address} does not answer: {detail}")]
    Unavailable {
        /// Which shard.
        shard: Shard,
        /// Host, port and database, or the file; no credentials.
        address: String,
        /// The database's words.
        detail: String,
    },
    /// A COMMIT was sent and not confirmed: it may have happened; read again.
    #[error("shard {shard}: a COMMIT was not confirmed: {detail}")]
    CommitUnknown {
        /// Which shard.
        shard: Shard,
        /// The database's words.
        detail: String,
    },
    /// An insert met a row that exists; nothing was written.
    #[error("shard {shard}: {constraint:?} exists: {detail}")]
    Duplicate {
        /// Which shard.
        shard: Shard,
        /// Which constraint.
        constraint: Constraint,
        /// The database's words.
        detail: String,
    },
    /// This database is not the shard that the process took it for: another cluster, index, map
    /// or generation. The process must not go on with it.
    #[error("shard {shard}: {detail}")]
    Identity {
        /// Which shard.
        shard: Shard,
        /// What was expected and what was found.
        detail: String,
    },
    /// A row breaks an invariant or cannot be read as what it should be; an operator must look.
    #[error("shard {shard}: {detail}")]
    Corrupt {
        /// Which shard.
        shard: Shard,
        /// Which row, and why.
        detail: String,
    },
    /// A statement is wrong, a table is missing, a permission is lacking: not by itself cured.
    #[error("shard {shard}: {detail}")]
    Failed {
        /// Which shard.
        shard: Shard,
        /// The database's words.
        detail: String,
    },
}

impl StoreError {
    /// Which kind it is, in metrics.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Unavailable { .. } => "unavailable",
            Self::CommitUnknown { .. } => "commit_unknown",
            Self::Duplicate { .. } => "duplicate",
            Self::Identity { .. } => "identity",
            Self::Corrupt { .. } => "corrupt",
            Self::Failed { .. } => "failed",
        }
    }

    /// The shard that it is about.
    pub const fn shard(&self) -> Shard {
        match self {
            Self::Retry { shard, .. }
            | Self::Unavailable { shard, .. }
            | Self::CommitUnknown { shard, .. }
            | Self::Duplicate { shard, .. }
            | Self::Identity { shard, .. }
            | Self::Corrupt { shard, .. }
            | Self::Failed { shard, .. } => *shard,
        }
    }
}

/// One writing transaction on one shard. Dropped without [`Tx::commit`] it is rolled back.
///
/// Batch methods take any number of rows and cost one statement, on MySQL several of them one round
/// trip.
/// Methods that write return how many rows changed; [`expect_rows`] compares.
#[async_trait]
pub trait Tx: CredentialsTx + OperationsTx + PausesTx + ProposalsTx + Send {
    /// The shard.
    fn shard(&self) -> Shard;

    /// Database time, read when the transaction began.
    fn now(&self) -> Timestamp;

    /// Locks the decision rows in id order and reads them, with the velocity limits of those that
    /// have some, which costs one statement more; ids without a row are left out.
    async fn lock_accounts(
        &mut self,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRow>, StoreError>;

    /// Writes posted, held and version where the version is still `version_before`.
    async fn write_accounts(&mut self, changes: &[AccountChange]) -> Result<u64, StoreError>;

    /// The stored rows of transfers, locked; ids without a row are left out.
    async fn transfers(
        &mut self,
        ids: &[TransferId],
    ) -> Result<HashMap<TransferId, TransferRow>, StoreError>;

    /// Moves transfers on, where state, source, amount and currency are still what is expected.
    async fn advance_transfers(&mut self, writes: &[StageWrite]) -> Result<u64, StoreError>;

    /// The pivots of these transfers on this shard; those not decided are left out.
    async fn pivots(
        &mut self,
        ids: &[TransferId],
    ) -> Result<HashMap<TransferId, Pivot>, StoreError>;

    /// Inserts ledger entries and REFUSED marks, all of them, or fails.
    async fn insert_entries(&mut self, entries: &[EntryRow]) -> Result<(), StoreError>;

    /// Writes the accounts, transfers, usage, entries and reversals of a plan with exact counts: where a
    /// count is not exact the transaction must be run again. That may be found out as late as at the
    /// COMMIT, as it may for what [`Tx::insert_transfers`] and [`Tx::insert_outbox`] run into.
    async fn write(&mut self, plan: &Plan) -> Result<(), StoreError>;

    /// Looks claims up.
    async fn claims(&mut self, keys: &[ClaimKey]) -> Result<HashMap<ClaimKey, Claim>, StoreError>;

    /// Inserts transfers in state REQUESTED and their claims, claims in key order.
    async fn insert_transfers(&mut self, transfers: &[NewTransfer]) -> Result<(), StoreError>;

    /// Inserts one outbox row that holds these records, in order; nothing for none.
    async fn insert_outbox(&mut self, records: &[Record]) -> Result<(), StoreError>;

    /// Locks one row per original transfer (creating those that do not exist) in id order and
    /// returns how much of each is reversed already, in minor units.
    async fn lock_reversed(
        &mut self,
        originals: &BTreeSet<TransferId>,
    ) -> Result<BTreeMap<TransferId, i64>, StoreError>;

    /// Adds to (or with negative numbers takes from) what is reversed of originals; the result
    /// is never below zero.
    async fn add_reversed(
        &mut self,
        changes: &BTreeMap<TransferId, i64>,
    ) -> Result<u64, StoreError>;

    /// Quarantines accounts: new holds are refused until an operator releases them. The version is
    /// raised and the reason kept; those quarantined already stay as they are, with the reason that
    /// they have.
    async fn quarantine(
        &mut self,
        accounts: &BTreeMap<AccountId, Suspicion>,
    ) -> Result<(), StoreError>;

    /// Inserts accounts with version 1 and their projected balances.
    async fn insert_accounts(&mut self, accounts: &[AccountRecord]) -> Result<u64, StoreError>;

    /// Full records of accounts, metadata included; not locked.
    async fn account_records(
        &mut self,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRecord>, StoreError>;

    /// Writes status, overdraft limit, quarantine, metadata and the new version where the version
    /// is still the one before, and the projected balance with it.
    async fn write_settings(&mut self, settings: &AccountSettings) -> Result<u64, StoreError>;

    /// Writes what is used of velocity limits.
    async fn write_usage(&mut self, changes: &[UsageChange]) -> Result<u64, StoreError>;

    /// Sets the velocity limits of an account in the place of those that it has, with what is used
    /// of them. The account is locked, and its version raised by [`Tx::write_settings`].
    async fn set_velocity(
        &mut self,
        account: &AccountId,
        velocity: &Velocity,
    ) -> Result<(), StoreError>;

    /// What seals personal fields of rows on this shard; none where they are not encrypted. Its keys
    /// may have to be read first: then the transaction must be run again. Whoever publishes a
    /// transfer seals it first, so that what is published and what is stored are the same.
    fn sealer(&self) -> Result<Option<Sealer>, StoreError>;

    /// Sends what was not sent yet and commits. [`StoreError::CommitUnknown`] where the COMMIT was
    /// sent and not confirmed.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Rows changed are exactly the rows decided, or the transaction must be run again.
pub fn expect_rows(
    shard: Shard,
    what: &str,
    expected: usize,
    changed: u64,
) -> Result<(), StoreError> {
    if changed == expected as u64 {
        return Ok(());
    }
    Err(StoreError::Retry {
        shard,
        detail: format!("{changed} rows of {expected} changed in {what}"),
    })
}

/// The port. Reads outside [`Tx`] see committed rows; each is one statement unless said otherwise.
#[async_trait]
pub trait Store:
    Audit
    + Credentials
    + Drift
    + Operations
    + PauseReads
    + Proposals
    + Recovery
    + Replication
    + Sealing
    + Send
    + Sync
    + 'static
{
    /// The map that all shards agreed on when the store was opened.
    fn map(&self) -> &ShardMap;

    /// The cluster that all shards belong to, and its generation.
    fn identity(&self) -> &Identity;

    /// Host, port and database, or the file; no credentials: for messages.
    fn address(&self, shard: Shard) -> String;

    /// Begins a writing transaction: identity checked in share mode, database time read.
    async fn begin(&self, shard: Shard) -> Result<Box<dyn Tx>, StoreError>;

    /// Whether the shard answers and takes writes.
    async fn ping(&self, shard: Shard) -> Result<(), StoreError>;

    /// Database time.
    async fn now(&self, shard: Shard) -> Result<Timestamp, StoreError>;

    /// One account.
    async fn account(
        &self,
        shard: Shard,
        id: &AccountId,
    ) -> Result<Option<AccountRecord>, StoreError>;

    /// The velocity limits of an account, with what was last used of them; none where there are none.
    async fn velocity(&self, shard: Shard, id: &AccountId) -> Result<Velocity, StoreError>;

    /// Accounts of a shard in id order, after `after`.
    async fn accounts(
        &self,
        shard: Shard,
        filter: &AccountFilter,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRecord>, StoreError>;

    /// The projected balance; none where it was never projected.
    async fn balance(&self, shard: Shard, id: &AccountId)
    -> Result<Option<BalanceRow>, StoreError>;

    /// Upserts projected balances; a newer or equal version wins. Returns nothing: losing is fine.
    async fn project_balances(&self, shard: Shard, rows: &[BalanceRow]) -> Result<(), StoreError>;

    /// Compares the projections of up to `limit` accounts of the shard, after `after` in id order,
    /// with the decision rows, and copies the decision row over every one that is missing, older
    /// or different; returns the rows copied and the last id looked at, none at the end. Where
    /// money moves a projection is always a little behind: copying it early costs a write and is
    /// no fault, and one that is still behind at a second look, 5 s later, is what to report.
    async fn refresh_balances(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<(Vec<BalanceRow>, Option<AccountId>), StoreError>;

    /// Ledger entries of an account, newest first, below `before_version`; REFUSED marks left out.
    async fn entries(
        &self,
        shard: Shard,
        account: &AccountId,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError>;

    /// Transfers with these ids, whole.
    async fn transfer_records(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<TransferRecord>, StoreError>;

    /// Transfers out of an account, newest first, below `before`.
    async fn outgoing(
        &self,
        shard: Shard,
        source: &AccountId,
        filter: &TransferFilter,
        before: Option<TransferId>,
        limit: u32,
    ) -> Result<Vec<TransferRecord>, StoreError>;

    /// Credit entries of an account, newest entry first, below `before_version`. The filter's times
    /// are compared with the time in the transfer's id, to the millisecond.
    async fn incoming(
        &self,
        shard: Shard,
        destination: &AccountId,
        filter: &TransferFilter,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError>;

    /// The transfer that a claim names.
    async fn claimed_transfer(
        &self,
        shard: Shard,
        client: &Client,
        source: &AccountId,
        key: &IdempotencyKey,
    ) -> Result<Option<TransferId>, StoreError>;

    /// Entries and marks of transfers on this shard (both sides, as far as they are here).
    async fn entries_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<EntryRow>, StoreError>;

    /// The oldest unsent outbox rows after this id, in id order; ids begin at 1. One with a smaller
    /// id may be committed later.
    async fn outbox(
        &self,
        shard: Shard,
        after: u64,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// The oldest unsent outbox rows that are not among these, in id order.
    async fn outbox_but(
        &self,
        shard: Shard,
        known: &BTreeSet<u64>,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError>;

    /// Takes rows whose records were acknowledged off the outbox.
    async fn outbox_sent(&self, shard: Shard, ids: &[u64]) -> Result<(), StoreError>;

    /// How many records are unsent, and when the oldest was written.
    async fn outbox_depth(&self, shard: Shard) -> Result<(u64, Option<Timestamp>), StoreError>;

    /// Takes or renews a lease for `ttl` (database time); false while somebody else has it.
    async fn lease(
        &self,
        shard: Shard,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError>;

    /// Reconciler: in one transaction under the mark's lock, scans the transfers of the shard in
    /// id order from a stored mark up to those accepted before `until`, at most `limit`, adds
    /// those not final to the list of stuck transfers and moves the mark. Returns how many rows it
    /// looked at: fewer than `limit` is the end, where [`Mark::Sweep`] begins anew.
    async fn scan_unfinished(
        &self,
        shard: Shard,
        mark: Mark,
        until: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError>;

    /// Reconciler: transfers on the list that are due by database time, oldest of a source first.
    /// Those found final are taken off the list, but for those with attempts: nobody may have
    /// announced their ends, and they stay until [`Store::stuck_over`].
    async fn stuck(&self, shard: Shard, limit: u32) -> Result<Vec<StuckTransfer>, StoreError>;

    /// Reconciler: writes attempts, never fewer than there are, and when to look again.
    async fn stuck_seen(
        &self,
        shard: Shard,
        seen: &[(TransferId, u32, Timestamp)],
    ) -> Result<(), StoreError>;

    /// Reconciler: takes transfers off the list whose ends are announced.
    async fn stuck_over(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError>;

    /// Per currency and state: number and sum of transfers not final, and the oldest; for `status`.
    /// Counted among those that the scan has not reached and those on the list of stuck ones.
    async fn standing(&self, shard: Shard) -> Result<Vec<Standing>, StoreError>;

    /// Deletes claims of transfers accepted before `before`, at most `limit`, and remembers how far
    /// it has come; returns how many transfers it looked at.
    async fn expire_claims(
        &self,
        shard: Shard,
        before: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError>;
}
