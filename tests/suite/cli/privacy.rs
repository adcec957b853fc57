//! What callers write, and whose accounts they are, is in no output of a process.

use super::program::{Output, Running, answer};
use super::serving::fresh;
use crate::wait::{eventually, within};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, MySqlConnection};

/// A part of every text that is looked for.
const PLANTED: &str = "planted";

/// A server, and what it is asked.
struct World {
    http: reqwest::Client,
    address: String,
}

impl World {
    async fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        let asked = self.http.post(format!("{}{path}", self.address)).json(body);
        let asked = asked.header("Idempotency-Key", key).header("Prefer", "wait=10");
        within("an answer", async { asked.send().await.unwrap().json().await.unwrap() }).await
    }

    async fn transfer(&self, source: &str, destination: &str, number: u32) -> Value {
        let body = json!({
            "source": source, "destination": destination, "amount": "1.00", "currency": "USD",
            "description": format!("planted description {number}"),
            "reference": format!("planted-reference-{number}"),
            "metadata": {"planted-name": format!("planted value {number}")},
        });
        self.post("/v1/transfers", &format!("planted-key-{number}"), &body).await
    }
}

async fn sql(urls: &[String], text: &'static str) {
    for url in urls {
        let mut conn = MySqlConnection::connect(url).await.unwrap();
        conn.execute(text).await.unwrap();
    }
}

fn assert_nothing_planted(output: &Output) {
    for text in [&output.stdout, &output.stderr] {
        let told = text.lines().find(|line| line.to_lowercase().contains(PLANTED));
        assert_eq!(told, None, "a line of the log tells what a caller wrote");
    }
}

fn code(answer: &Value) -> &str {
    answer["code"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

/// Ends of every kind, requests that are refused, statements that fail with callers' values in the
/// database's words, and books that somebody has changed: all of it is logged, without these texts.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_caller_wrote_is_in_the_output() {
    let (program, urls) = fresh().await;
    let program = program.with("HOLDFAST_DRIFT_INTERVAL", "100ms").with("HOLDFAST_SCAN_LAG", "0s");
    program.succeed(&["migrate"]);
    let mut running = program.start(&["serve"]);
    let address = running.listening();
    answer(&format!("{address}/readyz"), 200).await;
    let world = World { http: reqwest::Client::new(), address };
    let accounts = json!({"accounts": [
        {"id": "planted-bank-1", "currency": "USD", "kind": "external"},
        {"id": "planted-payer-2", "currency": "USD", "metadata": {"planted-note": "planted"}},
        {"id": "planted-payee-3", "currency": "USD"},
    ]});
    world.post("/v1/accounts/batch", "unused", &accounts).await;

    let ended = world.transfer("planted-bank-1", "planted-payer-2", 1).await;
    assert_eq!(ended["status"], "committed", "{ended}");
    let refused = world.transfer("planted-payee-3", "planted-payer-2", 2).await;
    assert_eq!(refused["reason"], "insufficient_funds", "{refused}");
    let refused = world.transfer("planted-bank-1", "planted-nobody-4", 3).await;
    assert_eq!(refused["reason"], "destination_not_found", "{refused}");
    assert_eq!(
        code(&world.transfer("planted-bank-1", "planted-payee-3", 1).await),
        "idempotency_key_reused"
    );
    let bad = json!({"source": "planted source", "planted": "planted", "amount": "planted"});
    assert_eq!(code(&world.post("/v1/transfers", "planted-key", &bad).await), "invalid_request");

    statements_fail(&world, &mut running, &urls).await;
    books_differ(&world, &mut running, &urls).await;

    running.signal("TERM");
    let output = running.ended();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("pl****-2"), "accounts are masked: {output:?}");
    assert_nothing_planted(&output);
}

/// MySQL quotes the values that it will not take.
async fn statements_fail(world: &World, running: &mut Running, urls: &[String]) {
    let index = "CREATE UNIQUE INDEX strange ON transaction_status (destination, source)";
    sql(urls, index).await;
    let refused = world.transfer("planted-bank-1", "planted-payer-2", 5).await;
    assert_eq!(code(&refused), "shard_unavailable", "{refused}");
    running.line_of_stderr("for key 'transaction_status.strange'");
    sql(urls, "DROP INDEX strange ON transaction_status").await;
    sql(urls, "UPDATE transaction_status SET metadata = NULL").await;
    sql(urls, "ALTER TABLE transaction_status MODIFY metadata BIGINT").await;
    let failed = world.transfer("planted-bank-1", "planted-payer-2", 6).await;
    assert_eq!(code(&failed), "internal_error", "{failed}");
    running.line_of_stderr("a statement failed");
    let back = "ALTER TABLE transaction_status MODIFY metadata MEDIUMTEXT \
        CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin";
    sql(urls, back).await;
}

/// Rows that cannot be: drift, a dead letter, quarantines.
async fn books_differ(world: &World, running: &mut Running, urls: &[String]) {
    sql(urls, "UPDATE account_mst SET posted = posted + 7 WHERE id = 'planted-payer-2'").await;
    world.transfer("planted-bank-1", "planted-payer-2", 7).await;
    running.line_of_stderr("\"message\":\"drift\"");
    let mut number = 100;
    eventually("the quarantine is known", || {
        number += 1;
        async move {
            let refused = world.transfer("planted-payer-2", "planted-bank-1", number).await;
            refused["reason"] == "account_quarantined"
        }
    })
    .await;
    sql(urls, "UPDATE account_mst SET posted = -5 WHERE id = 'planted-payee-3'").await;
    world.transfer("planted-bank-1", "planted-payee-3", 8).await;
    running.line_of_stderr("to the dead letters");
}
