-- One shard of the ledger. Amounts are minor units, times are microseconds since the Unix epoch
-- (UTC), ids of transfers are 16 bytes, enumerations are numbers. Ids and keys are compared byte for
-- byte. Every statement can be run again: MySQL has no transactions for them.

-- What this database is; every writing transaction compares it.
CREATE TABLE IF NOT EXISTS shard_identity (
    id TINYINT NOT NULL PRIMARY KEY CHECK (id = 1),
    cluster_id BINARY(16) NOT NULL,
    shard INT NOT NULL,
    map_version BIGINT NOT NULL,
    partitions BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    map_fingerprint CHAR(16) NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Which shard owns each slot: two bytes a slot, big-endian.
CREATE TABLE IF NOT EXISTS shard_map (
    version BIGINT NOT NULL PRIMARY KEY,
    shards INT NOT NULL,
    owners BLOB NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Decision rows: every decision about an account's money locks its row; every change raises the
-- version.
CREATE TABLE IF NOT EXISTS account_mst (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    slot SMALLINT NOT NULL,
    currency CHAR(3) NOT NULL,
    kind TINYINT NOT NULL,
    status TINYINT NOT NULL,
    quarantined TINYINT NOT NULL,
    overdraft_limit BIGINT NOT NULL CHECK (overdraft_limit >= 0),
    posted BIGINT NOT NULL,
    held BIGINT NOT NULL CHECK (held >= 0),
    version BIGINT NOT NULL CHECK (version >= 1),
    metadata MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- The projection of the decision rows that balance queries read.
CREATE TABLE IF NOT EXISTS balances (
    account_id VARCHAR(64) NOT NULL PRIMARY KEY,
    currency CHAR(3) NOT NULL,
    kind TINYINT NOT NULL,
    status TINYINT NOT NULL,
    overdraft_limit BIGINT NOT NULL,
    posted BIGINT NOT NULL,
    held BIGINT NOT NULL,
    version BIGINT NOT NULL,
    as_of BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Debits (side 1) and credits (side 2). A transfer's credit row is its pivot: CREDITED with an
-- amount, or REFUSED as a mark with amount 0, a reason and no version. Never updated or deleted.
CREATE TABLE IF NOT EXISTS ledger_entries (
    transfer_id BINARY(16) NOT NULL,
    side TINYINT NOT NULL,
    account_id VARCHAR(64) NOT NULL,
    counterparty VARCHAR(64) NOT NULL,
    currency CHAR(3) NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    balance_after BIGINT,
    version BIGINT,
    reason TINYINT,
    created_at BIGINT NOT NULL,
    cause_offset BIGINT,
    cause_attempt BIGINT NOT NULL,
    PRIMARY KEY (transfer_id, side),
    CHECK ((reason IS NULL) = (amount > 0) AND (reason IS NULL) = (version IS NOT NULL)
        AND (reason IS NULL) = (balance_after IS NOT NULL)),
    UNIQUE KEY account_version (account_id, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Records to be published, those of one transaction a row, as a JSON array. A row that is here is
-- unsent; it is deleted once all its records are acknowledged. That is the cheapest unsent mark,
-- and a row whose transaction commits late is not skipped, whatever its id.
CREATE TABLE IF NOT EXISTS outbox (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    created_at BIGINT NOT NULL,
    records INT NOT NULL,
    payload MEDIUMBLOB NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Claims: the transfer that a client's key stands for.
CREATE TABLE IF NOT EXISTS idempotency_keys (
    source VARCHAR(64) NOT NULL,
    client VARCHAR(64) NOT NULL,
    idempotency_key VARCHAR(255) NOT NULL,
    transfer_id BINARY(16) NOT NULL,
    fingerprint BINARY(32) NOT NULL,
    fingerprint_version SMALLINT NOT NULL,
    PRIMARY KEY (source, client, idempotency_key)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Transfers by their source; the state is the source's.
CREATE TABLE IF NOT EXISTS transaction_status (
    id BINARY(16) NOT NULL PRIMARY KEY,
    source VARCHAR(64) NOT NULL,
    destination VARCHAR(64) NOT NULL,
    amount BIGINT NOT NULL CHECK (amount > 0),
    currency CHAR(3) NOT NULL,
    state TINYINT NOT NULL,
    reason TINYINT,
    reverses BINARY(16),
    client VARCHAR(64) NOT NULL,
    idempotency_key VARCHAR(255) NOT NULL,
    description VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    reference VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    metadata MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    requested_at BIGINT NOT NULL,
    held_at BIGINT,
    hold_deadline BIGINT,
    completed_at BIGINT,
    hold_offset BIGINT,
    hold_attempt BIGINT NOT NULL DEFAULT 0,
    final_offset BIGINT,
    final_attempt BIGINT NOT NULL DEFAULT 0,
    KEY outgoing (source, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- How much of a transfer is taken back already, on the shard of the account that pays it back.
CREATE TABLE IF NOT EXISTS reversals (
    original BINARY(16) NOT NULL PRIMARY KEY,
    reversed BIGINT NOT NULL CHECK (reversed >= 0)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Who does what only one process should do.
CREATE TABLE IF NOT EXISTS leases (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    holder VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    expires_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- How far scans of transaction_status have come: `recent` and `sweep` look for transfers that are
-- not final, `claims` for claims to be deleted.
CREATE TABLE IF NOT EXISTS reconciler_mark (
    name VARCHAR(16) NOT NULL PRIMARY KEY,
    position BINARY(16) NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
INSERT INTO reconciler_mark (name, position)
VALUES ('recent', REPEAT(x'00', 16)), ('sweep', REPEAT(x'00', 16)), ('claims', REPEAT(x'00', 16))
ON DUPLICATE KEY UPDATE position = position;

-- Transfers that the reconciler watches.
CREATE TABLE IF NOT EXISTS stuck_transfers (
    transfer_id BINARY(16) NOT NULL PRIMARY KEY,
    attempts BIGINT NOT NULL,
    since_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    KEY stuck_next (next_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
