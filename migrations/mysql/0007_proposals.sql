-- What one principal proposes and another decides on. Every statement can be run again.

-- Kept on the shard of what it is about, by ids that name the shard. `before_state` is how things
-- stood when it was proposed. States are pending (1), approved (2), executed (3), failed (4) and
-- rejected (5); a pending one whose time is over has expired.
CREATE TABLE IF NOT EXISTS proposals (
    id BINARY(16) NOT NULL PRIMARY KEY,
    kind VARCHAR(32) NOT NULL,
    target VARCHAR(64) NOT NULL,
    parameters MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    before_state MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    proposed_by VARCHAR(64) NOT NULL,
    reason VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    idempotency_key VARCHAR(255) NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    state TINYINT NOT NULL,
    decided_by VARCHAR(64),
    decided_at BIGINT,
    decision_reason VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    ended_at BIGINT,
    outcome MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    UNIQUE KEY proposal_claim (proposed_by, target, idempotency_key),
    CHECK (decided_by IS NULL OR decided_by <> proposed_by)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin;
