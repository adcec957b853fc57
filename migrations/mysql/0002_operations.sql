-- What operators do, what the drift check remembers. Every statement can be run again.

-- One row for each act of an operator, written in the act's own transaction where it has one on
-- this shard. Rows are only ever inserted.
CREATE TABLE IF NOT EXISTS audit_log (
    id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at BIGINT NOT NULL,
    operator VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    action VARCHAR(64) NOT NULL,
    target VARCHAR(255) NOT NULL,
    reason VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    before_state MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    after_state MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    request_id VARCHAR(64),
    KEY audit_at (at, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Why accounts are quarantined, one row for each that is. `amount` is by how many minor units of
-- the account's currency its books differ, as far as that is known.
CREATE TABLE IF NOT EXISTS account_quarantines (
    account_id VARCHAR(64) NOT NULL PRIMARY KEY,
    since_at BIGINT NOT NULL,
    reason VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    amount BIGINT NOT NULL,
    transfer_id BINARY(16)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
INSERT INTO account_quarantines (account_id, since_at, reason, amount)
SELECT id, created_at, 'quarantined before reasons were kept', 0
FROM account_mst WHERE quarantined = 1
ON DUPLICATE KEY UPDATE amount = account_quarantines.amount;

-- Dead letters that were dealt with, by where they stand: replayed (1) or discarded (2).
CREATE TABLE IF NOT EXISTS dead_letters (
    topic VARCHAR(255) NOT NULL,
    partition_number BIGINT NOT NULL,
    record_offset BIGINT NOT NULL,
    handled TINYINT NOT NULL,
    operator VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    reason VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    at BIGINT NOT NULL,
    PRIMARY KEY (topic, partition_number, record_offset)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- How far the passes of the drift check have come: an id of a transfer in hexadecimal, or of an
-- account; empty at the beginning.
CREATE TABLE IF NOT EXISTS drift_progress (
    name VARCHAR(16) NOT NULL PRIMARY KEY,
    position VARCHAR(64) NOT NULL,
    begun_at BIGINT NOT NULL,
    ended_at BIGINT
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Transfers that the drift check came past before they were final: it looks at them again.
CREATE TABLE IF NOT EXISTS drift_watched (
    transfer_id BINARY(16) NOT NULL PRIMARY KEY
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
