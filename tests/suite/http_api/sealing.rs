//! Personal fields that are encrypted at rest, as callers see them: as if they were not; and what is
//! answered when a key is not there.

use super::world::{World, json};
use holdfast::store::sqlite::{self, SqliteSettings, SqliteStore};
use holdfast::store::{Actor, Opening};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const RENT: &str = r#"{"source":"alice","destination":"bob","amount":"25.00","currency":"USD",
    "description":"Rent","reference":"May","metadata":{"flat":"7"}}"#;
const OTHER_RENT: &str = r#"{"source":"alice","destination":"bob","amount":"25.00","currency":"USD",
    "description":"Rent","reference":"June","metadata":{"flat":"7"}}"#;

/// Shards that processes with different keys work on.
struct Shards(SqliteSettings, #[allow(dead_code, reason = "removed when it is dropped")] TempDir);

impl Shards {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let settings = SqliteSettings::new(dir.path());
        sqlite::migrate(&settings, 2, 4).await.unwrap();
        Self(settings, dir)
    }

    /// A process with these keys.
    async fn with(&self, keys: Option<&str>) -> World {
        let keys = keys.map(|keys| Arc::new(keys.parse().unwrap()));
        let store = SqliteStore::open(&self.0, Opening::AllShards).await.unwrap();
        World::on(store.with_encryption(keys))
    }
}

fn assert_rent(transfer: &Value) {
    assert_eq!(transfer["description"], "Rent", "{transfer}");
    assert_eq!(transfer["reference"], "May", "{transfer}");
    assert_eq!(transfer["metadata"], serde_json::json!({"flat": "7"}), "{transfer}");
    assert!(transfer.get("unreadable").is_none(), "{transfer}");
}

/// Hazard 49: from before anything is encrypted to after the first key is gone.
#[tokio::test]
async fn a_repetition_is_found_through_every_change_of_keys() {
    let shards = Shards::new().await;
    let plain = shards.with(None).await;
    plain.account("alice", "USD").await;
    plain.account("bob", "USD").await;
    let before = plain.transfer("before", RENT).await.expect(202);
    let old = shards.with(Some(OLD)).await;
    let made = old.transfer("rent", RENT).await.expect(202);
    assert_rent(&made);
    let both = format!("{NEW},{OLD}");
    let actor = Actor::itself();
    let rotated = shards.with(Some(&both)).await;
    for shard in rotated.store.map().all_shards() {
        rotated.store.rotate_data_key(shard, Duration::ZERO, &actor).await.unwrap();
        rotated.store.rewrap_data_keys(shard, &actor).await.unwrap();
    }
    for keys in [both.as_str(), NEW] {
        let world = shards.with(Some(keys)).await;
        for (key, first) in [("before", &before), ("rent", &made)] {
            let again = world.transfer(key, RENT).await;
            assert_eq!(again.header("idempotent-replayed"), "true", "{keys}");
            let again = again.expect(200);
            assert_eq!(again["id"], first["id"]);
            assert_rent(&again);
            world.transfer(key, OTHER_RENT).await.refused(422, "idempotency_key_reused");
            world
                .transfer(key, super::world::TRANSFER)
                .await
                .refused(422, "idempotency_key_reused");
        }
        let found = world.get("/v1/transfers?source=alice&reference=May").await.expect(200);
        assert_eq!(found["data"].as_array().unwrap().len(), 2, "{found}");
    }
}

/// Whoever asks for something with personal fields is told so, nobody else notices.
#[tokio::test]
async fn without_its_key_a_request_is_refused_and_the_fields_are_missing() {
    let shards = Shards::new().await;
    let old = shards.with(Some(OLD)).await;
    old.account("bob", "USD").await;
    let alice = r#"{"id":"alice","currency":"USD","metadata":{"name":"Alice"}}"#;
    let created = old.post("/v1/accounts", alice).await.expect(201);
    assert_eq!(created["metadata"]["name"], "Alice");
    let made = old.transfer("rent", RENT).await.expect(202);
    let path = format!("/v1/transfers/{}", made["id"].as_str().unwrap());
    assert_rent(&old.get(&path).await.expect(200));
    for keys in [None, Some(NEW)] {
        let world = shards.with(keys).await;
        let read = world.get(&path).await.expect(200);
        assert_eq!(read["unreadable"], true, "{read}");
        for field in ["description", "reference", "metadata"] {
            assert!(read[field].is_null(), "{read}");
        }
        assert_eq!((&read["amount"], &read["status"]), (&made["amount"], &made["status"]));
        let account = world.get("/v1/accounts/alice").await.expect(200);
        assert_eq!((&account["unreadable"], &account["metadata"]), (&true.into(), &Value::Null));
        // Whether it is the same request cannot be said, so that nothing is done.
        world.transfer("rent", RENT).await.refused(500, "internal_error");
        let listed = world.get("/v1/transfers?source=alice&reference=May").await;
        listed.refused(500, "internal_error");
        let key = keys.map_or("without", |_| "with-another");
        world.transfer(key, super::world::TRANSFER).await.expect(202);
    }
    let world = shards.with(Some(NEW)).await;
    world.transfer("other", RENT).await.refused(500, "internal_error");
    // A batch has its good items all the same.
    let items =
        format!(r#"{{"transfers":[{},{}]}}"#, item("a", RENT), item("b", super::world::TRANSFER));
    let answer = world.send(json("POST", "/v1/transfers/batch", &[], &items)).await;
    let answer = answer.json();
    let statuses: Vec<i64> = answer["results"]
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|result| result["status"].as_i64().unwrap_or_default())
        .collect();
    assert_eq!(statuses, [500, 202], "{answer}");
}

fn item(key: &str, body: &str) -> String {
    let mut item: Value = serde_json::from_str(body).unwrap();
    item["idempotency_key"] = key.into();
    item.to_string()
}
