//! The texts: those that both databases take as they are, and the names of those that each has in
//! its own words. A batch is always the first argument.

use super::columns::{
    account_columns, allowance_columns, balance_columns, entry_columns, identity_columns,
    source_fact_columns, transfer_columns,
};

/// Texts that differ between the databases.
pub struct Statements {
    /// Begins a writing transaction and reads database time and identity, locked in share mode.
    pub begin: &'static str,
    /// Begins a writing transaction on a shard that has no identity yet.
    pub begin_unchecked: &'static str,
    /// Begins a read of one snapshot and reads database time.
    pub begin_snapshot: &'static str,
    /// Database time.
    pub now: &'static str,
    /// 1 where the server refuses writes.
    pub read_only: &'static str,

    /// 1 where a confirmed commit survives the loss of its server.
    pub keeps_commits: &'static str,

    /// What the server has executed; nothing where it does not number its transactions.
    pub executed: &'static str,
    /// 1 where all of that is executed here.
    pub has_executed: &'static str,

    /// Locks decision rows in the order of the batch and reads them, and whether they are limited.
    pub lock_accounts: &'static str,
    /// Velocity limits of accounts, with what is used of them.
    pub velocity: &'static str,
    /// What is used of them.
    pub write_usage: &'static str,
    /// New velocity limits.
    pub insert_velocity: &'static str,
    /// Money and version, where the version is the one before.
    pub write_accounts: &'static str,
    /// Sets the mark and raises the version of those not yet quarantined.
    pub quarantine: &'static str,
    /// Keeps why; reasons that are kept already stay.
    pub insert_quarantines: &'static str,
    /// Forgets why.
    pub forget_quarantines: &'static str,
    /// Whole accounts.
    pub account_records: &'static str,
    /// New accounts, without money.
    pub insert_accounts: &'static str,
    /// Upserts projected balances: a newer or equal version wins.
    pub project_balances: &'static str,
    /// Deletes projected balances.
    pub forget_balances: &'static str,
    /// Copies decision rows to projections that are not there.
    pub copy_balances: &'static str,

    /// Locks transfers in the order of the batch and reads them.
    pub lock_transfers: &'static str,
    /// Moves transfers on that are as expected. What is given as NULL stays as it is.
    pub advance_transfers: &'static str,
    /// Transfers out of an account, newest first, by the list's index. State 0 and flag 0 before the
    /// reference stand for any.
    pub outgoing: &'static str,
    /// Whole transfers.
    pub transfer_records: &'static str,
    /// New transfers in state REQUESTED.
    pub insert_transfers: &'static str,
    /// Claims by key.
    pub claims: &'static str,
    /// New claims.
    pub insert_claims: &'static str,
    /// Deletes claims, each only while it names the transfer it came with.
    pub delete_claims: &'static str,

    /// Credit rows of transfers.
    pub pivots: &'static str,
    /// Both sides' rows of transfers.
    pub entries_of: &'static str,
    /// Entries of an account, newest first, by the index of versions; marks have none.
    pub entries: &'static str,
    /// Credit entries of an account, the same way.
    pub incoming: &'static str,
    /// New entries and marks.
    pub insert_entries: &'static str,

    /// Creates the rows of originals that have none and locks all of them, in batch order.
    pub lock_reversals: &'static str,
    /// What is reversed of originals.
    pub reversals: &'static str,
    /// Adds to what is reversed.
    pub add_reversed: &'static str,

    /// Outbox rows whose ids are not in a list, with a comma before and after each.
    pub outbox_but: &'static str,
    /// Deletes outbox rows.
    pub outbox_sent: &'static str,
    /// Creates a lease that nobody holds, if there is none, and locks it.
    pub lock_lease: &'static str,
    /// Locks a mark and reads it.
    pub lock_mark: &'static str,
    /// Puts transfers on the list of stuck ones, or gives those on it as many attempts.
    pub add_stuck: &'static str,
    /// Attempts and when to look again.
    pub stuck_seen: &'static str,
    /// Takes those off the list that have no attempts.
    pub forget_stuck: &'static str,
    /// Takes transfers off the list.
    pub remove_stuck: &'static str,
    /// Number, sum and oldest of what is not final: what is behind no mark yet, and the list.
    pub standing: &'static str,

    /// What is not final, as `standing` counts it, with the list's attempts and times.
    pub open_transfers: &'static str,
    /// Accounts of a batch and their owners.
    pub owners: &'static str,
    /// Locks the head of the audit log's chain and reads it, and the highest id of the log.
    pub lock_chain: &'static str,
    /// New rows of the audit log.
    pub insert_acts: &'static str,
    /// Dead letters that are dealt with.
    pub insert_letter_marks: &'static str,

    /// Accounts in id order with the sums of all that they have.
    pub account_page: &'static str,
    /// The same of a batch.
    pub account_sums_of: &'static str,
    /// A batch of accounts with the balance after their newest entry and, in two parts, what is
    /// held of unfinished transfers.
    pub account_glances: &'static str,
    /// Entries of transfers and the balance before each.
    pub entry_faults_of: &'static str,
    /// Entries of accounts that do not follow from the one before them.
    pub chain_faults_of: &'static str,
    /// Locks how far a pass has come and reads it.
    pub lock_drift_progress: &'static str,
    /// Puts transfers on the list of those to be looked at again.
    pub watch_drift: &'static str,
    /// Takes transfers off it.
    pub forget_watched: &'static str,

    /// Number of accounts and sum of posted, per currency.
    pub audit_posted: &'static str,
    /// Accounts that do not add up.
    pub audit_accounts: &'static str,
    /// Entries that do not follow from the one before them.
    pub audit_entries: &'static str,
    /// Transfers and their debits, by id.
    pub source_facts_of: &'static str,
}

pub(super) const IDENTITY: &str =
    concat!("SELECT ", identity_columns!(), " FROM shard_identity i WHERE i.id = 1");

pub(super) const MAP: &str = "SELECT shards, owners FROM shard_map WHERE version = ?";

pub(super) const ACCOUNT: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.metadata, a.created_at, a.owner, a.sealed FROM account_mst a WHERE a.id = ?"
);

/// An empty currency and status 0 stand for any.
pub(super) const ACCOUNTS: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.metadata, a.created_at, a.owner, a.sealed FROM account_mst a \
     WHERE a.id > ? AND a.id >= ? AND a.id < ? \
     AND (? = '' OR a.currency = ?) AND (? = 0 OR a.status = ?) ORDER BY a.id LIMIT ?"
);

/// The same of one owner, by the index of owners.
pub(super) const OWNED_ACCOUNTS: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", a.metadata, a.created_at, a.owner, a.sealed FROM account_mst a \
     WHERE a.owner = ? AND a.id > ? AND a.id >= ? AND a.id < ? \
     AND (? = '' OR a.currency = ?) AND (? = 0 OR a.status = ?) ORDER BY a.id LIMIT ?"
);

pub(super) const DECISION_ROWS: &str = concat!(
    "SELECT ",
    account_columns!(),
    " FROM account_mst a WHERE a.id > ? ORDER BY a.id LIMIT ?"
);

pub(super) const WRITE_SETTINGS: &str = "UPDATE account_mst SET status = ?, quarantined = ?, \
    overdraft_limit = ?, metadata = COALESCE(?, metadata), \
    sealed = CASE ? WHEN 1 THEN ? ELSE sealed END, owner = COALESCE(?, owner), version = ? \
    WHERE id = ? AND version = ?";

pub(super) const VELOCITY: &str =
    concat!("SELECT ", allowance_columns!(), " FROM velocity_limits l WHERE l.account_id = ?");

pub(super) const FORGET_VELOCITY: &str = "DELETE FROM velocity_limits WHERE account_id = ?";

/// Under the lock of the row, so that nobody finds limits without the flag.
pub(super) const SET_LIMITED: &str = "UPDATE account_mst SET limited = ? WHERE id = ?";

pub(super) const BALANCE: &str =
    concat!("SELECT ", balance_columns!(), " FROM balances b WHERE b.account_id = ?");

/// A projection that is ahead of its decision row, which only lost commits can explain.
pub(super) const FORGET_BALANCE: &str = "DELETE FROM balances WHERE account_id = ? AND version = ?";

/// Decision rows beside their projections.
pub(super) const PROJECTIONS: &str = concat!(
    "SELECT ",
    account_columns!(),
    ", ",
    balance_columns!(),
    " FROM account_mst a LEFT JOIN balances b ON b.account_id = a.id \
     WHERE a.id > ? ORDER BY a.id LIMIT ?"
);

pub(super) const CLAIMED_TRANSFER: &str = "SELECT transfer_id FROM idempotency_keys \
    WHERE source = ? AND client = ? AND idempotency_key = ?";

pub(super) const INSERT_OUTBOX: &str =
    "INSERT INTO outbox (created_at, records, payload) VALUES (?, ?, ?)";

pub(super) const OUTBOX: &str =
    "SELECT id, created_at, payload FROM outbox WHERE id > ? ORDER BY id LIMIT ?";

pub(super) const OUTBOX_DEPTH: &str =
    "SELECT CAST(COALESCE(SUM(records), 0) AS SIGNED), MIN(created_at) FROM outbox";

/// The holder's own lease, or one that has run out.
pub(super) const TAKE_LEASE: &str = "UPDATE leases SET holder = ?, expires_at = ? \
    WHERE name = ? AND (holder = ? OR expires_at <= ?)";

pub(super) const SET_LEASE: &str = "UPDATE leases SET expires_at = ? WHERE name = ?";

pub(super) const LEASE_END: &str = "SELECT expires_at FROM leases WHERE name = ?";

/// Those that have not run out, but for one.
pub(super) const LEASES: &str = "SELECT name, holder, expires_at FROM leases \
    WHERE expires_at > ? AND name <> ? ORDER BY name";

/// Waits for every transaction that has read the row in share mode.
pub(super) const RAISE_GENERATION: &str = "UPDATE shard_identity SET generation = ? \
    WHERE id = 1 AND cluster_id = ? AND shard = ? AND generation < ?";

pub(super) const MOVE_MARK: &str = "UPDATE reconciler_mark SET position = ? WHERE name = ?";

pub(super) const SCAN_TRANSFERS: &str = "SELECT id, state FROM transaction_status \
    WHERE id > ? AND id < ? ORDER BY id LIMIT ?";

pub(super) const SCAN_CLAIMS: &str = "SELECT source, client, idempotency_key, id \
    FROM transaction_status WHERE id > ? AND id < ? ORDER BY id LIMIT ?";

/// A transfer on the list that has no row reads NULL.
pub(super) const STUCK: &str = concat!(
    "SELECT s.transfer_id, s.attempts, s.since_at, s.next_at, ",
    transfer_columns!(),
    " FROM stuck_transfers s LEFT JOIN transaction_status t ON t.id = s.transfer_id \
     WHERE s.next_at <= ? ORDER BY s.transfer_id LIMIT ?"
);

pub(super) const AUDIT_ENTRY_COUNT: &str =
    "SELECT COUNT(*) FROM ledger_entries WHERE version IS NOT NULL";

pub(super) const SOURCE_FACTS: &str = concat!(
    "SELECT ",
    source_fact_columns!(),
    " FROM transaction_status t LEFT JOIN ledger_entries d ON d.transfer_id = t.id AND d.side = 1 \
     WHERE t.id > ? AND t.id < ? ORDER BY t.id LIMIT ?"
);

pub(super) const CREDIT_FACTS: &str = concat!(
    "SELECT ",
    entry_columns!(),
    " FROM ledger_entries e WHERE e.side = 2 AND e.transfer_id > ? AND e.transfer_id < ? \
     ORDER BY e.transfer_id LIMIT ?"
);

pub(super) const DEBITS_WITHOUT_TRANSFER: &str = "SELECT e.transfer_id FROM ledger_entries e \
    LEFT JOIN transaction_status t ON t.id = e.transfer_id \
    WHERE e.side = 1 AND t.id IS NULL AND e.transfer_id > ? AND e.transfer_id < ? \
    ORDER BY e.transfer_id LIMIT ?";

pub(super) const INSERT_IDENTITY: &str = "INSERT INTO shard_identity (id, cluster_id, shard, \
    map_version, partitions, generation, map_fingerprint, created_at) \
    VALUES (1, ?, ?, ?, ?, ?, ?, ?)";

pub(super) const INSERT_MAP: &str =
    "INSERT INTO shard_map (version, shards, owners, created_at) VALUES (?, ?, ?, ?)";

/// What sqlx keeps of the migrations that were applied.
pub(super) const APPLIED: &str =
    "SELECT version FROM _sqlx_migrations WHERE success = TRUE ORDER BY version";

pub(super) const IN_USE: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM account_mst LIMIT 1) AS some";

/// An empty action or target stands for any.
pub(super) const ACTS: &str = "SELECT l.id, l.at, l.operator, l.action, l.target, l.reason, \
    l.before_state, l.after_state, l.request_id FROM audit_log l \
    WHERE l.at <= ? AND (l.at < ? OR l.id < ?) AND (? = '' OR l.action = ?) \
    AND (? = '' OR l.target = ?) ORDER BY l.at DESC, l.id DESC LIMIT ?";

pub(super) const CHAIN_HEAD: &str =
    "SELECT c.began_after, c.last_id, c.last_hash FROM audit_chain c WHERE c.id = 1";

pub(super) const CHAINED_ACTS: &str = "SELECT l.id, l.at, l.operator, l.action, l.target, \
    l.reason, l.before_state, l.after_state, l.request_id, l.entry_hash FROM audit_log l \
    WHERE l.id > ? ORDER BY l.id LIMIT ?";

pub(super) const MOVE_CHAIN: &str =
    "UPDATE audit_chain SET last_id = ?, last_hash = ? WHERE id = 1 AND last_id = ?";

pub(super) const QUARANTINES: &str = "SELECT q.account_id, a.currency, q.since_at, q.reason, \
    q.amount, q.transfer_id FROM account_quarantines q JOIN account_mst a ON a.id = q.account_id \
    WHERE q.account_id > ? ORDER BY q.account_id LIMIT ?";

pub(super) const QUARANTINE_OF: &str = "SELECT q.account_id, a.currency, q.since_at, q.reason, \
    q.amount, q.transfer_id FROM account_quarantines q JOIN account_mst a ON a.id = q.account_id \
    WHERE q.account_id = ?";

pub(super) const LETTER_MARKS: &str = "SELECT d.partition_number, d.record_offset, d.handled, \
    d.operator, d.reason, d.at FROM dead_letters d \
    WHERE d.topic = ? AND d.partition_number = ? AND d.record_offset BETWEEN ? AND ? \
    ORDER BY d.record_offset";

pub(super) const DRIFT_PROGRESS: &str =
    "SELECT p.position, p.begun_at, p.ended_at FROM drift_progress p WHERE p.name = ?";

pub(super) const MOVE_DRIFT: &str =
    "UPDATE drift_progress SET position = ?, begun_at = ?, ended_at = ? WHERE name = ?";

pub(super) const BEGIN_DRIFT: &str =
    "INSERT INTO drift_progress (position, begun_at, ended_at, name) VALUES (?, ?, ?, ?)";

pub(super) const DRIFT_WATCHED: &str = "SELECT w.transfer_id FROM drift_watched w WHERE w.transfer_id > ? ORDER BY w.transfer_id LIMIT ?";

pub(super) const API_KEY: &str = "SELECT k.id, k.name, k.principal, k.roles, k.scopes, \
    k.secret_hash, k.revision, k.created_at, k.expires_at, k.revoked_at FROM api_keys k \
    WHERE k.id = ?";

pub(super) const API_KEYS: &str = "SELECT k.id, k.name, k.principal, k.roles, k.scopes, \
    k.secret_hash, k.revision, k.created_at, k.expires_at, k.revoked_at FROM api_keys k \
    WHERE k.id > ? ORDER BY k.id LIMIT ?";

pub(super) const API_KEY_REVISION: &str = "SELECT revision FROM api_keys WHERE id = ?";

pub(super) const INSERT_API_KEY: &str = "INSERT INTO api_keys (name, principal, roles, scopes, \
    secret_hash, revision, created_at, expires_at, revoked_at, id) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub(super) const UPDATE_API_KEY: &str = "UPDATE api_keys SET name = ?, principal = ?, roles = ?, \
    scopes = ?, secret_hash = ?, revision = ?, created_at = ?, expires_at = ?, revoked_at = ? \
    WHERE id = ?";

pub(super) const PAUSES: &str = "SELECT p.scope, p.mode, p.revision, p.since, p.operator, p.reason \
    FROM pauses p ORDER BY p.scope";

pub(super) const PAUSE_REVISION: &str = "SELECT revision FROM pauses WHERE scope = ?";

pub(super) const INSERT_PAUSE: &str = "INSERT INTO pauses (mode, revision, since, operator, reason, \
    scope) VALUES (?, ?, ?, ?, ?, ?)";

pub(super) const UPDATE_PAUSE: &str = "UPDATE pauses SET mode = ?, revision = ?, since = ?, \
    operator = ?, reason = ? WHERE scope = ?";

macro_rules! proposal_columns {
    () => {
        "p.id, p.kind, p.target, p.parameters, p.before_state, p.proposed_by, p.reason, \
         p.idempotency_key, p.created_at, p.expires_at, p.state, p.decided_by, p.decided_at, \
         p.decision_reason, p.ended_at, p.outcome"
    };
}

pub(super) const PROPOSAL: &str =
    concat!("SELECT ", proposal_columns!(), " FROM proposals p WHERE p.id = ?");

pub(super) const PROPOSAL_OF: &str = concat!(
    "SELECT ",
    proposal_columns!(),
    " FROM proposals p WHERE p.proposed_by = ? AND p.target = ? AND p.idempotency_key = ?"
);

pub(super) const PROPOSALS: &str = concat!(
    "SELECT ",
    proposal_columns!(),
    " FROM proposals p WHERE p.id < ? AND (? = 0 OR p.state = ?) AND p.expires_at > ? \
     AND p.expires_at <= ? ORDER BY p.id DESC LIMIT ?"
);

pub(super) const LOCK_PROPOSAL: &str = "UPDATE proposals SET state = state WHERE id = ?";

pub(super) const INSERT_PROPOSAL: &str = "INSERT INTO proposals (id, kind, target, parameters, \
    before_state, proposed_by, reason, idempotency_key, created_at, expires_at, state) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub(super) const WRITE_PROPOSAL: &str = "UPDATE proposals SET state = ?, decided_by = ?, \
    decided_at = ?, decision_reason = ?, ended_at = ?, outcome = ? WHERE id = ?";

pub(super) const DATA_KEYS: &str = "SELECT d.id, d.purpose, d.wrapped_by, d.wrapped, d.sealed, \
    d.created_at FROM data_keys d ORDER BY d.id";

pub(super) const INSERT_DATA_KEY: &str = "INSERT INTO data_keys (id, purpose, wrapped_by, wrapped, \
    sealed, created_at) VALUES (?, ?, ?, ?, 0, ?)";

/// What a process may seal is written down before it does.
pub(super) const GRANT_ROWS: &str = "UPDATE data_keys SET sealed = sealed + ? WHERE id = ?";

pub(super) const REWRAP_DATA_KEY: &str = "UPDATE data_keys SET wrapped_by = ?, wrapped = ? \
    WHERE id = ? AND wrapped_by = ? AND wrapped = ?";

pub(super) const HAS_DATA_KEYS: &str =
    "SELECT COUNT(*) FROM (SELECT 1 FROM data_keys LIMIT 1) AS some";
