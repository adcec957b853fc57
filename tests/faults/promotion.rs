//! A primary is lost and its replica, which was behind, is promoted: the documented procedure brings
//! both sides of every transfer into agreement, and no key is ever paid twice.

use crate::cli::program::{Output, Program, Running, answer};
use crate::services::{Services, fresh_database, own_services, services, unique};
use crate::wait::{DEADLINE, eventually};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, MySqlConnection, Row};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ACCOUNTS: usize = 8;
/// In cents; enough for every transfer.
const OVERDRAFT: i64 = 100_000;
/// Transfers that are not waited for before the primary dies.
const MID_FLIGHT: usize = 10;

/// What a caller asked for, and the transfer that it was answered with.
struct Asked {
    key: String,
    from: usize,
    /// None where the destination does not exist.
    to: Option<usize>,
    destination: String,
    cents: i64,
    id: String,
}

impl Asked {
    /// The transfers go round, so that every pair of shards has some in both directions.
    fn new(number: usize) -> Self {
        let from = number % ACCOUNTS;
        let to = (from + 1 + number / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
        let to = (!number.is_multiple_of(7)).then_some(to);
        let destination = to.map_or_else(|| format!("nobody-{number}"), account);
        let cents = 1 + (number as i64 * 7) % 90;
        Self { key: format!("key-{number}"), from, to, destination, cents, id: String::new() }
    }
}

/// A caller of the API at one address.
struct Caller {
    http: Client,
    address: String,
}

impl Caller {
    fn of(running: &mut Running) -> Self {
        let http = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        Self { http, address: running.listening() }
    }

    async fn create_accounts(&self) {
        let accounts: Vec<Value> = (0..ACCOUNTS)
            .map(|number| {
                json!({"id": account(number), "currency": "USD", "overdraft_limit": money(OVERDRAFT)})
            })
            .collect();
        let url = format!("{}/v1/accounts/batch", self.address);
        let body = json!({ "accounts": accounts });
        let created = self.http.post(url).json(&body).send().await.unwrap();
        assert_eq!(created.status(), StatusCode::OK);
    }

    /// Asks under the request's key, again until it is accepted, and returns the transfer's id.
    async fn ask(&self, asked: &Asked) -> String {
        let url = format!("{}/v1/transfers", self.address);
        let body = json!({
            "source": account(asked.from), "destination": asked.destination,
            "amount": money(asked.cents), "currency": "USD", "description": "caf\u{e9}",
        });
        let deadline = Instant::now() + DEADLINE;
        loop {
            let post = self.http.post(&url).header("Idempotency-Key", &asked.key).json(&body);
            let answer = post.send().await.unwrap();
            if answer.status().is_success() {
                let transfer: Value = answer.json().await.unwrap();
                return transfer["id"].as_str().unwrap().to_owned();
            }
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{}", asked.key);
            assert!(Instant::now() < deadline, "not accepted within {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn ask_all(&self, numbers: std::ops::Range<usize>) -> Vec<Asked> {
        let mut all = Vec::new();
        for number in numbers {
            let asked = Asked::new(number);
            let id = self.ask(&asked).await;
            all.push(Asked { id, ..asked });
        }
        all
    }

    /// None where the API knows no such transfer.
    async fn status(&self, id: &str) -> Option<String> {
        let url = format!("{}/v1/transfers/{id}", self.address);
        let answer = self.http.get(url).send().await.unwrap();
        if answer.status() == StatusCode::NOT_FOUND {
            return None;
        }
        let transfer: Value = answer.json().await.unwrap();
        Some(transfer["status"].as_str().unwrap().to_owned())
    }

    async fn end_of(&self, id: &str) -> String {
        let over = |status: &Option<String>| {
            let status = status.as_deref();
            status.is_some_and(|status| ["committed", "rejected", "cancelled"].contains(&status))
        };
        eventually(&format!("{id} final"), || async { over(&self.status(id).await) }).await;
        self.status(id).await.unwrap()
    }

    async fn posted_and_held(&self, number: usize) -> (String, String) {
        let (address, id) = (&self.address, account(number));
        let url = format!("{address}/v1/accounts/{id}/balance?consistency=strong");
        let balance: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let text = |name: &str| balance[name].as_str().unwrap().to_owned();
        (text("posted"), text("held"))
    }
}

fn account(number: usize) -> String {
    format!("account-{number}")
}

fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

async fn sql(url: &str, statements: &str) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(statements.to_owned())).await.unwrap();
    connection.close().await.unwrap();
}

/// A number that a statement yields, or none where it yields no row or the table is not there yet.
async fn number(url: &str, statement: &str) -> Option<i64> {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    let row = connection.fetch_one(statement).await.ok()?;
    row.try_get(0).ok()
}

/// Two servers of which the second follows the first, semi-synchronously, from its first moment on.
async fn replicated() -> Services {
    let servers = own_services("mysql", 2).await;
    let port = servers.mysql[0].rsplit(':').next().unwrap();
    let wait = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'; \
        SET GLOBAL rpl_semi_sync_source_enabled = ON";
    sql(&servers.mysql[0], wait).await;
    let follow = format!(
        "INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'; \
         SET GLOBAL rpl_semi_sync_replica_enabled = ON; \
         CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, \
         SOURCE_USER = 'root', SOURCE_PASSWORD = '', GET_SOURCE_PUBLIC_KEY = 1; START REPLICA"
    );
    sql(&servers.mysql[1], &follow).await;
    servers
}

/// The program with these shards; all else stays the same through the whole test.
struct Cluster {
    name: String,
    other: String,
}

impl Cluster {
    async fn program(&self, shard_0: &str) -> Program {
        let name = &self.name;
        Program::new()
            .with("HOLDFAST_MYSQL_SHARDS", &format!("{shard_0},{}", self.other))
            .with("HOLDFAST_KAFKA_BROKERS", &services().await.kafka)
            .with("HOLDFAST_KAFKA_PARTITIONS", "3")
            .with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("promotion-{name}."))
            .with("HOLDFAST_REDIS_URL", &services().await.redis)
            .with("HOLDFAST_REDIS_PREFIX", &format!("promotion-{name}:"))
            .with("HOLDFAST_SCAN_LAG", "2s")
    }
}

fn serve(program: &Program) -> Running {
    program.start(&["serve", "--listen", "127.0.0.1:0"])
}

fn kill(running: Running) {
    running.signal("KILL");
    running.ended();
}

/// All that a lost tail of a hundred transfers needs.
const WAYS: [&str; 4] = [
    "recreated and held at the source",
    "recreated and ended at the source",
    "credited again at the destination",
    "refused again at the destination",
];

const RECOVER: [&str; 6] = ["reconcile", "recover", "--shard", "0", "--format", "json"];

/// The first try comes while the leases of the killed roles still stand, and is refused.
async fn look_first(program: &Program) -> Value {
    let look = || program.run(&[&RECOVER[..], &["--dry-run"]].concat());
    let too_early = look();
    assert_eq!(too_early.code, Some(1), "{too_early:?}");
    assert!(too_early.stderr.contains("end every role first"), "{too_early:?}");
    eventually("the end of the leases", || async { look().code != Some(1) }).await;
    let found = look();
    assert_eq!(found.code, Some(3), "something is to be done: {found:?}");
    report(&found)
}

fn report(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Readiness says which shards may lose what they confirm, and is ready all the same.
async fn warns_of(caller: &Caller, shards: &[&str]) {
    let warned = async || {
        let ready = answer(&format!("{}/readyz", caller.address), 200).await;
        let dependencies = ready["dependencies"].as_array().unwrap().clone();
        let warned = dependencies.into_iter().filter(|one| {
            one["detail"].as_str().is_some_and(|detail| detail.contains("commits can be lost"))
        });
        warned.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually(&format!("a warning of {shards:?}"), || async { warned().await == shards }).await;
}

/// What callers were answered is what the balances say, one transfer a key.
async fn assert_paid_once(caller: &Caller, all: &[Asked]) {
    let mut model = BTreeMap::from_iter((0..ACCOUNTS).map(|number| (number, 0)));
    for asked in all {
        let end = caller.end_of(&asked.id).await;
        let Some(to) = asked.to else {
            assert_eq!(end, "rejected", "{}", asked.id);
            continue;
        };
        assert_eq!(end, "committed", "{}", asked.id);
        *model.get_mut(&asked.from).unwrap() -= asked.cents;
        *model.get_mut(&to).unwrap() += asked.cents;
    }
    for (number, cents) in model {
        let found = caller.posted_and_held(number).await;
        assert_eq!(found, (money(cents), money(0)), "{}", account(number));
    }
}

/// Hazard 6: the replica of a shard was behind when its primary died. Holds, credits, refusals and
/// claims are gone whose other sides survived.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_behind_is_promoted_and_every_key_is_paid_once() {
    let _turn = crate::turn().await;
    let servers = replicated().await;
    let database = format!("holdfast_{}", unique());
    sql(&servers.mysql[0], &format!("CREATE DATABASE {database}")).await;
    let [primary, replica] = [0, 1].map(|server| format!("{}/{database}", servers.mysql[server]));
    let cluster = Cluster { name: unique(), other: fresh_database(1).await };
    let before = cluster.program(&primary).await;
    assert_eq!(before.run(&["migrate"]).code, Some(0));
    let mut running = serve(&before);
    let caller = Caller::of(&mut running);
    answer(&format!("{}/readyz", caller.address), 200).await;
    caller.create_accounts().await;
    let mut all = caller.ask_all(0..60).await;
    eventually("the replica follows", || async {
        let transfers = "SELECT COUNT(*) FROM transaction_status";
        number(&replica, transfers).await.is_some_and(|replicated| replicated > 10)
    })
    .await;

    warns_of(&caller, &["mysql.1"]).await;

    // From here on the replica gets nothing any more, and the primary goes on.
    sql(&primary, "SET GLOBAL rpl_semi_sync_source_enabled = OFF").await;
    warns_of(&caller, &["mysql.0", "mysql.1"]).await;
    sql(&replica, "STOP REPLICA IO_THREAD").await;
    all.extend(caller.ask_all(60..220).await);
    // The last ones are in mid-flight.
    for asked in &all[..all.len() - MID_FLIGHT] {
        caller.end_of(&asked.id).await;
    }
    servers.control("mysql0", "kill").await.unwrap();
    kill(running);

    sql(&replica, "STOP REPLICA; RESET REPLICA ALL").await;
    let after = cluster.program(&replica).await;
    let planned = look_first(&after).await;
    let done = after.run(&RECOVER);
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = report(&done);
    assert_eq!(done["repairs"], planned["repairs"], "it does what it said");
    for what in WAYS {
        let repairs = done["repairs"].as_array().unwrap();
        assert!(repairs.iter().any(|repair| repair["what"] == what), "{what}: {repairs:?}");
    }
    assert_eq!(done["findings"], json!([]), "every account has enough");
    let again = report(&after.run(&RECOVER));
    assert_eq!((&again["repaired"], &again["generation"]), (&json!([]), &json!(3)));

    let mut running = serve(&after);
    let caller = Caller::of(&mut running);
    answer(&format!("{}/readyz", caller.address), 200).await;
    let mut lost = 0;
    for asked in &mut all {
        let id = caller.ask(asked).await;
        if id != asked.id {
            assert_eq!(caller.status(&asked.id).await, None, "one key, two transfers");
            lost += 1;
        }
        asked.id = id;
    }
    assert!(lost <= MID_FLIGHT, "{lost} transfers are gone, although their ends were announced");
    assert_paid_once(&caller, &all).await;
    let check = after.run(&["reconcile", "check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
}
