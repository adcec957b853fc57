//! The yardstick that is not Holdfast's: what somebody would write who has one MySQL server. One
//! stored procedure a transfer: lock both accounts in id order, move the money, insert the transfer
//! under a unique key and two entries, commit.

use super::Server;
use crate::random;
use anyhow::Context as _;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;
use uuid::Uuid;

const TABLES: [&str; 4] = [
    "CREATE TABLE accounts (id BIGINT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL) ENGINE = InnoDB",
    "CREATE TABLE transfers (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
     idempotency_key VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, \
     source BIGINT NOT NULL, destination BIGINT NOT NULL, amount BIGINT NOT NULL, \
     created_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), \
     UNIQUE KEY (idempotency_key)) ENGINE = InnoDB",
    "CREATE TABLE entries (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, \
     transfer_id BIGINT NOT NULL, account_id BIGINT NOT NULL, amount BIGINT NOT NULL) \
     ENGINE = InnoDB",
    "CREATE PROCEDURE transfer(IN source_id BIGINT, IN destination_id BIGINT, IN moved BIGINT, \
         IN wanted VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin) \
     BEGIN \
       DECLARE found BIGINT; \
       DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END; \
       START TRANSACTION; \
       SELECT balance INTO found FROM accounts WHERE id = LEAST(source_id, destination_id) \
         FOR UPDATE; \
       SELECT balance INTO found FROM accounts WHERE id = GREATEST(source_id, destination_id) \
         FOR UPDATE; \
       UPDATE accounts SET balance = balance - moved WHERE id = source_id; \
       UPDATE accounts SET balance = balance + moved WHERE id = destination_id; \
       INSERT INTO transfers (idempotency_key, source, destination, amount) \
         VALUES (wanted, source_id, destination_id, moved); \
       SET found = LAST_INSERT_ID(); \
       INSERT INTO entries (transfer_id, account_id, amount) \
         VALUES (found, source_id, -moved), (found, destination_id, moved); \
       COMMIT; \
     END",
];

const ACCOUNTS_A_STATEMENT: u32 = 1000;

/// Tables, the procedure and the accounts, in a database that was made for it.
pub async fn prepare(server: &Server, database: &str, accounts: u32) -> anyhow::Result<()> {
    let mut conn = server.connect(database).await?;
    for statement in TABLES {
        sqlx::raw_sql(statement).execute(&mut conn).await?;
    }
    for first in (0..accounts).step_by(ACCOUNTS_A_STATEMENT as usize) {
        let last = accounts.min(first + ACCOUNTS_A_STATEMENT);
        let rows: Vec<String> = (first..last).map(|id| format!("({id}, 100000000000)")).collect();
        let text = format!("INSERT INTO accounts (id, balance) VALUES {}", rows.join(", "));
        conn.execute(AssertSqlSafe(text)).await?;
    }
    Ok(conn.close().await?)
}

/// Callers that each have a connection and call the procedure again as soon as it is answered,
/// until the set is dropped. `committed` counts. A caller that ends has failed.
pub async fn callers(
    server: &Server,
    database: &str,
    accounts: u32,
    connections: u32,
    committed: &Arc<AtomicU64>,
) -> anyhow::Result<JoinSet<anyhow::Error>> {
    let mut callers = JoinSet::new();
    for _ in 0..connections {
        let conn = server.connect(database).await?;
        let (rng, committed) = (SmallRng::seed_from_u64(random::bits()), Arc::clone(committed));
        callers.spawn(async move {
            match call(conn, rng, accounts, &committed).await {
                Ok(never) => match never {},
                Err(error) => error,
            }
        });
    }
    Ok(callers)
}

async fn call(
    mut conn: MySqlConnection,
    mut rng: SmallRng,
    accounts: u32,
    committed: &AtomicU64,
) -> anyhow::Result<std::convert::Infallible> {
    loop {
        let source = rng.random_range(0..accounts);
        let destination = (source + rng.random_range(1..accounts)) % accounts;
        let key = Uuid::from_bytes(rng.random()).to_string();
        sqlx::query("CALL transfer(?, ?, ?, ?)")
            .bind(source)
            .bind(destination)
            .bind(rng.random_range(1..=900_u32))
            .bind(key)
            .execute(&mut conn)
            .await
            .context("a naive transfer failed")?;
        committed.fetch_add(1, Ordering::Relaxed);
    }
}
