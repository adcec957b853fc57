-- The audit log becomes a chain: each row has a hash over itself and over the hash of the row before
-- it. `src/store/chain/mod.rs` says what is hashed. Rows from before this have none.
ALTER TABLE audit_log ADD COLUMN entry_hash BLOB;

-- Where the chain ends, one row: locked, its id raised by one for each act, in the transaction that
-- does the act. Rows up to `began_after` are from before the chain.
CREATE TABLE audit_chain (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    began_after INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    last_hash BLOB
) STRICT;
INSERT INTO audit_chain (id, began_after, last_id)
SELECT 1, COALESCE(MAX(id), 0), COALESCE(MAX(id), 0) FROM audit_log;
