//! What a reconciler meets while others are at work.

use super::backend::Backend;
use super::cluster::Cluster;
use super::process::{ROLES, request};
use crate::wait::eventually;
use futures::future::join_all;
use holdfast::broker::Record;
use holdfast::domain::{AccountId, EventType, Reason, Shard, State, TransferId};
use holdfast::roles::Role;
use std::pin::pin;
use std::time::Duration;

scenarios! {
    reconcilers_that_race_every_step_and_each_other_change_nothing
    a_refusal_whose_event_was_lost_is_released
    a_held_event_that_is_replayed_after_the_release_credits_nothing
    a_process_that_starts_sweeps_where_nobody_did_for_a_day
}

/// Three reconcilers that look at everything at once and all the time, past every lease, while holds
/// run out and a destination comes and goes.
async fn reconcilers_that_race_every_step_and_each_other_change_nothing(backend: Backend) {
    let cluster = Cluster::with(backend, |policy| {
        policy.hold_timeout = Duration::from_secs(1);
        policy.scan_lag = Duration::ZERO;
        policy.reconcile_interval = Duration::from_millis(1);
        policy.redrive_backoff = Duration::from_millis(1);
    })
    .await;
    let processes = [cluster.running(), cluster.process(), cluster.process()];
    for process in &processes[1..] {
        process.start(&[Role::Reconciler]);
    }
    let mut accounts = Vec::new();
    for number in 0..6 {
        accounts.push(cluster.account(number % 2, 500).await);
    }
    let mut asked = Vec::new();
    let callers = cluster.process();
    for round in 0..6 {
        processes[0].shard(1).down(round % 2 == 1);
        cluster.end_leases().await;
        let requests: Vec<_> = (0..12).map(|number| between(&accounts, number)).collect();
        let mut submitting = pin!(join_all(requests.iter().map(|one| callers.submit(one))));
        // A shard that is away for long makes its callers wait.
        let soon = tokio::time::timeout(Duration::from_secs(1), &mut submitting).await;
        asked.extend(match soon {
            Ok(submitted) => submitted,
            Err(_) => {
                processes[0].shard(1).down(false);
                submitting.await
            }
        });
        cluster.end_leases().await;
    }
    processes[0].shard(1).down(false);
    for submitted in asked {
        let id = submitted.transfer.row.terms.id;
        let end = cluster.end_of(id).await;
        let expected = matches!(
            end,
            (State::Committed, None)
                | (
                    _,
                    Some(Reason::HoldTimeout | Reason::InsufficientFunds | Reason::Undeliverable)
                )
        );
        assert!(expected, "{id}: {end:?}");
    }
    cluster.finish(processes).await;
}

fn between(accounts: &[AccountId], number: usize) -> holdfast::ingress::TransferRequest {
    let to = (number * 5 + 1) % accounts.len();
    let from = if number % accounts.len() == to { (to + 1) % accounts.len() } else { number };
    request(&accounts[from % accounts.len()], &accounts[to], 1 + number as i64)
}

/// The process that refused dies before anybody hears of it, and commit never gets an event.
async fn a_refusal_whose_event_was_lost_is_released(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start(&[Role::Hold]);
    process.start_on(Role::Relay, 0);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    process.ingress.cancel(id, Reason::CancelledByClient).await.unwrap();
    assert_eq!(cluster.pivot(id).await, Err(Reason::CancelledByClient));
    cluster.sql(1, "DELETE FROM outbox").await;
    process.stop_on(Role::Relay, 0).await;
    let started = ROLES.into_iter().filter(|role| *role != Role::Hold);
    process.start(&started.collect::<Vec<Role>>());
    cluster.assert_refused(id, Reason::CancelledByClient).await;
    assert_eq!(cluster.money(&alice).await, (0, 0));
    cluster.finish([process]).await;
}

/// As a dead letter is replayed that nobody looked at for a week.
async fn a_held_event_that_is_replayed_after_the_release_credits_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    process.ingress.cancel(id, Reason::CancelledByOperator).await.unwrap();
    cluster.assert_refused(id, Reason::CancelledByOperator).await;
    process.start(&[Role::Credit]);
    let held = cluster.events(EventType::Held, 0).await;
    let again = held.iter().map(|delivered| Record {
        topic: delivered.position.topic,
        partition: delivered.position.partition,
        key: alice.to_string().into(),
        value: delivered.value.clone(),
        headers: delivered.headers.clone(),
        timestamp: delivered.timestamp,
    });
    cluster.produce(again.collect()).await;
    process.caught_up(&[Role::Credit, Role::Commit]).await;
    assert_eq!((cluster.money(&alice).await, cluster.money(&bob).await), ((0, 0), (0, 0)));
    cluster.finish([process]).await;
}

/// Hazard 34: processes that are started anew every day never live long enough to sweep.
async fn a_process_that_starts_sweeps_where_nobody_did_for_a_day(backend: Backend) {
    let day = Duration::from_secs(86_400);
    let cluster = Cluster::with(backend, |policy| policy.full_sweep_interval = day).await;
    let process = cluster.process();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id: TransferId = process.transfer(&alice, &bob, 100).await;
    // Its event is gone, and the scan has passed it.
    cluster.sql(0, "DELETE FROM outbox").await;
    let passed = "UPDATE reconciler_mark SET position = \
        (SELECT MAX(id) FROM transaction_status) WHERE name = 'recent'";
    cluster.sql(0, passed).await;
    let accepted = cluster.transfer(id).await.row.requested_at;
    let old_enough = accepted.plus(cluster.policy.scan_lag);
    let now = || async { cluster.store().now(Shard(0)).await.unwrap() > old_enough };
    eventually("a transfer that scans look at", now).await;
    process.start_all();
    cluster.assert_committed(id).await;
    cluster.finish([process]).await;
}
