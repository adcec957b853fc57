//! `bench` over HTTP, on a `dev` of its own. Nothing here says how fast anything is.

use super::embedded::{Dev, start};
use super::program::{Output, Program, nowhere};
use crate::wait::eventually;
use serde_json::Value;

fn dev() -> Dev {
    start(Program::new())
}

impl Dev {
    fn bench(&self, more: &[&str]) -> Value {
        let args = ["bench", "--url", &self.address, "--accounts", "20", "--warmup", "0s"];
        self.program.json(&[&args[..], more].concat())
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn an_open_loop_counts_every_transfer_that_was_due() {
    let dev = dev();
    let report = dev.bench(&["--rate", "40", "--duration", "2s", "--sample", "1"]);
    assert_eq!(
        (report["kind"].as_str(), report["load"]["loop"].as_str()),
        (Some("load"), Some("open"))
    );
    let (sent, unsent) = (number(&report["sent"]), number(&report["behind"]["unsent"]));
    assert_eq!(sent + unsent, 80, "{report}");
    assert_eq!(report["behind"]["kept_the_rate"], unsent == 0);
    let refused = report["refused"].as_object().unwrap().values().map(number).sum::<u64>();
    let accepted = number(&report["accepted"]);
    assert_eq!(accepted + refused, sent, "{report}");
    assert_eq!(number(&report["accept"]["count"]), accepted, "one latency a request");
    assert_eq!(number(&report["finals"]["committed"]), accepted, "{report}");
    assert_eq!((number(&report["not_ended"]), report["drain_seconds"].is_f64()), (0, true));
    assert!(number(&report["accept_to_final"]["count"]) > 0, "{report}");
    let windows = report["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 1);
    assert!(report["durable"].is_null() && report["servers"].as_array().unwrap().is_empty());
    if cfg!(target_os = "linux") {
        for process in ["holdfast", "bench", "other"] {
            assert!(report["cpu_us_per_transfer"][process]["total"].is_f64(), "{report}");
        }
        assert!(number(&report["memory"]["most"]) >= number(&report["memory"]["start"]));
    }
    dev.program.succeed(&["reconcile", "check"]);
}

#[test]
fn a_closed_loop_sends_batches_across_shards_and_finds_its_accounts_again() {
    let dev = dev();
    let data = dev.program.dir().join("holdfast-data");
    let data = data.to_str().unwrap();
    let load = ["--rate", "max", "--duration", "1s", "--batch", "20", "--connections", "2"];
    let first =
        dev.bench(&[&load[..], &["--mix", "zipf", "--cross-shard", "1", "--data", data]].concat());
    assert_eq!(first["load"]["loop"], "closed");
    assert_eq!(first["cross_shard_share"], 1.0, "{first}");
    assert_eq!(number(&first["accept"]["count"]) * 20, number(&first["sent"]), "{first}");
    assert_eq!(number(&first["finals"]["committed"]), number(&first["accepted"]), "{first}");
    let hot = ["--reuse", "--mix", "hot-source", "--hot-share", "1"];
    let second = dev.bench(&[&load[..], &hot].concat());
    assert!(number(&second["finals"]["committed"]) > 0, "{second}");
    assert_eq!(second["load"]["hot_share"], 1.0);
    let paid = dev.program.json(&[
        "transfer",
        "list",
        "--account",
        "bench-0000000",
        "--direction",
        "in",
        "--limit",
        "500",
    ]);
    let of_run = |transfer: &&Value| transfer["source"] == "bench-0000000";
    assert_eq!(paid["data"].as_array().unwrap().iter().filter(of_run).count(), 0);
}

#[test]
fn a_number_of_transfers_ends_a_load_and_every_window_says_what_it_cost() {
    let dev = dev();
    let load = ["--rate", "max", "--batch", "50", "--connections", "2", "--transfers", "400"];
    let report = dev.bench(&load);
    let accepted = number(&report["accepted"]);
    assert!((400..=500).contains(&accepted), "two requests were under way at most: {report}");
    assert_eq!(number(&report["finals"]["committed"]), accepted, "{report}");
    assert_eq!(number(&report["load"]["transfers"]), 400);
    assert!(report["load"]["duration_seconds"].is_null(), "{report}");
    let dev_and_generator = ["holdfast", "bench"];
    for window in report["windows"].as_array().unwrap() {
        let known = window["committed_per_second"].as_f64().is_some_and(|rate| rate > 0.0);
        if cfg!(target_os = "linux") && known {
            assert!(
                dev_and_generator.iter().all(|name| window["cpu_us"][name].is_f64()),
                "{report}"
            );
            assert!(number(&window["resident"]) > 1 << 20, "{report}");
        }
    }
    let short = ["--reuse", "--rate", "20", "--duration", "1s", "--transfers", "1000000"];
    let report = dev.bench(&short);
    assert!(number(&report["sent"]) <= 20, "the shorter of both ends it: {report}");
}

#[test]
fn more_accounts_than_one_request_may_have_are_all_made() {
    let dev = dev();
    let args = ["bench", "--url", &dev.address, "--warmup", "0s", "--rate", "20"];
    dev.program.json(&[&args[..], &["--duration", "1s", "--accounts", "2345"]].concat());
    for last in ["bench-0000999", "bench-0001000", "bench-0002344"] {
        dev.program.succeed(&["account", "show", last]);
    }
    assert_eq!(dev.program.run(&["account", "show", "bench-0002345"]).code, Some(1));
}

#[test]
fn reads_are_of_an_account_whose_history_was_walked() {
    let dev = dev();
    let reads = |more: &[&str]| {
        let args = ["bench", "reads", "--url", &dev.address, "--rate", "20", "--duration", "1s"];
        let more = [&["--warmup", "0s", "--accounts", "20"], more].concat();
        dev.program.run(&[&args[..], &more].concat())
    };
    let nobody = reads(&[]);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("there is no account bench-0000000"), "{nobody:?}");

    let hot = ["--mix", "hot-destination", "--hot-share", "1", "--rate", "max", "--batch", "100"];
    let paid = dev.bench(&[&hot[..], &["--connections", "2", "--transfers", "1000"]].concat());
    let entries = number(&paid["finals"]["committed"]);
    let output = reads(&["--format", "json"]);
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&report["kind"], number(&report["entries"])), (&"reads".into(), entries));
    assert_eq!(number(&report["ended_before"]), entries, "{report}");
    let rows = report["reads"].as_array().unwrap();
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["read"].as_str()).collect();
    let all = ["newest entries", "entries further back", "balance", "transfer by id"];
    assert_eq!(kinds, all);
    for row in rows {
        assert_eq!((number(&row["asked"]), &row["failed"]), (20, &serde_json::json!({})), "{row}");
        assert_eq!(number(&row["latency"]["count"]), 20, "{row}");
    }

    let unpaid = reads(&["--account", "bench-0000001"]);
    let has_none = unpaid.code == Some(1) && unpaid.stderr.contains("has no entries");
    assert!(has_none || unpaid.stdout.contains("bench-0000001 with "), "{unpaid:?}");
    let missing = reads(&["--accounts-prefix", "nobody", "--account", "bench-0000000"]);
    assert!(missing.stdout.contains("balance failed: 404 20"), "{missing:?}");
    assert!(missing.stdout.contains("p99 ms"), "{missing:?}");
}

#[test]
fn transfers_that_are_rejected_are_not_committed() {
    let dev = dev();
    let report =
        dev.bench(&["--rate", "20", "--duration", "1s", "--reuse", "--accounts-prefix", "nobody"]);
    assert_eq!(number(&report["finals"]["rejected"]), number(&report["accepted"]), "{report}");
    assert!(
        report["finals"]["committed"].as_u64().unwrap_or(0) == 0
            && number(&report["not_ended"]) == 0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_load_reports_what_there_is() {
    let dev = dev();
    let args =
        ["bench", "--url", &dev.address, "--rate", "20", "--duration", "1h", "--warmup", "0s"];
    let running =
        dev.program.start(&[&args[..], &["--accounts", "20", "--format", "json"]].concat());
    let metrics = format!("{}/metrics", dev.address);
    eventually("transfers end", async || {
        let shown = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        let mut ends = shown.lines().filter(|line| line.contains("outcome=\"transfer.committed\""));
        ends.any(|line| !line.ends_with(" 0"))
    })
    .await;
    running.signal("INT");
    let output = running.ended();
    assert_eq!(output.code, Some(0), "{output:?}");
    let report: Value = serde_json::from_str(&output.stdout).unwrap();
    assert!((1..72_000).contains(&number(&report["sent"])), "{report}");
    assert_eq!(number(&report["not_ended"]), 0, "{report}");
}

#[test]
fn a_file_is_sent_in_batches_to_its_end() {
    let dev = dev();
    dev.fund();
    dev.program.json(&["account", "create", "dave", "--currency", "USD"]);
    let file = dev.program.file(
        "transfers.csv",
        "source,destination,amount,currency,idempotency_key\n\
         alice,dave,1.00,USD,one\nalice,dave,2.00,USD,two\ndave,alice,1000.00,USD,three\n",
    );
    let args = ["bench", "--url", &dev.address, "--csv", file.to_str().unwrap(), "--batch", "2"];
    let report = dev.program.json(&args);
    assert_eq!((number(&report["sent"]), number(&report["accepted"])), (3, 3), "{report}");
    assert_eq!(report["finals"], serde_json::json!({"committed": 2, "rejected": 1}));
    let table = dev.program.run(&args);
    assert!(
        table.stdout.contains("committed 2, rejected 1"),
        "again, it changes nothing: {table:?}"
    );
}

#[test]
fn a_table_is_for_people() {
    let dev = dev();
    let args = ["bench", "--url", &dev.address, "--accounts", "20", "--warmup", "0s"];
    let output = dev.program.run(&[&args[..], &["--rate", "max", "--duration", "1s"]].concat());
    assert_eq!(output.code, Some(0), "{output:?}");
    for words in ["closed loop", "accept to final", "behind", "committed", "us a transfer"] {
        assert!(output.stdout.contains(words), "{words} is not in {}", output.stdout);
    }
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let program = Program::new();
    let said = |args: &[&str], code: i32, words: &str| {
        let output: Output = program.run(&[&["bench"], args].concat());
        assert_eq!(output.code, Some(code), "{args:?}: {output:?}");
        assert!(output.stderr.contains(words) && output.stdout.is_empty(), "{args:?}: {output:?}");
    };
    said(&["--rate", "0"], 2, "a number over 0");
    said(&["--rate", "fast"], 2, "or max");
    said(&["--duration", "0s"], 2, "over 0s");
    said(&["--transfers", "0"], 2, "");
    said(&["--mix", "even"], 2, "uniform, zipf, hot-source, hot-destination");
    said(&["--mix", "zipf", "--skew", "-1"], 2, "");
    said(&["--mix", "hot-source", "--hot-share", "1.1"], 2, "from 0 to 1");
    said(&["--cross-shard", "2"], 2, "from 0 to 1");
    said(&["--accounts", "2"], 2, "3..=");
    said(&["--accounts-prefix", "a b"], 2, "begins with a letter");
    said(&["--batch", "1001"], 2, "1..=1000");
    said(&["--process", "mysql"], 2, "such as mysql=4711");
    said(&["--url", "https://127.0.0.1:1"], 2, "plain HTTP");
    said(&["--cross-shard", "0.5"], 1, "--cross-shard needs to know the shards");
    said(&["--url", &format!("http://{}", nowhere())], 1, "is Holdfast running there?");
    said(&["reads", "--rate", "max"], 2, "a number over 0");
    said(&["reads", "--account", "a b"], 2, "");
    said(&["reads", "--url", "https://127.0.0.1:1"], 2, "plain HTTP");
    said(&["reads", "--url", &format!("http://{}", nowhere())], 1, "is Holdfast running there?");
    said(&["stages"], 2, "HOLDFAST_MYSQL_SHARDS");
    said(&["ceiling"], 2, "--mysql mysql://");
    said(&["ceiling", "--mysql", "http://127.0.0.1"], 2, "mysql://user:password@host:port");
    said(&["ceiling", "--mysql", &format!("mysql://u:s3cret@{}", nowhere())], 1, "does not answer");
}

#[test]
fn passwords_are_not_shown() {
    let program = Program::new();
    let url = format!("mysql://u:s3cret@{}", nowhere());
    let output = program.run(&["bench", "ceiling", "--mysql", &url]);
    assert!(!output.stderr.contains("s3cret"), "{output:?}");
}
