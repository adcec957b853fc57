//! Reversals: together they never take back more than there was.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::Unconfirmed;
use super::process::{Process, reversal};
use futures::future::join_all;
use holdfast::domain::{AccountId, Reason, TransferId};
use holdfast::ingress::Refusal;
use holdfast::roles::Role;
use holdfast::store::Actor;

scenarios! {
    a_transfer_is_reversed_in_parts_and_never_beyond_its_amount
    reversals_at_once_share_what_is_left
    a_reversal_whose_answer_was_lost_is_found_again
    a_reversal_that_moved_nothing_gives_back_what_it_had_taken
    only_what_is_committed_can_be_reversed
}

/// Alice, Bob, and a transfer of 100 between them that is committed.
async fn paid(cluster: &Cluster, process: &Process) -> (AccountId, AccountId, TransferId) {
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(id).await;
    (alice, bob, id)
}

async fn a_transfer_is_reversed_in_parts_and_never_beyond_its_amount(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob, original) = paid(&cluster, &process).await;
    for (amount, fits) in [(60, true), (41, false), (40, true), (1, false)] {
        let answer = process.ingress.reverse(reversal(original, amount)).await;
        assert_eq!(answer.is_ok(), fits, "{amount}: {answer:?}");
        match answer {
            Ok(submitted) => {
                assert_eq!(submitted.transfer.row.terms.reverses, Some(original));
                cluster.assert_committed(submitted.transfer.row.terms.id).await;
            }
            Err(refusal) => {
                assert!(matches!(refusal, Refusal::ReversalExceedsOriginal { .. }), "{refusal}");
            }
        }
    }
    assert_eq!((cluster.money(&alice).await, cluster.money(&bob).await), ((0, 0), (0, 0)));
    cluster.finish([process]).await;
}

/// Hazard 38: two reversals at once each see the whole amount left.
async fn reversals_at_once_share_what_is_left(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let processes = [cluster.running(), cluster.process()];
    let (alice, _, original) = paid(&cluster, &processes[0]).await;
    let asked =
        (0..12).map(|number: usize| processes[number % 2].ingress.reverse(reversal(original, 30)));
    let accepted = join_all(asked).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(accepted, 3);
    cluster.settled().await;
    assert_eq!(cluster.money(&alice).await, (-10, 0));
    cluster.finish(processes).await;
}

/// Hazard 38, the other half: the reversal was accepted, its answer lost; the retry finds nothing
/// left and is refused.
async fn a_reversal_whose_answer_was_lost_is_found_again(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (front, workers) = (cluster.process(), cluster.running());
    let (alice, _, original) = paid(&cluster, &workers).await;
    let request = reversal(original, 100);
    front.shard(1).unconfirmed([Unconfirmed::Written, Unconfirmed::Lost, Unconfirmed::Lost]);
    let answer = front.ingress.reverse(request.clone()).await;
    assert!(matches!(answer, Err(Refusal::OutcomeUnknown)), "{answer:?}");
    let again = front.ingress.reverse(request.clone()).await.unwrap();
    assert!(again.replayed);
    cluster.assert_committed(again.transfer.row.terms.id).await;
    assert!(front.ingress.reverse(request).await.unwrap().replayed);
    assert_eq!(cluster.money(&alice).await, (0, 0));
    cluster.finish([front, workers]).await;
}

async fn a_reversal_that_moved_nothing_gives_back_what_it_had_taken(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob, original) = paid(&cluster, &process).await;
    let accepted = async || {
        let answer = process.ingress.reverse(reversal(original, 100)).await;
        answer.unwrap().transfer.row.terms.id
    };
    // Refused at hold.
    process.ingress.freeze_account(&bob, &Actor::itself()).await.unwrap();
    cluster.assert_refused(accepted().await, Reason::SourceFrozen).await;
    process.ingress.unfreeze_account(&bob, &Actor::itself()).await.unwrap();
    // Refused by the destination, released at commit.
    process.ingress.freeze_account(&alice, &Actor::itself()).await.unwrap();
    cluster.assert_refused(accepted().await, Reason::DestinationFrozen).await;
    process.ingress.unfreeze_account(&alice, &Actor::itself()).await.unwrap();
    // Cancelled before the hold.
    process.stop(&[Role::Hold]).await;
    let cancelled = accepted().await;
    process.ingress.cancel(cancelled, Reason::CancelledByClient).await.unwrap();
    process.start(&[Role::Hold]);
    cluster.assert_committed(accepted().await).await;
    assert_eq!(cluster.money(&alice).await, (0, 0));
    let more = process.ingress.reverse(reversal(original, 1)).await;
    assert!(matches!(more, Err(Refusal::ReversalExceedsOriginal { .. })), "{more:?}");
    cluster.finish([process]).await;
}

async fn only_what_is_committed_can_be_reversed(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Commit]);
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    assert_eq!(cluster.pivot(id).await, Ok(()));
    let early = process.ingress.reverse(reversal(id, 100)).await;
    assert!(matches!(early, Err(Refusal::TransferNotCommitted(_))), "{early:?}");
    process.start(&[Role::Commit]);
    cluster.assert_committed(id).await;
    let back = process.ingress.reverse(reversal(id, 100)).await.unwrap().transfer.row.terms.id;
    cluster.assert_committed(back).await;
    // What came back can be sent again: a reversal is a transfer like others.
    let forth = process.ingress.reverse(reversal(back, 50)).await.unwrap().transfer.row.terms.id;
    cluster.assert_committed(forth).await;
    assert_eq!(cluster.money(&bob).await, (50, 0));
    cluster.finish([process]).await;
}
