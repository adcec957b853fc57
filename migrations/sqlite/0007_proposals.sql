-- What one principal proposes and another decides on.

-- Kept on the shard of what it is about, by ids that name the shard. `before_state` is how things
-- stood when it was proposed. States are pending (1), approved (2), executed (3), failed (4) and
-- rejected (5); a pending one whose time is over has expired.
CREATE TABLE proposals (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    parameters TEXT NOT NULL,
    before_state TEXT NOT NULL,
    proposed_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    state INTEGER NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    decision_reason TEXT,
    ended_at INTEGER,
    outcome TEXT,
    UNIQUE (proposed_by, target, idempotency_key),
    CHECK (decided_by IS NULL OR decided_by <> proposed_by)
) STRICT;
