-- One shard of the ledger. Amounts are minor units, times are microseconds since the Unix epoch
-- (UTC), ids of transfers are 16 bytes, enumerations are numbers.

-- What this database is; every writing transaction compares it.
CREATE TABLE shard_identity (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    cluster_id BLOB NOT NULL,
    shard INTEGER NOT NULL,
    map_version INTEGER NOT NULL,
    partitions INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    map_fingerprint TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Which shard owns each slot: two bytes a slot, big-endian.
CREATE TABLE shard_map (
    version INTEGER NOT NULL PRIMARY KEY,
    shards INTEGER NOT NULL,
    owners BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Decision rows: every decision about an account's money locks its row; every change raises the
-- version.
CREATE TABLE account_mst (
    id TEXT NOT NULL PRIMARY KEY,
    slot INTEGER NOT NULL,
    currency TEXT NOT NULL,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    quarantined INTEGER NOT NULL,
    overdraft_limit INTEGER NOT NULL CHECK (overdraft_limit >= 0),
    posted INTEGER NOT NULL,
    held INTEGER NOT NULL CHECK (held >= 0),
    version INTEGER NOT NULL CHECK (version >= 1),
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- The projection of the decision rows that balance queries read.
CREATE TABLE balances (
    account_id TEXT NOT NULL PRIMARY KEY,
    currency TEXT NOT NULL,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    overdraft_limit INTEGER NOT NULL,
    posted INTEGER NOT NULL,
    held INTEGER NOT NULL,
    version INTEGER NOT NULL,
    as_of INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Debits (side 1) and credits (side 2). A transfer's credit row is its pivot: CREDITED with an
-- amount, or REFUSED as a mark with amount 0, a reason and no version. Never updated or deleted.
CREATE TABLE ledger_entries (
    transfer_id BLOB NOT NULL,
    side INTEGER NOT NULL,
    account_id TEXT NOT NULL,
    counterparty TEXT NOT NULL,
    currency TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    balance_after INTEGER,
    version INTEGER,
    reason INTEGER,
    created_at INTEGER NOT NULL,
    cause_offset INTEGER,
    cause_attempt INTEGER NOT NULL,
    PRIMARY KEY (transfer_id, side),
    CHECK ((reason IS NULL) = (amount > 0) AND (reason IS NULL) = (version IS NOT NULL)
        AND (reason IS NULL) = (balance_after IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX account_version ON ledger_entries (account_id, version);

-- Records to be published, those of one transaction a row, as a JSON array. A row that is here is
-- unsent; it is deleted once all its records are acknowledged. That is the cheapest unsent mark,
-- and a row whose transaction commits late is not skipped, whatever its id.
CREATE TABLE outbox (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    created_at INTEGER NOT NULL,
    records INTEGER NOT NULL,
    payload BLOB NOT NULL
) STRICT;

-- Claims: the transfer that a client's key stands for.
CREATE TABLE idempotency_keys (
    source TEXT NOT NULL,
    client TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    transfer_id BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    fingerprint_version INTEGER NOT NULL,
    PRIMARY KEY (source, client, idempotency_key)
) STRICT, WITHOUT ROWID;

-- Transfers by their source; the state is the source's.
CREATE TABLE transaction_status (
    id BLOB NOT NULL PRIMARY KEY,
    source TEXT NOT NULL,
    destination TEXT NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0),
    currency TEXT NOT NULL,
    state INTEGER NOT NULL,
    reason INTEGER,
    reverses BLOB,
    client TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    description TEXT,
    reference TEXT,
    metadata TEXT,
    requested_at INTEGER NOT NULL,
    held_at INTEGER,
    hold_deadline INTEGER,
    completed_at INTEGER,
    hold_offset INTEGER,
    hold_attempt INTEGER NOT NULL DEFAULT 0,
    final_offset INTEGER,
    final_attempt INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outgoing ON transaction_status (source, id);

-- How much of a transfer is taken back already, on the shard of the account that pays it back.
CREATE TABLE reversals (
    original BLOB NOT NULL PRIMARY KEY,
    reversed INTEGER NOT NULL CHECK (reversed >= 0)
) STRICT, WITHOUT ROWID;

-- Who does what only one process should do.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far scans of transaction_status have come: `recent` and `sweep` look for transfers that are
-- not final, `claims` for claims to be deleted.
CREATE TABLE reconciler_mark (
    name TEXT NOT NULL PRIMARY KEY,
    position BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO reconciler_mark (name, position)
VALUES ('recent', zeroblob(16)), ('sweep', zeroblob(16)), ('claims', zeroblob(16));

-- Transfers that the reconciler watches.
CREATE TABLE stuck_transfers (
    transfer_id BLOB NOT NULL PRIMARY KEY,
    attempts INTEGER NOT NULL,
    since_at INTEGER NOT NULL,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX stuck_next ON stuck_transfers (next_at);
