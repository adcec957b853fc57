-- Personal fields that are encrypted at rest (`src/sealing/mod.rs`).

-- The shard's data keys, wrapped by keys of the configuration: those that seal fields (purpose 1) and
-- the one for lookups (2). `sealed` is how many values processes may have sealed with each.
CREATE TABLE data_keys (
    id INTEGER NOT NULL PRIMARY KEY,
    purpose INTEGER NOT NULL,
    wrapped_by TEXT NOT NULL,
    wrapped BLOB NOT NULL,
    sealed INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- Description, reference and metadata of a transfer, sealed together; they are NULL then.
ALTER TABLE transaction_status ADD COLUMN sealed BLOB;

-- An account's metadata, sealed; `metadata` is '{}' then.
ALTER TABLE account_mst ADD COLUMN sealed BLOB;
