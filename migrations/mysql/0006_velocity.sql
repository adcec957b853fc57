-- Velocity limits: how much an account may set in motion within a minute (period 1), an hour (2) and
-- a day (3), and what is used of it in the window that began at `window_start`. NULL limits nothing.
-- Read and written under the lock of the account's row, and only where that says that it is limited.
-- Every statement can be run again: the column is added where it is not there yet.
CREATE TABLE IF NOT EXISTS velocity_limits (
    account_id VARCHAR(64) NOT NULL,
    period TINYINT NOT NULL,
    max_count BIGINT CHECK (max_count >= 0),
    max_amount BIGINT CHECK (max_amount >= 0),
    window_start BIGINT NOT NULL DEFAULT 0,
    used_count BIGINT NOT NULL DEFAULT 0 CHECK (used_count >= 0),
    used_amount BIGINT NOT NULL DEFAULT 0 CHECK (used_amount >= 0),
    PRIMARY KEY (account_id, period)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
SET @add_limited = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
        AND table_name = 'account_mst' AND column_name = 'limited'),
    'DO 0',
    'ALTER TABLE account_mst ADD COLUMN limited TINYINT NOT NULL DEFAULT 0'
);
PREPARE add_limited FROM @add_limited;
EXECUTE add_limited;
DEALLOCATE PREPARE add_limited;
