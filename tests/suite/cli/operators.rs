//! What operators do, and the audit log that it leaves.

use super::embedded::start;
use super::program::Program;
use crate::wait::{DEADLINE, eventually};
use holdfast::broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use holdfast::broker::{Broker, Record, Topic};
use holdfast::domain::{EventType, Partition, Shard, Timestamp};
use serde_json::Value;

/// A funded ledger on which nothing runs, and a transfer that waits to be held.
fn with_a_transfer_that_waits() -> (Program, String) {
    let dev = start(Program::new());
    dev.fund();
    let (program, _) = dev.stop("TERM");
    let args = ["transfer", "create", "--source", "alice", "--destination", "bank"];
    let rest = ["--amount", "5.00", "--currency", "USD", "--key", "waits"];
    let created = program.json(&[&args[..], &rest].concat());
    assert_eq!(created["status"], "requested");
    let id = created["id"].as_str().unwrap().to_owned();
    (program, id)
}

fn acts(program: &Program, more: &[&str]) -> Vec<Value> {
    let listed = program.json(&[&["audit", "list"], more].concat());
    listed["data"].as_array().unwrap().clone()
}

#[test]
fn a_dry_run_says_what_would_be_done_and_leaves_nothing() {
    let (program, id) = with_a_transfer_that_waits();
    let cancel = program.json(&["transfer", "cancel", &id, "--dry-run"]);
    assert!(cancel["would"].as_str().unwrap().contains("cancel it"), "{cancel}");
    let retry = program.json(&["transfer", "retry", &id, "--dry-run"]);
    assert_eq!(retry["would"], "emit transfer.requested once more");
    assert_eq!(program.json(&["transfer", "show", &id])["status"], "requested");
    assert_eq!(acts(&program, &[]), [] as [Value; 0]);
}

#[test]
fn every_act_is_in_the_audit_log_with_who_why_and_what() {
    let (program, id) = with_a_transfer_that_waits();
    program.json(&["transfer", "retry", &id]);
    let why = ["--operator", "zoe", "--reason", "asked for by phone"];
    let cancelled = program.json(&[&["transfer", "cancel", &id][..], &why].concat());
    assert_eq!(cancelled["reason"], "cancelled_by_operator");

    let all = acts(&program, &[]);
    let names: Vec<&str> = all.iter().map(|act| act["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["transfer.cancel", "transfer.retry"]);
    let [cancel, retry] = &all[..] else { panic!("{all:?}") };
    assert_eq!((&cancel["operator"], &cancel["reason"]), (&"zoe".into(), &why[3].into()));
    assert_eq!(cancel["target"], id.as_str());
    assert_eq!(cancel["before"]["state"], "requested");
    assert_eq!(cancel["after"]["state"], "cancelled");
    assert_eq!(cancel["after"]["reason"], "cancelled_by_operator");
    assert_eq!(retry["after"]["emitted"], "transfer.requested");
    assert!(!retry["operator"].as_str().unwrap().is_empty(), "the user of the system");
    assert_ne!(cancel["request_id"], retry["request_id"]);

    assert_eq!(acts(&program, &["--action", "transfer.retry"]), all[1..]);
    assert_eq!(acts(&program, &["--target", &id]), all);
    assert_eq!(acts(&program, &["--target", "another"]), [] as [Value; 0]);
    let first = program.json(&["audit", "list", "--limit", "1"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(acts(&program, &["--limit", "1", "--cursor", cursor]), all[1..]);
    let table = program.run(&["audit", "list"]);
    assert_eq!(table.code, Some(0));
    assert!(table.stdout.contains("asked for by phone"), "{table:?}");
    // Done once: the second time there is nothing to cancel, and nothing to be logged.
    let again = program.json(&["transfer", "cancel", &id, "--dry-run"]);
    assert!(again["would"].as_str().unwrap().starts_with("nothing"), "{again}");
    program.json(&["transfer", "cancel", &id]);
    assert_eq!(acts(&program, &[]).len(), 2);
}

#[test]
fn wrong_words_of_operators_exit_with_2() {
    let program = Program::new();
    let id = "019b1c5e-7a10-7abc-9def-0123456789ab";
    for args in [
        &["audit", "list", "--action", "nonsense"][..],
        &["audit", "list", "--cursor", "rubbish"],
        &["dlq", "show", "17"],
        &["dlq", "replay"],
        &["dlq", "replay", "0.0.1", "--all"],
        &["transfer", "cancel", id, "--operator", " "],
        &["transfer", "cancel", id, "--reason", ""],
    ] {
        let output = program.run(args);
        assert_eq!(output.code, Some(2), "{args:?}: {output:?}");
    }
}

#[test]
fn what_one_proposes_another_approves_and_it_is_done_by_their_leave() {
    let (program, id) = with_a_transfer_that_waits();
    let propose = |more: &[&str]| {
        let who = ["--operator", "olga", "--reason", "fraud", "--key", "k"];
        program.json(&[&["proposal", "create", "cancel-transfer", &id][..], &who, more].concat())
    };
    let proposed = propose(&[]);
    assert_eq!(proposed["status"], "pending");
    assert_eq!(propose(&[])["id"], proposed["id"]);
    let proposal = proposed["id"].as_str().unwrap();
    let own = program.run(&["proposal", "approve", proposal, "--operator", "olga"]);
    assert_eq!(own.code, Some(1), "{own:?}");
    assert!(own.stderr.contains("somebody else"), "{own:?}");
    let early = program.run(&["proposal", "execute", proposal]);
    assert_eq!(early.code, Some(1), "{early:?}");
    let pending = program.json(&["proposal", "list", "--status", "pending"]);
    assert_eq!(pending["data"][0]["id"], proposal);
    let nobody = program.run(&["proposal", "approve", proposal, "--operator", "two words"]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert_eq!(program.run(&["proposal", "reject", proposal]).code, Some(2), "a reason is needed");

    let approved = program.json(&["proposal", "approve", proposal, "--operator", "anna"]);
    assert_eq!(
        (&approved["status"], &approved["decided_by"]),
        (&"executed".into(), &"anna".into())
    );
    assert_eq!(program.json(&["transfer", "show", &id])["reason"], "cancelled_by_operator");
    assert_eq!(program.json(&["proposal", "execute", proposal])["status"], "executed");
    let no = ["proposal", "reject", proposal, "--operator", "rita", "--reason", "no"];
    assert_eq!(program.run(&no).code, Some(1));
    let cancel = &acts(&program, &["--action", "transfer.cancel"])[0];
    assert_eq!(cancel["operator"], "olga");
    let reason = cancel["reason"].as_str().unwrap();
    assert!(reason.ends_with("approved by anna: fraud") && reason.contains(proposal), "{reason}");
    let of_proposal = acts(&program, &["--target", proposal]);
    let names: Vec<&str> = of_proposal.iter().map(|act| act["action"].as_str().unwrap()).collect();
    assert_eq!(names, ["proposal.execute", "proposal.approve", "proposal.create"]);
}

/// A record that nobody can read, in the topic that hold reads.
async fn damage(program: &Program) {
    let log = program.dir().join("holdfast-data").join("log");
    let broker = EmbeddedBroker::open(EmbeddedSettings::new(log)).unwrap();
    let record = Record {
        topic: Topic::of(EventType::Requested, Shard(0)),
        partition: Partition(0),
        key: "alice".into(),
        value: b"rubbish".to_vec().into(),
        headers: Default::default(),
        timestamp: Timestamp::from_micros(1_700_000_000_000_000),
    };
    broker.producer().await.unwrap().send(vec![record]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_discarded_while_dev_serves() {
    let (program, _) = start(Program::new()).stop("TERM");
    damage(&program).await;
    let dev = start(program);
    let program = &dev.program;
    let mut letters = Vec::new();
    eventually("a dead letter", || {
        letters = program.json(&["dlq", "list"])["data"].as_array().unwrap().clone();
        std::future::ready(!letters.is_empty())
    })
    .await;
    assert_eq!((&letters[0]["reason"], &letters[0]["blocks"]), (&"malformed".into(), &"0".into()));
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!(program.json(&["dlq", "show", id])["value"], "rubbish");

    let replayed = program.run(&["dlq", "replay", id]);
    assert_eq!(replayed.code, Some(1), "{replayed:?}");
    assert!(replayed.stdout.contains("cannot be read"), "{replayed:?}");
    program.succeed(&["dlq", "replay", "--all"]);
    assert_eq!(program.run(&["dlq", "discard", id]).code, Some(2), "a reason is needed");
    let missing = program.run(&["dlq", "show", "0.0.999"]);
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("dlq list"), "{missing:?}");

    let why = ["--reason", "damaged by the test"];
    program.json(&[&["dlq", "discard", id, "--dry-run"][..], &why].concat());
    assert_eq!(program.json(&["dlq", "list"])["data"].as_array().unwrap().len(), 1);
    let discarded = program.json(&[&["dlq", "discard", id][..], &why].concat());
    assert_eq!(discarded["data"][0]["result"], "discarded");
    assert_eq!(program.json(&["dlq", "list"])["data"], serde_json::json!([]));
    let all = program.json(&["dlq", "list", "--all"]);
    assert_eq!(all["data"][0]["handled"], "discarded");
    assert_eq!(acts(program, &["--action", "dlq.discard"])[0]["target"], id);
}

/// Runs a statement on the shards of a directory that nothing serves, or behind its back.
async fn spoil(program: &Program, statement: &'static str) {
    for shard in 0..2 {
        let file = program.dir().join(format!("holdfast-data/shard-{shard}.db"));
        let options =
            sqlx::sqlite::SqliteConnectOptions::new().filename(file).busy_timeout(DEADLINE);
        let mut database = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::Executor::execute(&mut database, statement).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drifting_account_is_shown_and_released_only_once_its_books_agree() {
    let program =
        Program::new().with("HOLDFAST_DRIFT_INTERVAL", "50ms").with("HOLDFAST_SCAN_LAG", "0s");
    let dev = start(program);
    dev.fund();
    let (program, _) = dev.stop("TERM");
    spoil(&program, "UPDATE account_mst SET posted = posted + 700 WHERE id = 'alice'").await;
    spoil(&program, "DELETE FROM drift_progress").await;
    let dev = start(program);
    let program = &dev.program;
    let mut shown = Value::Null;
    eventually("a quarantine", || {
        shown = program.json(&["account", "show", "alice"]);
        std::future::ready(shown["quarantined"] == true)
    })
    .await;
    assert_eq!(shown["quarantine"]["minor_units"], 700, "{shown}");
    let status = program.json(&["status"]);
    assert_eq!(status["quarantined"][0]["account"], "alice", "{status}");
    assert!(program.run(&["status"]).stdout.contains("ACCOUNT IN QUARANTINE"));
    let refused = dev.transfer("alice", "bank", "1.00", "refused");
    assert_eq!(refused["reason"], "account_quarantined", "{refused}");

    let release = ["account", "release-quarantine", "alice"];
    assert_eq!(program.run(&release).code, Some(2), "a reason is needed");
    let why = ["--reason", "entered twice by hand"];
    let release = [&release[..], &why].concat();
    let kept = program.run(&release);
    assert_eq!(kept.code, Some(3), "{kept:?}");
    assert!(kept.stdout.contains("do not agree"), "{kept:?}");
    spoil(program, "UPDATE account_mst SET posted = posted - 700 WHERE id = 'alice'").await;
    let would = program.json(&[&release[..], &["--dry-run"]].concat());
    assert_eq!(would["result"], "it would be released");
    assert_eq!(program.json(&release)["result"], "released");
    assert_eq!(program.json(&release)["result"], "it is not in quarantine");
    assert_eq!(program.json(&["account", "show", "alice"])["quarantined"], false);
    let all = acts(program, &["--target", "alice"]);
    assert_eq!(all[0]["action"], "account.release_quarantine");
    assert_eq!(all[0]["before"]["minor_units"], 700);
    assert_eq!(
        (&all[1]["action"], &all[1]["operator"]),
        (&"account.quarantine".into(), &"holdfast".into())
    );
    assert_eq!(dev.transfer("alice", "bank", "1.00", "released")["status"], "committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn repair_says_why_a_transfer_stands_and_what_it_does() {
    let (program, id) = with_a_transfer_that_waits();
    let mut found = Value::Null;
    eventually("a transfer that stands still", || {
        let output = program.run(&["reconcile", "repair", "--dry-run", "--format", "json"]);
        assert_eq!(output.code, Some(0), "what waits for the relay is left alone: {output:?}");
        found = serde_json::from_str(&output.stdout).unwrap();
        std::future::ready(found["data"][0].is_object())
    })
    .await;
    assert_eq!(
        (&found["data"][0]["target"], &found["data"][0]["action"]),
        (&id.into(), &Value::Null)
    );
    assert!(found["data"][0]["why"][0].as_str().unwrap().contains("relay"), "{found}");
    spoil(&program, "UPDATE balances SET posted = 1 WHERE account_id = 'alice'").await;
    assert_eq!(program.run(&["reconcile", "repair", "--dry-run"]).code, Some(3));
    let repaired = program.run(&["reconcile", "repair"]);
    assert_eq!(repaired.code, Some(0), "{repaired:?}");
    assert!(repaired.stdout.contains("make it anew"));
    assert_eq!(acts(&program, &[])[0]["action"], "projection.rebuild");
    program.succeed(&["reconcile", "check"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tampering_with_the_audit_log_is_found_and_named() {
    let (program, id) = with_a_transfer_that_waits();
    for _ in 0..3 {
        program.json(&["transfer", "retry", &id]);
    }
    let verify = ["audit", "verify"];
    let whole = program.json(&verify);
    let shards = whole["shards"].as_array().unwrap();
    let shard = shards.iter().find(|shard| shard["rows"] == 3).unwrap();
    let number = shard["shard"].to_string();
    assert_eq!((&shard["faults"], &shard["head"]["id"]), (&serde_json::json!([]), &3.into()));
    let acts = program.run(&["audit", "list"]).stdout;
    assert!(acts.starts_with("SHARD  ID  AT"), "{acts}");
    let hash = shard["head"]["hash"].as_str().unwrap();
    let noted = format!("{number}:3:{hash}");
    let table = program.succeed(&["audit", "verify", "--expect", &noted]);
    assert!(table.stdout.contains(hash), "{table:?}");
    assert!(table.stdout.contains("Every row is what was written."), "{table:?}");

    spoil(&program, "UPDATE audit_log SET operator = 'nobody' WHERE id = 2").await;
    let found = program.run(&verify);
    assert_eq!(found.code, Some(3), "{found:?}");
    assert!(found.stdout.contains("not what was written"), "{found:?}");
    let only = program.run(&["audit", "verify", "--shard", &number, "--format", "json"]);
    assert_eq!(only.code, Some(3), "{only:?}");
    let only: Value = serde_json::from_str(&only.stdout).unwrap();
    let fault = &only["shards"][0]["faults"][0];
    assert_eq!((&fault["what"], &fault["from"]), (&"changed".into(), &2.into()), "{only}");

    // A whole chain made anew is whole: only what was noted shows it.
    spoil(&program, "DELETE FROM audit_log").await;
    let anew = "UPDATE audit_chain SET began_after = 0, last_id = 0, last_hash = NULL";
    spoil(&program, anew).await;
    program.succeed(&verify);
    let expected = program.run(&["audit", "verify", "--expect", &noted]);
    assert_eq!(expected.code, Some(3), "{expected:?}");
    assert!(expected.stdout.contains("noted"), "{expected:?}");

    let other = if number == "0" { "1" } else { "0" };
    for args in
        [&["--shard", "7"][..], &["--expect", "0:1"], &["--shard", other, "--expect", &noted]]
    {
        let output = program.run(&[&verify[..], args].concat());
        assert_eq!(output.code, Some(2), "{args:?}: {output:?}");
    }
}

/// A process that serves knows within a second what a command has stopped.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_is_refused_and_shown_with_who_and_why() {
    let dev = start(Program::new());
    dev.fund();
    let why = ["--operator", "zoe", "--reason", "asked for by phone"];
    let paused = dev.program.json(&[&["pause", "source=alice"][..], &why].concat());
    assert_eq!((&paused["mode"], &paused["changed"]), (&"pause".into(), &true.into()));
    let again = dev.program.json(&[&["pause", "source=alice"][..], &why].concat());
    assert_eq!(again["changed"], false);
    let shown = dev.program.json(&["status"])["paused"][0].clone();
    assert_eq!((&shown["scope"], &shown["mode"]), (&"source=alice".into(), &"pause".into()));
    assert_eq!((&shown["operator"], &shown["reason"]), (&"zoe".into(), &why[3].into()));
    assert!(dev.program.succeed(&["status"]).stdout.contains("source=alice"));

    let ask = async |key: String| {
        let body = serde_json::json!({
            "source": "alice", "destination": "bank", "amount": "1.00", "currency": "USD"
        });
        let url = format!("{}/v1/transfers", dev.address);
        let asked = reqwest::Client::new().post(url).header("idempotency-key", key).json(&body);
        asked.send().await.unwrap()
    };
    let tries = std::sync::atomic::AtomicU32::new(0);
    let key = || format!("k{}", tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    eventually("the process knows of the pause", async || ask(key()).await.status() == 503).await;
    let refused = ask(key()).await;
    assert_eq!(refused.headers()["retry-after"], "10");
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "paused", "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("source=alice"), "{problem}");

    dev.program.json(&["resume", "source=alice", "--reason", "it was a mistake"]);
    eventually("the process knows that it goes on", async || {
        ask(key()).await.status().is_success()
    })
    .await;
    let names: Vec<Value> = acts(&dev.program, &["--target", "source=alice"])
        .into_iter()
        .map(|act| act["action"].clone())
        .collect();
    assert_eq!(names, ["resume", "pause"]);

    for wrong in [
        &["pause", "shard=9", "--reason", "x"][..],
        &["pause", "shard=0,partition=999", "--reason", "x"],
        &["drain", "role=hold", "--reason", "x"],
        &["pause", "role=relay,shard=0,partition=1", "--reason", "x"],
        &["pause", "planet=3", "--reason", "x"],
        &["pause", "source=alice"],
    ] {
        let output = dev.program.run(wrong);
        assert_eq!(output.code, Some(2), "{wrong:?}: {output:?}");
    }
}

/// What is on every shard is written to one after the other; the command dies after the first.
#[test]
fn what_a_command_that_dies_between_two_shards_has_begun_counts_and_is_completed_by_its_repeat() {
    let keys = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let dev = start(Program::new().with("HOLDFAST_ENCRYPTION_KEYS", keys));
    dev.fund();
    let (program, _) = dev.stop("TERM");
    let dies = |args: &[&str]| {
        let died = program.start_to_die(args, "transaction.committed=return").ended();
        assert_eq!(died.code, None, "{args:?}: {died:?}");
        assert!(died.stderr.contains("killed at transaction.committed"), "{args:?}: {died:?}");
    };
    let why = ["--reason", "a test"];

    let pause = [&["pause", "source=alice"][..], &why].concat();
    dies(&pause);
    assert_eq!(program.json(&["status"])["paused"][0]["scope"], "source=alice");
    assert_eq!(program.json(&pause)["changed"], false, "it is so already");
    let resume = [&["resume", "source=alice"][..], &why].concat();
    dies(&resume);
    assert_eq!(program.json(&["status"])["paused"], serde_json::json!([]));
    assert_eq!(program.json(&resume)["changed"], false);
    assert_eq!(acts(&program, &["--target", "source=alice"]).len(), 2, "each act once");

    // A key that nobody was shown: it is listed, and can be ended.
    let ids = || -> Vec<(String, String)> {
        let listed = program.json(&["key", "list"]);
        let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
        let keys = listed["data"].as_array().unwrap();
        keys.iter().map(|key| (text(key, "id"), text(key, "status"))).collect()
    };
    let status = |id: &str| ids().into_iter().find(|(known, _)| known == id).unwrap().1;
    dies(&["key", "create", "--principal", "shop", "--role", "merchant"]);
    let [(lost, active)] = &ids()[..] else { panic!("{:?}", ids()) };
    assert_eq!(active, "active");
    let revoke = [&["key", "revoke", lost][..], &why].concat();
    dies(&revoke);
    assert_eq!(status(lost), "revoked", "from the first shard on");
    program.succeed(&revoke);
    assert_eq!(status(lost), "revoked");
    // A rotation that dies has made its key, and the old one holds as it did.
    let made = program.json(&["key", "create", "--principal", "shop", "--role", "merchant"]);
    let old = made["id"].as_str().unwrap();
    dies(&["key", "rotate", old, "--overlap", "0s"]);
    assert_eq!(status(old), "active");
    assert_eq!(ids().len(), 3);
    program.succeed(&["key", "rotate", old, "--overlap", "1s"]);

    let data_keys = || {
        let shown = program.json(&["encryption", "status"]);
        let keys = shown["data_keys"].as_array().unwrap().clone();
        let of = |shard: u64| {
            keys.iter().filter(|key| key["shard"] == shard && key["purpose"] == "fields").count()
        };
        [of(0), of(1)]
    };
    let before = data_keys();
    dies(&["encryption", "rotate", "--older-than", "0s"]);
    let between = data_keys();
    assert_eq!(between[0] + between[1], before[0] + before[1] + 1, "{between:?}");
    program.succeed(&["encryption", "rotate", "--older-than", "1h"]);
    assert_eq!(data_keys(), before.map(|count| count + 1));
    program.succeed(&["audit", "verify"]);
    program.succeed(&["reconcile", "check"]);
}
