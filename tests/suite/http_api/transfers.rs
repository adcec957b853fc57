//! Transfers over HTTP: making, repeating, finding, waiting, cancelling. No worker runs, so a
//! transfer stays where a test puts it.

use super::world::{TRANSFER, World, json as request};
use holdfast::domain::{
    AccountChange, Cause, Entry, EntryRow, Side, StageWrite, State, TransferId,
};
use holdfast::store::TransferRecord;
use serde_json::{Value, json};

const FULL: &str = r#"{"source":"alice","destination":"bob","amount":"25.00","currency":"USD",
    "description":"rent","reference":"2026-01","metadata":{"k":"v"}}"#;

#[tokio::test]
async fn a_transfer_is_accepted_shown_and_found() {
    let world = World::new().await;
    let answer = world.transfer("k-1", FULL).await;
    let transfer = answer.expect(202);
    let path = format!("/v1/transfers/{}", transfer["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), path);
    assert_eq!(answer.header("idempotent-replayed"), "");
    for (member, value) in [
        ("source", json!("alice")),
        ("destination", json!("bob")),
        ("amount", json!("25.00")),
        ("currency", json!("USD")),
        ("status", json!("requested")),
        ("reason", json!(null)),
        ("description", json!("rent")),
        ("reference", json!("2026-01")),
        ("metadata", json!({"k": "v"})),
        ("reverses", json!(null)),
        ("completed_at", json!(null)),
    ] {
        assert_eq!(transfer[member], value, "{member}");
    }
    assert_eq!(transfer["created_at"], transfer["updated_at"]);
    assert_eq!(world.get(&path).await.expect(200), transfer);
    for query in ["reference=2026-01", "idempotency_key=k-1"] {
        let found = world.get(&format!("/v1/transfers?source=alice&{query}")).await.expect(200);
        assert_eq!(found, json!({"data": [transfer], "next_cursor": null}), "{query}");
    }
    for query in ["source=alice&reference=x", "source=bob&idempotency_key=k-1"] {
        let found = world.get(&format!("/v1/transfers?{query}")).await.expect(200);
        assert_eq!(found["data"], json!([]), "{query}");
    }
    assert_eq!(
        world.get(&format!("{path}/timeline")).await.expect(200)["data"],
        json!([{
            "event": "requested", "at": transfer["created_at"], "stage": "ingress",
            "shard": world.shard_of("alice").0, "topic": null, "partition": null, "offset": null,
            "attempt": 1, "detail": null,
        }])
    );
}

#[tokio::test]
async fn a_request_written_in_another_way_is_a_repeat() {
    let world = World::new().await;
    let first = world.transfer("k", FULL).await.expect(202);
    let variants = [
        FULL.to_owned(),
        FULL.replace("\"25.00\"", "25"),
        FULL.replace("\"25.00\"", "25.0"),
        FULL.replace("\"25.00\"", "\"25.0\""),
        FULL.replace("\"alice\"", "\"\\u0061lice\""),
        r#"{"metadata":{"k":"v"},"reference":"2026-01","idempotency_key":"k","description":"rent",
            "currency":"USD","amount":25.00,"destination":"bob","source":"alice"}"#
            .to_owned(),
    ];
    for body in variants {
        let answer = world.transfer("k", &body).await;
        assert_eq!(answer.expect(200), first, "{body}");
        assert_eq!(answer.header("idempotent-replayed"), "true");
    }
    let left_out = FULL.replace(",\"metadata\":{\"k\":\"v\"}", "");
    let answer = world.transfer("k", &left_out).await;
    assert!(left_out == FULL || answer.status == 422);
    let nulls = TRANSFER.replace('}', ",\"description\":null,\"metadata\":null}");
    let second = world.transfer("null", &nulls).await.expect(202);
    assert_eq!(world.transfer("null", TRANSFER).await.expect(200), second);
}

#[tokio::test]
async fn the_key_may_stand_in_the_body_or_in_both() {
    let world = World::new().await;
    let keyed = TRANSFER.replace('}', ",\"idempotency_key\":\"k\"}");
    let first = world.post("/v1/transfers", &keyed).await.expect(202);
    assert_eq!(world.transfer("k", &keyed).await.expect(200)["id"], first["id"]);
    assert_eq!(world.transfer("k", TRANSFER).await.expect(200)["id"], first["id"]);
}

#[tokio::test]
async fn preferring_to_wait_answers_202_until_the_transfer_is_final() {
    let world = World::new().await;
    let prefer = |seconds: &'static str| {
        request("POST", "/v1/transfers", &[("idempotency-key", "k"), ("prefer", seconds)], TRANSFER)
    };
    let fresh = world.send(prefer("wait=0")).await;
    let id = fresh.expect(202)["id"].as_str().unwrap().to_owned();
    assert_eq!(fresh.header("preference-applied"), "wait=0");
    let repeat = world.send(prefer("respond-async, wait=0")).await;
    repeat.expect(202);
    assert_eq!(repeat.header("idempotent-replayed"), "true");
    world.post(&format!("/v1/transfers/{id}/cancel"), "").await.expect(202);
    let done = world.send(prefer("wait=99")).await;
    assert_eq!(done.expect(200)["status"], "cancelled");
    assert_eq!(done.header("preference-applied"), "wait=30");
    let ignored = world.send(prefer("wait=soon")).await;
    ignored.expect(200);
    assert_eq!(ignored.header("preference-applied"), "");
}

#[tokio::test]
async fn a_requested_transfer_is_cancelled_once_and_for_all() {
    let world = World::new().await;
    let id = accepted(&world, TRANSFER).await;
    let path = format!("/v1/transfers/{id}/cancel");
    let cancelled = world.post(&path, "{}").await.expect(202);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["reason"], "cancelled_by_client");
    assert_eq!(world.post(&path, "").await.expect(200), cancelled);
    let timeline = world.get(&format!("/v1/transfers/{id}/timeline")).await.expect(200);
    assert_eq!(column(&timeline, "event"), json!(["requested", "cancelled"]));
    assert_eq!(column(&timeline, "stage"), json!(["ingress", "ingress"]));
    assert_eq!(timeline["data"][1]["detail"], "cancelled_by_client");
    let reverse = r#"{"amount":"1.00","idempotency_key":"r"}"#;
    let refused = world.post(&format!("/v1/transfers/{id}/reverse"), reverse).await;
    refused.refused(409, "transfer_not_committed");
}

#[tokio::test]
async fn a_credited_transfer_is_shown_credited_and_can_no_longer_be_cancelled() {
    let world = World::new().await;
    for id in ["alice", "bob"] {
        world.account(id, "USD").await;
    }
    let id = accepted(&world, TRANSFER).await;
    advance(&world, &id, State::Requested, State::Held).await;
    let path = format!("/v1/transfers/{id}");
    assert_eq!(world.get(&path).await.expect(200)["status"], "held");
    credit(&world, &id).await;
    assert_eq!(world.get(&path).await.expect(200)["status"], "credited");
    let refused = world.post(&format!("{path}/cancel"), "").await;
    refused.refused(409, "transfer_credited");
    let listed = world.get("/v1/accounts/alice/transfers").await.expect(200);
    assert_eq!(listed["data"][0]["status"], "held", "lists show stored states");
    let incoming = world.get("/v1/accounts/bob/transfers").await.expect(200);
    let known = &incoming["data"][0];
    assert_eq!(known["id"], id.as_str());
    assert_eq!([&known["status"], &known["amount"]], ["credited", "25.00"]);
    assert_eq!([&known["source"], &known["destination"]], ["alice", "bob"]);
    assert_eq!([&known["created_at"], &known["description"]], [&Value::Null, &Value::Null]);
    let entries = world.get("/v1/accounts/bob/entries").await.expect(200);
    let entry = &entries["data"][0];
    assert_eq!([&entry["direction"], &entry["balance_after"]], ["credit", "25.00"]);
    assert_eq!([&entry["transfer_id"], &entry["counterparty"]], [id.as_str(), "alice"]);
}

#[tokio::test]
async fn the_timeline_of_a_committed_transfer_names_the_events_behind_it() {
    let world = World::new().await;
    for id in ["alice", "bob"] {
        world.account(id, "USD").await;
    }
    let id = accepted(&world, TRANSFER).await;
    advance(&world, &id, State::Requested, State::Held).await;
    credit(&world, &id).await;
    advance(&world, &id, State::Held, State::Committed).await;
    let timeline = world.get(&format!("/v1/transfers/{id}/timeline")).await.expect(200);
    assert_eq!(timeline["complete"], true);
    assert_eq!(column(&timeline, "event"), json!(["requested", "held", "credited", "committed"]));
    assert_eq!(column(&timeline, "stage"), json!(["ingress", "hold", "credit", "commit"]));
    let shard = world.shard_of("alice");
    let topic = |family: &str| json!(format!("transfer.{family}.{shard}"));
    let topics = json!([null, topic("requested"), topic("held"), topic("credited")]);
    assert_eq!(column(&timeline, "topic"), topics);
    assert_eq!(column(&timeline, "offset"), json!([null, 7, 8, 7]));
    assert_eq!(timeline["data"][2]["shard"], world.shard_of("bob").0);
    let refused = world.post(&format!("/v1/transfers/{id}/cancel"), "").await;
    refused.refused(409, "transfer_final");
}

#[tokio::test]
async fn a_committed_transfer_is_reversed_in_parts_and_never_beyond_its_amount() {
    let world = World::new().await;
    let id = accepted(&world, TRANSFER).await;
    advance(&world, &id, State::Requested, State::Held).await;
    advance(&world, &id, State::Held, State::Committed).await;
    let path = format!("/v1/transfers/{id}/reverse");
    let reverse =
        |key: &str, amount: &str| format!(r#"{{"amount":"{amount}","idempotency_key":"{key}"}}"#);
    let first = world.post(&path, &reverse("r1", "20.00")).await.expect(202);
    assert_eq!([&first["source"], &first["destination"]], ["bob", "alice"]);
    assert_eq!(first["reverses"], id.as_str());
    let again = world.post(&path, &reverse("r1", "20")).await;
    assert_eq!(again.expect(200)["id"], first["id"]);
    assert_eq!(again.header("idempotent-replayed"), "true");
    let beyond = world.post(&path, &reverse("r2", "5.01")).await;
    beyond.refused(409, "reversal_exceeds_original");
    world.post(&path, &reverse("r1", "21.00")).await.refused(422, "idempotency_key_reused");
    world.post(&path, &reverse("r3", "5.001")).await.refused(400, "invalid_request");
    world.post(&path, &reverse("r4", "5.00")).await.expect(202);
}

#[tokio::test]
async fn the_largest_amount_of_a_currency_without_decimal_places_is_reversed_too() {
    let world = World::new().await;
    let body = r#"{"source":"a","destination":"b","amount":"999999999999999","currency":"JPY"}"#;
    let made = world.transfer("k", body).await.expect(202);
    let id = made["id"].as_str().unwrap();
    advance(&world, id, State::Requested, State::Held).await;
    advance(&world, id, State::Held, State::Committed).await;
    let reverse = r#"{"amount":"999999999999999","idempotency_key":"r"}"#;
    world.post(&format!("/v1/transfers/{id}/reverse"), reverse).await.expect(202);
}

#[tokio::test]
async fn the_older_paths_behave_the_same_in_another_shape() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    let pay = r#"{"sourceAccount":"alice","destinationAccount":"bob","amount": 1000.00,
        "description":"rent","idempotencyKey":"k"}"#;
    let path = "/api/v1/payments/transfer";
    let first = world.post(path, pay).await.expect(202);
    assert_eq!(first["status"], "REQUESTED");
    assert!(first["message"].is_string());
    let repeat = world.post(path, &pay.replace("1000.00", "\"1000\"")).await;
    assert_eq!(repeat.expect(200)["txId"], first["txId"]);
    assert_eq!(repeat.header("idempotent-replayed"), "true");
    let id = first["txId"].as_str().unwrap();
    let transfer = world.get(&format!("/v1/transfers/{id}")).await.expect(200);
    assert_eq!([&transfer["amount"], &transfer["currency"]], ["1000.00", "USD"]);
    let status = world.get(&format!("/api/v1/payments/transactions/{id}/status")).await;
    assert_eq!(status.expect(200)["status"], "REQUESTED");
    let balance = world.get("/api/v1/payments/accounts/alice/balance").await.expect(200);
    assert_eq!([&balance["accountId"], &balance["available"]], ["alice", "0.00"]);
}

#[tokio::test]
async fn texts_hold_any_character_and_are_counted_in_characters() {
    let world = World::new().await;
    let text = "\u{1f600}\n\t".repeat(85);
    let quoted = serde_json::to_string(&text).unwrap();
    let body = TRANSFER.replace('}', &format!(",\"description\":{quoted}}}"));
    assert_eq!(world.transfer("k", &body).await.expect(202)["description"], text.as_str());
}

/// The id of a transfer just accepted.
pub async fn accepted(world: &World, body: &str) -> String {
    world.transfer("k", body).await.expect(202)["id"].as_str().unwrap().to_owned()
}

fn column(timeline: &Value, name: &str) -> Value {
    timeline["data"].as_array().unwrap().iter().map(|event| event[name].clone()).collect()
}

async fn record(world: &World, id: &str) -> TransferRecord {
    let id: TransferId = id.parse().unwrap();
    let shard = world.store.map().shard_of_transfer(id);
    world.store.transfer_records(shard, &[id]).await.unwrap().remove(0)
}

/// What hold and commit write of a transfer, without the money.
pub async fn advance(world: &World, id: &str, from: State, to: State) {
    let terms = record(world, id).await.row.terms;
    let shard = world.store.map().shard_of_transfer(terms.id);
    let mut tx = world.store.begin(shard).await.unwrap();
    let write = StageWrite {
        terms,
        from,
        to,
        reason: None,
        hold_deadline: (to == State::Held).then(|| tx.now()),
        at: tx.now(),
        cause: Cause { offset: Some(7), attempt: 1 },
    };
    assert_eq!(tx.advance_transfers(&[write]).await.unwrap(), 1);
    tx.commit().await.unwrap();
}

/// What credit writes: the pivot, and the destination's money.
async fn credit(world: &World, id: &str) {
    let terms = record(world, id).await.row.terms;
    let shard = world.store.map().shard_of(&terms.destination);
    let mut tx = world.store.begin(shard).await.unwrap();
    let entry = EntryRow {
        transfer: terms.id,
        side: Side::Credit,
        account: terms.destination.clone(),
        counterparty: terms.source.clone(),
        currency: terms.amount.currency(),
        outcome: Ok(Entry { amount: terms.amount, balance_after: 2500, version: 2 }),
        at: tx.now(),
        cause: Cause { offset: Some(8), attempt: 1 },
    };
    tx.insert_entries(&[entry]).await.unwrap();
    let change = AccountChange {
        id: terms.destination,
        posted: 2500,
        held: 0,
        version_before: 1,
        version: 2,
    };
    assert_eq!(tx.write_accounts(&[change]).await.unwrap(), 1);
    tx.commit().await.unwrap();
}
