//! Transfers that are refused, and why.

use super::backend::Backend;
use super::cluster::{Cluster, usd};
use super::process::{Process, dollars, request};
use holdfast::domain::{AccountId, AccountKind, MAX_AMOUNT, POSTED_LIMIT, Reason, Suspicion};
use holdfast::store::Actor;

scenarios! {
    what_the_source_cannot_pay_is_refused_with_its_reason
    what_the_destination_cannot_take_is_refused_with_its_reason
    no_number_of_legal_transfers_takes_an_account_out_of_bounds
    a_freeze_or_a_close_between_hold_and_credit_releases_the_hold
    a_hold_made_before_the_freeze_is_committed
    an_account_that_is_closed_holds_nothing_whoever_was_first
    nothing_is_held_after_a_freeze_was_answered
}

async fn what_the_source_cannot_pay_is_refused_with_its_reason(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let bob = cluster.account(1, 0).await;
    let rich = async || cluster.account(0, 1000).await;
    let (poor, frozen, closed, euro, quarantined) =
        (cluster.account(0, 99).await, rich().await, rich().await, cluster.name(0), rich().await);
    process.ingress.freeze_account(&frozen, &Actor::itself()).await.unwrap();
    process.ingress.close_account(&closed, &Actor::itself()).await.unwrap();
    let eur = "EUR".parse().unwrap();
    cluster.account_of(euro.clone(), AccountKind::Customer, eur, 1000).await;
    quarantine(&cluster, &quarantined).await;
    for (source, reason) in [
        (poor, Reason::InsufficientFunds),
        (cluster.name(0), Reason::SourceNotFound),
        (frozen, Reason::SourceFrozen),
        (closed, Reason::SourceClosed),
        (euro, Reason::CurrencyMismatch),
        (quarantined, Reason::AccountQuarantined),
    ] {
        let id = process.transfer(&source, &bob, 100).await;
        cluster.assert_refused(id, reason).await;
    }
    assert_eq!(cluster.money(&bob).await, (0, 0));
    cluster.finish([process]).await;
}

async fn quarantine(cluster: &Cluster, account: &AccountId) {
    let shard = cluster.store().map().shard_of(account);
    let mut tx = cluster.store().begin(shard).await.unwrap();
    let suspicion = Suspicion::of("the test says so");
    tx.quarantine(&[(account.clone(), suspicion)].into()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn what_the_destination_cannot_take_is_refused_with_its_reason(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let alice = cluster.account(0, 1000).await;
    for shard in 0..2 {
        let (frozen, closed, euro) =
            (cluster.account(shard, 0).await, cluster.account(shard, 0).await, cluster.name(shard));
        process.ingress.freeze_account(&frozen, &Actor::itself()).await.unwrap();
        process.ingress.close_account(&closed, &Actor::itself()).await.unwrap();
        let eur = "EUR".parse().unwrap();
        cluster.account_of(euro.clone(), AccountKind::Customer, eur, 0).await;
        for (destination, reason) in [
            (cluster.name(shard), Reason::DestinationNotFound),
            (frozen, Reason::DestinationFrozen),
            (closed, Reason::DestinationClosed),
            (euro, Reason::CurrencyMismatch),
        ] {
            let id = process.transfer(&alice, &destination, 100).await;
            cluster.assert_refused(id, reason).await;
            assert_eq!(cluster.pivot(id).await, Err(reason));
        }
    }
    assert_eq!(cluster.money(&alice).await, (0, 0), "every hold is released");
    cluster.finish([process]).await;
}

/// Hazard 21: an external account has no limit of its own, and every single transfer is legal; in
/// the end `posted` would overflow at commit, after the money was credited. Hold refuses the last.
async fn no_number_of_legal_transfers_takes_an_account_out_of_bounds(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let external = async |shard| {
        cluster.account_of(cluster.name(shard), AccountKind::External, usd(), 0).await
    };
    let (world, vault, other) = (external(0).await, external(1).await, external(0).await);
    let fits = POSTED_LIMIT / MAX_AMOUNT;
    let requests: Vec<_> =
        (0..=fits).map(|_| request(&world, &vault, dollars(MAX_AMOUNT).minor())).collect();
    let mut last = None;
    for part in requests.chunks(500) {
        for answer in process.ingress.submit_many(part.to_vec()).await {
            last = Some(answer.unwrap().transfer.row.terms.id);
        }
    }
    cluster.assert_refused(last.unwrap(), Reason::BalanceLimit).await;
    cluster.settled().await;
    assert_eq!(cluster.money(&world).await, (-fits * MAX_AMOUNT, 0));
    assert_eq!(cluster.money(&vault).await, (fits * MAX_AMOUNT, 0));
    let more = process.transfer(&other, &vault, MAX_AMOUNT).await;
    cluster.assert_refused(more, Reason::BalanceLimit).await;
    assert_eq!(cluster.pivot(more).await, Err(Reason::BalanceLimit));
    cluster.finish([process]).await;
}

async fn a_freeze_or_a_close_between_hold_and_credit_releases_the_hold(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[holdfast::roles::Role::Credit]);
    let alice = cluster.account(0, 1000).await;
    let (frozen, closed) = (cluster.account(1, 0).await, cluster.account(1, 0).await);
    let to_frozen = process.transfer(&alice, &frozen, 100).await;
    let to_closed = process.transfer(&alice, &closed, 100).await;
    cluster.until_held(to_frozen).await;
    cluster.until_held(to_closed).await;
    process.ingress.freeze_account(&frozen, &Actor::itself()).await.unwrap();
    process.ingress.close_account(&closed, &Actor::itself()).await.unwrap();
    process.start(&[holdfast::roles::Role::Credit]);
    cluster.assert_refused(to_frozen, Reason::DestinationFrozen).await;
    cluster.assert_refused(to_closed, Reason::DestinationClosed).await;
    assert_eq!(cluster.money(&alice).await, (0, 0));
    cluster.finish([process]).await;
}

async fn a_hold_made_before_the_freeze_is_committed(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[holdfast::roles::Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let before = process.transfer(&alice, &bob, 100).await;
    cluster.until_held(before).await;
    process.ingress.freeze_account(&alice, &Actor::itself()).await.unwrap();
    let after = process.transfer(&alice, &bob, 100).await;
    process.start(&[holdfast::roles::Role::Credit]);
    cluster.assert_committed(before).await;
    cluster.assert_refused(after, Reason::SourceFrozen).await;
    cluster.finish([process]).await;
}

/// Hazard 5: closing reads posted 0, credit reads active, both commit: a closed account holds
/// money. Status and money are one row under one lock, so one of the two is second and knows.
async fn an_account_that_is_closed_holds_nothing_whoever_was_first(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let alice = cluster.account(0, 1_000_000).await;
    let mut closed = 0;
    for round in 0..20 {
        let bob = cluster.account(round % 2, 0).await;
        let id = process.transfer(&alice, &bob, 100).await;
        if round % 4 > 1 {
            cluster.until_held(id).await;
        }
        let close = process.ingress.close_account(&bob, &Actor::itself()).await;
        let end = cluster.end_of(id).await;
        if close.is_ok() {
            closed += 1;
            assert_eq!(end.1, Some(Reason::DestinationClosed));
        }
        assert_eq!(cluster.money(&bob).await, (if close.is_ok() { 0 } else { 100 }, 0));
    }
    tracing::info!(closed, "accounts were closed before the money came");
    cluster.finish([process]).await;
}

/// Hazard 5, the other half: the same skew lets a hold through after the freeze was answered.
async fn nothing_is_held_after_a_freeze_was_answered(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let bob = cluster.account(1, 0).await;
    for _ in 0..10 {
        let alice = cluster.account(0, 1_000_000).await;
        let mut ids = submit(&process, &alice, &bob, 20).await;
        process.ingress.freeze_account(&alice, &Actor::itself()).await.unwrap();
        let answered = cluster.store().now(cluster.store().map().shard_of(&alice)).await.unwrap();
        ids.extend(submit(&process, &alice, &bob, 5).await);
        for id in ids {
            cluster.end_of(id).await;
            let row = cluster.transfer(id).await.row;
            assert!(row.held_at.is_none_or(|at| at <= answered), "{row:?} after {answered}");
        }
    }
    cluster.finish([process]).await;
}

async fn submit(
    process: &Process,
    from: &AccountId,
    to: &AccountId,
    count: usize,
) -> Vec<holdfast::domain::TransferId> {
    let requests = (0..count).map(|_| request(from, to, 1)).collect();
    let answers = process.ingress.submit_many(requests).await;
    answers.into_iter().map(|answer| answer.unwrap().transfer.row.terms.id).collect()
}
