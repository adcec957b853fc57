//! `serve` and `migrate` on real services, there and not there.

use super::program::{DEADLINE, Program, Running, answer, nowhere};
use crate::services::{fresh_database, services, unique};
use crate::wait::eventually;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;
use tokio::task::JoinHandle;

/// Two empty databases, and prefixes of topics and of keys in Redis that nobody else has.
pub async fn fresh() -> (Program, Vec<String>) {
    let name = unique();
    let urls = vec![fresh_database(0).await, fresh_database(1).await];
    let program = Program::new()
        .with("HOLDFAST_KAFKA_BROKERS", &services().await.kafka)
        .with("HOLDFAST_REDIS_URL", &services().await.redis)
        .with("HOLDFAST_KAFKA_PARTITIONS", "2")
        .with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("cli-{name}."))
        .with("HOLDFAST_REDIS_PREFIX", &format!("cli-{name}:"))
        .with("HOLDFAST_LISTEN", "127.0.0.1:0");
    (program.with("HOLDFAST_MYSQL_SHARDS", &urls.join(",")), urls)
}

fn dependency<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let dependencies = answer["dependencies"].as_array().unwrap();
    let found = dependencies.iter().find(|one| one["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing: {answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_services_are_absent_it_is_alive_and_not_ready() {
    let (mysql, kafka) = (nowhere(), nowhere());
    let program = Program::new()
        .with("HOLDFAST_MYSQL_SHARDS", &format!("mysql://u:s3cret@{mysql}/a"))
        .with("HOLDFAST_KAFKA_BROKERS", &kafka)
        .with("HOLDFAST_REDIS_URL", &format!("redis://:s3cret@{}", nowhere()))
        .with("HOLDFAST_LISTEN", "127.0.0.1:0");
    let mut running = program.start(&["serve"]);
    let address = running.listening();
    answer(&format!("{address}/healthz"), 200).await;
    let refused = answer(&format!("{address}/v1/accounts/a"), 503).await;
    assert_eq!(refused["code"], "shard_unavailable");
    running.line_of_stderr(&format!("MySQL shard 0 at {mysql}/a does not answer"));
    let ready = answer(&format!("{address}/readyz"), 503).await;
    assert_eq!(dependency(&ready, "mysql.0")["status"], "down");
    running.signal("TERM");
    let output = running.ended();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(!output.stderr.contains("s3cret"), "{output:?}");
}

#[test]
fn services_that_stay_absent_are_each_named_and_end_it_with_exit_code_1() {
    let (first, second) = (nowhere(), nowhere());
    let output = Program::new()
        .with("HOLDFAST_MYSQL_SHARDS", &format!("mysql://u@{first}/a,mysql://u@{second}/a"))
        .with("HOLDFAST_KAFKA_BROKERS", &nowhere())
        .with("HOLDFAST_START_TIMEOUT", "1s")
        .with("HOLDFAST_LISTEN", "127.0.0.1:0")
        .run(&["serve"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    for words in [format!("MySQL shard 0 at {first}"), format!("MySQL shard 1 at {second}")] {
        assert_eq!(output.stderr.matches(&words).count(), 1, "{words}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_migrated_is_not_served() {
    let (program, _) = fresh().await;
    let output = program.run(&["serve"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("run `holdfast migrate`"), "{output:?}");

    assert_eq!(program.run(&["migrate", "--check"]).code, Some(3));
    program.succeed(&["migrate"]);
    program.succeed(&["migrate", "--check"]);
    let other = program.with("HOLDFAST_KAFKA_TOPIC_PREFIX", &format!("cli-{}.", unique()));
    let output = other.run(&["serve"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("run `holdfast migrate`"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_roles_on_real_services_move_money_and_stop_in_order() {
    let (program, _) = fresh().await;
    program.succeed(&["migrate"]);
    let mut running = program.start(&["serve"]);
    let address = running.listening();
    let ready = answer(&format!("{address}/readyz"), 200).await;
    for name in ["mysql.0", "mysql.1", "kafka", "redis"] {
        assert_eq!(dependency(&ready, name)["status"], "up");
    }
    let accounts = json!({"accounts": [
        {"id": "bank", "currency": "USD", "kind": "external"}, {"id": "alice", "currency": "USD"},
    ]});
    let http = reqwest::Client::new();
    let created = http.post(format!("{address}/v1/accounts/batch")).json(&accounts).send().await;
    assert_eq!(created.unwrap().status(), 200);
    let transfer =
        json!({"source": "bank", "destination": "alice", "amount": "5", "currency": "USD"});
    let asked = http.post(format!("{address}/v1/transfers")).json(&transfer);
    let asked = asked.header("Idempotency-Key", "one").header("Prefer", "wait=30");
    let answered: Value = asked.send().await.unwrap().json().await.unwrap();
    assert_eq!(answered["status"], "committed", "{answered}");
    program.succeed(&["reconcile", "check"]);
    assert_eq!(program.json(&["account", "show", "alice"])["balance"]["posted"], "5.00");
    let metrics = reqwest::get(format!("{address}/metrics")).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("holdfast_http_requests_total"), "{metrics}");
    running.signal("TERM");
    let output = running.ended();
    assert_eq!(output.code, Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_while_one_shard_of_two_is_down() {
    let (program, urls) = fresh().await;
    program.succeed(&["migrate"]);
    let down = format!("mysql://root@{}/gone", nowhere());
    let program = program.with("HOLDFAST_MYSQL_SHARDS", &format!("{},{down}", urls[0]));
    let mut running = program.start(&["serve", "--roles", "ingress"]);
    let address = running.listening();
    let ready = answer(&format!("{address}/readyz"), 200).await;
    assert_eq!(dependency(&ready, "mysql.1")["status"], "down");
    running.line_of_stderr("MySQL shard 1 at");
    // Among these some live on either shard: those of the other one are refused, and only they.
    let accounts: Vec<Value> =
        (0..20).map(|n| json!({"id": format!("a{n}"), "currency": "USD"})).collect();
    let body = json!({ "accounts": accounts });
    let http = reqwest::Client::new();
    let created = http.post(format!("{address}/v1/accounts/batch")).json(&body).send().await;
    let created: Value = created.unwrap().json().await.unwrap();
    let of = |status: u16| {
        created["results"].as_array().unwrap().iter().filter(|one| one["status"] == status).count()
    };
    assert!(of(201) > 0 && of(503) > 0 && of(201) + of(503) == 20, "{created}");
    eventually("the breaker is shown", || async {
        let ready = answer(&format!("{address}/readyz"), 200).await;
        let why = dependency(&ready, "mysql.1")["detail"].to_string();
        let metrics = reqwest::get(format!("{address}/metrics")).await.unwrap();
        let metrics = metrics.text().await.unwrap();
        assert!(metrics.contains("holdfast_breaker_state{dependency=\"mysql.0\"} 0"), "{metrics}");
        why.contains("breaker open since")
            && metrics.contains("holdfast_breaker_state{dependency=\"mysql.1\"} 2")
    })
    .await;
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_process_serves_probes_and_nothing_else() {
    let (program, _) = fresh().await;
    program.succeed(&["migrate"]);
    let mut running = program.start(&["serve", "--roles", "hold,relay", "--shards", "1"]);
    let address = running.listening();
    let ready = answer(&format!("{address}/readyz"), 200).await;
    assert_eq!(dependency(&ready, "mysql.0")["required"], false);
    assert_eq!(dependency(&ready, "mysql.1")["required"], true);
    answer(&format!("{address}/healthz"), 200).await;
    answer(&format!("{address}/v1/accounts"), 404).await;
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_in_another_order_are_refused() {
    let (program, mut urls) = fresh().await;
    program.succeed(&["migrate"]);
    urls.reverse();
    let output = program.with("HOLDFAST_MYSQL_SHARDS", &urls.join(",")).run(&["serve"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("is shard 1, not shard 0"), "{output:?}");
}

/// Sends a request again as often as it is told to: a busy machine may answer 503.
async fn until_accepted(request: RequestBuilder) -> reqwest::Result<Response> {
    loop {
        let again = request.try_clone().expect("the body is in memory");
        let answered = again.send().await?;
        if answered.status() != 503 {
            return Ok(answered);
        }
    }
}

/// An ingress without workers, with a request that waits for an end that does not come.
async fn with_a_waiting_request(seconds: u32) -> (Running, JoinHandle<reqwest::Result<Response>>) {
    let (program, _) = fresh().await;
    program.succeed(&["migrate"]);
    let mut running = program.start(&["serve", "--roles", "ingress"]);
    let address = running.listening();
    answer(&format!("{address}/readyz"), 200).await;
    let transfer = json!({"source": "a", "destination": "b", "amount": "1", "currency": "USD"});
    let asked = reqwest::Client::new().post(format!("{address}/v1/transfers")).json(&transfer);
    let asked = asked.header("Idempotency-Key", "one").header("Prefer", format!("wait={seconds}"));
    let waiting = tokio::spawn(until_accepted(asked));
    let listed = format!("{address}/v1/transfers?source=a&idempotency_key=one");
    let deadline = Instant::now() + DEADLINE;
    while answer(&listed, 200).await["data"].as_array().unwrap().is_empty() {
        assert!(Instant::now() < deadline, "the transfer is not accepted");
    }
    (running, waiting)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_before_the_end() {
    let (running, waiting) = with_a_waiting_request(30).await;
    running.signal("TERM");
    assert_eq!(waiting.await.unwrap().unwrap().status(), 202);
    assert_eq!(running.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait() {
    let (program, _) = fresh().await;
    program.succeed(&["migrate"]);
    let mut running = program.start(&["serve", "--roles", "ingress"]);
    let address = running.listening();
    answer(&format!("{address}/readyz"), 200).await;
    // A request whose body never comes: the server has begun to wait for it when it says so.
    let mut slow = TcpStream::connect(address.trim_start_matches("http://")).unwrap();
    slow.write_all(
        b"POST /v1/transfers HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
        Idempotency-Key: one\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n",
    )
    .unwrap();
    let mut told = [0; 12];
    slow.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100");
    running.signal("TERM");
    running.line_of_stderr("stopping");
    running.signal("INT");
    assert_eq!(running.ended().code, Some(143));
}
