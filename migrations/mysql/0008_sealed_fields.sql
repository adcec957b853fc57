-- Personal fields that are encrypted at rest (`src/sealing/mod.rs`). Every statement can be run again:
-- columns are added where they are not there yet.

-- The shard's data keys, wrapped by keys of the configuration: those that seal fields (purpose 1) and
-- the one for lookups (2). `sealed` is how many values processes may have sealed with each.
CREATE TABLE IF NOT EXISTS data_keys (
    id INT NOT NULL PRIMARY KEY,
    purpose TINYINT NOT NULL,
    wrapped_by VARCHAR(64) NOT NULL,
    wrapped VARBINARY(64) NOT NULL,
    sealed BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;

-- Description, reference and metadata of a transfer, sealed together; they are NULL then.
SET @add_sealed = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
        AND table_name = 'transaction_status' AND column_name = 'sealed'),
    'DO 0',
    'ALTER TABLE transaction_status ADD COLUMN sealed MEDIUMBLOB'
);
PREPARE add_sealed FROM @add_sealed;
EXECUTE add_sealed;
DEALLOCATE PREPARE add_sealed;

-- An account's metadata, sealed; `metadata` is '{}' then.
SET @add_sealed = IF(
    EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = DATABASE()
        AND table_name = 'account_mst' AND column_name = 'sealed'),
    'DO 0',
    'ALTER TABLE account_mst ADD COLUMN sealed MEDIUMBLOB'
);
PREPARE add_sealed FROM @add_sealed;
EXECUTE add_sealed;
DEALLOCATE PREPARE add_sealed;
