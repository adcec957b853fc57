//! What is answered while a shard, or Redis, cannot be used.

use super::transfers::{accepted, advance};
use super::world::{TRANSFER, World};
use crate::breakers::{self, shards};
use crate::proxy::Line;
use crate::wait::eventually;
use holdfast::domain::State;

#[tokio::test]
async fn a_shard_that_cannot_be_used_refuses_only_its_own_transfers() {
    let world = World::new().await;
    let other = elsewhere(&world, "alice");
    let elsewhere = TRANSFER.replace("alice", &other);
    let before = world.everything().await;
    world.alter("alice", "UPDATE shard_identity SET generation = generation + 1").await;
    let answer = world.transfer("k", TRANSFER).await;
    answer.refused(503, "shard_unavailable");
    assert_eq!(answer.header("retry-after"), "1");
    let body = r#"{"id":"alice","currency":"USD"}"#;
    world.post("/v1/accounts", body).await.refused(503, "shard_unavailable");
    assert_eq!(world.everything().await, before);
    let keyed = |body: &str| body.replace('}', ",\"idempotency_key\":\"b\"}");
    let batch = format!(r#"{{"transfers":[{},{}]}}"#, keyed(TRANSFER), keyed(&elsewhere));
    let answer = world.post("/v1/transfers/batch", &batch).await.expect(200);
    assert_eq!(answer["results"][0]["error"]["code"], "shard_unavailable");
    assert_eq!(answer["results"][1]["status"], 202);
    world.alter("alice", "UPDATE shard_identity SET generation = generation - 1").await;
    world.transfer("k", TRANSFER).await.expect(202);
}

/// Callers of a shard that is away are told at once and when to come again; those of others notice
/// nothing, and nobody has to do anything when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_away_is_an_answer_at_once() {
    let (proxy, store) = shards().await;
    let world = World::on(store);
    let names = || (0..).map(|number| format!("account-{number}"));
    let on = |shard| names().find(|name| world.shard_of(name) == shard).unwrap();
    let (away, other) = (on(breakers::AWAY), on(breakers::OTHER));
    let (theirs, others) = (TRANSFER.replace("alice", &away), TRANSFER.replace("alice", &other));
    proxy.line(Line::Silent);
    let detail = || async { world.store.ping(breakers::AWAY).await.unwrap_err().to_string() };
    eventually("an open breaker", || async { detail().await.contains("breaker open") }).await;
    let before = proxy.connections();
    for number in 0..300 {
        let refused = world.transfer(&format!("k{number}"), &theirs).await;
        refused.refused(503, "shard_unavailable");
        assert_eq!(refused.header("retry-after"), "1");
        let balance = world.get(&format!("/v1/accounts/{away}/balance")).await;
        balance.refused(503, "shard_unavailable");
        world.transfer(&format!("k{number}"), &others).await.expect(202);
    }
    assert!(proxy.connections() - before < 100, "asked {}", proxy.connections() - before);
    proxy.line(Line::Up);
    eventually("acceptance", || async {
        let answer = world.transfer("k0", &theirs).await;
        let accepted = answer.status.as_u16() == 202;
        if !accepted {
            answer.refused(503, "shard_unavailable");
        }
        accepted
    })
    .await;
}

#[tokio::test]
async fn a_transfer_is_shown_held_while_its_destinations_shard_does_not_answer() {
    let world = World::new().await;
    let destination = elsewhere(&world, "alice");
    let id = accepted(&world, &TRANSFER.replace("bob", &destination)).await;
    advance(&world, &id, State::Requested, State::Held).await;
    world.alter(&destination, "ALTER TABLE ledger_entries RENAME TO hidden").await;
    let path = format!("/v1/transfers/{id}");
    assert_eq!(world.get(&path).await.expect(200)["status"], "held");
    let timeline = world.get(&format!("{path}/timeline")).await.expect(200);
    assert_eq!(timeline["complete"], false);
    assert_eq!(timeline["data"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn balances_are_read_without_redis() {
    let world = World::with_redis("redis://127.0.0.1:1").await;
    world.account("alice", "USD").await;
    assert_eq!(world.get("/v1/accounts/alice/balance").await.expect(200)["posted"], "0.00");
    world.post("/v1/accounts/alice/freeze", "").await.expect(200);
}

/// An account id on another shard than this one's.
fn elsewhere(world: &World, id: &str) -> String {
    let names = (0..).map(|number| format!("other-{number}"));
    let mut other = names.filter(|name| world.shard_of(name) != world.shard_of(id));
    other.next().unwrap()
}
