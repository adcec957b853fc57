-- What operators have stopped, the same on every shard. `revision` rises with every change, so that
-- the shards' rows can be compared.
CREATE TABLE pauses (
    scope TEXT NOT NULL PRIMARY KEY,
    mode TEXT NOT NULL,
    revision INTEGER NOT NULL,
    since INTEGER NOT NULL,
    operator TEXT NOT NULL,
    reason TEXT
);
