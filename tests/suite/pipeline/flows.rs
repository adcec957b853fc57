//! Transfers that end as they should.

use super::backend::Backend;
use super::cluster::Cluster;
use crate::wait::eventually;
use holdfast::broker::Family;
use holdfast::domain::{AccountKind, EventType, Reason, State};

scenarios! {
    a_transfer_on_one_shard_moves_money
    a_transfer_between_shards_moves_money
    money_enters_from_an_external_account_and_leaves_to_it
    a_transfer_that_uses_the_whole_overdraft_is_the_last
    transfers_of_one_source_are_decided_in_the_order_of_their_acceptance
    a_caller_that_waits_in_another_process_is_told_of_the_end
}

async fn a_transfer_on_one_shard_moves_money(backend: Backend) {
    moves_money(backend, 0, 0).await;
}

async fn a_transfer_between_shards_moves_money(backend: Backend) {
    moves_money(backend, 0, 1).await;
}

async fn moves_money(backend: Backend, from: u16, to: u16) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(from, 1000).await, cluster.account(to, 0).await);
    let id = process.transfer(&alice, &bob, 700).await;
    cluster.assert_committed(id).await;
    assert_eq!(cluster.money(&alice).await, (-700, 0));
    assert_eq!(cluster.money(&bob).await, (700, 0));
    let timeline = process.ingress.timeline(id).await.unwrap();
    let events: Vec<&str> = timeline.events.iter().map(|event| event.event).collect();
    assert_eq!(events, ["requested", "held", "credited", "committed"]);
    let announced = async |kind| !cluster.events(kind, from).await.is_empty();
    eventually("its end is announced", async || announced(EventType::Committed).await).await;
    assert!(!announced(EventType::Refused).await);
    // On one shard one transaction is the whole way, and its end is all that is said.
    assert_eq!(announced(EventType::Held).await, from != to);
    assert_eq!(announced(EventType::Credited).await, from != to);
    let caused_by = |event: &str| {
        let event = timeline.events.iter().find(|step| step.event == event).unwrap();
        event.topic.unwrap().family
    };
    let by_requested = Family::Event(EventType::Requested);
    assert_eq!(caused_by("held"), by_requested);
    assert_eq!(caused_by("committed") == by_requested, from == to);
    cluster.finish([process]).await;
}

async fn money_enters_from_an_external_account_and_leaves_to_it(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let usd = super::cluster::usd();
    let world = cluster.account_of(cluster.name(1), AccountKind::External, usd, 0).await;
    let alice = cluster.account(0, 0).await;
    let paid_in = process.transfer(&world, &alice, 5000).await;
    cluster.assert_committed(paid_in).await;
    let paid_out = process.transfer(&alice, &world, 2000).await;
    cluster.assert_committed(paid_out).await;
    assert_eq!(cluster.money(&world).await, (-3000, 0));
    assert_eq!(cluster.money(&alice).await, (3000, 0));
    cluster.finish([process]).await;
}

async fn a_transfer_that_uses_the_whole_overdraft_is_the_last(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let last = process.transfer(&alice, &bob, 1000).await;
    let one_more = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(last).await;
    cluster.assert_refused(one_more, Reason::InsufficientFunds).await;
    cluster.finish([process]).await;
}

async fn transfers_of_one_source_are_decided_in_the_order_of_their_acceptance(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 105).await, cluster.account(1, 0).await);
    // 10, 20, ... 50, 60: the first four fit, then what is left is 5.
    let mut ids = Vec::new();
    for tens in 1..=6 {
        ids.push(process.transfer(&alice, &bob, tens * 10).await);
    }
    let mut committed = Vec::new();
    for id in &ids {
        committed.push(cluster.end_of(*id).await.0 == State::Committed);
    }
    assert_eq!(committed, [true, true, true, true, false, false]);
    assert_eq!(cluster.money(&alice).await, (-100, 0));
    cluster.finish([process]).await;
}

async fn a_caller_that_waits_in_another_process_is_told_of_the_end(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (front, workers) = (cluster.process(), cluster.running());
    let (alice, bob) = (cluster.account(0, 10).await, cluster.account(1, 0).await);
    let good = front.transfer(&alice, &bob, 10).await;
    let bad = front.transfer(&alice, &bob, 10).await;
    let (good, bad) = tokio::join!(front.wait(good), front.wait(bad));
    assert_eq!(good.row.state, State::Committed);
    assert_eq!(bad.row.reason, Some(Reason::InsufficientFunds));
    let balance = front.ingress.balance(&bob, true).await.unwrap().balance.row;
    assert_eq!(balance.posted, 10, "strong balances include what was answered as committed");
    cluster.finish([front, workers]).await;
}
