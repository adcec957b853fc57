//! Cancelling a transfer at every stage it can stand in.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::Unconfirmed;
use super::process::request;
use futures::future::join_all;
use holdfast::domain::{Reason, State};
use holdfast::ingress::Refusal;
use holdfast::roles::Role;
use holdfast::store::Actor;

scenarios! {
    a_requested_transfer_is_cancelled_and_never_held
    a_held_transfer_is_cancelled_by_its_pivot_and_never_credited
    a_credited_transfer_cannot_be_cancelled
    a_final_transfer_cannot_be_cancelled_but_a_cancelled_one_again
    a_transfer_that_its_destination_refused_cannot_be_cancelled
    a_cancel_waits_for_the_shard_of_the_destination
    a_cancel_whose_commit_is_unconfirmed_is_repeated
    a_cancel_that_races_the_pipeline_keeps_its_promise
}

const BY_CLIENT: Reason = Reason::CancelledByClient;

/// Hazard 12: a cancel takes one state row out of a batch that hold has already added up; the
/// whole sum is held all the same.
async fn a_requested_transfer_is_cancelled_and_never_held(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Hold, Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let before = process.transfer(&alice, &bob, 100).await;
    let cancelled = process.transfer(&alice, &bob, 30).await;
    let after = process.transfer(&alice, &bob, 200).await;
    let answer = process.ingress.cancel(cancelled, BY_CLIENT).await.unwrap();
    assert_eq!((answer.transfer.row.state, answer.repeated), (State::Cancelled, false));
    process.start(&[Role::Hold]);
    cluster.until_held(after).await;
    assert_eq!(cluster.money(&alice).await, (0, 300));
    process.start(&[Role::Credit]);
    cluster.assert_committed(before).await;
    cluster.assert_refused(cancelled, BY_CLIENT).await;
    cluster.finish([process]).await;
}

/// Hazard 2: the cancel is only an event: credit, which has not read it, credits, and commit,
/// which has, releases the hold. Money is made.
async fn a_held_transfer_is_cancelled_by_its_pivot_and_never_credited(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let alice = cluster.account(0, 1000).await;
    let bob = cluster.account(1, 0).await;
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    let answer = process.ingress.cancel(id, Reason::CancelledByOperator).await.unwrap();
    assert!(!answer.repeated);
    process.start(&[Role::Credit]);
    cluster.assert_refused(id, Reason::CancelledByOperator).await;
    assert_eq!(cluster.money(&bob).await, (0, 0));
    process.caught_up(&[Role::Credit]).await;
    assert_eq!(cluster.money(&alice).await, (0, 0));
    cluster.finish([process]).await;
}

async fn a_credited_transfer_cannot_be_cancelled(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Commit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    assert_eq!(cluster.pivot(id).await, Ok(()));
    let shown = process.ingress.transfer(id).await.unwrap().state;
    assert_eq!(shown, holdfast::ingress::ViewState::Credited);
    let answer = process.ingress.cancel(id, BY_CLIENT).await;
    assert!(matches!(answer, Err(Refusal::TransferCredited(_))), "{answer:?}");
    process.start(&[Role::Commit]);
    cluster.assert_committed(id).await;
    cluster.finish([process]).await;
}

async fn a_final_transfer_cannot_be_cancelled_but_a_cancelled_one_again(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let cancelled = process.transfer(&alice, &bob, 100).await;
    process.ingress.cancel(cancelled, BY_CLIENT).await.unwrap();
    process.start_all();
    let committed = process.transfer(&alice, &bob, 100).await;
    let rejected = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(committed).await;
    cluster.assert_refused(rejected, Reason::InsufficientFunds).await;
    for id in [committed, rejected] {
        let answer = process.ingress.cancel(id, BY_CLIENT).await;
        assert!(matches!(answer, Err(Refusal::TransferFinal(_))), "{answer:?}");
    }
    assert!(process.ingress.cancel(cancelled, BY_CLIENT).await.unwrap().repeated);
    cluster.finish([process]).await;
}

/// Hazard 39: the cancel finds a pivot that reads REFUSED and answers 202; but its reason is
/// `destination_closed`, and the transfer ends REJECTED.
async fn a_transfer_that_its_destination_refused_cannot_be_cancelled(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Commit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    process.ingress.close_account(&bob, &Actor::itself()).await.unwrap();
    let id = process.transfer(&alice, &bob, 100).await;
    assert_eq!(cluster.pivot(id).await, Err(Reason::DestinationClosed));
    assert_eq!(cluster.state(id).await.0, State::Held);
    let answer = process.ingress.cancel(id, BY_CLIENT).await;
    assert!(matches!(answer, Err(Refusal::TransferFinal(_))), "{answer:?}");
    process.start(&[Role::Commit]);
    cluster.assert_refused(id, Reason::DestinationClosed).await;
    cluster.finish([process]).await;
}

async fn a_cancel_waits_for_the_shard_of_the_destination(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    process.shard(1).down(true);
    let answer = process.ingress.cancel(id, BY_CLIENT).await;
    assert!(matches!(answer, Err(Refusal::ShardUnavailable)), "{answer:?}");
    assert_eq!(cluster.money(&alice).await, (0, 100), "nothing is released");
    process.shard(1).down(false);
    process.ingress.cancel(id, BY_CLIENT).await.unwrap();
    process.start(&[Role::Credit]);
    cluster.assert_refused(id, BY_CLIENT).await;
    cluster.finish([process]).await;
}

async fn a_cancel_whose_commit_is_unconfirmed_is_repeated(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (front, workers) = (cluster.process(), cluster.process());
    workers.start_all_but(&[Role::Hold, Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    for commit in [Unconfirmed::Written, Unconfirmed::Lost] {
        let id = front.transfer(&alice, &bob, 10).await;
        front.shard(0).unconfirmed([commit]);
        let answer = front.ingress.cancel(id, BY_CLIENT).await;
        assert!(matches!(answer, Err(Refusal::OutcomeUnknown)), "{answer:?}");
        let again = front.ingress.cancel(id, BY_CLIENT).await.unwrap();
        assert_eq!(again.repeated, commit == Unconfirmed::Written);
    }
    workers.start(&[Role::Hold]);
    for commit in [Unconfirmed::Written, Unconfirmed::Lost] {
        let id = front.transfer(&alice, &bob, 10).await;
        cluster.until_held(id).await;
        front.shard(1).unconfirmed([commit]);
        let answer = front.ingress.cancel(id, BY_CLIENT).await;
        assert!(matches!(answer, Err(Refusal::OutcomeUnknown)), "{answer:?}");
        front.ingress.cancel(id, BY_CLIENT).await.unwrap();
        cluster.assert_refused(id, BY_CLIENT).await;
    }
    workers.start(&[Role::Credit]);
    cluster.finish([front, workers]).await;
}

async fn a_cancel_that_races_the_pipeline_keeps_its_promise(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let alice = cluster.account(0, 1_000_000).await;
    let bobs = [cluster.account(0, 0).await, cluster.account(1, 0).await];
    let race = async |number: usize| {
        let id = process.submit(&request(&alice, &bobs[number % 2], 1)).await.transfer.row.terms.id;
        for _ in 0..number % 7 {
            tokio::task::yield_now().await;
        }
        if number.is_multiple_of(3) {
            cluster.until_held(id).await;
        }
        (id, process.ingress.cancel(id, BY_CLIENT).await)
    };
    let mut promised = 0;
    for (id, answer) in join_all((0..120).map(race)).await {
        let end = cluster.end_of(id).await;
        match answer {
            Ok(_) => {
                promised += 1;
                assert_eq!(end, (State::Cancelled, Some(BY_CLIENT)));
            }
            Err(Refusal::TransferCredited(_) | Refusal::TransferFinal(_)) => {
                assert_eq!(end, (State::Committed, None));
            }
            Err(other) => panic!("{other}"),
        }
    }
    cluster.settled().await;
    assert_eq!(cluster.money(&alice).await, (promised - 120, 0));
    cluster.finish([process]).await;
}
