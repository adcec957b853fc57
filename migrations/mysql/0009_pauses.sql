-- What operators have stopped, the same on every shard. `revision` rises with every change, so that
-- the shards' rows can be compared. Can be run again.
CREATE TABLE IF NOT EXISTS pauses (
    scope VARCHAR(192) NOT NULL PRIMARY KEY,
    mode VARCHAR(16) NOT NULL,
    revision BIGINT NOT NULL,
    since BIGINT NOT NULL,
    operator VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    reason VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
