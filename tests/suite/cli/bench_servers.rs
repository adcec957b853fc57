//! `bench ceiling` and `bench stages`, which need servers. Nothing here says how fast anything is.

use super::program::Program;
use super::serving::fresh;
use crate::services::{fresh_database, services};
use crate::wait::eventually;
use holdfast::bench::ceiling::rows::Rows;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, Row};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

async fn databases_of_benchmarks(url: &str) -> Vec<String> {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    let names = connection.fetch_all("SHOW DATABASES LIKE 'holdfast\\_bench\\_%'").await.unwrap();
    names.iter().map(|row| row.try_get_unchecked(0).unwrap()).collect()
}

/// One test, for both look at what is on the servers.
#[tokio::test(flavor = "multi_thread")]
async fn the_ceiling_is_measured_and_nothing_is_left_behind_also_when_interrupted() {
    let servers = &services().await.mysql;
    let program = Program::new();
    let mut args = vec!["bench", "ceiling", "--accounts", "200", "--batch", "20"];
    for server in servers {
        args.extend(["--mysql", server.as_str()]);
    }
    let report = program.json(&[&args[..], &["--duration", "3s", "--warmup", "1s"]].concat());
    assert_eq!((report["kind"].as_str(), report["shards"].as_u64()), (Some("ceiling"), Some(2)));
    let facts = report["servers"].as_array().unwrap();
    let durable = |server: &Value| {
        server["innodb_flush_log_at_trx_commit"] == 1 && server["sync_binlog"] == 1
    };
    assert_eq!(report["durable"], facts.iter().all(durable), "{report}");
    for yardstick in ["naive", "rows"] {
        let measured = &report[yardstick];
        assert!(measured["transfers_per_second"].is_f64(), "{report}");
        assert!(measured["mysql_per_transfer"]["Innodb_rows_inserted"].is_f64(), "{report}");
    }

    let mut before = Vec::new();
    for server in servers {
        before.push(databases_of_benchmarks(server).await);
    }
    assert!(before.concat().is_empty(), "{before:?}");
    let running = program.start(&[&args[..], &["--duration", "1h"]].concat());
    eventually("it has made a database", async || {
        !databases_of_benchmarks(&servers[0]).await.is_empty()
    })
    .await;
    running.signal("INT");
    let output = running.ended();
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("interrupted"), "{output:?}");
    for server in servers {
        assert!(databases_of_benchmarks(server).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_is_measured_alone_and_only_where_nothing_is_under_way() {
    let (program, _) = fresh().await;
    program.succeed(&["migrate"]);
    let stages = ["bench", "stages", "--transfers", "1000", "--accounts", "50"];
    let report = program.json(&stages);
    let measured = report["stages"].as_array().unwrap();
    let names: Vec<&str> = measured.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    assert_eq!(names, ["ingress", "relay", "hold", "credit", "commit", "projector"]);
    assert_eq!(measured[0]["transfers"], 1000);
    assert!(measured.iter().all(|stage| stage["transfers"].as_u64() <= Some(1000)), "{report}");
    program.succeed(&["reconcile", "check"]);

    let transfer = ["transfer", "create", "--source", "bench-0000000", "--amount", "1.00"];
    let rest = ["--destination", "bench-0000001", "--currency", "USD", "--key", "left"];
    program.json(&[&transfer[..], &rest].concat());
    let refused = program.run(&stages);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("under way"), "{refused:?}");
}

/// Rows by table: inserted, updated, deleted, read.
type Writes = BTreeMap<String, [f64; 4]>;

/// What was written to these databases, and read from them, for each transfer.
async fn writes(urls: &[String], transfers: f64) -> Writes {
    let mut writes = Writes::new();
    for url in urls {
        let mut connection = MySqlConnection::connect(url).await.unwrap();
        let text = "SELECT OBJECT_NAME, CAST(COUNT_INSERT AS SIGNED), CAST(COUNT_UPDATE AS SIGNED), \
            CAST(COUNT_DELETE AS SIGNED), CAST(COUNT_FETCH AS SIGNED) FROM performance_schema.table_io_waits_summary_by_table \
            WHERE OBJECT_SCHEMA = DATABASE()";
        for row in connection.fetch_all(AssertSqlSafe(text)).await.unwrap() {
            let all = writes.entry(row.try_get_unchecked(0).unwrap()).or_default();
            for (index, count) in all.iter_mut().enumerate() {
                let found: i64 = row.try_get_unchecked(index + 1).unwrap();
                *count += found as f64 / transfers;
            }
        }
    }
    writes
}

/// The yardstick `rows` is what the pipeline writes only as long as both do the same: tables that
/// are written for each transfer are written as often, the same others are written at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_yardstick_writes_what_the_pipeline_writes() {
    const EACH: [&str; 3] = ["transaction_status", "idempotency_keys", "ledger_entries"];
    const SHARED: [&str; 3] = ["account_mst", "balances", "outbox"];
    let (program, of_pipeline) = fresh().await;
    program.succeed(&["migrate"]);
    let mut serving =
        program.start(&["serve", "--roles", "ingress,relay,hold,credit,commit,projector"]);
    let address = serving.listening();
    let load = ["--rate", "50", "--duration", "4s", "--warmup", "0s", "--accounts", "50"];
    let sampled = ["--sample", "0", "--url", &address];
    let report = program.json(&[&["bench"], &load[..], &sampled].concat());
    let committed = report["finals"]["committed"].as_u64().unwrap();
    assert!(committed > 0, "{report}");
    // The counters of a server know no moment: what the projector still writes does not matter.
    let pipeline = writes(&of_pipeline, committed as f64).await;
    drop(serving);

    let urls = vec![fresh_database(0).await, fresh_database(1).await];
    let rows = Rows::prepare(urls.clone(), 50, 1).await.unwrap();
    let counted = rows.committed();
    let mut stages = rows.start();
    let enough = eventually("enough is committed", async || counted.load(Ordering::Relaxed) >= 500);
    tokio::select! {
        biased;
        Some(failed) = stages.join_next() => panic!("{failed:?}"),
        () = enough => {}
    }
    stages.shutdown().await;
    let committed = counted.load(Ordering::Relaxed) as f64;
    let yardstick = writes(&urls, committed).await;

    // Which transfers leave their shard is left to chance, so that an average may be a little off.
    for table in EACH {
        let pairs = pipeline[table].into_iter().zip(yardstick[table]);
        let alike = pairs.clone().take(3).all(|(one, other)| (one - other).abs() < 0.3);
        assert!(alike, "{table}: {pipeline:?} {yardstick:?}");
    }
    for table in SHARED {
        let at_all = |writes: &Writes| [0, 1, 2].map(|kind| writes[table][kind] > 0.05);
        assert_eq!(at_all(&pipeline), at_all(&yardstick), "{table}: {pipeline:?} {yardstick:?}");
    }
    let elsewhere = pipeline.iter().filter(|(table, writes)| {
        !EACH.contains(&table.as_str())
            && !SHARED.contains(&table.as_str())
            && writes[..3].iter().sum::<f64>() > 0.5
    });
    assert_eq!(elsewhere.count(), 0, "the pipeline writes elsewhere: {pipeline:?}");
}
