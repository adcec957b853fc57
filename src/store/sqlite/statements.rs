//! The texts in SQLite's words. Batches are tables of values; `CROSS JOIN` keeps the order of a join;
//! there are no lock clauses, since `BEGIN IMMEDIATE` has locked the file. Batches are written `OR
//! FAIL`: a statement that fails ends its transaction, so nobody needs what it wrote until then taken
//! back alone, for which SQLite would keep a copy of every page that it changes.

use super::batch::{batch, one_of};
use crate::store::sql::columns::{
    account_columns, allowance_columns, entry_columns, identity_columns, source_fact_columns,
    transfer_columns, transfer_record_columns,
};
use crate::store::sql::statements::Statements;

pub(super) const STATEMENTS: Statements = Statements {
    begin: concat!(
        "BEGIN IMMEDIATE; SELECT NULL, ",
        identity_columns!(),
        " FROM shard_identity i WHERE i.id = 1"
    ),
    begin_unchecked: "BEGIN IMMEDIATE",
    begin_snapshot: "BEGIN; SELECT NULL FROM shard_identity",
    now: "SELECT NULL",
    read_only: "SELECT 0",
    keeps_commits: "SELECT 1",
    executed: "SELECT NULL",
    has_executed: "SELECT ? IS NULL",

    lock_accounts: concat!(
        "SELECT ",
        account_columns!(),
        ", a.limited FROM ",
        batch!(id 1),
        " CROSS JOIN account_mst a ON a.id = v.id"
    ),
    velocity: concat!(
        "SELECT ",
        allowance_columns!(),
        " FROM ",
        batch!(id 1),
        " CROSS JOIN velocity_limits l ON l.account_id = v.id"
    ),
    // Held together and kept from an index of its own as in `advance_transfers`.
    write_usage: concat!(
        "UPDATE OR FAIL velocity_limits AS l SET window_start = w.window_start, \
         used_count = w.used_count, used_amount = w.used_amount FROM (SELECT * FROM ",
        batch!(id 1, period 2, window_start 3, used_count 4, used_amount 5),
        " LIMIT -1) AS w WHERE l.account_id = +w.id AND l.period = +w.period"
    ),
    insert_velocity: concat!(
        "INSERT OR FAIL INTO velocity_limits (account_id, period, max_count, max_amount, window_start, \
         used_count, used_amount) SELECT v.id, v.period, v.max_count, v.max_amount, \
         v.window_start, v.used_count, v.used_amount FROM ",
        batch!(
            id 1, period 2, max_count 3, max_amount 4, window_start 5,
            used_count 6, used_amount 7
        )
    ),
    write_accounts: concat!(
        "UPDATE OR FAIL account_mst SET posted = v.posted, held = v.held, version = v.version FROM ",
        batch!(id 1, posted 2, held 3, version_before 4, version 5),
        " WHERE account_mst.id = v.id AND account_mst.version = v.version_before"
    ),
    quarantine: concat!(
        "UPDATE OR FAIL account_mst SET quarantined = 1, version = version + 1 FROM ",
        batch!(id 1),
        " WHERE account_mst.id = v.id AND account_mst.quarantined = 0"
    ),
    insert_quarantines: concat!(
        "INSERT OR FAIL INTO account_quarantines (account_id, since_at, reason, amount, transfer_id) \
         SELECT v.id, v.since_at, v.reason, v.amount, v.transfer_id FROM ",
        batch!(id 1, since_at 2, reason 3, amount 4, transfer_id 5),
        " WHERE true ON CONFLICT DO NOTHING"
    ),
    forget_quarantines: concat!("DELETE FROM account_quarantines WHERE account_id IN ", one_of!()),
    account_records: concat!(
        "SELECT ",
        account_columns!(),
        ", a.metadata, a.created_at, a.owner, a.sealed FROM ",
        batch!(id 1),
        " CROSS JOIN account_mst a ON a.id = v.id"
    ),
    insert_accounts: concat!(
        "INSERT OR FAIL INTO account_mst (id, slot, currency, kind, status, quarantined, overdraft_limit, \
         posted, held, version, metadata, created_at, owner, sealed) SELECT v.id, v.slot, v.currency, v.kind, \
         v.status, v.quarantined, v.overdraft_limit, 0, 0, 1, v.metadata, v.created_at, v.owner, \
         v.sealed FROM ",
        batch!(
            id 1, slot 2, currency 3, kind 4, status 5, quarantined 6,
            overdraft_limit 7, metadata 8, created_at 9, owner 10, sealed 11
        )
    ),
    project_balances: concat!(
        "INSERT OR FAIL INTO balances (account_id, currency, kind, status, overdraft_limit, posted, held, \
         version, as_of) SELECT v.id, v.currency, v.kind, v.status, v.overdraft_limit, v.posted, \
         v.held, v.version, v.as_of FROM ",
        batch!(
            id 1, currency 2, kind 3, status 4, overdraft_limit 5,
            posted 6, held 7, version 8, as_of 9
        ),
        " WHERE true ON CONFLICT (account_id) DO UPDATE SET currency = excluded.currency, \
         kind = excluded.kind, status = excluded.status, \
         overdraft_limit = excluded.overdraft_limit, posted = excluded.posted, \
         held = excluded.held, version = excluded.version, as_of = excluded.as_of \
         WHERE excluded.version >= balances.version"
    ),

    forget_balances: concat!("DELETE FROM balances WHERE account_id IN ", one_of!()),
    copy_balances: concat!(
        "INSERT OR FAIL INTO balances (account_id, currency, kind, status, overdraft_limit, posted, held, \
         version, as_of) SELECT a.id, a.currency, a.kind, a.status, a.overdraft_limit, a.posted, \
         a.held, a.version, v.as_of FROM ",
        batch!(id 1, as_of 2),
        " CROSS JOIN account_mst a ON a.id = v.id"
    ),

    lock_transfers: concat!(
        "SELECT ",
        transfer_columns!(),
        " FROM ",
        batch!(id 1),
        " CROSS JOIN transaction_status t ON t.id = v.id"
    ),
    // `LIMIT -1` is no limit: it keeps the batch in one piece. That and `+`, which keeps SQLite from
    // indexing the batch, have it look up each transfer of the batch instead of scanning them all.
    advance_transfers: concat!(
        "UPDATE OR FAIL transaction_status AS t SET state = w.state, \
         reason = coalesce(w.reason, t.reason), held_at = coalesce(w.held_at, t.held_at), \
         hold_deadline = coalesce(w.hold_deadline, t.hold_deadline), \
         completed_at = coalesce(w.completed_at, t.completed_at), \
         hold_offset = coalesce(w.hold_offset, t.hold_offset), \
         hold_attempt = coalesce(w.hold_attempt, t.hold_attempt), \
         final_offset = coalesce(w.final_offset, t.final_offset), \
         final_attempt = coalesce(w.final_attempt, t.final_attempt) FROM (SELECT * FROM ",
        batch!(
            id 1, source 2, destination 3, amount 4, currency 5, state_before 6, state 7, reason 8,
            held_at 9, hold_deadline 10, completed_at 11, hold_offset 12, hold_attempt 13,
            final_offset 14, final_attempt 15
        ),
        " LIMIT -1) AS w WHERE t.id = +w.id AND t.source = +w.source \
         AND t.destination = +w.destination AND t.amount = +w.amount \
         AND t.currency = +w.currency AND t.state = +w.state_before"
    ),
    outgoing: concat!(
        "SELECT ",
        transfer_record_columns!(),
        " FROM transaction_status t INDEXED BY outgoing WHERE t.source = ? AND t.id < ? \
         AND t.id >= ? AND t.id < ? AND t.requested_at >= ? AND t.requested_at < ? \
         AND (? = 0 OR t.state = ?) AND (? = 0 OR t.reference = ? OR SUBSTR(t.sealed, 6, 8) = ?) \
         ORDER BY t.id DESC LIMIT ?"
    ),
    transfer_records: concat!(
        "SELECT ",
        transfer_record_columns!(),
        " FROM ",
        batch!(id 1),
        " CROSS JOIN transaction_status t ON t.id = v.id"
    ),
    insert_transfers: concat!(
        "INSERT OR FAIL INTO transaction_status (id, source, destination, amount, currency, state, \
         reverses, client, idempotency_key, description, reference, metadata, requested_at, sealed) \
         SELECT v.id, v.source, v.destination, v.amount, v.currency, v.state, v.reverses, v.client, \
         v.idempotency_key, v.description, v.reference, v.metadata, v.requested_at, v.sealed \
         FROM ",
        batch!(
            id 1, source 2, destination 3, amount 4, currency 5, state 6,
            reverses 7, client 8, idempotency_key 9, description 10,
            reference 11, metadata 12, requested_at 13, sealed 14
        )
    ),
    claims: concat!(
        "SELECT k.source, k.client, k.idempotency_key, k.transfer_id, k.fingerprint, \
         k.fingerprint_version FROM ",
        batch!(source 1, client 2, idempotency_key 3),
        " CROSS JOIN idempotency_keys k ON k.source = v.source AND k.client = v.client \
         AND k.idempotency_key = v.idempotency_key"
    ),
    insert_claims: concat!(
        "INSERT OR FAIL INTO idempotency_keys (source, client, idempotency_key, transfer_id, fingerprint, \
         fingerprint_version) SELECT v.source, v.client, v.idempotency_key, v.transfer_id, \
         v.fingerprint, v.fingerprint_version FROM ",
        batch!(
            source 1, client 2, idempotency_key 3, transfer_id 4,
            fingerprint 5, fingerprint_version 6
        )
    ),
    delete_claims: concat!(
        "DELETE FROM idempotency_keys WHERE (source, client, idempotency_key) IN (\
         SELECT k.source, k.client, k.idempotency_key FROM ",
        batch!(source 1, client 2, idempotency_key 3, transfer_id 4),
        " CROSS JOIN idempotency_keys k ON k.source = v.source AND k.client = v.client \
         AND k.idempotency_key = v.idempotency_key AND k.transfer_id = v.transfer_id)"
    ),

    pivots: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ",
        batch!(id 1),
        " CROSS JOIN ledger_entries e ON e.transfer_id = v.id AND e.side = 2"
    ),
    entries_of: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ",
        batch!(id 1),
        " CROSS JOIN ledger_entries e ON e.transfer_id = v.id"
    ),
    entries: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ledger_entries e INDEXED BY account_version WHERE e.account_id = ? AND e.version < ? \
         ORDER BY e.version DESC LIMIT ?"
    ),
    incoming: concat!(
        "SELECT ",
        entry_columns!(),
        " FROM ledger_entries e INDEXED BY account_version WHERE e.account_id = ? AND e.version < ? \
         AND e.side = 2 AND e.transfer_id >= ? AND e.transfer_id < ? \
         ORDER BY e.version DESC LIMIT ?"
    ),
    insert_entries: concat!(
        "INSERT OR FAIL INTO ledger_entries (transfer_id, side, account_id, counterparty, currency, \
         amount, balance_after, version, reason, created_at, cause_offset, cause_attempt) \
         SELECT v.transfer_id, v.side, v.account_id, v.counterparty, v.currency, v.amount, \
         v.balance_after, v.version, v.reason, v.created_at, v.cause_offset, v.cause_attempt FROM ",
        batch!(
            transfer_id 1, side 2, account_id 3, counterparty 4,
            currency 5, amount 6, balance_after 7, version 8, reason 9,
            created_at 10, cause_offset 11, cause_attempt 12
        )
    ),

    lock_reversals: concat!(
        "INSERT OR FAIL INTO reversals (original, reversed) SELECT v.id, 0 FROM ",
        batch!(id 1),
        " WHERE true ON CONFLICT DO NOTHING"
    ),
    reversals: concat!(
        "SELECT r.original, r.reversed FROM ",
        batch!(id 1),
        " CROSS JOIN reversals r ON r.original = v.id"
    ),
    add_reversed: concat!(
        "UPDATE OR FAIL reversals SET reversed = reversed + v.change FROM ",
        batch!(id 1, change 2),
        " WHERE reversals.original = v.id"
    ),

    outbox_but: "SELECT id, created_at, payload FROM outbox \
        WHERE instr(?, ',' || id || ',') = 0 ORDER BY id LIMIT ?",
    outbox_sent: concat!("DELETE FROM outbox WHERE id IN ", one_of!()),
    lock_lease: "INSERT INTO leases (name, holder, expires_at) VALUES (?, '', 0) \
        ON CONFLICT DO NOTHING",
    lock_mark: "SELECT position FROM reconciler_mark WHERE name = ?",
    add_stuck: concat!(
        "INSERT OR FAIL INTO stuck_transfers (transfer_id, attempts, since_at, next_at) \
         SELECT v.id, v.attempts, v.since_at, v.since_at FROM ",
        batch!(id 1, attempts 2, since_at 3),
        " WHERE true ON CONFLICT DO UPDATE SET attempts = max(attempts, excluded.attempts)"
    ),
    stuck_seen: concat!(
        "UPDATE OR FAIL stuck_transfers SET attempts = max(stuck_transfers.attempts, v.attempts), \
         next_at = v.next_at FROM ",
        batch!(id 1, attempts 2, next_at 3),
        " WHERE stuck_transfers.transfer_id = v.id"
    ),
    forget_stuck: concat!(
        "DELETE FROM stuck_transfers WHERE transfer_id IN ",
        one_of!(),
        " AND attempts = 0"
    ),
    remove_stuck: concat!("DELETE FROM stuck_transfers WHERE transfer_id IN ", one_of!()),
    standing: "SELECT currency, state, COUNT(*), \
        SUM(amount >> 32) || ':' || SUM(amount & 4294967295), MIN(requested_at) \
        FROM (SELECT t.currency, t.state, t.amount, t.requested_at FROM transaction_status t \
            WHERE t.id > (SELECT position FROM reconciler_mark WHERE name = 'recent') \
            UNION ALL SELECT t.currency, t.state, t.amount, t.requested_at FROM reconciler_mark k \
            CROSS JOIN stuck_transfers s ON s.transfer_id <= k.position \
            CROSS JOIN transaction_status t ON t.id = s.transfer_id WHERE k.name = 'recent') \
        WHERE state IN (1, 2) GROUP BY currency, state ORDER BY currency, state",

    open_transfers: concat!(
        "SELECT s.attempts, s.since_at, s.next_at, ",
        transfer_columns!(),
        " FROM (SELECT id FROM transaction_status \
            WHERE id > (SELECT position FROM reconciler_mark WHERE name = 'recent') \
            UNION SELECT transfer_id FROM stuck_transfers) AS open \
         CROSS JOIN transaction_status t ON t.id = open.id \
         LEFT JOIN stuck_transfers s ON s.transfer_id = t.id \
         WHERE t.state IN (1, 2) AND t.id > ? AND t.id < ? ORDER BY t.id LIMIT ?"
    ),
    owners: concat!(
        "SELECT a.id, a.owner FROM ",
        batch!(id 1),
        " CROSS JOIN account_mst a ON a.id = v.id"
    ),
    lock_chain: "SELECT c.began_after, c.last_id, c.last_hash, \
            (SELECT MAX(l.id) FROM audit_log l) \
        FROM audit_chain c WHERE c.id = 1",
    insert_acts: concat!(
        "INSERT OR FAIL INTO audit_log (id, at, operator, action, target, reason, before_state, \
         after_state, request_id, entry_hash) SELECT v.id, v.at, v.operator, v.action, v.target, \
         v.reason, v.before_state, v.after_state, v.request_id, v.entry_hash FROM ",
        batch!(
            id 1, at 2, operator 3, action 4, target 5, reason 6,
            before_state 7, after_state 8, request_id 9, entry_hash 10
        )
    ),
    insert_letter_marks: concat!(
        "INSERT OR FAIL INTO dead_letters (topic, partition_number, record_offset, handled, operator, \
         reason, at) SELECT v.topic, v.partition_number, v.record_offset, v.handled, v.operator, \
         v.reason, v.at FROM ",
        batch!(
            topic 1, partition_number 2, record_offset 3, handled 4,
            operator 5, reason 6, at 7
        )
    ),

    account_page: concat!(
        "SELECT ",
        account_columns!(),
        ", (SELECT SUM(signed >> 32) || ':' || SUM(signed & 4294967295) \
            FROM (SELECT CASE e.side WHEN 1 THEN -e.amount ELSE e.amount END AS signed \
                FROM ledger_entries e INDEXED BY account_version \
                WHERE e.account_id = a.id AND e.version IS NOT NULL)), \
         (SELECT SUM(t.amount >> 32) || ':' || SUM(t.amount & 4294967295) \
            FROM transaction_status t INDEXED BY outgoing \
            WHERE t.source = a.id AND t.state = 2), b.posted, b.held, b.version \
         FROM account_mst a LEFT JOIN balances b ON b.account_id = a.id \
         WHERE a.id > ? ORDER BY a.id LIMIT ?"
    ),
    account_sums_of: concat!(
        "SELECT ",
        account_columns!(),
        ", (SELECT SUM(signed >> 32) || ':' || SUM(signed & 4294967295) \
            FROM (SELECT CASE e.side WHEN 1 THEN -e.amount ELSE e.amount END AS signed \
                FROM ledger_entries e INDEXED BY account_version \
                WHERE e.account_id = a.id AND e.version IS NOT NULL)), \
         (SELECT SUM(t.amount >> 32) || ':' || SUM(t.amount & 4294967295) \
            FROM transaction_status t INDEXED BY outgoing \
            WHERE t.source = a.id AND t.state = 2), b.posted, b.held, b.version FROM ",
        batch!(id 1),
        " CROSS JOIN account_mst a ON a.id = v.id LEFT JOIN balances b ON b.account_id = a.id"
    ),
    account_glances: concat!(
        "SELECT ",
        account_columns!(),
        ", (SELECT CAST(e.balance_after AS TEXT) FROM ledger_entries e INDEXED BY account_version \
            WHERE e.account_id = a.id ORDER BY e.version DESC LIMIT 1), \
         (SELECT SUM(t.amount >> 32) || ':' || SUM(t.amount & 4294967295) \
            FROM transaction_status t INDEXED BY outgoing \
            WHERE t.source = a.id AND t.id > m.position AND t.state = 2), \
         h.total, b.posted, b.held, b.version FROM ",
        batch!(id 1),
        " CROSS JOIN account_mst a ON a.id = v.id \
         CROSS JOIN reconciler_mark m ON m.name = 'recent' \
         LEFT JOIN (SELECT t.source, \
            SUM(t.amount >> 32) || ':' || SUM(t.amount & 4294967295) AS total \
            FROM reconciler_mark k CROSS JOIN stuck_transfers s ON s.transfer_id <= k.position \
            CROSS JOIN transaction_status t ON t.id = s.transfer_id \
            WHERE k.name = 'recent' AND t.state = 2 GROUP BY t.source) AS h ON h.source = a.id \
         LEFT JOIN balances b ON b.account_id = a.id"
    ),
    entry_faults_of: concat!(
        "SELECT e.account_id, e.version, e.transfer_id, e.balance_after, \
         COALESCE((SELECT p.balance_after FROM ledger_entries p INDEXED BY account_version \
            WHERE p.account_id = e.account_id AND p.version < e.version \
            ORDER BY p.version DESC LIMIT 1), 0), \
         CASE e.side WHEN 1 THEN -e.amount ELSE e.amount END FROM ",
        batch!(id 1),
        " CROSS JOIN ledger_entries e ON e.transfer_id = v.id WHERE e.version IS NOT NULL"
    ),
    chain_faults_of: concat!(
        "SELECT account_id, version, transfer_id, balance_after, before, signed \
         FROM (SELECT e.account_id, e.version, e.transfer_id, e.balance_after, \
            LAG(e.balance_after, 1, 0) OVER (PARTITION BY e.account_id ORDER BY e.version) \
            AS before, CASE e.side WHEN 1 THEN -e.amount ELSE e.amount END AS signed FROM ",
        batch!(id 1),
        " CROSS JOIN ledger_entries e INDEXED BY account_version ON e.account_id = v.id \
            WHERE e.version IS NOT NULL) \
         WHERE balance_after <> before + signed ORDER BY account_id, version"
    ),
    lock_drift_progress: "SELECT p.position, p.begun_at, p.ended_at FROM drift_progress p \
        WHERE p.name = ?",
    watch_drift: concat!(
        "INSERT OR FAIL INTO drift_watched (transfer_id) SELECT v.id FROM ",
        batch!(id 1),
        " WHERE true ON CONFLICT DO NOTHING"
    ),
    forget_watched: concat!("DELETE FROM drift_watched WHERE transfer_id IN ", one_of!()),

    audit_posted: "SELECT currency, COUNT(*), \
        SUM(posted >> 32) || ':' || SUM(posted & 4294967295) \
        FROM account_mst GROUP BY currency ORDER BY currency",
    audit_accounts: concat!(
        "SELECT ",
        account_columns!(),
        ", e.high || ':' || e.low, h.high || ':' || h.low, b.posted, b.held, b.version \
         FROM account_mst a \
         LEFT JOIN (SELECT account_id, SUM(signed >> 32) AS high, \
            SUM(signed & 4294967295) AS low \
            FROM (SELECT account_id, CASE side WHEN 1 THEN -amount ELSE amount END AS signed \
                FROM ledger_entries WHERE version IS NOT NULL) GROUP BY account_id) AS e \
            ON e.account_id = a.id \
         LEFT JOIN (SELECT source, SUM(amount >> 32) AS high, SUM(amount & 4294967295) AS low \
            FROM transaction_status WHERE state = 2 GROUP BY source) AS h ON h.source = a.id \
         LEFT JOIN balances b ON b.account_id = a.id \
         WHERE a.posted <> COALESCE(e.high * 4294967296 + e.low, 0) \
            OR a.held <> COALESCE(h.high * 4294967296 + h.low, 0) \
            OR b.account_id IS NULL OR a.posted <> b.posted OR a.held <> b.held \
            OR a.version <> b.version OR a.status <> b.status OR a.currency <> b.currency \
            OR a.kind <> b.kind OR a.overdraft_limit <> b.overdraft_limit OR a.version < 1 \
            OR a.held < 0 OR a.overdraft_limit < 0 OR ABS(a.posted) > 4611686018427387904 \
            OR a.posted - a.held < -4611686018427387904 \
            OR (a.kind = 1 AND a.posted - a.held < -a.overdraft_limit) \
         ORDER BY a.id"
    ),
    audit_entries: "SELECT account_id, version, transfer_id, balance_after, before, signed \
        FROM (SELECT account_id, version, transfer_id, balance_after, \
            LAG(balance_after, 1, 0) OVER (PARTITION BY account_id ORDER BY version) AS before, \
            CASE side WHEN 1 THEN -amount ELSE amount END AS signed \
            FROM ledger_entries WHERE version IS NOT NULL) \
        WHERE balance_after <> before + signed ORDER BY account_id, version",
    source_facts_of: concat!(
        "SELECT ",
        source_fact_columns!(),
        " FROM ",
        batch!(id 1),
        " CROSS JOIN transaction_status t ON t.id = v.id \
         LEFT JOIN ledger_entries d ON d.transfer_id = t.id AND d.side = 1"
    ),
};

#[cfg(test)]
mod tests;
