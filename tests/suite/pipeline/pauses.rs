//! What operators stop, and what goes on meanwhile.

use super::backend::Backend;
use super::cluster::{Cluster, usd};
use super::process::{Process, request};
use crate::wait::eventually;
use holdfast::domain::{AccountId, Shard, State, TransferId};
use holdfast::ingress::Refusal;
use holdfast::pauses::{self, PauseMode};
use holdfast::roles::Role;
use holdfast::routing::slot_of;
use holdfast::store::{Act, ActFilter, Actor, NEWEST};
use std::collections::BTreeSet;
use std::sync::Mutex;

scenarios! {
    a_role_that_is_paused_for_a_partition_takes_nothing_of_it_and_everything_else
    a_shard_that_is_paused_stands_still_and_is_paid_into
    what_is_paused_is_not_accepted_nor_held_and_goes_on_afterwards
    what_is_drained_is_not_accepted_and_what_was_is_finished
    a_shard_that_is_away_learns_of_a_pause_later
}

/// Stops a scope, or lets it go on, and waits until the processes know.
async fn set(cluster: &Cluster, processes: &[&Process], scope: &str, mode: Option<PauseMode>) {
    let actor = Actor { reason: Some("a test".to_owned()), ..Actor::itself() };
    let parsed = scope.parse().unwrap();
    assert!(pauses::set(cluster.store(), &parsed, mode, &actor).await.unwrap());
    for process in processes {
        eventually(&format!("{scope} is known"), || async {
            let now = process.context.pauses.now();
            now.all().find(|(known, _)| **known == parsed).map(|(_, standing)| standing.mode)
                == mode
        })
        .await;
    }
}

async fn following(cluster: &Cluster) -> Process {
    let process = cluster.process();
    process.context.pauses.follow(&process.context.store).await;
    process
}

async fn acts(cluster: &Cluster, target: &str) -> Vec<Act> {
    let shard = cluster.store().map().shard_of_name(target);
    let filter = ActFilter { target: Some(target.to_owned()), ..ActFilter::default() };
    let acts = cluster.store().acts(shard, &filter, NEWEST, 10).await.unwrap();
    acts.into_iter().map(|logged| logged.act).collect()
}

fn place_of(cluster: &Cluster, account: &AccountId) -> String {
    let (map, slot) = (cluster.store().map(), slot_of(account));
    format!("shard={},partition={}", map.shard_of_slot(slot), map.partition_of_slot(slot))
}

/// As often as the reconciler has looked at a transfer that stands still, it has left it alone.
async fn left_alone(cluster: &Cluster, id: TransferId) {
    let looks = Mutex::new(BTreeSet::new());
    eventually("the reconciler looks again and again", async || {
        let due = cluster.store().stuck(Shard(0), 100).await.unwrap();
        let mut looks = looks.lock().unwrap();
        for found in due.iter().filter(|found| found.row.terms.id == id) {
            assert_eq!(found.attempts, 0);
            looks.insert(found.due_at);
        }
        looks.len() > 2
    })
    .await;
    assert_eq!(cluster.state(id).await, (State::Requested, None));
}

/// Hazard 50: what waits behind a pause is a backlog, not an orphan.
async fn a_role_that_is_paused_for_a_partition_takes_nothing_of_it_and_everything_else(
    backend: Backend,
) {
    let cluster = Cluster::new(backend).await;
    let process = following(&cluster).await;
    let alice = cluster.account(0, 1000).await;
    let (beside, bob) = (cluster.in_another_partition(&alice).await, cluster.account(1, 0).await);
    let scope = format!("role=hold,{}", place_of(&cluster, &alice));
    set(&cluster, &[&process], &scope, Some(PauseMode::Pause)).await;
    process.start_all();
    let waiting = process.transfer(&alice, &bob, 10).await;
    for _ in 0..3 {
        let passing = process.transfer(&beside, &bob, 100).await;
        cluster.assert_committed(passing).await;
    }
    left_alone(&cluster, waiting).await;
    // Whoever begins anew finds it paused too.
    let other = following(&cluster).await;
    process.stop(&[Role::Hold]).await;
    other.start(&[Role::Hold]);
    let passing = other.transfer(&beside, &bob, 100).await;
    cluster.assert_committed(passing).await;
    assert_eq!(cluster.state(waiting).await, (State::Requested, None));
    set(&cluster, &[&process, &other], &scope, None).await;
    cluster.assert_committed(waiting).await;
    assert_eq!(cluster.money(&alice).await, (-10, 0));
    let acts = acts(&cluster, &scope).await;
    let names: Vec<_> = acts.iter().map(|act| act.action.as_str()).collect();
    assert_eq!(names, ["resume", "pause"]);
    cluster.finish([process, other]).await;
}

async fn a_shard_that_is_paused_stands_still_and_is_paid_into(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = following(&cluster).await;
    process.start_all_but(&[Role::Relay]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
    let before = process.transfer(&alice, &bob, 10).await;
    set(&cluster, &[&process], "shard=0", Some(PauseMode::Pause)).await;
    process.start(&[Role::Relay]);
    let refused = process.ask(&request(&alice, &bob, 1)).await;
    assert!(matches!(&refused, Err(Refusal::Paused(scope)) if scope == "shard=0"), "{refused:?}");
    let paid = process.transfer(&bob, &alice, 100).await;
    cluster.assert_committed(paid).await;
    assert_eq!(cluster.state(before).await, (State::Requested, None));
    set(&cluster, &[&process], "shard=0", None).await;
    cluster.assert_committed(before).await;
    let after = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(after).await;
    cluster.finish([process]).await;
}

/// Hazard 50: what hold has let go for a pause is left alone until it may be held.
async fn what_is_paused_is_not_accepted_nor_held_and_goes_on_afterwards(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = following(&cluster).await;
    process.start_all_but(&[Role::Relay]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let beside = cluster.account(0, 1000).await;
    let scopes = [
        (format!("source={}", alice.as_str()), Some(&beside)),
        ("merchant=tests".to_owned(), None),
        (format!("currency={}", usd()), None),
    ];
    for (scope, passes) in scopes {
        let first = request(&alice, &bob, 10);
        let accepted = process.submit(&first).await.transfer.row.terms.id;
        set(&cluster, &[&process], &scope, Some(PauseMode::Pause)).await;
        process.start(&[Role::Relay]);
        let refused = process.ask(&request(&alice, &bob, 1)).await;
        assert!(matches!(&refused, Err(Refusal::Paused(by)) if *by == scope), "{refused:?}");
        let repeated = process.submit(&first).await;
        assert!(repeated.replayed && repeated.transfer.row.terms.id == accepted);
        if let Some(beside) = passes {
            let passing = process.transfer(beside, &bob, 1).await;
            cluster.assert_committed(passing).await;
        }
        process.caught_up(&[Role::Hold]).await;
        left_alone(&cluster, accepted).await;
        set(&cluster, &[&process], &scope, None).await;
        cluster.assert_committed(accepted).await;
        process.stop(&[Role::Relay]).await;
    }
    assert_eq!(cluster.money(&alice).await, (-30, 0));
    process.start(&[Role::Relay]);
    cluster.finish([process]).await;
}

async fn what_is_drained_is_not_accepted_and_what_was_is_finished(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = following(&cluster).await;
    process.start_all_but(&[Role::Relay]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    for scope in ["shard=0", "merchant=tests", "role=ingress,shard=0"] {
        let accepted = process.transfer(&alice, &bob, 10).await;
        set(&cluster, &[&process], scope, Some(PauseMode::Drain)).await;
        let refused = process.ask(&request(&alice, &bob, 1)).await;
        assert!(matches!(&refused, Err(Refusal::Paused(by)) if by == scope), "{refused:?}");
        process.start(&[Role::Relay]);
        cluster.assert_committed(accepted).await;
        set(&cluster, &[&process], scope, None).await;
        process.stop(&[Role::Relay]).await;
    }
    process.start(&[Role::Relay]);
    cluster.finish([process]).await;
}

/// What could be written counts, wherever it is read; a repeat completes it.
async fn a_shard_that_is_away_learns_of_a_pause_later(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = following(&cluster).await;
    let (operator, other) = (cluster.process(), following(&cluster).await);
    let scope = "merchant=tests".parse().unwrap();
    let actor = Actor::itself();
    let (store, mode) = (&*operator.context.store, Some(PauseMode::Drain));
    for away in [0, 1] {
        operator.shard(away).down(true);
        pauses::set(store, &scope, mode, &actor).await.unwrap_err();
        operator.shard(away).down(false);
        for process in [&process, &other] {
            eventually("it is known", async || !process.context.pauses.now().is_empty()).await;
        }
        assert!(!pauses::set(store, &scope, mode, &actor).await.unwrap(), "it was so already");
        for shard in 0..2 {
            let rows = store.pauses(Shard(shard)).await.unwrap();
            assert_eq!(rows[0].mode, "drain", "{rows:?}");
        }
        assert!(pauses::set(store, &scope, None, &actor).await.unwrap());
        for process in [&process, &other] {
            eventually("it is over", async || process.context.pauses.now().is_empty()).await;
        }
    }
    let mut acts: Vec<Act> = Vec::new();
    for shard in 0..2 {
        let found = store.acts(Shard(shard), &ActFilter::default(), NEWEST, 10).await.unwrap();
        acts.extend(found.into_iter().map(|logged| logged.act));
    }
    assert_eq!(acts.len(), 4, "each act once: {acts:?}");
    cluster.finish([process, operator, other]).await;
}
