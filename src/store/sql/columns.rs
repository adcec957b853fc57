//! Column lists, in the order in which `decode` takes rows apart.

macro_rules! identity_columns {
    () => {
        "i.cluster_id, i.shard, i.map_version, i.partitions, i.generation, i.map_fingerprint"
    };
}

macro_rules! account_columns {
    () => {
        "a.id, a.currency, a.kind, a.status, a.quarantined, a.overdraft_limit, a.posted, a.held, \
         a.version"
    };
}

macro_rules! allowance_columns {
    () => {
        "l.account_id, l.period, l.max_count, l.max_amount, l.window_start, l.used_count, \
         l.used_amount"
    };
}

macro_rules! balance_columns {
    () => {
        "b.account_id, b.currency, b.kind, b.status, 0, b.overdraft_limit, b.posted, b.held, \
         b.version, b.as_of"
    };
}

// A time 0 and an offset -1 are none: where they have a fixed length, a row changes its state in
// place.
macro_rules! transfer_columns {
    () => {
        "t.id, t.source, t.destination, t.amount, t.currency, t.reverses, t.state, t.reason, \
         t.requested_at, NULLIF(t.held_at, 0), NULLIF(t.hold_deadline, 0), \
         NULLIF(t.completed_at, 0)"
    };
}

macro_rules! transfer_record_columns {
    () => {
        "t.id, t.source, t.destination, t.amount, t.currency, t.reverses, t.state, t.reason, \
         t.requested_at, NULLIF(t.held_at, 0), NULLIF(t.hold_deadline, 0), \
         NULLIF(t.completed_at, 0), t.client, t.idempotency_key, t.description, t.reference, \
         t.metadata, NULLIF(t.hold_offset, -1), t.hold_attempt, NULLIF(t.final_offset, -1), \
         t.final_attempt, t.sealed"
    };
}

macro_rules! entry_columns {
    () => {
        "e.transfer_id, e.side, e.account_id, e.counterparty, e.currency, e.amount, \
         e.balance_after, e.version, e.reason, e.created_at, e.cause_offset, e.cause_attempt"
    };
}

macro_rules! source_fact_columns {
    () => {
        "t.id, t.source, t.destination, t.amount, t.currency, t.reverses, t.state, d.amount, \
         NULLIF(t.completed_at, 0)"
    };
}

pub(in crate::store) use {
    account_columns, allowance_columns, balance_columns, entry_columns, identity_columns,
    source_fact_columns, transfer_columns, transfer_record_columns,
};
