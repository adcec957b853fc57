//! Shards and brokers that are away, hang, or come back.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::SendFault;
use super::process::{ROLES, request};
use crate::wait::eventually;
use holdfast::broker::envelope;
use holdfast::domain::{AccountId, AccountKind, EventType, Reason, Shard, State};
use holdfast::ingress::Refusal;
use holdfast::roles::Role;
use holdfast::routing::slot_of;

scenarios! {
    a_shard_that_is_down_refuses_its_own_and_nobody_elses
    workers_wait_for_their_own_shard_and_go_on
    a_destination_that_hangs_holds_up_only_its_own_transfers
    a_destination_that_is_down_holds_up_only_its_own_transfers
    a_refused_transfer_is_released_once_its_pivot_can_be_read
    ingress_accepts_while_the_broker_is_away_and_all_drains_in_order
    a_broker_that_comes_and_goes_loses_nothing
    ingress_is_overloaded_once_the_outbox_is_full_and_answers_repeats_all_the_same
    events_of_another_cluster_touch_nothing
}

async fn a_shard_that_is_down_refuses_its_own_and_nobody_elses(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
    let carol = cluster.account(0, 0).await;
    process.shard(1).down(true);
    let request = request(&bob, &alice, 10);
    let refused = process.ingress.submit(request.clone()).await;
    assert!(matches!(refused, Err(Refusal::ShardUnavailable)), "{refused:?}");
    let id = process.transfer(&alice, &carol, 1).await;
    cluster.assert_committed(id).await;
    process.shard(1).down(false);
    let accepted = process.submit(&request).await;
    assert!(!accepted.replayed, "nothing had been accepted");
    cluster.assert_committed(accepted.transfer.row.terms.id).await;
    cluster.finish([process]).await;
}

async fn workers_wait_for_their_own_shard_and_go_on(backend: Backend) {
    for role in [Role::Relay, Role::Hold, Role::Commit, Role::Reconciler] {
        let cluster = Cluster::new(backend).await;
        let (cut_off, others) = (cluster.process(), cluster.process());
        cut_off.start(&[role]);
        others.start_all_but(&[role]);
        let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
        cut_off.shard(0).down(true);
        let asked = cut_off.shard(0).asked();
        let id = others.transfer(&alice, &bob, 100).await;
        let beside = others.transfer(&bob, &alice, 1).await;
        cluster.assert_committed(beside).await;
        eventually("several attempts", || async { cut_off.shard(0).asked() > asked + 3 }).await;
        if role != Role::Reconciler {
            assert!(!cluster.state(id).await.0.is_final());
        }
        cut_off.shard(0).down(false);
        cluster.assert_committed(id).await;
        for shard in 0..2 {
            assert!(cluster.dead_letters(shard).await.is_empty(), "{role}");
        }
        cluster.finish([cut_off, others]).await;
    }
}

/// Hazard 33: one partition carries transfers to a shard that does not answer and transfers to
/// others, and all of them wait.
async fn a_destination_that_hangs_holds_up_only_its_own_transfers(backend: Backend) {
    held_up(backend, |process, away| process.shard(1).hang(away)).await;
}

/// Hazard 33, the same with a shard that refuses at once.
async fn a_destination_that_is_down_holds_up_only_its_own_transfers(backend: Backend) {
    held_up(backend, |process, away| process.shard(1).down(away)).await;
}

async fn held_up(backend: Backend, away: impl Fn(&super::process::Process, bool)) {
    let cluster = Cluster::new(backend).await;
    let (creditor, others) = (cluster.process(), cluster.process());
    creditor.start(&[Role::Credit]);
    others.start_all_but(&[Role::Credit]);
    let (near, far) = (cluster.account(0, 0).await, cluster.account(1, 0).await);
    let alice = cluster.account(0, 10_000).await;
    let beside = in_the_partition_of(&cluster, &alice).await;
    away(&creditor, true);
    let mut requests = Vec::new();
    for _ in 0..50 {
        requests.extend([request(&alice, &far, 1), request(&beside, &far, 1)]);
        requests.extend([request(&alice, &near, 1), request(&beside, &near, 1)]);
    }
    for answer in others.ingress.submit_many(requests).await {
        answer.unwrap();
    }
    eventually("the near ones committed, the far ones held", || async {
        let facts = cluster.transfers().await;
        facts.iter().all(|fact| {
            let expected =
                if fact.terms.destination == near { State::Committed } else { State::Held };
            fact.state == expected
        })
    })
    .await;
    creditor.caught_up(&[Role::Credit]).await;
    away(&creditor, false);
    cluster.settled().await;
    assert_eq!(cluster.money(&far).await, (100, 0));
    cluster.finish([creditor, others]).await;
}

async fn in_the_partition_of(cluster: &Cluster, account: &AccountId) -> AccountId {
    let map = cluster.store().map();
    loop {
        let other = cluster.account(0, 10_000).await;
        let partition = |account: &AccountId| map.partition_of_slot(slot_of(account));
        if partition(&other) == partition(account) {
            return other;
        }
    }
}

async fn a_refused_transfer_is_released_once_its_pivot_can_be_read(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (committer, others) = (cluster.process(), cluster.process());
    others.start_all_but(&[Role::Commit]);
    committer.start(&[Role::Commit]);
    let (alice, near) = (cluster.account(0, 1000).await, cluster.account(0, 0).await);
    let nobody = cluster.name(1);
    committer.shard(1).down(true);
    let refused = others.transfer(&alice, &nobody, 100).await;
    assert_eq!(cluster.pivot(refused).await, Err(Reason::DestinationNotFound));
    let other = others.transfer(&alice, &near, 1).await;
    cluster.assert_committed(other).await;
    assert_eq!(cluster.state(refused).await.0, State::Held, "the event alone releases nothing");
    committer.shard(1).down(false);
    cluster.assert_refused(refused, Reason::DestinationNotFound).await;
    cluster.finish([committer, others]).await;
}

async fn ingress_accepts_while_the_broker_is_away_and_all_drains_in_order(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 55).await, cluster.account(1, 0).await);
    process.broker.down(true);
    // 1 to 10 fit, 11 does not.
    let mut ids = Vec::new();
    for amount in 1..=11 {
        ids.push(process.transfer(&alice, &bob, amount).await);
    }
    assert!(cluster.store().outbox_depth(Shard(0)).await.unwrap().0 > 0);
    process.broker.down(false);
    for id in &ids[..10] {
        cluster.assert_committed(*id).await;
    }
    cluster.assert_refused(ids[10], Reason::InsufficientFunds).await;
    cluster.finish([process]).await;
}

async fn a_broker_that_comes_and_goes_loses_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let processes = [cluster.running(), cluster.running()];
    let accounts = [cluster.account(0, 1_000_000).await, cluster.account(1, 1_000_000).await];
    for round in 0..6 {
        let process = &processes[round % 2];
        process.broker.sends([SendFault::After(round), SendFault::Unanswered]);
        for number in 0..30 {
            let (from, to) = (number % 2, (number + 1) % 2);
            let front = &processes[(number + 1) % 2];
            front.transfer(&accounts[from], &accounts[to], 1 + number as i64).await;
            if number == 10 {
                process.broker.down(true);
            }
        }
        process.broker.down(false);
    }
    cluster.finish(processes).await;
}

async fn ingress_is_overloaded_once_the_outbox_is_full_and_answers_repeats_all_the_same(
    backend: Backend,
) {
    let cluster = Cluster::with(backend, |policy| policy.outbox_limit = 5).await;
    let process = cluster.process();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
    let first = request(&alice, &bob, 1);
    let id = process.submit(&first).await.transfer.row.terms.id;
    eventually("overloaded", || async {
        matches!(process.ingress.submit(request(&alice, &bob, 1)).await, Err(Refusal::Overloaded))
    })
    .await;
    let repeated = process.ingress.submit(first).await.unwrap();
    assert_eq!((repeated.replayed, repeated.transfer.row.terms.id), (true, id));
    let elsewhere = process.ingress.submit(request(&bob, &alice, 1)).await;
    assert!(elsewhere.is_ok(), "the other shard is not behind: {elsewhere:?}");
    process.start_all();
    let later = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(later).await;
    cluster.finish([process]).await;
}

/// Hazard 9: databases are restored and topics kept, or taken from another cluster: `held` of
/// transfers that no source knows credit real accounts.
async fn events_of_another_cluster_touch_nothing(backend: Backend) {
    let (cluster, other) = (Cluster::new(backend).await, Cluster::new(backend).await);
    let process = cluster.running();
    let stranger = other.process();
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let kind = AccountKind::Customer;
    let strange = other.account_of(bob.clone(), kind, super::cluster::usd(), 0).await;
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(id).await;
    // The topics of one cluster are restored beside the databases of the other.
    for kind in [EventType::Held, EventType::Requested] {
        for delivered in cluster.events(kind, 0).await {
            let event = envelope::event(&delivered).unwrap();
            let record = envelope::record(&event, other.store().map());
            other.produce(vec![record]).await;
        }
    }
    stranger.start(&ROLES);
    stranger.caught_up(&[Role::Hold, Role::Credit]).await;
    let letters = other.dead_letters(0).await;
    assert!(letters.iter().all(|letter| letter.reason == "foreign_cluster"), "{letters:?}");
    assert!(letters.len() >= 2);
    assert_eq!(other.money(&strange).await, (0, 0));
    cluster.finish([process]).await;
    other.finish([stranger]).await;
}
