//! Every text of a batch is looked up by an index.

use super::*;
use crate::domain::Shard;
use crate::store::sqlite::batch::{LENGTHS, of_length};
use crate::store::sqlite::{SqliteSettings, migrate};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Row};

/// Texts whose cost must not grow with the tables.
const QUICK: [&str; 39] = [
    STATEMENTS.lock_accounts,
    STATEMENTS.velocity,
    STATEMENTS.write_usage,
    STATEMENTS.insert_velocity,
    STATEMENTS.write_accounts,
    STATEMENTS.quarantine,
    STATEMENTS.account_records,
    STATEMENTS.insert_accounts,
    STATEMENTS.project_balances,
    STATEMENTS.lock_transfers,
    STATEMENTS.advance_transfers,
    STATEMENTS.outgoing,
    STATEMENTS.transfer_records,
    STATEMENTS.insert_transfers,
    STATEMENTS.claims,
    STATEMENTS.insert_claims,
    STATEMENTS.delete_claims,
    STATEMENTS.pivots,
    STATEMENTS.entries_of,
    STATEMENTS.entries,
    STATEMENTS.incoming,
    STATEMENTS.insert_entries,
    STATEMENTS.reversals,
    STATEMENTS.add_reversed,
    STATEMENTS.outbox_sent,
    STATEMENTS.stuck_seen,
    STATEMENTS.forget_stuck,
    STATEMENTS.remove_stuck,
    STATEMENTS.source_facts_of,
    STATEMENTS.insert_quarantines,
    STATEMENTS.forget_quarantines,
    STATEMENTS.forget_balances,
    STATEMENTS.copy_balances,
    STATEMENTS.insert_acts,
    STATEMENTS.insert_letter_marks,
    STATEMENTS.account_sums_of,
    STATEMENTS.entry_faults_of,
    STATEMENTS.watch_drift,
    STATEMENTS.forget_watched,
];

#[tokio::test]
async fn batches_are_looked_up_by_index() {
    let dir = tempfile::TempDir::new().unwrap();
    let settings = SqliteSettings::new(dir.path());
    migrate(&settings, 1, 1).await.unwrap();
    let file = settings.file(Shard(0));
    let mut conn = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
    let texts = QUICK.into_iter().flat_map(|text| LENGTHS.map(|length| of_length(text, length)));
    for text in texts {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
        let plan = sqlx::raw_sql(explain).fetch_all(&mut conn).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        // Of the batch itself.
        let values = ["CONSTANT ROW", "VALUES CLAUSE", "SCAN (subquery-", "SCAN w"];
        let scans = steps.iter().any(|step| {
            step.starts_with("SCAN") && !values.iter().any(|value| step.contains(value))
        });
        assert!(!scans, "{text}: {steps:#?}");
    }
}
