-- SQLite's columns have no lengths; MySQL's `transaction_status` is changed here.
--
-- From here on the outbox's payload is binary: `src/store/sql/outbox.rs` has its format.
SELECT 1;
