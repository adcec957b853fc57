//! kill -9 against a velocity limit: however many ask at once, and whenever the process that decides
//! dies, exactly the limit passes.

use crate::cli::program::{Program, Running, answer, nowhere};
use crate::services::{fresh_database, services, unique};
use crate::wait::{DEADLINE, eventually};
use futures::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const CALLERS: usize = 64;
/// Transfers from one account, and cents from the other.
const COUNT: u64 = 400;
const AMOUNT: u64 = 130_000;
/// Cents; no whole number of transfers makes up the limit of the amount.
const EACH: u64 = 300;
/// From one request of a caller to the next.
const PAUSE: Duration = Duration::from_millis(400);

/// Where a process dies in the middle of a hold, and at which visit there.
const DEATHS: [&str; 5] = [
    "hold.applied=2*off->return",
    "transaction.written=6*off->return",
    "transaction.committed=9*off->return",
    "hold.announced=3*off->return",
    "transaction.written=20*off->return",
];

/// Hazard 45, hazard 47: everything in one process, with its data in files.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_passes_an_embedded_process_that_is_killed_again_and_again() {
    let _turn = crate::turn().await;
    let program = Program::new().with("HOLDFAST_SCAN_LAG", "1s");
    let listen = nowhere();
    exactly_the_limit_passes(&program, &["dev", "--data", "data", "--listen", &listen], &listen)
        .await;
    assert_clean(&program, &["--data", "data"]);
}

/// Hazard 45, hazard 47: on MySQL, Kafka and Redis.
#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_passes_a_server_that_is_killed_again_and_again() {
    let _turn = crate::turn().await;
    let urls = [fresh_database(0).await, fresh_database(1).await];
    let name = unique();
    let program = Program::new()
        .with("HOLDFAST_MYSQL_SHARDS", &urls.join(","))
        .with("HOLDFAST_KAFKA_BROKERS", &services().await.kafka)
        .with("HOLDFAST_KAFKA_PARTITIONS", "2")
        .with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("velocity-{name}."))
        .with("HOLDFAST_KAFKA_OPTIONS", "session.timeout.ms=6000")
        .with("HOLDFAST_REDIS_URL", &services().await.redis)
        .with("HOLDFAST_REDIS_PREFIX", &format!("velocity-{name}:"))
        .with("HOLDFAST_SCAN_LAG", "2s");
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    let listen = nowhere();
    exactly_the_limit_passes(&program, &["serve", "--listen", &listen], &listen).await;
    assert_clean(&program, &[]);
}

fn assert_clean(program: &Program, args: &[&str]) {
    let output = program.run(&[&["reconcile", "check"], args].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
}

async fn exactly_the_limit_passes(program: &Program, args: &[&str], listen: &str) {
    let address = format!("http://{listen}");
    let first = program.start(args);
    answer(&format!("{address}/readyz"), 200).await;
    prepare(&address).await;
    let windows = [open_window(&address, "counted").await, open_window(&address, "summed").await];
    first.signal("KILL");
    drop(first.ended());
    let callers = Callers::start(&address);
    for place in DEATHS {
        die(program, args, place).await;
    }
    let last = program.start(args);
    callers.accept_in_all(1000).await;
    let asked = callers.stop().await;
    let (mut passed, mut amounts) = (BTreeMap::new(), BTreeMap::new());
    for (source, id) in &asked {
        let transfer = end_of(&address, id).await;
        if transfer["status"] == "committed" {
            *passed.entry(*source).or_insert(0) += 1;
            *amounts.entry(*source).or_insert(0) += EACH;
        } else {
            assert_eq!(transfer["reason"], "velocity_limit_exceeded", "{transfer}");
        }
    }
    let midnight =
        windows != [open_window(&address, "counted").await, open_window(&address, "summed").await];
    eprintln!("{} asked for, {passed:?} passed; over midnight: {midnight}", asked.len());
    let by_amount = AMOUNT / EACH;
    if midnight {
        assert!(passed["counted"] <= 2 * COUNT && passed["summed"] <= 2 * by_amount, "{passed:?}");
    } else {
        assert_eq!((passed["counted"], passed["summed"]), (COUNT, by_amount));
        let limits = json(&format!("{address}/v1/accounts/counted/limits")).await;
        assert_eq!(limits["data"][0]["used_count"], COUNT, "{limits}");
        let limits = json(&format!("{address}/v1/accounts/summed/limits")).await;
        let expected = format!("{}.00", by_amount * EACH / 100);
        assert_eq!(limits["data"][0]["used_amount"], expected, "{limits}");
    }
    last.signal("TERM");
    assert_eq!(last.ended().code, Some(0));
}

/// A process that ends by SIGKILL at a place; before it comes there it goes on with what others left.
async fn die(program: &Program, args: &[&str], place: &str) {
    let running: Running = program.start_to_die(args, place);
    let output = tokio::task::block_in_place(|| running.ended());
    assert_eq!(output.code, None, "it was killed at {place}: {output:?}");
}

/// Two limited sources and those whom they pay, on either shard.
async fn prepare(address: &str) {
    let http = Client::new();
    let account = |id: &str, kind: &str| json!({"id": id, "currency": "USD", "kind": kind});
    let paid = (0..8).map(|number| account(&format!("paid-{number}"), "customer"));
    let sources = ["counted", "summed"].map(|id| account(id, "external"));
    let accounts: Vec<Value> = sources.into_iter().chain(paid).collect();
    let batch = http.post(format!("{address}/v1/accounts/batch"));
    let created = batch.json(&json!({ "accounts": accounts })).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::OK);
    let amount = format!("{}.00", AMOUNT / 100);
    for (id, limit) in [
        ("counted", json!({"period": "day", "max_count": COUNT})),
        ("summed", json!({"period": "day", "max_amount": amount})),
    ] {
        let set = http.put(format!("{address}/v1/accounts/{id}/limits"));
        let set = set.json(&json!({ "limits": [limit] })).send().await.unwrap();
        assert_eq!(set.status(), StatusCode::OK);
    }
}

async fn json(url: &str) -> Value {
    answer(url, 200).await
}

async fn open_window(address: &str, id: &str) -> String {
    let limits = json(&format!("{address}/v1/accounts/{id}/limits")).await;
    limits["data"][0]["window_start"].as_str().unwrap().to_owned()
}

/// All at once, until they are told to stop: each transfer until it is accepted.
struct Callers {
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Vec<(&'static str, String)>>>,
}

impl Callers {
    fn start(address: &str) -> Self {
        let (count, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let http = Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let call = |number: usize| {
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            let (http, url) = (http.clone(), format!("{address}/v1/transfers"));
            tokio::spawn(async move {
                let mut accepted = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let deadline = tokio::time::Instant::now() + PAUSE;
                    let source = ["counted", "summed"][accepted.len() % 2];
                    let to = format!("paid-{}", (number + accepted.len() / 2) % 8);
                    accepted.push((source, accept(&http, &url, source, &to).await));
                    count.fetch_add(1, Ordering::Relaxed);
                    // Not as fast as they can: the deaths are to come while they ask.
                    tokio::time::sleep_until(deadline).await;
                }
                accepted
            })
        };
        let tasks = (0..CALLERS).map(call).collect();
        Self { count, stop, tasks }
    }

    async fn accept_in_all(&self, until: usize) {
        eventually("transfers are accepted", || async {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a caller failed");
            self.count.load(Ordering::Relaxed) >= until
        })
        .await;
    }

    async fn stop(self) -> Vec<(&'static str, String)> {
        self.stop.store(true, Ordering::Relaxed);
        join_all(self.tasks).await.into_iter().flat_map(Result::unwrap).collect()
    }
}

async fn accept(http: &Client, url: &str, source: &str, to: &str) -> String {
    let cents = EACH;
    let amount = format!("{}.{:02}", cents / 100, cents % 100);
    let body = json!({"source": source, "destination": to, "amount": amount, "currency": "USD"});
    let key = format!("key-{}", unique());
    let deadline = Instant::now() + 4 * DEADLINE;
    loop {
        let asked = http.post(url).header("Idempotency-Key", &key).json(&body).send().await;
        if let Ok(answered) = asked
            && answered.status().is_success()
            && let Ok(transfer) = answered.json::<Value>().await
        {
            return transfer["id"].as_str().unwrap().to_owned();
        }
        assert!(Instant::now() < deadline, "not accepted within {:?}", 4 * DEADLINE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn end_of(address: &str, id: &str) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let transfer = json(&format!("{address}/v1/transfers/{id}")).await;
        let status = transfer["status"].as_str().unwrap();
        if ["committed", "rejected", "cancelled"].contains(&status) {
            return transfer;
        }
        assert!(Instant::now() < deadline, "not final within {DEADLINE:?}: {transfer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
