//! Accounts over HTTP: creating, changing, listing.

use super::world::{TRANSFER, World};
use serde_json::json;

#[tokio::test]
async fn an_account_is_created_once_and_found_again() {
    let world = World::new().await;
    let body = r#"{"id":"alice","currency":"USD","overdraft_limit":"10.5","metadata":{"b":"2","a":"\u00e4"}}"#;
    let created = world.post("/v1/accounts", body).await;
    let account = created.expect(201);
    assert_eq!(created.header("location"), "/v1/accounts/alice");
    assert_eq!(account["kind"], "customer");
    assert_eq!(account["status"], "active");
    assert_eq!(account["overdraft_limit"], "10.50");
    assert_eq!(account["metadata"], json!({"a": "\u{e4}", "b": "2"}));
    let same = r#"{"metadata":{"a":"ä","b":"2"},"overdraft_limit":10.50,"currency":"USD","kind":"customer","id":"alice"}"#;
    assert_eq!(world.post("/v1/accounts", same).await.expect(200), account);
    assert_eq!(world.get("/v1/accounts/alice").await.expect(200), account);
    let time = account["created_at"].as_str().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
}

#[tokio::test]
async fn an_account_without_an_id_gets_one() {
    let world = World::new().await;
    let one = world.post("/v1/accounts", r#"{"currency":"JPY"}"#).await.expect(201);
    let other = world.post("/v1/accounts", r#"{"currency":"JPY","id":null}"#).await.expect(201);
    assert_ne!(one["id"], other["id"]);
    assert_eq!(one["overdraft_limit"], "0");
    let path = format!("/v1/accounts/{}", one["id"].as_str().unwrap());
    assert_eq!(world.get(&path).await.expect(200), one);
}

#[tokio::test]
async fn a_batch_of_accounts_answers_each_in_order() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    let body = r#"{"accounts":[
        {"id":"bob","currency":"USD"},
        {"id":"alice","currency":"EUR"},
        {"id":"bob","currency":"USD"},
        {"id":"-","currency":"USD"},
        {"id":"bob","currency":"EUR"},
        {"id":"alice","currency":"USD"}
    ]}"#;
    let answer = world.post("/v1/accounts/batch", body).await.expect(200);
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> = results.iter().map(|each| each["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 409, 200, 400, 409, 200]);
    assert_eq!(results[1]["error"]["code"], "account_exists");
    assert_eq!(results[3]["error"]["errors"][0]["pointer"], "/accounts/3/id");
    let empty = world.post("/v1/accounts/batch", r#"{"accounts":[]}"#).await.expect(200);
    assert_eq!(empty, json!({"results": []}));
}

#[tokio::test]
async fn a_thousand_accounts_are_listed_by_id_across_shards() {
    let world = World::new().await;
    let items: Vec<String> = (0..1000)
        .map(|number| {
            let currency = if number % 10 == 0 { "EUR" } else { "USD" };
            format!(r#"{{"id":"acct-{number:04}","currency":"{currency}"}}"#)
        })
        .collect();
    let body = format!(r#"{{"accounts":[{}]}}"#, items.join(","));
    world.post("/v1/accounts/batch", &body).await.expect(200);
    world.account("Zoe", "USD").await;
    let all = ids_of(&world, "/v1/accounts?limit=300").await;
    assert_eq!(all.len(), 1001);
    assert!(all.is_sorted() && all[0] == "Zoe", "{:?}", &all[..3]);
    assert_eq!(ids_of(&world, "/v1/accounts?prefix=acct-01&limit=7").await.len(), 100);
    assert_eq!(ids_of(&world, "/v1/accounts?currency=EUR&limit=33").await.len(), 100);
    world.post("/v1/accounts/Zoe/freeze", "").await.expect(200);
    assert_eq!(ids_of(&world, "/v1/accounts?status=frozen").await, ["Zoe"]);
    assert_eq!(ids_of(&world, "/v1/accounts?prefix=nobody").await, [""; 0]);
}

#[tokio::test]
async fn prefixes_are_compared_byte_for_byte() {
    let world = World::new().await;
    for id in ["a_b", "axb", "A_b", "a_", "a"] {
        world.account(id, "USD").await;
    }
    assert_eq!(ids_of(&world, "/v1/accounts?prefix=a_").await, ["a_", "a_b"]);
    assert_eq!(ids_of(&world, "/v1/accounts?prefix=A").await, ["A_b"]);
    assert_eq!(ids_of(&world, "/v1/accounts?prefix=a&limit=1").await, ["a", "a_", "a_b", "axb"]);
}

/// Ids of all parts of a list.
async fn ids_of(world: &World, path: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = world.get(&next).await.expect(200);
        let data = page["data"].as_array().unwrap();
        ids.extend(data.iter().map(|each| each["id"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { return ids };
        let sign = if path.contains('?') { '&' } else { '?' };
        next = format!("{path}{sign}cursor={cursor}");
    }
}

#[tokio::test]
async fn freezing_and_closing_repeat_harmlessly() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    for (act, status, version) in [
        ("freeze", "frozen", 2),
        ("freeze", "frozen", 2),
        ("unfreeze", "active", 3),
        ("unfreeze", "active", 3),
        ("close", "closed", 4),
        ("close", "closed", 4),
    ] {
        let path = format!("/v1/accounts/alice/{act}");
        assert_eq!(world.post(&path, "").await.expect(200)["status"], status, "{act}");
        for consistency in ["strong", "projected"] {
            let path = format!("/v1/accounts/alice/balance?consistency={consistency}");
            assert_eq!(world.get(&path).await.expect(200)["version"], version, "{act}");
        }
    }
    for act in ["freeze", "unfreeze"] {
        let path = format!("/v1/accounts/alice/{act}");
        world.post(&path, "{}").await.refused(409, "account_closed");
    }
    let patch = world.patch("/v1/accounts/alice", r#"{"metadata":{}}"#).await;
    patch.refused(409, "account_closed");
}

#[tokio::test]
async fn an_account_with_money_is_not_closed() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    world.set_balance("alice", 500, 500).await;
    let refused = world.post("/v1/accounts/alice/close", "").await;
    let problem = refused.refused(409, "account_not_empty");
    assert!(problem["detail"].as_str().unwrap().contains("5.00"), "{problem}");
    world.set_balance("alice", 0, 0).await;
    world.post("/v1/accounts/alice/close", "").await.expect(200);
}

#[tokio::test]
async fn a_limit_is_lowered_only_as_far_as_it_is_unused() {
    let world = World::new().await;
    let body = r#"{"id":"alice","currency":"USD","overdraft_limit":"100.00"}"#;
    world.post("/v1/accounts", body).await.expect(201);
    world.set_balance("alice", -3000, 1000).await;
    let refused = world.patch("/v1/accounts/alice", r#"{"overdraft_limit":"39.99"}"#).await;
    refused.refused(409, "limit_in_use");
    let changed = world.patch("/v1/accounts/alice", r#"{"overdraft_limit":40}"#).await.expect(200);
    assert_eq!(changed["overdraft_limit"], "40.00");
    let balance = world.get("/v1/accounts/alice/balance").await.expect(200);
    let amounts = ["posted", "held", "available"].map(|name| balance[name].clone());
    assert_eq!(amounts, ["-30.00", "10.00", "0.00"]);
}

#[tokio::test]
async fn metadata_is_replaced_as_a_whole() {
    let world = World::new().await;
    let body = r#"{"id":"alice","currency":"USD","metadata":{"a":"1","b":"2"}}"#;
    world.post("/v1/accounts", body).await.expect(201);
    let changed = world.patch("/v1/accounts/alice", r#"{"metadata":{"c":"3"}}"#).await.expect(200);
    assert_eq!(changed["metadata"], json!({"c": "3"}));
    assert_eq!(world.patch("/v1/accounts/alice", "{}").await.expect(200), changed);
    assert_eq!(world.get("/v1/accounts/alice").await.expect(200), changed);
}

#[tokio::test]
async fn balances_have_the_currencys_scale_and_external_ones_nothing_available() {
    let world = World::new().await;
    world.account("dinar", "BHD").await;
    let body = r#"{"id":"world:USD","currency":"USD","kind":"external"}"#;
    world.post("/v1/accounts", body).await.expect(201);
    let dinar = world.get("/v1/accounts/dinar/balance?consistency=strong").await.expect(200);
    assert_eq!(dinar["posted"], "0.000");
    assert_eq!(dinar["available"], "0.000");
    let outside = world.get("/v1/accounts/world:USD/balance").await.expect(200);
    assert_eq!(outside["available"], json!(null));
    assert_eq!(outside["version"], 1);
}

#[tokio::test]
async fn an_account_named_batch_is_an_account_like_any_other() {
    let world = World::new().await;
    world.account("batch", "USD").await;
    assert_eq!(world.get("/v1/accounts/batch").await.expect(200)["id"], "batch");
    world.patch("/v1/accounts/batch", r#"{"overdraft_limit":"1"}"#).await.expect(200);
    world.get("/v1/accounts/batch/balance").await.expect(200);
    world.get("/v1/accounts/batch/entries").await.expect(200);
    world.post("/v1/accounts/batch/freeze", "").await.expect(200);
}

#[tokio::test]
async fn an_accounts_transfers_are_listed_newest_first() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    for key in ["one", "two", "three"] {
        world.transfer(key, TRANSFER).await.expect(202);
    }
    let all = ids_of(&world, "/v1/accounts/alice/transfers?limit=2").await;
    assert_eq!(all.len(), 3);
    assert!(all.is_sorted_by(|newer, older| newer > older), "{all:?}");
    let path = "/v1/accounts/alice/transfers";
    for (query, count) in [
        ("?direction=out&status=requested", 3),
        ("?direction=in", 0),
        ("?status=credited", 0),
        ("?status=committed", 0),
        ("?from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00%2B01:00", 3),
        ("?to=2020-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(ids_of(&world, &format!("{path}{query}")).await.len(), count, "{query}");
    }
    let entries = world.get("/v1/accounts/alice/entries").await.expect(200);
    assert_eq!(entries, json!({"data": [], "next_cursor": null}));
}

#[tokio::test]
async fn velocity_limits_are_replaced_as_a_whole_and_shown_with_what_is_used() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    let path = "/v1/accounts/alice/limits";
    assert_eq!(world.get(path).await.expect(200), json!({"data": []}));
    let body = r#"{"limits":[
        {"period":"day","max_count":20,"max_amount":"1000.5"},
        {"period":"minute","max_count":0}
    ]}"#;
    let set = world.put(path, body).await.expect(200);
    let shown = set["data"].as_array().unwrap();
    let periods: Vec<&str> = shown.iter().map(|one| one["period"].as_str().unwrap()).collect();
    assert_eq!(periods, ["minute", "day"]);
    assert_eq!((&shown[0]["max_count"], &shown[0]["max_amount"]), (&json!(0), &json!(null)));
    assert_eq!(shown[1]["max_amount"], "1000.50");
    assert_eq!((&shown[1]["used_count"], &shown[1]["used_amount"]), (&json!(0), &json!("0.00")));
    let begin = shown[1]["window_start"].as_str().unwrap();
    assert!(begin.ends_with("T00:00:00.000000Z"), "{begin}");
    let version = world.get("/v1/accounts/alice/balance").await.expect(200)["version"].clone();
    assert_eq!(version, 2, "a change of settings raises the version");
    world.put(path, body).await.expect(200);
    let again = world.get("/v1/accounts/alice/balance?consistency=strong").await.expect(200);
    assert_eq!(again["version"], 2, "a repeat changes nothing");
    let one = world.put(path, r#"{"limits":[{"period":"hour","max_amount":5}]}"#).await.expect(200);
    assert_eq!(one["data"].as_array().unwrap().len(), 1);
    assert_eq!(world.put(path, r#"{"limits":[]}"#).await.expect(200), json!({"data": []}));
    assert_eq!(world.get(path).await.expect(200), json!({"data": []}));
}
