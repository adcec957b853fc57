//! Lists, histories and projected balances from a real replica: no older than they may be, and from
//! the shard itself where the replica is behind, away, or of another shard.

use super::world::{SHARD, customer};
use crate::services::{Services, own_services, unique};
use crate::wait::{eventually, within};
use holdfast::domain::{AccountId, Timestamp};
use holdfast::reads::Reads;
use holdfast::store::mysql::{self, MySqlSettings, MySqlStore};
use holdfast::store::{AccountFilter, BalanceRow, Opening, Store};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How old what is read may be: enough for a busy machine, little enough to wait for.
const BOUND: Duration = Duration::from_millis(1500);

/// A shard on one server, and another server that replicates it.
struct Pair {
    services: Services,
    database: String,
    store: Arc<MySqlStore>,
}

impl Pair {
    async fn new() -> Self {
        let services = own_services("mysql", 2).await;
        let database = format!("holdfast_{}", unique());
        let pair = Self::open(services, database).await;
        pair.on_replica(&pair.follow_primary()).await;
        pair
    }

    async fn open(services: Services, database: String) -> Self {
        let urls = vec![format!("{}/{database}", services.mysql[0].trim_end_matches('/'))];
        run(&services.mysql[0], &format!("CREATE DATABASE {database}")).await;
        let settings = MySqlSettings::new(urls);
        mysql::migrate(&settings, 4).await.unwrap();
        let store = MySqlStore::open(&settings, Opening::AllShards).await.unwrap();
        Self { services, database, store: Arc::new(store) }
    }

    fn follow_primary(&self) -> String {
        let port = self.services.mysql[0].trim_end_matches('/').rsplit(':').next().unwrap();
        format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, \
             SOURCE_USER = 'root', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1; \
             START REPLICA"
        )
    }

    async fn on_replica(&self, statements: &str) {
        run(&self.services.mysql[1], statements).await;
    }

    /// What is read through a replica of this name.
    fn reads_from(&self, database: &str) -> Reads {
        let url = format!("{}/{database}", self.services.mysql[1].trim_end_matches('/'));
        let settings = MySqlSettings {
            acquire_timeout: Duration::from_millis(500),
            ..MySqlSettings::new(vec![url])
        };
        let replicas = Arc::new(self.store.replicas(&settings).unwrap());
        Reads::of(self.store.clone()).with_replicas(replicas, BOUND)
    }

    /// Puts an account's projection at a version.
    async fn project(&self, version: i64) {
        let mut row = self.store.account(SHARD, &id()).await.unwrap().unwrap().row;
        row.version = version;
        let balance = BalanceRow { row, as_of: Timestamp::default() };
        self.store.project_balances(SHARD, &[balance]).await.unwrap();
    }
}

async fn run(url: &str, statements: &str) {
    let mut conn = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut conn).await.unwrap();
}

fn id() -> AccountId {
    "alice".parse().unwrap()
}

async fn version(reads: &Reads) -> i64 {
    reads.balance(SHARD, &id()).await.unwrap().unwrap().row.version
}

/// Where an account is read: its owner is another one on the replica.
async fn from(reads: &Reads) -> String {
    let accounts = reads.accounts(SHARD, &AccountFilter::default(), None, 10).await.unwrap();
    accounts[0].owner.as_ref().map_or("nobody", |owner| owner.as_str()).to_owned()
}

async fn until_from(reads: &Reads, whose: &str) {
    eventually(&format!("reads from the {whose}"), || async { from(reads).await == whose }).await;
}

/// Hazard 51: what is read is no older than it may be, however far behind the replica is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_read_while_it_is_new_enough_and_its_shard_while_it_is_not() {
    let pair = Pair::new().await;
    let account = customer("alice");
    let mut tx = pair.store.begin(SHARD).await.unwrap();
    tx.insert_accounts(&[account]).await.unwrap();
    tx.commit().await.unwrap();
    let mark = |whose: &str| format!("UPDATE {}.account_mst SET owner = '{whose}'", pair.database);
    run(&pair.services.mysql[0], &mark("primary")).await;
    let reads = pair.reads_from(&pair.database);
    assert!(reads.faults()[0].1.is_some(), "nobody knows yet how new it is");
    assert_eq!(from(&reads).await, "primary");
    eventually("a replica that has everything", || async { reads.faults()[0].1.is_none() }).await;
    pair.on_replica(&format!("SET sql_log_bin = 0; {}", mark("replica"))).await;
    until_from(&reads, "replica").await;

    // What was committed longer ago than the bound is in every read, wherever it comes from, also
    // while the replica stands still.
    for round in 0..2 {
        let deadline = Instant::now() + BOUND * 2;
        let mut committed = Vec::new();
        let mut checked = 0;
        while Instant::now() < deadline {
            let number = 100 * (round + 1) + i64::try_from(committed.len()).unwrap();
            pair.project(number).await;
            committed.push((Instant::now(), number));
            let asked = Instant::now();
            let seen = version(&reads).await;
            let old = committed.iter().rev().find(|(at, _)| asked - *at > BOUND);
            if let Some((_, number)) = old {
                assert!(seen >= *number, "{seen} was read where {number} is older than the bound");
                checked += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(checked > 0);
        if round == 0 {
            pair.on_replica("STOP REPLICA SQL_THREAD").await;
        }
    }
    until_from(&reads, "primary").await;
    let fault = reads.faults()[0].1.clone().unwrap();
    assert!(fault.contains("behind, and 1500 are allowed"), "{fault}");
    pair.on_replica("START REPLICA SQL_THREAD").await;
    until_from(&reads, "replica").await;

    // It has executed everything and still refuses the read.
    let rename = |from: &str, to: &str| {
        let database = &pair.database;
        format!("SET sql_log_bin = 0; RENAME TABLE {database}.{from} TO {database}.{to}")
    };
    pair.on_replica(&rename("account_mst", "gone")).await;
    eventually("a read that it refuses", || async { from(&reads).await == "primary" }).await;
    let fault = reads.faults()[0].1.clone().unwrap();
    assert!(fault.contains("run `holdfast migrate`"), "{fault}");
    pair.on_replica(&rename("gone", "account_mst")).await;
    until_from(&reads, "replica").await;

    pair.services.control("mysql1", "kill").await.unwrap();
    within("a read of the shard", async { assert_eq!(from(&reads).await, "primary") }).await;
    pair.services.control("mysql1", "start").await.unwrap();
    until_from(&reads, "replica").await;
}

/// Hazard 51: nor is another ledger's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_something_else_or_without_numbers_is_never_read() {
    let pair = Pair::new().await;
    let account = customer("alice");
    let mut tx = pair.store.begin(SHARD).await.unwrap();
    tx.insert_accounts(&[account]).await.unwrap();
    tx.commit().await.unwrap();
    // Another cluster's shard, replicated by the same server.
    let other = format!("holdfast_{}", unique());
    run(&pair.services.mysql[0], &format!("CREATE DATABASE {other}")).await;
    let url = format!("{}/{other}", pair.services.mysql[0].trim_end_matches('/'));
    mysql::migrate(&MySqlSettings::new(vec![url]), 4).await.unwrap();
    let reads = pair.reads_from(&other);
    eventually("a fault that names the cluster", || async {
        reads.faults()[0].1.as_ref().is_some_and(|fault| fault.contains("belongs to cluster"))
    })
    .await;
    assert_eq!(from(&reads).await, "nobody", "of the shard itself");

    let steps = "SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = OFF_PERMISSIVE; \
        SET GLOBAL gtid_mode = OFF";
    pair.on_replica("STOP REPLICA").await;
    run(&pair.services.mysql[0], steps).await;
    let reads = pair.reads_from(&pair.database);
    eventually("a fault that says what to do", || async {
        reads.faults()[0].1.as_ref().is_some_and(|fault| fault.contains("needs gtid_mode=ON"))
    })
    .await;
    assert_eq!(from(&reads).await, "nobody");
}
