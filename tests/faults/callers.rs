//! Callers that ask for transfers through every fault, each with one key a transfer, repeating it
//! until it is answered; and what must be true of all that was accepted when they are done.

use crate::services::unique;
use crate::wait::{DEADLINE, eventually};
use futures::future::join_all;
use rand::Rng;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub const ACCOUNTS: usize = 24;
/// In cents; large enough that some are refused in the end.
const OVERDRAFT: i64 = 2000;

/// How hard they ask.
#[derive(Clone, Copy)]
pub struct Load {
    pub callers: usize,
    /// Transfers a second of all callers together, as far as answers come in time; none is as
    /// fast as they come.
    pub rate: Option<u32>,
}

/// A transfer that was accepted, as its caller knows it.
#[derive(Clone)]
struct Accepted {
    id: String,
    from: usize,
    to: usize,
    cents: i64,
}

/// What callers were answered in a stretch of time.
#[derive(Default)]
pub struct Answers {
    /// By status, or what went wrong with the connection.
    pub statuses: BTreeMap<String, usize>,
    latencies: Vec<Duration>,
}

impl Answers {
    fn note(&mut self, status: String, latency: Duration) {
        *self.statuses.entry(status).or_default() += 1;
        self.latencies.push(latency);
    }

    pub fn of(&self, status: &str) -> usize {
        self.statuses.get(status).copied().unwrap_or_default()
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        let at = |share: f64| {
            let index = ((latencies.len() as f64) * share) as usize;
            latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        write!(
            out,
            "{:?}; p50 {:?}, p99 {:?}, longest {:?}",
            self.statuses,
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

/// What was true in the end.
#[derive(Debug)]
pub struct Audited {
    pub accepted: usize,
    /// By final status.
    pub ends: BTreeMap<String, usize>,
    /// From acceptance to the end, by the database's time.
    pub longest: Duration,
}

/// The callers, until they are told to stop.
pub struct Callers {
    http: Client,
    address: watch::Sender<String>,
    accepted: Arc<Mutex<Vec<Accepted>>>,
    answers: Arc<Mutex<Answers>>,
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Callers {
    pub async fn start(address: &str, load: Load) -> Self {
        let http = Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let mut callers = Self {
            http,
            address: watch::Sender::new(address.to_owned()),
            accepted: Arc::default(),
            answers: Arc::default(),
            count: Arc::default(),
            stop: Arc::default(),
            tasks: Vec::new(),
        };
        let accounts: Vec<Value> = (0..ACCOUNTS)
            .map(|number| json!({"id": account(number), "currency": "USD", "overdraft_limit": money(OVERDRAFT)}))
            .collect();
        let url = format!("{address}/v1/accounts/batch");
        let body = json!({"accounts": accounts});
        let created = callers.http.post(url).json(&body).send().await.unwrap();
        assert_eq!(created.status(), StatusCode::OK);
        let pause = load
            .rate
            .map(|rate| Duration::from_secs(1) * u32::try_from(load.callers).unwrap() / rate);
        callers.tasks = (0..load.callers)
            .map(|_| tokio::spawn(callers.call(pause.unwrap_or_default())))
            .collect();
        callers
    }

    fn call(&self, pause: Duration) -> impl Future<Output = ()> + use<> {
        let (http, address) = (self.http.clone(), self.address.subscribe());
        let (accepted, count) = (Arc::clone(&self.accepted), Arc::clone(&self.count));
        let (answers, stop) = (Arc::clone(&self.answers), Arc::clone(&self.stop));
        async move {
            let first = pause.mul_f64(rand::rng().random_range(0.0..1.0));
            let mut next = tokio::time::Instant::now() + first;
            while !stop.load(Ordering::Relaxed) {
                tokio::time::sleep_until(next).await;
                // Those that an outage held up are not made up for.
                next = (next + pause).max(tokio::time::Instant::now());
                let transfer = ask(&http, &address, &answers).await;
                accepted.lock().unwrap().push(transfer);
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Where they ask from now on.
    pub fn turn_to(&self, address: &str) {
        self.address.send_replace(address.to_owned());
    }

    /// Waits until so many more transfers were accepted.
    pub async fn accept(&self, more: usize) {
        let until = self.count.load(Ordering::Relaxed) + more;
        eventually("transfers are accepted", || async {
            assert!(!self.tasks.iter().any(JoinHandle::is_finished), "a caller failed");
            self.count.load(Ordering::Relaxed) >= until
        })
        .await;
    }

    /// What was answered since this was asked last.
    pub fn answers(&self) -> Answers {
        std::mem::take(&mut *self.answers.lock().unwrap())
    }

    /// Ends the load; every transfer must be final, and the balances exactly what the callers make
    /// of them.
    pub async fn audit(self) -> Audited {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let address = self.address.borrow().clone();
        let accepted = self.accepted.lock().unwrap().clone();
        let mut model = BTreeMap::from_iter((0..ACCOUNTS).map(|number| (number, 0)));
        let mut audited =
            Audited { accepted: accepted.len(), ends: BTreeMap::new(), longest: Duration::ZERO };
        for part in accepted.chunks(16) {
            let ends = part.iter().map(|transfer| end_of(&self.http, &address, &transfer.id));
            for (transfer, (status, took)) in part.iter().zip(join_all(ends).await) {
                if status == "committed" {
                    *model.get_mut(&transfer.from).unwrap() -= transfer.cents;
                    *model.get_mut(&transfer.to).unwrap() += transfer.cents;
                }
                *audited.ends.entry(status).or_default() += 1;
                audited.longest = audited.longest.max(took);
            }
        }
        assert_eq!(audited.ends.values().sum::<usize>(), audited.accepted, "{audited:?}");
        for (number, cents) in model {
            let url =
                format!("{address}/v1/accounts/{}/balance?consistency=strong", account(number));
            let balance: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
            assert_eq!(
                (&balance["posted"], &balance["held"]),
                (&json!(money(cents)), &json!("0.00")),
                "{} after {audited:?}",
                account(number)
            );
        }
        assert!(audited.ends["committed"] > 0, "{audited:?}");
        audited
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
async fn ask(
    http: &Client,
    address: &watch::Receiver<String>,
    answers: &Mutex<Answers>,
) -> Accepted {
    let (from, away, cents, times) = {
        let mut random = rand::rng();
        // A caller that did not get the answer would ask once more after it was accepted.
        let times = if random.random_ratio(1, 5) { 2 } else { 1 };
        let away = random.random_range(1..ACCOUNTS);
        (random.random_range(0..ACCOUNTS), away, random.random_range(1..=300_i64), times)
    };
    let to = (from + away) % ACCOUNTS;
    let key = format!("key-{}", unique());
    let body = json!({
        "source": account(from), "destination": account(to), "amount": money(cents), "currency": "USD",
    });
    let mut ids: Vec<String> = Vec::new();
    let deadline = Instant::now() + 2 * DEADLINE;
    while ids.len() < times {
        let url = format!("{}/v1/transfers", *address.borrow());
        let asked = Instant::now();
        let answer = http.post(url).header("Idempotency-Key", &key).json(&body).send().await;
        let (said, id) = match answer {
            Ok(answer) if answer.status().is_success() => {
                (answer.status().as_str().to_owned(), id_in(answer).await)
            }
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{body}");
                assert!(answer.headers().contains_key("retry-after"), "{answer:?}");
                let problem: Value = answer.json().await.unwrap_or_default();
                (format!("503 {}", problem["code"].as_str().unwrap_or("cut off")), None)
            }
            Err(error) if error.is_connect() => ("not connected".to_owned(), None),
            Err(_) => ("cut off".to_owned(), None),
        };
        answers.lock().unwrap().note(said, asked.elapsed());
        ids.extend(id);
        assert!(Instant::now() < deadline, "not accepted within {:?}", 2 * DEADLINE);
        if ids.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "one key, two transfers: {ids:?}");
    Accepted { id: ids.swap_remove(0), from, to, cents }
}

/// None where the connection broke in the middle of the answer.
async fn id_in(answer: Response) -> Option<String> {
    let transfer: Value = answer.json().await.ok()?;
    Some(transfer["id"].as_str().expect("a transfer has an id").to_owned())
}

/// The status of a transfer once it is final, and how long that took.
async fn end_of(http: &Client, address: &str, id: &str) -> (String, Duration) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = http.get(format!("{address}/v1/transfers/{id}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{id} was accepted");
        let transfer: Value = answer.json().await.unwrap();
        let status = transfer["status"].as_str().unwrap();
        if ["committed", "rejected", "cancelled"].contains(&status) {
            let at = |field: &str| {
                let text = transfer[field].as_str().unwrap();
                chrono::DateTime::parse_from_rfc3339(text).unwrap()
            };
            let took = (at("completed_at") - at("created_at")).to_std().unwrap_or_default();
            return (status.to_owned(), took);
        }
        assert!(Instant::now() < deadline, "not final within {DEADLINE:?}: {transfer}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
