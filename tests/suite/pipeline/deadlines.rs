//! Holds that stand for too long, and what only looks like it.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::SendFault;
use crate::wait::eventually;
use holdfast::domain::{Reason, State, TransferId};
use holdfast::roles::Role;
use std::time::Duration;

scenarios! {
    a_hold_that_nobody_settles_is_given_up_and_a_late_credit_changes_nothing
    a_credit_whose_event_was_lost_is_committed_and_not_timed_out
    a_backlog_is_not_cancelled_however_long_it_lasts
    nothing_is_released_before_the_shard_of_the_destination_has_answered
    a_lost_event_is_emitted_again
}

/// Waits until the hold's deadline has passed, by the clock of its shard.
async fn deadline_of(cluster: &Cluster, id: TransferId) {
    let shard = cluster.store().map().shard_of_transfer(id);
    let deadline = cluster.transfer(id).await.row.hold_deadline.expect("the transfer was held");
    let passed = || async { cluster.store().now(shard).await.unwrap() > deadline };
    eventually("the deadline of the hold", passed).await;
}

async fn a_hold_that_nobody_settles_is_given_up_and_a_late_credit_changes_nothing(
    backend: Backend,
) {
    let cluster = with_short_holds(backend).await;
    let (creditor, others) = (cluster.process(), cluster.process());
    // Credit reads the event and cannot reach the shard: it lets the transfer go, again and again.
    creditor.shard(1).down(true);
    creditor.start(&[Role::Credit]);
    others.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = others.transfer(&alice, &bob, 100).await;
    assert_eq!(cluster.pivot(id).await, Err(Reason::HoldTimeout));
    creditor.shard(1).down(false);
    cluster.assert_refused(id, Reason::HoldTimeout).await;
    let next = others.transfer(&alice, &bob, 5).await;
    cluster.assert_committed(next).await;
    creditor.caught_up(&[Role::Credit]).await;
    assert_eq!(cluster.money(&bob).await, (5, 0));
    cluster.finish([creditor, others]).await;
}

async fn with_short_holds(backend: Backend) -> Cluster {
    Cluster::with(backend, |policy| policy.hold_timeout = Duration::from_secs(1)).await
}

/// The destination has the money, credit died before it said so, and the deadline passes: past
/// the pivot there is only forwards.
async fn a_credit_whose_event_was_lost_is_committed_and_not_timed_out(backend: Backend) {
    let cluster = with_short_holds(backend).await;
    let (creditor, others) = (cluster.process(), cluster.process());
    creditor.broker.sends([SendFault::After(0)]);
    creditor.start(&[Role::Credit]);
    others.start_all_but(&[Role::Credit, Role::Reconciler]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = others.transfer(&alice, &bob, 100).await;
    assert_eq!(cluster.pivot(id).await, Ok(()));
    creditor.broker.down(true);
    creditor.abort(&[Role::Credit]).await;
    deadline_of(&cluster, id).await;
    others.start(&[Role::Reconciler]);
    cluster.assert_committed(id).await;
    creditor.broker.down(false);
    creditor.start(&[Role::Credit]);
    creditor.caught_up(&[Role::Credit]).await;
    assert_eq!(cluster.money(&bob).await, (100, 0));
    cluster.finish([creditor, others]).await;
}

/// Hazard 19: credit is behind for longer than a hold may stand, and everything in its queue is
/// refused and released, which costs more than doing it.
async fn a_backlog_is_not_cancelled_however_long_it_lasts(backend: Backend) {
    let cluster = with_short_holds(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let first = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(first).await;
    deadline_of(&cluster, first).await;
    // A second one proves that the reconciler had its turn: its own deadline has passed, too.
    let second = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(second).await;
    deadline_of(&cluster, second).await;
    assert_eq!(cluster.state(first).await.0, State::Held);
    process.start(&[Role::Credit]);
    cluster.assert_committed(first).await;
    cluster.assert_committed(second).await;
    cluster.finish([process]).await;
}

async fn nothing_is_released_before_the_shard_of_the_destination_has_answered(backend: Backend) {
    let cluster = with_short_holds(backend).await;
    let process = cluster.running();
    let alice = cluster.account(0, 1000).await;
    let (bob, near) = (cluster.account(1, 0).await, cluster.account(0, 0).await);
    process.shard(1).down(true);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(id).await;
    deadline_of(&cluster, id).await;
    // The reconciler has its turn meanwhile, and others go on.
    let seen = process.shard(1).asked();
    eventually("further looks", || async { process.shard(1).asked() > seen + 20 }).await;
    let other = process.transfer(&alice, &near, 1).await;
    cluster.assert_committed(other).await;
    assert_eq!(cluster.state(id).await.0, State::Held);
    assert_eq!(cluster.money(&alice).await, (-1, 100));
    process.shard(1).down(false);
    let end = cluster.end_of(id).await;
    assert!(matches!(end, (State::Committed, None) | (_, Some(Reason::HoldTimeout))), "{end:?}");
    cluster.finish([process]).await;
}

/// Hazard 34: the event is gone, the scan has passed the transfer's id, and nobody looks again.
async fn a_lost_event_is_emitted_again(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (forgetful, others) = (cluster.process(), cluster.process());
    others.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    forgetful.shard(1).down(true);
    forgetful.start(&[Role::Credit]);
    let id = others.transfer(&alice, &bob, 100).await;
    cluster.until_hold_is_known(id).await;
    forgetful.caught_up(&[Role::Credit]).await;
    // Its event has been read and let go: without the reconciler it would be HELD for ever.
    forgetful.shard(1).down(false);
    cluster.assert_committed(id).await;
    cluster.finish([forgetful, others]).await;
}
