-- Who owns accounts, and the keys that callers show. Every statement can be run again.

-- An account without an owner is seen by those only who see all. The index is for the lists of those
-- who do not; neither column is changed by money that moves.
SET @missing = (SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'account_mst' AND column_name = 'owner');
SET @statement = IF(@missing,
    'ALTER TABLE account_mst ADD COLUMN owner VARCHAR(64) NOT NULL DEFAULT '''', ADD KEY owned (owner, id)',
    'DO 0');
PREPARE add_owner FROM @statement;
EXECUTE add_owner;
DEALLOCATE PREPARE add_owner;

-- API keys, the same on every shard. Of a key its SHA-256 is kept, never the key. `revision` rises
-- with every change, so that the shards' rows can be compared.
CREATE TABLE IF NOT EXISTS api_keys (
    id VARCHAR(32) NOT NULL PRIMARY KEY,
    name VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    principal VARCHAR(64) NOT NULL,
    roles VARCHAR(255) NOT NULL,
    scopes VARCHAR(1024),
    secret_hash BINARY(32) NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
