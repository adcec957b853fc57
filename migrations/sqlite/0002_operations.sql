-- What operators do, what the drift check remembers.

-- One row for each act of an operator, written in the act's own transaction where it has one on
-- this shard. Rows are only ever inserted.
CREATE TABLE audit_log (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    operator TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    reason TEXT,
    before_state TEXT NOT NULL,
    after_state TEXT NOT NULL,
    request_id TEXT
) STRICT;
CREATE INDEX audit_at ON audit_log (at, id);

-- Why accounts are quarantined, one row for each that is. `amount` is by how many minor units of
-- the account's currency its books differ, as far as that is known.
CREATE TABLE account_quarantines (
    account_id TEXT NOT NULL PRIMARY KEY,
    since_at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    amount INTEGER NOT NULL,
    transfer_id BLOB
) STRICT, WITHOUT ROWID;
INSERT INTO account_quarantines (account_id, since_at, reason, amount)
SELECT id, created_at, 'quarantined before reasons were kept', 0
FROM account_mst WHERE quarantined = 1;

-- Dead letters that were dealt with, by where they stand: replayed (1) or discarded (2).
CREATE TABLE dead_letters (
    topic TEXT NOT NULL,
    partition_number INTEGER NOT NULL,
    record_offset INTEGER NOT NULL,
    handled INTEGER NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (topic, partition_number, record_offset)
) STRICT, WITHOUT ROWID;

-- How far the passes of the drift check have come: an id of a transfer in hexadecimal, or of an
-- account; empty at the beginning.
CREATE TABLE drift_progress (
    name TEXT NOT NULL PRIMARY KEY,
    position TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT, WITHOUT ROWID;

-- Transfers that the drift check came past before they were final: it looks at them again.
CREATE TABLE drift_watched (
    transfer_id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
