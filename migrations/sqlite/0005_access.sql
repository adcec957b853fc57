-- Who owns accounts, and the keys that callers show.

-- An account without an owner is seen by those only who see all. The index is for the lists of those
-- who do not; neither column is changed by money that moves.
ALTER TABLE account_mst ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE INDEX owned ON account_mst (owner, id);

-- API keys, the same on every shard. Of a key its SHA-256 is kept, never the key. `revision` rises
-- with every change, so that the shards' rows can be compared.
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    principal TEXT NOT NULL,
    roles TEXT NOT NULL,
    scopes TEXT,
    secret_hash BLOB NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
);
