//! kill -9: the built program, killed at any moment under load, loses nothing that it accepted and
//! does nothing twice.

use crate::cli::program::{Program, Running};
use crate::services::{fresh_database, services, unique};
use crate::wait::{DEADLINE, eventually};
use futures::future::join_all;
use rand::Rng;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const ACCOUNTS: usize = 12;
const CALLERS: usize = 8;
/// In cents; large enough that some are refused in the end.
const OVERDRAFT: i64 = 2000;

/// A transfer that was accepted, as its caller knows it.
#[derive(Clone)]
struct Accepted {
    id: String,
    from: usize,
    to: usize,
    cents: i64,
}

/// Callers that ask for transfers until they are told to stop, each with one key a transfer,
/// repeating it until it is answered.
struct Callers {
    http: Client,
    address: watch::Sender<String>,
    accepted: Arc<Mutex<Vec<Accepted>>>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    async fn start(address: &str) -> Self {
        let http = Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
        let mut callers = Self {
            http,
            address: watch::Sender::new(address.to_owned()),
            accepted: Arc::default(),
            count: Arc::default(),
            stop: Arc::default(),
            tasks: Vec::new(),
        };
        let accounts: Vec<Value> = (0..ACCOUNTS)
            .map(|number| json!({"id": account(number), "currency": "USD", "overdraft_limit": money(OVERDRAFT)}))
            .collect();
        let created = callers
            .http
            .post(format!("{address}/v1/accounts/batch"))
            .json(&json!({"accounts": accounts}))
            .send()
            .await
            .unwrap();
        assert_eq!(created.status(), StatusCode::OK);
        callers.tasks = (0..CALLERS).map(|_| tokio::spawn(callers.call())).collect();
        callers
    }

    fn call(&self) -> impl Future<Output = ()> + use<> {
        let (http, address) = (self.http.clone(), self.address.subscribe());
        let (accepted, count) = (Arc::clone(&self.accepted), Arc::clone(&self.count));
        let stop = Arc::clone(&self.stop);
        async move {
            while !stop.load(Ordering::Relaxed) {
                let transfer = ask(&http, &address).await;
                accepted.lock().unwrap().push(transfer);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until so many more transfers were accepted.
    async fn accept(&self, more: usize) {
        let until = self.count.load(Ordering::Relaxed) + more;
        eventually("transfers are accepted", || async {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a caller failed");
            self.count.load(Ordering::Relaxed) >= until
        })
        .await;
    }

    /// Ends the load; every transfer must be final, and the balances exactly what the callers make
    /// of them.
    async fn audit(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let address = self.address.borrow().clone();
        let accepted = self.accepted.lock().unwrap().clone();
        let mut model = BTreeMap::from_iter((0..ACCOUNTS).map(|number| (number, 0)));
        let mut statuses: BTreeMap<String, usize> = BTreeMap::new();
        for part in accepted.chunks(16) {
            let ends = part.iter().map(|transfer| end_of(&self.http, &address, &transfer.id));
            for (transfer, status) in part.iter().zip(join_all(ends).await) {
                if status == "committed" {
                    *model.get_mut(&transfer.from).unwrap() -= transfer.cents;
                    *model.get_mut(&transfer.to).unwrap() += transfer.cents;
                }
                *statuses.entry(status).or_default() += 1;
            }
        }
        for (number, cents) in model {
            let url =
                format!("{address}/v1/accounts/{}/balance?consistency=strong", account(number));
            let balance: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
            assert_eq!(
                (&balance["posted"], &balance["held"]),
                (&json!(money(cents)), &json!("0.00")),
                "{} after {statuses:?}",
                account(number)
            );
        }
        assert!(statuses["committed"] > 0, "{statuses:?}");
        assert!(!statuses.contains_key("cancelled"), "{statuses:?}");
    }
}

fn account(number: usize) -> String {
    format!("account-{number}")
}

fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

/// One transfer with one key: repeated until it is accepted. Every answer names the same transfer.
async fn ask(http: &Client, address: &watch::Receiver<String>) -> Accepted {
    let (from, away, cents) = {
        let mut random = rand::rng();
        let away = random.random_range(1..ACCOUNTS);
        (random.random_range(0..ACCOUNTS), away, random.random_range(1..=300_i64))
    };
    let to = (from + away) % ACCOUNTS;
    let key = format!("key-{}", unique());
    let body = json!({
        "source": account(from), "destination": account(to), "amount": money(cents), "currency": "USD",
    });
    let post = async || {
        let url = format!("{}/v1/transfers", *address.borrow());
        http.post(url).header("Idempotency-Key", &key).json(&body).send().await
    };
    let mut ids = Vec::new();
    let deadline = Instant::now() + DEADLINE;
    // Once more after it was accepted: a caller that did not get the answer would do so.
    while ids.len() < 2 {
        match post().await {
            Ok(answer) if answer.status().is_success() => ids.extend(id_in(answer).await),
            Ok(answer) => assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{body}"),
            Err(_) => {}
        }
        assert!(Instant::now() < deadline, "not accepted within {DEADLINE:?}");
        if ids.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(ids[0], ids[1], "one key, two transfers");
    Accepted { id: ids.swap_remove(0), from, to, cents }
}

/// None where the connection broke in the middle of the answer.
async fn id_in(answer: Response) -> Option<String> {
    let transfer: Value = answer.json().await.ok()?;
    Some(transfer["id"].as_str().expect("a transfer has an id").to_owned())
}

/// The status of a transfer once it is final.
async fn end_of(http: &Client, address: &str, id: &str) -> String {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = http.get(format!("{address}/v1/transfers/{id}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{id} was accepted");
        let transfer: Value = answer.json().await.unwrap();
        let status = transfer["status"].as_str().unwrap();
        if ["committed", "rejected", "cancelled"].contains(&status) {
            return status.to_owned();
        }
        assert!(Instant::now() < deadline, "not final within {DEADLINE:?}: {transfer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn kill(running: Running) {
    running.signal("KILL");
    assert_eq!(running.ended().code, None, "it was killed");
}

/// Everything in one process, with its data in files.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_process_is_killed_again_and_again() {
    let program = Program::new().with("HOLDFAST_SCAN_LAG", "1s");
    let start = || {
        let mut running = program.start(&["dev", "--data", "data", "--listen", "127.0.0.1:0"]);
        let line = running.line_of_stdout("Holdfast listens on ");
        let address = line.split(' ').nth(3).unwrap().to_owned();
        (running, address)
    };
    let (mut running, address) = start();
    let callers = Callers::start(&address).await;
    for round in 0..6 {
        callers.accept(10 + 25 * round).await;
        kill(running);
        let (again, address) = start();
        running = again;
        callers.address.send_replace(address);
    }
    callers.accept(50).await;
    callers.audit().await;
    assert_clean(&program, &["--data", "data"]);
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
    assert_clean(&program, &["--data", "data"]);
}

fn assert_clean(program: &Program, args: &[&str]) {
    let output = program.run(&[&["reconcile", "check"], args].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
}

const ROLES: [&str; 7] =
    ["ingress", "relay", "hold", "credit", "commit", "projector", "reconciler"];

/// One process a role on MySQL, Kafka and Redis; each is killed in turn while the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_on_real_services_is_killed_in_turn() {
    let urls = [fresh_database(0).await, fresh_database(1).await];
    let name = unique();
    let program = Program::new()
        .with("HOLDFAST_MYSQL_SHARDS", &urls.join(","))
        .with("HOLDFAST_KAFKA_BROKERS", &services().await.kafka)
        .with("HOLDFAST_KAFKA_PARTITIONS", "3")
        .with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("crash-{name}."))
        .with("HOLDFAST_REDIS_URL", &services().await.redis)
        .with("HOLDFAST_REDIS_PREFIX", &format!("crash-{name}:"))
        .with("HOLDFAST_SCAN_LAG", "2s");
    assert_eq!(program.run(&["migrate"]).code, Some(0));
    let start = |role: &str| match role {
        "ingress" => program.start(&["serve", "--roles", role, "--listen", "127.0.0.1:0"]),
        _ => program.start(&["serve", "--roles", role]),
    };
    let mut running: BTreeMap<&str, Running> =
        ROLES.into_iter().map(|role| (role, start(role))).collect();
    let address = running.get_mut("ingress").unwrap().listening();
    crate::cli::program::answer(&format!("{address}/readyz"), 200).await;
    let callers = Callers::start(&address).await;
    for role in ROLES.into_iter().chain(["hold", "credit", "commit"]) {
        callers.accept(40).await;
        kill(running.remove(role).unwrap());
        let mut again = start(role);
        if role == "ingress" {
            let address = again.listening();
            callers.address.send_replace(address);
        }
        running.insert(role, again);
    }
    callers.accept(40).await;
    callers.audit().await;
    assert_clean(&program, &[]);
    for (role, process) in running {
        process.signal("TERM");
        let output = process.ended();
        assert_eq!(output.code, Some(0), "{role}: {output:?}");
    }
}
