-- Columns that are set when a transfer changes its state have a fixed length: its row is then changed
-- where it stands, for two thirds of the cost. No time is 0, no offset is -1. Every statement can be
-- run again.
--
-- From here on the outbox's payload is binary: `src/store/sql/outbox.rs` has its format.
UPDATE transaction_status SET held_at = COALESCE(held_at, 0),
    hold_deadline = COALESCE(hold_deadline, 0), completed_at = COALESCE(completed_at, 0),
    hold_offset = COALESCE(hold_offset, -1), final_offset = COALESCE(final_offset, -1)
WHERE held_at IS NULL OR hold_deadline IS NULL OR completed_at IS NULL OR hold_offset IS NULL
    OR final_offset IS NULL;
ALTER TABLE transaction_status
    MODIFY held_at BIGINT NOT NULL DEFAULT 0,
    MODIFY hold_deadline BIGINT NOT NULL DEFAULT 0,
    MODIFY completed_at BIGINT NOT NULL DEFAULT 0,
    MODIFY hold_offset BIGINT NOT NULL DEFAULT -1,
    MODIFY final_offset BIGINT NOT NULL DEFAULT -1;
