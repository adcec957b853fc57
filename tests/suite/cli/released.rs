//! An upgrade: the release before this one stopped in the middle of its work, and this one carries on
//! with its tables and its events, as `scripts/record-release` kept them; and what the release before
//! writes to, it can still write to once this one has migrated.

use super::program::Program;
use super::serving::fresh;
use crate::services::services;
use crate::wait::eventually;
use holdfast::broker::kafka::{KafkaBroker, KafkaSettings};
use holdfast::broker::{Broker, Record, Topic};
use holdfast::domain::{Partition, Timestamp};
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is taken for the release before this one as long as there is none: the last commit before
/// migrations 8 and 9.
const BEFORE: &str = "ef084eb";

/// A record as it was kept.
#[derive(Deserialize)]
struct Kept {
    topic: String,
    partition: u32,
    key: String,
    headers: Vec<(String, String)>,
    value: String,
}

#[derive(Deserialize)]
struct Expected {
    transfers: BTreeMap<String, String>,
    balances: BTreeMap<String, String>,
}

/// A column, as far as whoever writes rows has to know it.
type Column = (String, String, String, Option<String>, String);

fn kept(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/released").join(BEFORE);
    std::fs::read_to_string(path.join(name)).unwrap()
}

/// Its tables, with what it left in them.
async fn restore(url: &str, shard: usize) -> MySqlConnection {
    let mut conn = MySqlConnection::connect(url).await.unwrap();
    let dump = AssertSqlSafe(kept(&format!("shard-{shard}.sql")));
    sqlx::raw_sql(dump).execute(&mut conn).await.unwrap();
    conn
}

/// Its events, each where it was, in their order.
async fn publish(topic_prefix: &str) {
    let broker = KafkaBroker::new(KafkaSettings {
        brokers: services().await.kafka.clone(),
        topic_prefix: topic_prefix.to_owned(),
        options: Vec::new(),
        replication_factor: -1,
    })
    .unwrap();
    let records = kept("events.jsonl");
    let records = records.lines().map(|line| {
        let kept: Kept = serde_json::from_str(line).unwrap();
        Record {
            topic: Topic::parse(&kept.topic).unwrap(),
            partition: Partition(kept.partition),
            key: kept.key.into(),
            value: kept.value.into(),
            headers: kept.headers.into_iter().collect(),
            // Kafka forgets what is older than its retention.
            timestamp: Timestamp::from_micros(chrono::Utc::now().timestamp_micros()),
        }
    });
    let producer = broker.producer().await.unwrap();
    producer.send(records.collect()).await.unwrap();
}

fn in_flight(program: &Program) -> usize {
    program.json(&["status"])["in_flight"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_release_before_left_is_carried_on_by_this_one() {
    let (program, urls) = fresh().await;
    for (shard, url) in urls.iter().enumerate() {
        restore(url, shard).await;
    }
    program.succeed(&["migrate"]);
    publish(program.given("HOLDFAST_KAFKA_TOPIC_PREFIX")).await;
    let expected: Expected = serde_json::from_str(&kept("expected.json")).unwrap();
    assert!(in_flight(&program) > 0, "it was in the middle of its work");

    let mut running = program.start(&["serve"]);
    running.listening();
    eventually("an end of everything", || async { in_flight(&program) == 0 }).await;
    for (id, end) in &expected.transfers {
        let shown = program.json(&["transfer", "show", id]);
        assert_eq!(shown["status"], **end, "{id}");
        let key = shown["metadata"]["key"].as_str().unwrap();
        assert_eq!(shown["reference"], format!("of {key}"));
    }
    for (id, balance) in &expected.balances {
        assert_eq!(program.json(&["account", "show", id])["balance"]["posted"], **balance, "{id}");
    }
    program.succeed(&["reconcile", "check"]);
    program.succeed(&["audit", "verify"]);
    // And it goes on.
    let payment = ["transfer", "create", "--source", "customer-1", "--destination", "customer-2"];
    let rest = ["--amount", "1.00", "--currency", "USD", "--key", "after", "--wait", "60s"];
    let shown = program.json(&[&payment[..], &rest].concat());
    assert_eq!(shown["status"], "committed");
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
}

async fn columns(conn: &mut MySqlConnection) -> BTreeMap<(String, String), Column> {
    let text = "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR), CAST(column_type AS CHAR), \
        CAST(is_nullable AS CHAR), CAST(column_default AS CHAR), CAST(extra AS CHAR) \
        FROM information_schema.columns WHERE table_schema = DATABASE()";
    type Found = (String, String, String, String, Option<String>, String);
    let found: Vec<Found> = sqlx::query_as(text).fetch_all(conn).await.unwrap();
    let named = |(table, name, kind, nullable, default, extra): Found| {
        ((table.clone(), name), (table, kind, nullable, default, extra))
    };
    found.into_iter().map(named).collect()
}

/// Processes of both releases run side by side during an upgrade, and after it one can go back.
#[tokio::test(flavor = "multi_thread")]
async fn the_release_before_can_write_to_the_tables_of_this_one() {
    let (program, urls) = fresh().await;
    let mut before = Vec::new();
    for (shard, url) in urls.iter().enumerate() {
        before.push(columns(&mut restore(url, shard).await).await);
    }
    program.succeed(&["migrate"]);
    for (url, before) in urls.iter().zip(before) {
        let after = columns(&mut MySqlConnection::connect(url).await.unwrap()).await;
        assert!(after.len() >= before.len());
        for (name, column) in &before {
            let now = after.get(name).unwrap_or_else(|| panic!("{name:?} is gone"));
            assert_eq!(now.1, column.1, "the type of {name:?}");
            let narrowed = column.2 == "YES" && now.2 == "NO";
            assert!(!narrowed, "{name:?} takes no NULL any more");
        }
        let old_table = |table: &str| before.keys().any(|(name, _)| name == table);
        for (name, column) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
            let (_, _, nullable, default, extra) = column;
            let left_out = nullable == "YES" || default.is_some() || extra.contains("GENERATED");
            assert!(!old_table(&name.0) || left_out, "{name:?} has to be given");
        }
    }
}
