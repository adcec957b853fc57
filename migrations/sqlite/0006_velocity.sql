-- Velocity limits: how much an account may set in motion within a minute (period 1), an hour (2) and
-- a day (3), and what is used of it in the window that began at `window_start`. NULL limits nothing.
-- Read and written under the lock of the account's row, and only where that says that it is limited.
CREATE TABLE velocity_limits (
    account_id TEXT NOT NULL,
    period INTEGER NOT NULL,
    max_count INTEGER CHECK (max_count >= 0),
    max_amount INTEGER CHECK (max_amount >= 0),
    window_start INTEGER NOT NULL DEFAULT 0,
    used_count INTEGER NOT NULL DEFAULT 0 CHECK (used_count >= 0),
    used_amount INTEGER NOT NULL DEFAULT 0 CHECK (used_amount >= 0),
    PRIMARY KEY (account_id, period)
) STRICT, WITHOUT ROWID;
ALTER TABLE account_mst ADD COLUMN limited INTEGER NOT NULL DEFAULT 0;
