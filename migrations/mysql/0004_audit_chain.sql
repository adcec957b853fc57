-- The audit log becomes a chain: each row has a hash over itself and over the hash of the row before
-- it. `src/store/chain/mod.rs` says what is hashed. Rows from before this have none. Every statement
-- can be run again.
--
-- Ids are given by the writer from here on: what does not know of the chain cannot write past it.
SET @holdfast_alter = IF(
    (SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE()
        AND table_name = 'audit_log' AND column_name = 'entry_hash') = 0,
    'ALTER TABLE audit_log ADD COLUMN entry_hash BINARY(32), MODIFY id BIGINT NOT NULL',
    'DO 0'
);
PREPARE holdfast_alter FROM @holdfast_alter;
EXECUTE holdfast_alter;
DEALLOCATE PREPARE holdfast_alter;

-- Where the chain ends, one row: locked, its id raised by one for each act, in the transaction that
-- does the act. Rows up to `began_after` are from before the chain.
CREATE TABLE IF NOT EXISTS audit_chain (
    id TINYINT NOT NULL PRIMARY KEY CHECK (id = 1),
    began_after BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    last_hash BINARY(32)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
INSERT INTO audit_chain (id, began_after, last_id)
SELECT 1, COALESCE(MAX(id), 0), COALESCE(MAX(id), 0) FROM audit_log
ON DUPLICATE KEY UPDATE id = audit_chain.id;
