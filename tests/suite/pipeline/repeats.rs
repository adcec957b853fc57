//! The same request twice, in every way that can happen.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::Unconfirmed::{self, Lost, Written};
use super::process::{dollars, request};
use futures::future::join_all;
use holdfast::domain::{Money, TransferId};
use holdfast::ingress::{Refusal, TransferRequest};
use std::collections::BTreeSet;
use std::time::Duration;

scenarios! {
    a_repeat_is_answered_with_the_transfer_as_it_stands
    many_at_once_with_one_key_make_one_transfer
    a_key_that_was_used_for_another_request_is_refused_and_changes_nothing
    a_key_counts_for_one_client_and_one_source
    a_request_written_in_another_way_is_the_same_request
    a_key_twice_in_one_batch_makes_one_transfer
    an_item_that_is_not_valid_does_not_count_for_those_behind_it
    items_of_one_source_in_a_batch_are_decided_in_its_order
    groups_that_claim_keys_in_opposite_order_all_get_through
    an_unconfirmed_acceptance_is_found_or_done_again_and_never_twice
    a_key_is_remembered_past_midnight
}

async fn a_repeat_is_answered_with_the_transfer_as_it_stands(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let request = request(&alice, &bob, 100);
    let first = process.submit(&request).await;
    assert!(!first.replayed);
    let id = first.transfer.row.terms.id;
    cluster.assert_committed(id).await;
    let again = process.submit(&request).await;
    assert!(again.replayed);
    assert_eq!(again.transfer, cluster.transfer(id).await);
    assert_eq!(cluster.transfers().await.len(), 1);
    cluster.finish([process]).await;
}

async fn many_at_once_with_one_key_make_one_transfer(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let processes = [cluster.running(), cluster.process()];
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let request = request(&alice, &bob, 1);
    let asked = (0..64).map(|number| processes[number % 2].submit(&request));
    let answers = join_all(asked).await;
    let ids: BTreeSet<TransferId> =
        answers.iter().map(|answer| answer.transfer.row.terms.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    cluster.assert_committed(*ids.first().unwrap()).await;
    assert_eq!(cluster.money(&alice).await, (-1, 0));
    cluster.finish(processes).await;
}

async fn a_key_that_was_used_for_another_request_is_refused_and_changes_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let first = request(&alice, &bob, 100);
    let id = process.submit(&first).await.transfer.row.terms.id;
    let mut other = first.clone();
    other.amount = super::process::dollars(101);
    let mut described = first.clone();
    described.description = Some("rent".to_owned());
    for other in [other, described] {
        assert!(matches!(process.ask(&other).await, Err(Refusal::KeyReused)));
    }
    cluster.assert_committed(id).await;
    assert_eq!(cluster.transfers().await.len(), 1);
    cluster.finish([process]).await;
}

async fn a_key_counts_for_one_client_and_one_source(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(0, 1000).await);
    let first = request(&alice, &bob, 100);
    let mut of_another = first.clone();
    of_another.client = "somebody-else".parse().unwrap();
    let mut back = first.clone();
    (back.source, back.destination) = (bob.clone(), alice.clone());
    for request in [&first, &of_another, &back] {
        let submitted = process.submit(request).await;
        assert!(!submitted.replayed);
        cluster.assert_committed(submitted.transfer.row.terms.id).await;
    }
    assert_eq!(cluster.money(&bob).await, (100, 0));
    cluster.finish([process]).await;
}

/// Hazard 31: a retry says `10.0` where the first request said `10.00`, or leaves a default out
/// whose value was changed in between, and is refused as another request.
async fn a_request_written_in_another_way_is_the_same_request(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let amount = |text| Money::parse(text, super::cluster::usd()).unwrap();
    let mut first = request(&alice, &bob, 0);
    first.amount = amount("10.00");
    let mut again = first.clone();
    again.amount = amount("10.0");
    let id = process.submit(&first).await.transfer.row.terms.id;
    let answer = process.submit(&again).await;
    assert_eq!((answer.replayed, answer.transfer.row.terms.id), (true, id));

    let mut by_default = request(&alice, &bob, 0);
    (by_default.amount, by_default.currency_given) = (amount("5"), false);
    let mut configured_anew = by_default.clone();
    configured_anew.amount = Money::parse("5", "EUR".parse().unwrap()).unwrap();
    let id = process.submit(&by_default).await.transfer.row.terms.id;
    let answer = process.submit(&configured_anew).await;
    assert_eq!((answer.replayed, answer.transfer.row.terms.id), (true, id));
    cluster.finish([process]).await;
}

/// Hazard 30: two items of one batch request carry one key, and meet in one multi-row insert.
async fn a_key_twice_in_one_batch_makes_one_transfer(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let first = request(&alice, &bob, 100);
    let mut other = first.clone();
    other.amount = super::process::dollars(7);
    let batch = vec![first.clone(), request(&alice, &bob, 1), first.clone(), other];
    let answers = process.ingress.submit_many(batch).await;
    let id = |index: usize| answers[index].as_ref().unwrap().transfer.row.terms.id;
    assert_eq!(id(0), id(2));
    assert_ne!(id(0), id(1));
    assert!(answers[2].as_ref().unwrap().replayed);
    assert!(matches!(answers[3], Err(Refusal::KeyReused)));
    cluster.settled().await;
    assert_eq!(cluster.money(&alice).await, (-101, 0));
    cluster.finish([process]).await;
}

async fn an_item_that_is_not_valid_does_not_count_for_those_behind_it(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let valid = request(&alice, &bob, 1);
    let first = process.submit(&valid).await.transfer.row.terms.id;
    let of = |minor| TransferRequest { amount: dollars(minor), ..valid.clone() };
    let answers = process.ingress.submit_many(vec![of(2), of(1), of(2), of(3), of(1)]).await;
    for (answer, repeats) in answers.iter().zip([false, true, false, false, true]) {
        match answer {
            Ok(submitted) => {
                assert!(repeats && submitted.replayed);
                assert_eq!(submitted.transfer.row.terms.id, first);
            }
            Err(refusal) => assert!(!repeats && matches!(refusal, Refusal::KeyReused), "{refusal}"),
        }
    }
    cluster.assert_committed(first).await;
    assert_eq!(cluster.money(&alice).await, (-1, 0));
    cluster.finish([process]).await;
}

async fn items_of_one_source_in_a_batch_are_decided_in_its_order(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let bob = cluster.account(1, 0).await;
    let sources = [cluster.account(0, 30).await, cluster.account(1, 30).await];
    let mut batch = Vec::new();
    for amount in [20, 15, 10, 1] {
        batch.extend(sources.iter().map(|source| request(source, &bob, amount)));
    }
    let answers = process.ingress.submit_many(batch).await;
    let mut committed = Vec::new();
    for answer in answers {
        let id = answer.unwrap().transfer.row.terms.id;
        committed.push(cluster.end_of(id).await.1.is_none());
    }
    // Of each source: 20 fits, 15 does not, 10 fits, 1 does not.
    assert_eq!(committed, [true, true, false, false, true, true, false, false]);
    cluster.finish([process]).await;
}

/// Hazard 30: two groups insert the same claims, each beginning at the other end, and deadlock.
async fn groups_that_claim_keys_in_opposite_order_all_get_through(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let processes = [cluster.running(), cluster.process()];
    let (alice, bob) = (cluster.account(0, 1_000_000).await, cluster.account(1, 0).await);
    for _ in 0..5 {
        let batch: Vec<_> = (0..100).map(|_| request(&alice, &bob, 1)).collect();
        let backwards: Vec<_> = batch.iter().rev().cloned().collect();
        let (one, other) = tokio::join!(
            processes[0].ingress.submit_many(batch),
            processes[1].ingress.submit_many(backwards)
        );
        for (one, other) in one.iter().zip(other.iter().rev()) {
            let (one, other) = (one.as_ref().unwrap(), other.as_ref().unwrap());
            assert_eq!(one.transfer.row.terms.id, other.transfer.row.terms.id);
            assert_ne!(one.replayed, other.replayed);
        }
    }
    cluster.settled().await;
    assert_eq!(cluster.money(&alice).await, (-500, 0));
    cluster.finish(processes).await;
}

/// Hazard 7: the answer "nothing was accepted" after a COMMIT that was sent and lost its answer.
/// The caller pays by another way, and the transfer commits too. What is not known is looked up;
/// where that fails too, the answer says so, and a repeat finds what became of it.
async fn an_unconfirmed_acceptance_is_found_or_done_again_and_never_twice(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (front, workers) = (cluster.process(), cluster.running());
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let histories: [&[Unconfirmed]; 6] = [
        &[Written],
        &[Lost],
        &[Lost, Written],
        &[Written, Lost, Lost],
        &[Lost, Lost, Lost],
        &[Lost, Lost, Written],
    ];
    for history in histories {
        front.shard(0).unconfirmed(history.iter().copied());
        let request = request(&alice, &bob, 10);
        let answer = front.ingress.submit(request.clone()).await;
        assert!(front.shard(0).all_commits_sent(), "{history:?}");
        if history.len() == 3 {
            assert!(matches!(answer, Err(Refusal::OutcomeUnknown)), "{history:?}: {answer:?}");
        } else {
            assert!(answer.is_ok(), "{history:?}: {answer:?}");
        }
        let id = front.submit(&request).await.transfer.row.terms.id;
        cluster.assert_committed(id).await;
    }
    assert_eq!(cluster.transfers().await.len(), histories.len());
    cluster.finish([front, workers]).await;
}

/// Hazard 36: claims are kept by the day, a key is used a second before midnight, its answer is
/// lost, and the retry a second after midnight finds a new day without claims.
async fn a_key_is_remembered_past_midnight(backend: Backend) {
    const DAY: i64 = 86_400_000_000;
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let request = request(&alice, &bob, 100);
    let id = process.submit(&request).await.transfer.row.terms.id;
    let shard = cluster.store().map().shard_of(&alice);
    let now = cluster.store().now(shard).await.unwrap();
    // The next midnight has come: what is a whole retention older than that is forgotten.
    let midnight = holdfast::domain::Timestamp::from_micros((now.micros() / DAY + 1) * DAY);
    let old = midnight.minus(cluster.policy.claim_retention);
    assert!(old < now.minus(Duration::from_micros(DAY as u64)));
    cluster.store().expire_claims(shard, old, 1000).await.unwrap();
    let again = process.submit(&request).await;
    assert_eq!((again.replayed, again.transfer.row.terms.id), (true, id));
    cluster.finish([process]).await;
}
