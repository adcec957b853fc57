//! The texts in MySQL's words. Most batches are unpacked by `JSON_TABLE`, whose columns fail on what
//! does not fit (left to itself it would read NULL); those of the hot path stand behind `VALUES`.
//! MySQL locks in the order in which it reads: `STRAIGHT_JOIN` and the forced primary key make that the order of the batch, however small the
//! tables are. Only the table that is meant is locked (`OF`).

use crate::store::sql::columns::{
    account_columns, allowance_columns, entry_columns, identity_columns, source_fact_columns,
    transfer_columns, transfer_record_columns,
};
use crate::store::sql::statements::Statements;

/// `batch!(name kind index, …)`: the rows of a JSON parameter as a table `v`.
macro_rules! batch {
    ($first:ident $first_kind:ident $first_index:literal
        $(, $name:ident $kind:ident $index:literal)*) => {
        concat!(
            "JSON_TABLE(?, '$[*]' COLUMNS (",
            batch!(@column $first $first_kind $first_index),
            $(", ", batch!(@column $name $kind $index),)*
            ")) v"
        )
    };
    (@column $name:ident $kind:ident $index:literal) => {
        concat!(
            stringify!($name), batch!(@$kind), " PATH '$[", $index, "]' ERROR ON ERROR"
        )
    };
    (@int) => { " BIGINT" };
    (@hex) => { " VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin" };
    (@id) => { " VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin" };
    (@text) => { " MEDIUMTEXT CHARACTER SET utf8mb4" };
}

/// Microseconds since the Unix epoch; the session's time zone is UTC.
macro_rules! now {
    () => {
        "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)"
    };
}

pub(super) const STATEMENTS: Statements = Statements {
    begin: concat!(
        "BEGIN; SELECT ",
        now!(),
        ", ",
        identity_columns!(),
        " FROM shard_identity i WHERE i.id = 1 FOR SHARE"
    ),
    begin_unchecked: "BEGIN",
    begin_snapshot: concat!(
        "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
         START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY; SELECT ",
        now!()
    ),
    now: concat!("SELECT ", now!()),
    read_only: "SELECT @@global.read_only OR @@global.super_read_only \
        OR @@global.innodb_read_only",
    keeps_commits: "SELECT (SELECT COUNT(*) FROM performance_schema.replication_group_members \
            WHERE MEMBER_STATE = 'ONLINE') > 1 \
        OR (EXISTS (SELECT 1 FROM performance_schema.global_status \
                WHERE VARIABLE_NAME = 'Rpl_semi_sync_source_status' AND VARIABLE_VALUE = 'ON') \
            AND EXISTS (SELECT 1 FROM performance_schema.global_variables \
                WHERE VARIABLE_NAME = 'rpl_semi_sync_source_wait_point' \
                AND VARIABLE_VALUE = 'AFTER_SYNC'))",
    executed: "SELECT IF(@@GLOBAL.gtid_mode = 'ON', @@GLOBAL.gtid_executed, NULL)",
    has_executed: "SELECT GTID_SUBSET(?, @@GLOBAL.gtid_executed)",

    lock_accounts: concat!(
        "SELECT ",
        account_columns!(),
        ", a.limited FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id FOR UPDATE OF a"
    ),
    velocity: concat!(
        "SELECT ",
        allowance_columns!(),
        " FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN velocity_limits l FORCE INDEX (PRIMARY) ON l.account_id = v.id"
    ),
    write_usage: concat!(
        "UPDATE ",
        batch!(id id 0, period int 1, window_start int 2, used_count int 3, used_amount int 4),
        " STRAIGHT_JOIN velocity_limits l FORCE INDEX (PRIMARY) ON l.account_id = v.id \
         AND l.period = v.period \
         SET l.window_start = v.window_start, l.used_count = v.used_count, \
         l.used_amount = v.used_amount"
    ),
    insert_velocity: concat!(
        "INSERT INTO velocity_limits (account_id, period, max_count, max_amount, window_start, \
         used_count, used_amount) SELECT v.id, v.period, v.max_count, v.max_amount, \
         v.window_start, v.used_count, v.used_amount FROM ",
        batch!(
            id id 0, period int 1, max_count int 2, max_amount int 3, window_start int 4,
            used_count int 5, used_amount int 6
        )
    ),
    write_accounts: concat!(
        "UPDATE ",
        batch!(id id 0, posted int 1, held int 2, version_before int 3, version int 4),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id \
         AND a.version = v.version_before \
         SET a.posted = v.posted, a.held = v.held, a.version = v.version"
    ),
    quarantine: concat!(
        "UPDATE ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id AND a.quarantined = 0 \
         SET a.quarantined = 1, a.version = a.version + 1"
    ),
    insert_quarantines: concat!(
        "INSERT INTO account_quarantines (account_id, since_at, reason, amount, transfer_id) \
         SELECT v.id, v.since_at, v.reason, v.amount, UNHEX(v.transfer_id) FROM ",
        batch!(id id 0, since_at int 1, reason text 2, amount int 3, transfer_id hex 4),
        " ON DUPLICATE KEY UPDATE since_at = account_quarantines.since_at"
    ),
    forget_quarantines: concat!(
        "DELETE q FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_quarantines q FORCE INDEX (PRIMARY) ON q.account_id = v.id"
    ),
    account_records: concat!(
        "SELECT ",
        account_columns!(),
        ", a.metadata, a.created_at, a.owner, a.sealed FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id"
    ),
    insert_accounts: concat!(
        "INSERT INTO account_mst (id, slot, currency, kind, status, quarantined, overdraft_limit, \
         posted, held, version, metadata, created_at, owner, sealed) SELECT v.id, v.slot, v.currency, v.kind, \
         v.status, v.quarantined, v.overdraft_limit, 0, 0, 1, v.metadata, v.created_at, v.owner, \
         UNHEX(v.sealed) FROM ",
        batch!(
            id id 0, slot int 1, currency id 2, kind int 3, status int 4, quarantined int 5,
            overdraft_limit int 6, metadata text 7, created_at int 8, owner id 9,
            sealed text 10
        )
    ),
    // Assignments are made from left to right: the version that is compared comes last.
    project_balances: "INSERT INTO balances (account_id, currency, kind, status, overdraft_limit, posted, held, \
         version, as_of) VALUES ? AS v ON DUPLICATE KEY UPDATE \
         currency = IF(v.version >= balances.version, v.currency, balances.currency), \
         kind = IF(v.version >= balances.version, v.kind, balances.kind), \
         status = IF(v.version >= balances.version, v.status, balances.status), \
         overdraft_limit = \
            IF(v.version >= balances.version, v.overdraft_limit, balances.overdraft_limit), \
         posted = IF(v.version >= balances.version, v.posted, balances.posted), \
         held = IF(v.version >= balances.version, v.held, balances.held), \
         as_of = IF(v.version >= balances.version, v.as_of, balances.as_of), \
         version = GREATEST(v.version, balances.version)",

    forget_balances: concat!(
        "DELETE b FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN balances b FORCE INDEX (PRIMARY) ON b.account_id = v.id"
    ),
    copy_balances: concat!(
        "INSERT INTO balances (account_id, currency, kind, status, overdraft_limit, posted, held, \
         version, as_of) SELECT a.id, a.currency, a.kind, a.status, a.overdraft_limit, a.posted, \
         a.held, a.version, v.as_of FROM ",
        batch!(id id 0, as_of int 1),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id"
    ),

    lock_transfers: concat!(
        "SELECT ",
        transfer_columns!(),
        " FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = UNHEX(v.id) \
         FOR UPDATE OF t"
    ),
    advance_transfers: "UPDATE (VALUES ROW?) AS v (id, source, destination, amount, currency, \
         state_before, state, reason, held_at, hold_deadline, completed_at, hold_offset, \
         hold_attempt, final_offset, final_attempt) \
         STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = v.id \
         AND t.source = v.source COLLATE utf8mb4_bin \
         AND t.destination = v.destination COLLATE utf8mb4_bin AND t.amount = v.amount \
         AND t.currency = v.currency COLLATE utf8mb4_bin AND t.state = v.state_before \
         SET t.state = v.state, t.reason = COALESCE(v.reason, t.reason), \
         t.held_at = COALESCE(v.held_at, t.held_at), \
         t.hold_deadline = COALESCE(v.hold_deadline, t.hold_deadline), \
         t.completed_at = COALESCE(v.completed_at, t.completed_at), \
         t.hold_offset = COALESCE(v.hold_offset, t.hold_offset), \
         t.hold_attempt = COALESCE(v.hold_attempt, t.hold_attempt), \
         t.final_offset = COALESCE(v.final_offset, t.final_offset), \
         t.final_attempt = COALESCE(v.final_attempt, t.final_attempt)",
    outgoing: concat!(
        "SELECT ",
        transfer_record_columns!(),
        " FROM transaction_status t FORCE INDEX (outgoing) WHERE t.source = ? AND t.id < ? \
         AND t.id >= ? AND t.id < ? AND t.requested_at >= ? AND t.requested_at < ? \
         AND (? = 0 OR t.state = ?) AND (? = 0 OR t.reference = ? OR SUBSTR(t.sealed, 6, 8) = ?) \
         ORDER BY t.id DESC LIMIT ?"
    ),
    transfer_records: concat!(
        "SELECT ",
        transfer_record_columns!(),
        " FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = UNHEX(v.id)"
    ),
    insert_transfers: "INSERT INTO transaction_status (id, source, destination, amount, currency, state, \
        reverses, client, idempotency_key, description, reference, metadata, requested_at, \
        sealed) VALUES ?",
    claims: concat!(
        "SELECT k.source, k.client, k.idempotency_key, k.transfer_id, k.fingerprint, \
         k.fingerprint_version FROM ",
        batch!(source id 0, client id 1, idempotency_key id 2),
        " STRAIGHT_JOIN idempotency_keys k FORCE INDEX (PRIMARY) ON k.source = v.source \
         AND k.client = v.client AND k.idempotency_key = v.idempotency_key"
    ),
    insert_claims: "INSERT INTO idempotency_keys (source, client, idempotency_key, transfer_id, fingerprint, \
        fingerprint_version) VALUES ?",
    delete_claims: concat!(
        "DELETE k FROM ",
        batch!(source id 0, client id 1, idempotency_key id 2, transfer_id hex 3),
        " STRAIGHT_JOIN idempotency_keys k FORCE INDEX (PRIMARY) ON k.source = v.source \
         AND k.client = v.client AND k.idempotency_key = v.idempotency_key \
         AND k.transfer_id = UNHEX(v.transfer_id)"
    ),

    pivots: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN ledger_entries e FORCE INDEX (PRIMARY) \
         ON e.transfer_id = UNHEX(v.id) AND e.side = 2"
    ),
    entries_of: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN ledger_entries e FORCE INDEX (PRIMARY) ON e.transfer_id = UNHEX(v.id)"
    ),
    entries: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ledger_entries e FORCE INDEX (account_version) WHERE e.account_id = ? AND e.version < ? \
         ORDER BY e.version DESC LIMIT ?"
    ),
    incoming: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ledger_entries e FORCE INDEX (account_version) WHERE e.account_id = ? AND e.version < ? \
         AND e.side = 2 AND e.transfer_id >= ? AND e.transfer_id < ? \
         ORDER BY e.version DESC LIMIT ?"
    ),
    insert_entries: "INSERT INTO ledger_entries (transfer_id, side, account_id, counterparty, currency, \
        amount, balance_after, version, reason, created_at, cause_offset, cause_attempt) VALUES ?",

    lock_reversals: concat!(
        "INSERT INTO reversals (original, reversed) SELECT UNHEX(v.id), 0 FROM ",
        batch!(id hex 0),
        " ON DUPLICATE KEY UPDATE reversed = reversals.reversed"
    ),
    reversals: concat!(
        "SELECT r.original, r.reversed FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN reversals r FORCE INDEX (PRIMARY) ON r.original = UNHEX(v.id)"
    ),
    add_reversed: concat!(
        "UPDATE ",
        batch!(id hex 0, amount int 1),
        " STRAIGHT_JOIN reversals r FORCE INDEX (PRIMARY) ON r.original = UNHEX(v.id) \
         SET r.reversed = r.reversed + v.amount"
    ),

    outbox_but: "SELECT id, created_at, payload FROM outbox WHERE NOT FIND_IN_SET(id, ?) \
        ORDER BY id LIMIT ?",
    outbox_sent: concat!(
        "DELETE o FROM ",
        batch!(id int 0),
        " STRAIGHT_JOIN outbox o FORCE INDEX (PRIMARY) ON o.id = v.id"
    ),
    lock_lease: "INSERT INTO leases (name, holder, expires_at) VALUES (?, '', 0) \
        ON DUPLICATE KEY UPDATE expires_at = leases.expires_at",
    lock_mark: "SELECT position FROM reconciler_mark WHERE name = ? FOR UPDATE",
    add_stuck: concat!(
        "INSERT INTO stuck_transfers (transfer_id, attempts, since_at, next_at) \
         SELECT UNHEX(v.id), v.attempts, v.since_at, v.since_at FROM ",
        batch!(id hex 0, attempts int 1, since_at int 2),
        " ON DUPLICATE KEY UPDATE attempts = GREATEST(stuck_transfers.attempts, v.attempts)"
    ),
    stuck_seen: concat!(
        "UPDATE ",
        batch!(id hex 0, attempts int 1, next_at int 2),
        " STRAIGHT_JOIN stuck_transfers s FORCE INDEX (PRIMARY) ON s.transfer_id = UNHEX(v.id) \
         SET s.attempts = GREATEST(s.attempts, v.attempts), s.next_at = v.next_at"
    ),
    forget_stuck: concat!(
        "DELETE s FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN stuck_transfers s FORCE INDEX (PRIMARY) ON s.transfer_id = UNHEX(v.id) \
         WHERE s.attempts = 0"
    ),
    remove_stuck: concat!(
        "DELETE s FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN stuck_transfers s FORCE INDEX (PRIMARY) ON s.transfer_id = UNHEX(v.id)"
    ),
    // What is final is left out before anything is put together: a fifth of the time.
    standing: "SELECT currency, state, COUNT(*), CAST(SUM(amount) AS CHAR), MIN(requested_at) \
        FROM (SELECT t.currency, t.state, t.amount, t.requested_at \
            FROM transaction_status t FORCE INDEX (PRIMARY) \
            WHERE t.id > (SELECT position FROM reconciler_mark WHERE name = 'recent') \
            AND t.state IN (1, 2) \
            UNION ALL SELECT t.currency, t.state, t.amount, t.requested_at FROM reconciler_mark k \
            STRAIGHT_JOIN stuck_transfers s ON s.transfer_id <= k.position \
            STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = s.transfer_id \
            WHERE k.name = 'recent' AND t.state IN (1, 2)) AS open \
        GROUP BY currency, state ORDER BY currency, state",

    open_transfers: concat!(
        "SELECT s.attempts, s.since_at, s.next_at, ",
        transfer_columns!(),
        " FROM (SELECT id FROM transaction_status \
            WHERE id > (SELECT position FROM reconciler_mark WHERE name = 'recent') \
            UNION SELECT transfer_id FROM stuck_transfers) AS open \
         STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = open.id \
         LEFT JOIN stuck_transfers s ON s.transfer_id = t.id \
         WHERE t.state IN (1, 2) AND t.id > ? AND t.id < ? ORDER BY t.id LIMIT ?"
    ),
    owners: concat!(
        "SELECT a.id, a.owner FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id"
    ),
    lock_chain: "SELECT c.began_after, c.last_id, c.last_hash, \
            (SELECT MAX(l.id) FROM audit_log l) \
        FROM audit_chain c WHERE c.id = 1 FOR UPDATE OF c",
    insert_acts: concat!(
        "INSERT INTO audit_log (id, at, operator, action, target, reason, before_state, \
         after_state, request_id, entry_hash) SELECT v.id, v.at, v.operator, v.action, v.target, \
         v.reason, v.before_state, v.after_state, v.request_id, UNHEX(v.entry_hash) FROM ",
        batch!(
            id int 0, at int 1, operator text 2, action id 3, target id 4, reason text 5,
            before_state text 6, after_state text 7, request_id hex 8, entry_hash hex 9
        )
    ),
    insert_letter_marks: concat!(
        "INSERT INTO dead_letters (topic, partition_number, record_offset, handled, operator, \
         reason, at) SELECT v.topic, v.partition_number, v.record_offset, v.handled, v.operator, \
         v.reason, v.at FROM ",
        batch!(
            topic id 0, partition_number int 1, record_offset int 2, handled int 3,
            operator text 4, reason text 5, at int 6
        )
    ),

    account_page: concat!(
        "SELECT ",
        account_columns!(),
        ", (SELECT CAST(SUM(IF(e.side = 1, -e.amount, e.amount)) AS CHAR) \
            FROM ledger_entries e FORCE INDEX (account_version) \
            WHERE e.account_id = a.id AND e.version IS NOT NULL), \
         (SELECT CAST(SUM(t.amount) AS CHAR) FROM transaction_status t FORCE INDEX (outgoing) \
            WHERE t.source = a.id AND t.state = 2), b.posted, b.held, b.version \
         FROM account_mst a LEFT JOIN balances b ON b.account_id = a.id \
         WHERE a.id > ? ORDER BY a.id LIMIT ?"
    ),
    account_sums_of: concat!(
        "SELECT ",
        account_columns!(),
        ", (SELECT CAST(SUM(IF(e.side = 1, -e.amount, e.amount)) AS CHAR) \
            FROM ledger_entries e FORCE INDEX (account_version) \
            WHERE e.account_id = a.id AND e.version IS NOT NULL), \
         (SELECT CAST(SUM(t.amount) AS CHAR) FROM transaction_status t FORCE INDEX (outgoing) \
            WHERE t.source = a.id AND t.state = 2), b.posted, b.held, b.version FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id \
         LEFT JOIN balances b ON b.account_id = a.id"
    ),
    account_glances: concat!(
        "SELECT ",
        account_columns!(),
        ", (SELECT CAST(e.balance_after AS CHAR) \
            FROM ledger_entries e FORCE INDEX (account_version) \
            WHERE e.account_id = a.id ORDER BY e.version DESC LIMIT 1), \
         (SELECT CAST(SUM(t.amount) AS CHAR) FROM transaction_status t FORCE INDEX (outgoing) \
            WHERE t.source = a.id AND t.id > m.position AND t.state = 2), \
         h.total, b.posted, b.held, b.version FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN account_mst a FORCE INDEX (PRIMARY) ON a.id = v.id \
         STRAIGHT_JOIN reconciler_mark m ON m.name = 'recent' \
         LEFT JOIN (SELECT t.source, CAST(SUM(t.amount) AS CHAR) AS total \
            FROM reconciler_mark k STRAIGHT_JOIN stuck_transfers s ON s.transfer_id <= k.position \
            STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = s.transfer_id \
            WHERE k.name = 'recent' AND t.state = 2 GROUP BY t.source) AS h ON h.source = a.id \
         LEFT JOIN balances b ON b.account_id = a.id"
    ),
    entry_faults_of: concat!(
        "SELECT e.account_id, e.version, e.transfer_id, e.balance_after, \
         COALESCE((SELECT p.balance_after FROM ledger_entries p FORCE INDEX (account_version) \
            WHERE p.account_id = e.account_id AND p.version < e.version \
            ORDER BY p.version DESC LIMIT 1), 0), \
         IF(e.side = 1, -e.amount, e.amount) FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN ledger_entries e FORCE INDEX (PRIMARY) ON e.transfer_id = UNHEX(v.id) \
         WHERE e.version IS NOT NULL"
    ),
    chain_faults_of: concat!(
        "SELECT account_id, version, transfer_id, balance_after, previous, signed_amount \
         FROM (SELECT e.account_id, e.version, e.transfer_id, e.balance_after, \
            LAG(e.balance_after, 1, 0) OVER (PARTITION BY e.account_id ORDER BY e.version) \
            AS previous, IF(e.side = 1, -e.amount, e.amount) AS signed_amount FROM ",
        batch!(id id 0),
        " STRAIGHT_JOIN ledger_entries e FORCE INDEX (account_version) ON e.account_id = v.id \
            WHERE e.version IS NOT NULL) AS chain \
         WHERE balance_after <> CAST(previous AS DECIMAL(30)) + signed_amount \
         ORDER BY account_id, version"
    ),
    lock_drift_progress: "SELECT p.position, p.begun_at, p.ended_at FROM drift_progress p \
        WHERE p.name = ? FOR UPDATE",
    watch_drift: concat!(
        "INSERT INTO drift_watched (transfer_id) SELECT UNHEX(v.id) FROM ",
        batch!(id hex 0),
        " ON DUPLICATE KEY UPDATE transfer_id = drift_watched.transfer_id"
    ),
    forget_watched: concat!(
        "DELETE w FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN drift_watched w FORCE INDEX (PRIMARY) ON w.transfer_id = UNHEX(v.id)"
    ),

    audit_posted: "SELECT currency, COUNT(*), CAST(SUM(posted) AS CHAR) \
        FROM account_mst GROUP BY currency ORDER BY currency",
    audit_accounts: concat!(
        "SELECT ",
        account_columns!(),
        ", CAST(e.total AS CHAR), CAST(h.total AS CHAR), b.posted, b.held, b.version \
         FROM account_mst a \
         LEFT JOIN (SELECT account_id, SUM(IF(side = 1, -amount, amount)) AS total \
            FROM ledger_entries WHERE version IS NOT NULL GROUP BY account_id) AS e \
            ON e.account_id = a.id \
         LEFT JOIN (SELECT source, SUM(amount) AS total FROM transaction_status WHERE state = 2 \
            GROUP BY source) AS h ON h.source = a.id \
         LEFT JOIN balances b ON b.account_id = a.id \
         WHERE a.posted <> COALESCE(e.total, 0) OR a.held <> COALESCE(h.total, 0) \
            OR b.account_id IS NULL OR a.posted <> b.posted OR a.held <> b.held \
            OR a.version <> b.version OR a.status <> b.status OR a.currency <> b.currency \
            OR a.kind <> b.kind OR a.overdraft_limit <> b.overdraft_limit OR a.version < 1 \
            OR a.held < 0 OR a.overdraft_limit < 0 \
            OR a.posted NOT BETWEEN -4611686018427387904 AND 4611686018427387904 \
            OR CAST(a.posted AS DECIMAL(30)) - a.held < -4611686018427387904 \
            OR (a.kind = 1 \
                AND CAST(a.posted AS DECIMAL(30)) - a.held + a.overdraft_limit < 0) \
         ORDER BY a.id"
    ),
    audit_entries: "SELECT account_id, version, transfer_id, balance_after, previous, signed_amount \
        FROM (SELECT account_id, version, transfer_id, balance_after, \
            LAG(balance_after, 1, 0) OVER (PARTITION BY account_id ORDER BY version) AS previous, \
            IF(side = 1, -amount, amount) AS signed_amount \
            FROM ledger_entries WHERE version IS NOT NULL) AS chain \
        WHERE balance_after <> CAST(previous AS DECIMAL(30)) + signed_amount \
        ORDER BY account_id, version",
    source_facts_of: concat!(
        "SELECT ",
        source_fact_columns!(),
        " FROM ",
        batch!(id hex 0),
        " STRAIGHT_JOIN transaction_status t FORCE INDEX (PRIMARY) ON t.id = UNHEX(v.id) \
         LEFT JOIN ledger_entries d ON d.transfer_id = t.id AND d.side = 1"
    ),
};
