//! `dev`, and every command on the embedded store, also while `dev` serves it.

use super::program::{Output, Program, Running, answer};
use std::process::Command;

/// The program with `dev` running on its default directory.
pub struct Dev {
    pub program: Program,
    running: Running,
    pub address: String,
    greeting: String,
}

pub fn start(program: Program) -> Dev {
    let mut running = program.start(&["dev", "--listen", "127.0.0.1:0"]);
    let first = running.line_of_stdout("Holdfast listens on http://");
    let address = first.split_whitespace().nth(3).unwrap().to_owned();
    let mut greeting = first;
    loop {
        let line = running.line_of_stdout("");
        greeting.push_str(&line);
        if line.contains("Ctrl-C") {
            return Dev { program, running, address, greeting };
        }
    }
}

impl Dev {
    pub fn fund(&self) {
        let program = &self.program;
        program.json(&["account", "create", "bank", "--currency", "USD", "--kind", "external"]);
        program.json(&["account", "create", "alice", "--currency", "USD"]);
        let created = self.transfer("bank", "alice", "100.00", "first");
        assert_eq!(created["status"], "committed", "{created}");
    }

    pub fn transfer(&self, source: &str, to: &str, amount: &str, key: &str) -> serde_json::Value {
        let args = ["transfer", "create", "--source", source, "--destination", to, "--wait", "30s"];
        let rest = ["--amount", amount, "--currency", "USD", "--key", key];
        self.program.json(&[&args[..], &rest].concat())
    }

    pub fn line_of_stderr(&mut self, words: &str) -> String {
        self.running.line_of_stderr(words)
    }

    pub fn stop(self, signal: &str) -> (Program, Output) {
        self.running.signal(signal);
        (self.program, self.running.ended())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_that_dev_prints_works_when_pasted() {
    let dev = start(Program::new());
    assert!(dev.greeting.contains("holdfast-data"), "{}", dev.greeting);
    let commands = dev.greeting.split_once("\n\n").unwrap().1;
    let commands = commands.split_once("\nThe API").unwrap().0;
    assert_eq!(commands.matches("  curl ").count(), 2, "{commands}");
    let pasted = Command::new("bash").args(["-ec", commands]).output().unwrap();
    let printed = String::from_utf8_lossy(&pasted.stdout).into_owned();
    assert!(pasted.status.success(), "{pasted:?}");
    assert!(printed.contains("\"status\":\"committed\""), "{printed}");
    answer(&format!("{}/readyz", dev.address), 200).await;
}

#[test]
fn signals_end_dev_with_exit_code_0_and_the_data_stays() {
    let dev = start(Program::new());
    dev.fund();
    let (program, output) = dev.stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
    let shown = program.json(&["account", "show", "alice"]);
    assert_eq!(shown["balance"]["posted"], "100.00");
    let (_, output) = start(program).stop("INT");
    assert_eq!(output.code, Some(0), "{output:?}");
}

/// Whoever still sends requests to a process that was told to stop is served, and sent elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_drains_is_not_ready_and_takes_requests_each_the_last_of_its_connection() {
    let dev = start(Program::new().with("HOLDFAST_DRAIN_DELAY", "5m"));
    dev.fund();
    let url = format!("{}/v1/accounts/alice/balance", dev.address);
    // Open before, without a request under way, when it is told to stop.
    let before = reqwest::Client::new();
    let closes = |answer: &reqwest::Response| {
        assert_eq!(answer.status(), 200);
        answer.headers().get("connection").is_some_and(|value| value == "close")
    };
    assert!(!closes(&before.get(&url).send().await.unwrap()));
    dev.running.signal("TERM");
    answer(&format!("{}/readyz", dev.address), 503).await;
    assert!(closes(&before.get(&url).send().await.unwrap()));
    assert!(closes(&reqwest::Client::new().get(&url).send().await.unwrap()));
    let body = serde_json::json!({
        "source": "alice", "destination": "bank", "amount": "1.00", "currency": "USD"
    });
    let accepted = before.post(format!("{}/v1/transfers", dev.address));
    let accepted = accepted.header("idempotency-key", "while-it-drains").json(&body);
    let accepted = accepted.header("prefer", "wait=30").send().await.unwrap();
    let accepted: serde_json::Value = accepted.json().await.unwrap();
    assert_eq!(accepted["status"], "committed", "{accepted}");
    // Who does not want to wait says so again.
    let (_, output) = dev.stop("TERM");
    assert_eq!(output.code, Some(143), "{output:?}");
}

#[test]
fn a_process_that_has_drained_ends_with_exit_code_0() {
    let dev = start(Program::new().with("HOLDFAST_DRAIN_DELAY", "200ms"));
    dev.fund();
    let (program, output) = dev.stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(program.json(&["account", "show", "alice"])["balance"]["posted"], "100.00");
}

#[test]
fn killed_dev_loses_nothing() {
    let dev = start(Program::new());
    dev.fund();
    let (program, _) = dev.stop("KILL");
    let dev = start(program);
    let repeated = dev.transfer("bank", "alice", "100.00", "first");
    assert_eq!(repeated["status"], "committed");
    assert_eq!(dev.program.json(&["account", "show", "alice"])["balance"]["posted"], "100.00");
    dev.program.succeed(&["reconcile", "check"]);
}

#[test]
fn a_second_dev_on_the_same_data_is_refused_in_one_sentence() {
    let dev = start(Program::new());
    let second = dev.program.run(&["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert_eq!(second.stderr.lines().count(), 1, "{second:?}");
    assert!(second.stderr.contains("in use by another holdfast process"), "{second:?}");
}

#[test]
fn an_address_that_is_taken_is_refused_in_one_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Program::new().run(&["dev", "--listen", &address]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains(&address) && output.stderr.contains("--listen"), "{output:?}");
}

#[test]
fn dev_keeps_the_number_of_shards_of_its_data() {
    let program = Program::new();
    let data = program.dir().join("four");
    let data = data.to_str().unwrap();
    let mut running =
        program.start(&["dev", "--data", data, "--listen", "127.0.0.1:0", "--shards", "4"]);
    running.line_of_stdout("Ctrl-C");
    let shards = program.json(&["shards", "--data", data]);
    assert_eq!(shards["data"].as_array().unwrap().len(), 4);
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
    let other = program.run(&["dev", "--data", data, "--listen", "127.0.0.1:0", "--shards", "2"]);
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.stderr.contains("4 shards"), "{other:?}");
}

#[test]
fn commands_work_while_another_process_serves() {
    let dev = start(Program::new());
    dev.fund();
    let program = &dev.program;
    let listed = program.json(&["account", "list", "--limit", "1"]);
    assert_eq!(listed["data"][0]["id"], "alice");
    let cursor = listed["next_cursor"].as_str().unwrap();
    let next = program.json(&["account", "list", "--limit", "1", "--cursor", cursor]);
    assert_eq!(next["data"][0]["id"], "bank");
    assert!(next["next_cursor"].is_null());

    let by_key = program.json(&["transfer", "list", "--account", "bank", "--key", "first"]);
    let id = by_key["data"][0]["id"].as_str().unwrap();
    let shown = program.json(&["transfer", "show", id]);
    let events: Vec<&str> = shown["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["event"].as_str().unwrap())
        .collect();
    assert_eq!(events, ["requested", "held", "credited", "committed"]);
    assert_eq!(program.json(&["transfer", "retry", id])["emitted"], "transfer.committed");

    let status = program.json(&["status"]);
    assert_eq!(status["dependencies"].as_array().unwrap().len(), 3, "{status}");
    let lag = program.json(&["lag"]);
    assert!(lag["data"].as_array().unwrap().iter().any(|line| line["topic"] == "transfer.held.1"));
    let topics = program.json(&["topics"]);
    let topics = topics["data"].as_array().unwrap();
    assert_eq!(topics.len(), 16, "eight of each of two shards");
    let requested = |one: &&serde_json::Value| {
        one["topic"].as_str().unwrap().starts_with("transfer.requested.")
    };
    let written: i64 =
        topics.iter().filter(requested).map(|one| one["records"].as_i64().unwrap()).sum();
    assert!(written >= 1, "{topics:?}");
    let held = topics.iter().find(|one| one["topic"] == "transfer.held.1").unwrap();
    assert!(held["unread"]["credit"].is_i64() && held["unread"]["projector"].is_i64(), "{held}");
    for args in [&["status"][..], &["lag"], &["topics"], &["shards"], &["account", "show", "alice"]]
    {
        let output = program.run(args);
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
    }
}

#[test]
fn what_is_refused_exits_with_1_and_says_why_in_one_sentence() {
    let dev = start(Program::new());
    dev.fund();
    let listed = dev.program.json(&["transfer", "list", "--account", "alice"]);
    let id = listed["data"][0]["id"].as_str().unwrap();
    for (args, words) in [
        (&["transfer", "cancel", id][..], "already final"),
        (&["account", "show", "nobody"], "there is no account nobody"),
        (&["account", "create", "alice", "--currency", "EUR"], "exists with another currency"),
    ] {
        let output = dev.program.run(args);
        assert_eq!(output.code, Some(1), "{args:?}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
    }
    let rejected = dev.transfer("alice", "bank", "100.01", "too-much");
    assert_eq!(rejected["status"], "rejected");
    assert_eq!(rejected["reason"], "insufficient_funds");
}

#[test]
fn without_any_store_a_command_says_how_to_get_one() {
    let output = Program::new().run(&["account", "list"]);
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("holdfast dev"), "{output:?}");
}

#[test]
fn migrate_check_exits_with_3_as_long_as_something_is_pending() {
    let program = Program::new();
    assert_eq!(program.run(&["migrate", "--check"]).code, Some(3));
    program.succeed(&["migrate"]);
    program.succeed(&["migrate", "--check"]);
    assert_eq!(program.json(&["migrate"])["data"], serde_json::json!([]));
    program.succeed(&["reconcile", "check"]);
}

#[tokio::test]
async fn money_out_of_nothing_is_found_with_exit_code_3() {
    let dev = start(Program::new());
    dev.fund();
    let (program, _) = dev.stop("TERM");
    program.succeed(&["reconcile", "check"]);
    for shard in 0..2 {
        let file = program.dir().join(format!("holdfast-data/shard-{shard}.db"));
        let options = sqlx::sqlite::SqliteConnectOptions::new()
            .filename(file)
            .busy_timeout(crate::wait::DEADLINE);
        let mut database = sqlx::ConnectOptions::connect(&options).await.unwrap();
        let forged = "UPDATE account_mst SET posted = posted + 100 WHERE id = 'alice'";
        sqlx::Executor::execute(&mut database, forged).await.unwrap();
    }
    let output = program.run(&["reconcile", "check", "--format", "json"]);
    assert_eq!(output.code, Some(3), "{output:?}");
    assert!(output.stdout.contains("alice"), "{output:?}");
}

#[test]
fn a_limit_that_is_set_from_the_command_line_counts_at_once() {
    let dev = start(Program::new());
    dev.fund();
    let program = &dev.program;
    let limits = |args: &[&str]| program.json(&[&["account", "limits", "alice"], args].concat());
    assert_eq!(limits(&[])["data"], serde_json::json!([]));
    let set = limits(&["--per", "day", "--max-count", "1", "--max-amount", "50.00"]);
    assert_eq!(set["data"][0]["max_amount"], "50.00", "{set}");
    assert_eq!(dev.transfer("alice", "bank", "50.01", "over")["reason"], "velocity_limit_exceeded");
    assert_eq!(dev.transfer("alice", "bank", "50.00", "within")["status"], "committed");
    assert_eq!(
        dev.transfer("alice", "bank", "1.00", "second")["reason"],
        "velocity_limit_exceeded"
    );
    let hour = limits(&["--per", "hour", "--max-count", "9"]);
    assert_eq!(
        (&hour["data"][0]["period"], &hour["data"][1]["used_count"]),
        (&"hour".into(), &1.into())
    );
    let table = program.succeed(&["account", "limits", "alice"]);
    assert!(table.stdout.contains("MAX_COUNT"), "{table:?}");
    assert_eq!(limits(&["--per", "day", "--remove"])["data"].as_array().unwrap().len(), 1);
    assert_eq!(dev.transfer("alice", "bank", "1.00", "third")["status"], "committed");
    assert_eq!(limits(&["--remove"])["data"], serde_json::json!([]));
    for wrong in [&["--per", "day"][..], &["--max-count", "1"], &["--per", "week", "--remove"]] {
        let output = program.run(&[&["account", "limits", "alice"], wrong].concat());
        assert_eq!(output.code, Some(2), "{output:?}");
    }
    program.succeed(&["reconcile", "check"]);
}
