//! More than the pipeline can take: what is refused is told so, what is accepted ends, and all is as
//! before by itself afterwards.

use super::backend::Backend;
use super::cluster::Cluster;
use super::process::request;
use crate::wait::{DEADLINE, eventually, within};
use futures::future::join_all;
use holdfast::domain::Shard;
use holdfast::ingress::Refusal;
use holdfast::roles::Role;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

scenarios! {
    three_times_what_the_outbox_takes_is_refused_in_time_and_accepted_later
    who_waits_for_a_shard_that_hangs_is_told_so
    a_broker_that_hangs_stops_neither_reads_nor_other_shards
}

const LIMIT: u64 = 300;
const AT_ONCE: u64 = 50;

async fn three_times_what_the_outbox_takes_is_refused_in_time_and_accepted_later(backend: Backend) {
    let cluster = Cluster::with(backend, |policy| policy.outbox_limit = LIMIT).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Relay]);
    let (alice, bob) = (cluster.account(0, 1_000_000).await, cluster.account(1, 1_000_000).await);
    let mut refused = Vec::new();
    for _ in 0..3 * LIMIT / AT_ONCE {
        let requests: Vec<_> = (0..AT_ONCE).map(|_| request(&alice, &bob, 1)).collect();
        let answers = process.ingress.submit_many(requests.clone()).await;
        for (request, answer) in requests.into_iter().zip(answers) {
            match answer {
                Ok(submitted) => assert!(!submitted.replayed),
                Err(Refusal::Overloaded) => refused.push(request),
                Err(other) => panic!("{other}"),
            }
        }
        let unsent = cluster.store().outbox_depth(Shard(0)).await.unwrap().0;
        assert!(unsent < LIMIT + AT_ONCE, "{unsent} unsent: over by one group commit at most");
    }
    assert!(refused.len() as u64 > LIMIT, "{} refused", refused.len());
    let elsewhere = process.transfer(&bob, &alice, 1).await;
    process.start(&[Role::Relay]);
    for answer in join_all(refused.iter().map(|request| process.submit(request))).await {
        assert!(!answer.replayed, "nothing of it had been accepted");
    }
    cluster.assert_committed(elsewhere).await;
    cluster.settled().await;
    assert_eq!(cluster.money(&alice).await, (1 - 3 * LIMIT as i64, 0), "each exactly once");
    cluster.finish([process]).await;
}

async fn who_waits_for_a_shard_that_hangs_is_told_so(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 100_000).await, cluster.account(1, 0).await);
    process.shard(0).hang(true);
    let mut asked = JoinSet::new();
    let (mut accepted, mut overloaded) = (0, 0);
    let deadline = Instant::now() + DEADLINE;
    // The first ones share the transaction that hangs; those behind it wait for its end.
    while overloaded == 0 {
        assert!(Instant::now() < deadline, "nobody is told");
        let (ingress, request) = (process.ingress.clone(), request(&alice, &bob, 1));
        asked.spawn(async move { ingress.submit(request).await });
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Some(answer) = asked.try_join_next() {
            match answer.unwrap() {
                Err(Refusal::Overloaded) => overloaded += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    process.shard(0).hang(false);
    for answer in within("answers", asked.join_all()).await {
        match answer {
            Ok(_) => accepted += 1,
            Err(Refusal::Overloaded) => {}
            Err(other) => panic!("{other}"),
        }
    }
    assert!(accepted > 0, "the transaction that hung is committed");
    assert_eq!(cluster.transfers().await.len(), accepted);
    cluster.finish([process]).await;
}

async fn a_broker_that_hangs_stops_neither_reads_nor_other_shards(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Relay]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
    let carol = cluster.account(1, 0).await;
    // Its event is lost: only the reconciler of its shard moves it on.
    let lost = process.transfer(&bob, &carol, 1).await;
    let rows = cluster.store().outbox(Shard(1), 0, 100).await.unwrap();
    let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    cluster.store().outbox_sent(Shard(1), &ids).await.unwrap();
    process.broker.hang(Some(0));
    process.start(&[Role::Relay]);
    let accepted = process.transfer(&alice, &bob, 1).await;
    let beside = process.transfer(&bob, &carol, 1).await;
    cluster.assert_committed(beside).await;
    cluster.assert_committed(lost).await;
    let balance = within("a balance", process.ingress.balance(&alice, false)).await;
    assert_eq!(balance.unwrap().balance.row.posted, 0);
    assert!(!cluster.state(accepted).await.0.is_final());
    process.broker.hang(None);
    cluster.assert_committed(accepted).await;
    eventually("the far side", || async { cluster.money(&carol).await == (2, 0) }).await;
    cluster.finish([process]).await;
}
