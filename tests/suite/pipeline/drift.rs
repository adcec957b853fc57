//! The continuous drift check: what is wrong is found, its account makes no new holds until it is
//! repaired and released, and nothing else is touched.

use super::backend::Backend;
use super::cluster::Cluster;
use super::operators::{logged, zoe};
use super::process::Process;
use crate::wait::eventually;
use holdfast::context::Policy;
use holdfast::domain::{
    AccountChange, AccountId, Cause, Entry, EntryRow, Reason, Shard, State, TransferId,
};
use holdfast::operator;
use holdfast::roles::Role;
use holdfast::store::{Pass, Quarantined};
use std::time::Duration;

scenarios! {
    a_drifting_account_is_found_when_it_changes_quarantined_and_released_once_it_agrees
    an_account_that_never_changes_is_found_by_the_pass_over_everything
    money_credited_for_a_transfer_that_was_cancelled_is_found
    money_that_moves_is_no_drift
    a_shard_that_does_not_answer_stops_only_what_needs_it
}

/// Often, and close behind.
fn eager(policy: &mut Policy) {
    policy.drift_interval = Duration::from_millis(20);
    policy.scan_lag = Duration::ZERO;
}

/// Nothing is looked at twice: what is found then is found because it changed.
fn once(policy: &mut Policy) {
    eager(policy);
    policy.drift_full_interval = Duration::from_secs(86_400);
}

/// Waits until the first pass over all accounts is done.
async fn looked_at_everything(cluster: &Cluster) {
    for shard in cluster.store().map().all_shards() {
        eventually("a pass over all accounts", || async {
            let known = cluster.store().drift_progress(shard, Pass::Accounts).await.unwrap();
            known.is_some_and(|known| known.ended_at.is_some())
        })
        .await;
    }
}

/// Adds to an account's posted, as nothing in the product does.
async fn add(cluster: &Cluster, account: &AccountId, minor: i64) {
    tamper(cluster, account, minor, 0).await;
}

async fn tamper(cluster: &Cluster, account: &AccountId, posted: i64, held: i64) {
    let mut tx = cluster.store().begin(cluster.store().map().shard_of(account)).await.unwrap();
    let row = tx.lock_accounts(&[account.clone()].into()).await.unwrap().remove(account).unwrap();
    let change = AccountChange {
        id: account.clone(),
        posted: row.posted + posted,
        held: row.held + held,
        version_before: row.version,
        version: row.version + 1,
    };
    assert_eq!(tx.write_accounts(&[change]).await.unwrap(), 1);
    tx.commit().await.unwrap();
}

async fn quarantine(cluster: &Cluster, account: &AccountId) -> Quarantined {
    eventually("a quarantine", || async { cluster.row(account).await.quarantined }).await;
    let shard = cluster.store().map().shard_of(account);
    cluster.store().quarantine_of(shard, account).await.unwrap().expect("its reason is kept")
}

async fn examined(process: &Process, account: &AccountId) -> operator::Examined {
    let examined = operator::examine(&process.context, account).await.unwrap();
    examined.expect("it is in quarantine")
}

async fn a_drifting_account_is_found_when_it_changes_quarantined_and_released_once_it_agrees(
    backend: Backend,
) {
    let cluster = Cluster::with(backend, once).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
    let first = process.transfer(&alice, &bob, 10).await;
    cluster.assert_committed(first).await;
    looked_at_everything(&cluster).await;
    tamper(&cluster, &bob, 0, 7).await;
    // It is credited: that is a change, and bob's books are looked at.
    let second = process.transfer(&alice, &bob, 10).await;
    cluster.assert_committed(second).await;
    let found = quarantine(&cluster, &bob).await;
    assert_eq!(found.suspicion.amount, 7);
    assert!(found.suspicion.reason.contains("held is not the sum"), "{found:?}");

    let refused = process.transfer(&bob, &alice, 1).await;
    cluster.assert_refused(refused, Reason::AccountQuarantined).await;
    let paid = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(paid).await;
    assert!(process.ingress.balance(&bob, true).await.is_ok(), "reads are served");
    assert!(!cluster.row(&alice).await.quarantined);
    let still = examined(&process, &bob).await;
    assert_eq!(still.findings.len(), 1);
    assert!(still.findings[0].what.contains("held"), "{still:?}");

    tamper(&cluster, &bob, 0, -7).await;
    let sound = examined(&process, &bob).await;
    assert_eq!(sound.findings, []);
    assert!(operator::release(&process.context, &bob, &sound, &zoe()).await.unwrap());
    assert!(!operator::release(&process.context, &bob, &sound, &zoe()).await.unwrap());
    assert_eq!(operator::examine(&process.context, &bob).await.unwrap(), None);
    assert_eq!(cluster.store().quarantines(Shard(1), None, 10).await.unwrap(), []);
    let back = process.transfer(&bob, &alice, 1).await;
    cluster.assert_committed(back).await;
    let names: Vec<String> = logged(&cluster).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["account.quarantine", "account.release_quarantine"]);
    cluster.finish([process]).await;
}

async fn an_account_that_never_changes_is_found_by_the_pass_over_everything(backend: Backend) {
    let cluster = Cluster::with(backend, |policy| {
        eager(policy);
        policy.drift_full_interval = Duration::from_secs(1);
    })
    .await;
    let process = cluster.running();
    let (idle, other) = (cluster.account(0, 1000).await, cluster.account(0, 1000).await);
    looked_at_everything(&cluster).await;
    add(&cluster, &idle, 7).await;
    let found = quarantine(&cluster, &idle).await;
    assert_eq!((found.suspicion.amount, found.suspicion.transfer), (7, None));
    assert!(!cluster.row(&other).await.quarantined);
    add(&cluster, &idle, -7).await;
    cluster.finish([process]).await;
}

async fn money_credited_for_a_transfer_that_was_cancelled_is_found(backend: Backend) {
    let cluster = Cluster::with(backend, once).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Hold, Role::Reconciler]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    process.ingress.cancel(id, Reason::CancelledByClient).await.unwrap();
    credit(&cluster, id).await;
    process.start(&[Role::Hold, Role::Reconciler]);
    let found = quarantine(&cluster, &bob).await;
    assert_eq!((found.suspicion.amount, found.suspicion.transfer), (100, Some(id)));
    assert!(found.suspicion.reason.contains("credited, but not paid for"), "{found:?}");
    assert_eq!(cluster.state(id).await.0, State::Cancelled);
    let still = examined(&process, &bob).await;
    assert_eq!(still.findings.len(), 1, "{still:?}");
    process.stop_all().await;
}

/// Credits a transfer as credit does, whatever has become of it.
async fn credit(cluster: &Cluster, id: TransferId) {
    let terms = cluster.transfer(id).await.row.terms;
    let account = terms.destination.clone();
    let mut tx = cluster.store().begin(cluster.store().map().shard_of(&account)).await.unwrap();
    let row = tx.lock_accounts(&[account.clone()].into()).await.unwrap().remove(&account).unwrap();
    let (posted, version) = (row.posted + terms.amount.minor(), row.version + 1);
    let change =
        AccountChange { id: account, posted, held: row.held, version_before: row.version, version };
    assert_eq!(tx.write_accounts(&[change]).await.unwrap(), 1);
    let entry = Entry { amount: terms.amount, balance_after: posted, version };
    let pivot = EntryRow::pivot_row(&terms, Ok(entry), tx.now(), Cause::default());
    tx.insert_entries(&[pivot]).await.unwrap();
    tx.commit().await.unwrap();
}

/// Hazard 28: shard 0 is read, a commit happens, shard 1 is read: a difference that is none, and a
/// sound account in quarantine.
async fn money_that_moves_is_no_drift(backend: Backend) {
    let cluster = Cluster::with(backend, |policy| {
        eager(policy);
        policy.drift_full_interval = Duration::from_secs(1);
    })
    .await;
    let process = cluster.running();
    let accounts = [
        cluster.account(0, 5000).await,
        cluster.account(1, 5000).await,
        cluster.account(1, 50).await,
    ];
    let mut last = Vec::new();
    for round in 0..60_usize {
        let (from, to) = (&accounts[round % 3], &accounts[(round + 1) % 3]);
        last.push(process.transfer(from, to, 7).await);
        if round % 10 == 9 {
            cluster.end_of(last[round]).await;
        }
    }
    cluster.settled().await;
    // A pass that began after all of it.
    let now = cluster.store().now(Shard(0)).await.unwrap();
    for shard in cluster.store().map().all_shards() {
        eventually("a later pass", || async {
            let known = cluster.store().drift_progress(shard, Pass::Transfers).await.unwrap();
            known.is_some_and(|known| known.begun_at > now && known.ended_at.is_some())
        })
        .await;
        assert_eq!(cluster.store().quarantines(shard, None, 10).await.unwrap(), []);
        eventually("nothing to look at again", || async {
            let first = TransferId::from_bytes([0; 16]);
            cluster.store().drift_watched(shard, first, 10).await.unwrap().is_empty()
        })
        .await;
    }
    assert_eq!(logged(&cluster).await, []);
    cluster.finish([process]).await;
}

async fn a_shard_that_does_not_answer_stops_only_what_needs_it(backend: Backend) {
    let cluster = Cluster::with(backend, once).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Reconciler]);
    let (alice, carol) = (cluster.account(0, 1000).await, cluster.account(0, 1000).await);
    let bob = cluster.account(1, 0).await;
    let far = process.transfer(&alice, &bob, 10).await;
    let near = process.transfer(&carol, &alice, 10).await;
    cluster.assert_committed(far).await;
    cluster.assert_committed(near).await;
    add(&cluster, &carol, 7).await;
    add(&cluster, &bob, 7).await;
    process.shard(1).down(true);
    process.start_on(Role::Reconciler, 0);
    assert_eq!(quarantine(&cluster, &carol).await.suspicion.amount, 7);
    eventually("the far one to be looked at again", || async {
        let first = TransferId::from_bytes([0; 16]);
        cluster.store().drift_watched(Shard(0), first, 10).await.unwrap() == [far]
    })
    .await;
    assert!(!cluster.row(&bob).await.quarantined);
    process.shard(1).down(false);
    assert_eq!(quarantine(&cluster, &bob).await.suspicion.amount, 7);
    add(&cluster, &carol, -7).await;
    add(&cluster, &bob, -7).await;
    process.start_on(Role::Reconciler, 1);
    cluster.finish([process]).await;
}
