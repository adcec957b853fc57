//! Shards that lose their last commits, and what recovery makes of them.

use super::backend::Backend;
use super::cluster::Cluster;
use super::faults::SendFault;
use super::process::{Process, ROLES, dollars, request};
use crate::wait::eventually;
use async_trait::async_trait;
use holdfast::broker::envelope;
use holdfast::domain::{
    AccountId, AccountKind, AccountSnapshot, AccountStatus, Cause, ClaimKey, Entry, EntryRow,
    Event, EventType, NewTransfer, PivotDecision, Reason, RequestDetails, Shard, State, Terms,
    TransferId,
};
use holdfast::ingress::TransferRequest;
use holdfast::reconciler::recover::{self, RecoverError, Report, Scope};
use holdfast::roles::Role;
use holdfast::routing::slot_of;
use holdfast::sealing::seal;
use holdfast::store::{StoreError, Tx, Work, transact};
use std::collections::BTreeMap;

scenarios! {
    whatever_a_shard_loses_every_key_is_paid_once
    a_transfer_whose_hold_was_lost_is_held_beyond_its_limit
    a_lost_key_that_was_used_again_is_not_paid_twice
    a_lost_account_is_made_again_from_its_events
    recovery_is_not_finished_before_a_lost_account_is_there
    settings_and_versions_that_events_have_shown_are_restored
    an_event_from_before_recovery_is_dropped
    an_end_that_nobody_was_told_of_is_announced_by_recovery
}

fn scope(shards: &[u16]) -> Scope {
    Scope { lost: shards.iter().copied().map(Shard).collect(), since: None }
}

/// As the command does it; the cluster is of the next generation then.
async fn recover(cluster: &mut Cluster, shards: &[u16]) -> Report {
    recover::raise(cluster.store()).await.unwrap();
    cluster.reopen().await;
    let report = repair(cluster, shards).await;
    let again = repair(cluster, shards).await;
    assert_eq!((again.repaired, again.ends), (vec![], 0), "a second run finds nothing to do");
    report
}

async fn repair(cluster: &Cluster, shards: &[u16]) -> Report {
    recover::recover(&cluster.process().context, &scope(shards)).await.unwrap()
}

/// Transfers that end in every way, between all shards, some of them cancelled.
async fn load(
    cluster: &Cluster,
    process: &Process,
    accounts: &[AccountId],
) -> Vec<TransferRequest> {
    let mut requests = Vec::new();
    for number in 0..60 {
        let from = &accounts[number % accounts.len()];
        let to = &accounts[(number * 5 + 1 + number / 6) % accounts.len()];
        if from == to {
            continue;
        }
        let mut asked = request(from, to, 1 + number as i64 % 9);
        if number % 7 == 0 {
            asked.destination = cluster.name(number as u16 / 7 % 2);
        }
        if number % 11 == 0 {
            asked.amount = dollars(1_000_000);
        }
        let submitted = process.submit(&asked).await;
        if number % 5 == 0 {
            let id = submitted.transfer.row.terms.id;
            let _ = process.ingress.cancel(id, Reason::CancelledByClient).await;
        }
        requests.push(asked);
    }
    requests
}

/// How many transfers out of a shard were paid.
async fn paid(cluster: &Cluster, shard: u16) -> usize {
    let of_shard = |id| cluster.store().map().shard_of_transfer(id) == Shard(shard);
    let transfers = cluster.transfers().await;
    transfers
        .iter()
        .filter(|fact| fact.state == State::Committed && of_shard(fact.terms.id))
        .count()
}

/// Hazard 6: a shard goes back in the middle of everything, the other does not.
async fn whatever_a_shard_loses_every_key_is_paid_once(backend: Backend) {
    // At once: each spends most of its time waiting for leases to run out.
    tokio::join!(
        lose_and_recover(backend, 0, false),
        lose_and_recover(backend, 0, true),
        lose_and_recover(backend, 1, true),
    );
}

async fn lose_and_recover(backend: Backend, lost: u16, in_the_middle: bool) {
    let mut cluster = Cluster::new(backend).await;
    let before = cluster.running();
    let mut accounts = Vec::new();
    for number in 0..6 {
        accounts.push(cluster.account(number % 2, 1000).await);
    }
    let mut requests = load(&cluster, &before, &accounts).await;
    cluster.settled().await;
    before.stop_all().await;
    cluster.remember(lost).await;

    let process = cluster.running();
    let already = paid(&cluster, lost).await;
    requests.extend(load(&cluster, &process, &accounts).await);
    if in_the_middle {
        eventually("some payments", || async { paid(&cluster, lost).await > already + 3 }).await;
    } else {
        cluster.settled().await;
    }
    process.abort(&ROLES).await;
    cluster.prolong_leases().await;
    let early = recover::raise(cluster.store()).await;
    assert!(matches!(early, Err(RecoverError::AtWork { .. })), "{early:?}");
    cluster.forget(lost).await;
    let report = recover(&mut cluster, &[lost]).await;
    assert!(report.finished && !report.repaired.is_empty(), "{report:?}");

    let after = cluster.running();
    let mut repeated = Vec::new();
    for asked in &requests {
        repeated.push((asked, after.submit(asked).await.transfer.row.terms.id));
    }
    let mut model: BTreeMap<AccountId, i64> = BTreeMap::new();
    for (asked, id) in repeated {
        if cluster.end_of(id).await.0 == State::Committed {
            *model.entry(asked.source.clone()).or_default() -= asked.amount.minor();
            *model.entry(asked.destination.clone()).or_default() += asked.amount.minor();
        }
    }
    cluster.settled().await;
    for account in &accounts {
        let posted = model.get(account).copied().unwrap_or(0);
        assert_eq!(cluster.money(account).await, (posted, 0), "{account}");
    }
    cluster.audit().await;
    cluster.all_announced().await;
    after.stop_all().await;
}

/// A transfer that a shard accepted and lost, with the event that it published.
async fn published(cluster: &Cluster, from: &AccountId, to: &AccountId, minor: i64) -> NewTransfer {
    let new = accepted(cluster, from, to, minor).await;
    requested(cluster, &new).await;
    new
}

/// The same where what is personal is encrypted.
async fn published_sealed(
    cluster: &Cluster,
    from: &AccountId,
    to: &AccountId,
    minor: i64,
) -> NewTransfer {
    struct Seal(NewTransfer);

    #[async_trait]
    impl Work for Seal {
        type Output = NewTransfer;

        async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<NewTransfer, StoreError> {
            let mut new = self.0.clone();
            seal(&tx.sealer()?.expect("it is encrypted"), &mut new);
            Ok(new)
        }
    }

    let new = Seal(accepted(cluster, from, to, minor).await);
    let new = transact(cluster.store(), cluster.store().map().shard_of(from), &new).await.unwrap();
    requested(cluster, &new).await;
    new
}

async fn accepted(cluster: &Cluster, from: &AccountId, to: &AccountId, minor: i64) -> NewTransfer {
    let asked = request(from, to, minor);
    let at = cluster.store().now(cluster.store().map().shard_of(from)).await.unwrap();
    let terms = Terms {
        id: TransferId::mint(at, slot_of(from), 0, rand::random()),
        source: from.clone(),
        destination: to.clone(),
        amount: asked.amount,
        reverses: None,
    };
    NewTransfer {
        terms,
        claim: ClaimKey { source: from.clone(), client: asked.client, key: asked.key },
        fingerprint: [7; 32],
        fingerprint_version: 1,
        description: None,
        reference: Some("lost".to_owned()),
        metadata: None,
        sealed: None,
        at,
    }
}

async fn requested(cluster: &Cluster, new: &NewTransfer) {
    let (request, at) = (Some(RequestDetails::of(new)), new.at);
    publish(cluster, EventType::Requested, &new.terms, |event| {
        *event = Event { request, at, ..event.clone() };
    })
    .await;
}

async fn publish(
    cluster: &Cluster,
    kind: EventType,
    terms: &Terms,
    adjust: impl FnOnce(&mut Event),
) {
    let store = cluster.store();
    let at = store.now(Shard(0)).await.unwrap();
    let mut event = store.identity().stamp(at).event(kind, terms);
    adjust(&mut event);
    // New topics have no leaders for a moment.
    eventually("the broker", || async { cluster.broker().producer().await.is_ok() }).await;
    cluster.produce(vec![envelope::record(&event, store.map())]).await;
}

/// Its pivot as credit wrote it.
async fn credited(cluster: &Cluster, terms: &Terms) {
    let shard = cluster.store().map().shard_of(&terms.destination);
    let mut tx = cluster.store().begin(shard).await.unwrap();
    let rows = tx.lock_accounts(&[terms.destination.clone()].into()).await.unwrap();
    let row = &rows[&terms.destination];
    let (balance_after, version) = (row.posted + terms.amount.minor(), row.version + 1);
    let change = holdfast::domain::AccountChange {
        id: row.id.clone(),
        posted: balance_after,
        held: row.held,
        version_before: row.version,
        version,
    };
    assert_eq!(tx.write_accounts(&[change]).await.unwrap(), 1);
    let entry = Entry { amount: terms.amount, balance_after, version };
    let pivot = EntryRow::pivot_row(terms, Ok(entry), tx.now(), Cause::default());
    tx.insert_entries(&[pivot]).await.unwrap();
    tx.commit().await.unwrap();
}

fn snapshot(id: &AccountId, version: i64) -> AccountSnapshot {
    AccountSnapshot {
        id: id.clone(),
        currency: super::cluster::usd(),
        kind: AccountKind::Customer,
        status: AccountStatus::Active,
        overdraft_limit: 70,
        posted: 0,
        held: 0,
        version,
    }
}

/// Hazard 6: what its source had was lost as well, and the credit stands.
async fn a_transfer_whose_hold_was_lost_is_held_beyond_its_limit(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.account(0, 30).await, cluster.account(1, 0).await);
    let lost = published_sealed(&cluster, &alice, &bob, 100).await;
    credited(&cluster, &lost.terms).await;
    let report = recover(&mut cluster, &[0]).await;
    let what: Vec<&str> = report.findings.iter().map(|finding| finding.what).collect();
    assert_eq!(
        what,
        ["a hold that was lost takes its account below its limit: the limit was raised"]
    );
    let row = cluster.row(&alice).await;
    assert_eq!((row.posted, row.held, row.overdraft_limit), (0, 100, 100));
    let process = cluster.running();
    cluster.assert_committed(lost.terms.id).await;
    let record = cluster.transfer(lost.terms.id).await;
    assert_eq!((record.reference.as_deref(), record.row.requested_at), (Some("lost"), lost.at));
    assert!(lost.sealed.is_some());
    assert_eq!(record.sealed, lost.sealed, "as it was published");
    assert_eq!(cluster.money(&bob).await, (100, 0));
    cluster.settled().await;
    cluster.audit().await;
    process.stop_all().await;
}

/// Hazard 6: ingress took requests on the promoted shard before anybody recovered it.
async fn a_lost_key_that_was_used_again_is_not_paid_twice(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let lost = published(&cluster, &alice, &bob, 100).await;
    let paid = published(&cluster, &alice, &bob, 50).await;
    credited(&cluster, &paid.terms).await;
    let mut ids = Vec::new();
    for (of, minor) in [(&lost, 100), (&paid, 50)] {
        let again = TransferRequest { key: of.claim.key.clone(), ..request(&alice, &bob, minor) };
        ids.push(cluster.process().submit(&again).await.transfer.row.terms.id);
    }
    let report = recover(&mut cluster, &[0]).await;
    let what: Vec<&str> = report.findings.iter().map(|finding| finding.what).collect();
    assert_eq!(
        what,
        [
            "a lost transfer has been paid, and its key was used since for another one",
            "a lost transfer was not made again: its key was used since for another one",
        ]
    );
    let process = cluster.running();
    ids.push(paid.terms.id);
    for id in ids {
        cluster.assert_committed(id).await;
    }
    let record = cluster.transfer(paid.terms.id).await;
    assert!(paid.sealed.is_none() && record.sealed.is_some(), "from before it was encrypted");
    assert_eq!(record.reference, paid.reference);
    assert_eq!(cluster.money(&alice).await, (-200, 0));
    assert_eq!(cluster.transfers().await.len(), 3);
    cluster.settled().await;
    cluster.audit().await;
    process.stop_all().await;
}

async fn a_lost_account_is_made_again_from_its_events(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.name(0), cluster.account(1, 0).await);
    let lost = published(&cluster, &alice, &bob, 50).await;
    credited(&cluster, &lost.terms).await;
    let account = snapshot(&alice, 9);
    publish(&cluster, EventType::Held, &lost.terms, |event| event.account = Some(account)).await;
    let report = recover(&mut cluster, &[0]).await;
    assert_eq!((report.finished, report.accounts), (true, 1), "{report:?}");
    let row = cluster.row(&alice).await;
    assert_eq!((row.posted, row.held, row.overdraft_limit, row.version), (0, 50, 70, 11));
    let process = cluster.running();
    cluster.assert_committed(lost.terms.id).await;
    cluster.settled().await;
    cluster.audit().await;
    process.stop_all().await;
}

async fn recovery_is_not_finished_before_a_lost_account_is_there(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.name(0), cluster.account(1, 0).await);
    let lost = published(&cluster, &alice, &bob, 50).await;
    credited(&cluster, &lost.terms).await;
    recover::raise(cluster.store()).await.unwrap();
    cluster.reopen().await;
    let unfinished = async || cluster.store().recovery_unfinished(Shard(0)).await.unwrap();
    let report = repair(&cluster, &[0]).await;
    assert!(!report.finished && unfinished().await);
    assert_eq!(report.findings[0].what, "an account was lost, and no event carried its row");
    cluster.account_of(alice.clone(), AccountKind::Customer, super::cluster::usd(), 50).await;
    let report = repair(&cluster, &[0]).await;
    assert!(report.finished && !unfinished().await);
    let process = cluster.running();
    cluster.assert_committed(lost.terms.id).await;
    cluster.settled().await;
    cluster.audit().await;
    process.stop_all().await;
}

/// A freeze was lost; and readers have seen version 40 of an account that is at version 1.
async fn settings_and_versions_that_events_have_shown_are_restored(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.account(0, 30).await, cluster.account(1, 0).await);
    let untouched = cluster.account(0, 5).await;
    let lost = published(&cluster, &alice, &bob, 50).await;
    let frozen = AccountSnapshot { status: AccountStatus::Frozen, ..snapshot(&alice, 40) };
    publish(&cluster, EventType::Rejected, &lost.terms, |event| {
        event.reason = Some(Reason::SourceFrozen);
        event.account = Some(frozen);
    })
    .await;
    let report = recover(&mut cluster, &[0]).await;
    assert_eq!(report.accounts, 1);
    let row = cluster.row(&alice).await;
    assert_eq!((row.status, row.overdraft_limit, row.version), (AccountStatus::Frozen, 70, 41));
    assert_eq!(cluster.row(&untouched).await.version, 1);
    let state = cluster.state(lost.terms.id).await;
    assert_eq!(state, (State::Rejected, Some(Reason::SourceFrozen)), "as it was announced");
    let process = cluster.running();
    cluster.settled().await;
    cluster.audit().await;
    process.stop_all().await;
}

/// Hazard 6: recovery has ended, and `held` of a transfer whose hold was lost is still to be read.
async fn an_event_from_before_recovery_is_dropped(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let lost = published(&cluster, &alice, &bob, 60).await;
    publish(&cluster, EventType::Held, &lost.terms, |_| {}).await;
    let cancelled = |event: &mut Event| event.reason = Some(Reason::CancelledByClient);
    publish(&cluster, EventType::Cancelled, &lost.terms, cancelled).await;
    let old = cluster.process();
    let terms = lost.terms.clone();
    recover(&mut cluster, &[0]).await;
    let stale = old.context.store.begin(Shard(0)).await;
    assert!(stale.is_err(), "a process of the old generation writes nothing");
    let process = cluster.process();
    process.start_all_but(&[Role::Reconciler]);
    process.caught_up(&[Role::Hold, Role::Credit, Role::Commit]).await;
    let pivots = cluster.store().credit_facts_of(Shard(1), &[terms.id]).await.unwrap();
    let decisions: Vec<PivotDecision> = pivots.iter().map(|pivot| pivot.decision).collect();
    assert_eq!(decisions, [], "nobody acts on what was published before");
    assert_eq!(cluster.state(terms.id).await.0, State::Cancelled);
    cluster.settled().await;
    cluster.audit().await;
    process.stop_all().await;
}

/// Hazard 6, hazard 15: commit dies before it could say what it did, and another shard is promoted. The
/// event that it would read again is of before.
async fn an_end_that_nobody_was_told_of_is_announced_by_recovery(backend: Backend) {
    let mut cluster = Cluster::new(backend).await;
    let (alice, bob) = (cluster.account(0, 100).await, cluster.account(1, 0).await);
    let (process, commit) = (cluster.process(), cluster.process());
    process.start_all_but(&[Role::Commit]);
    commit.broker.sends([SendFault::After(0); 1000]);
    commit.start(&[Role::Commit]);
    let told = process.transfer(&bob, &alice, 1).await;
    cluster.assert_refused(told, Reason::InsufficientFunds).await;
    let untold = process.transfer(&alice, &bob, 60).await;
    cluster.assert_committed(untold).await;
    commit.abort(&[Role::Commit]).await;
    process.stop_all().await;
    cluster.end_leases().await;
    assert!(cluster.events(EventType::Committed, 0).await.is_empty());

    let looked = recover::look(&cluster.process().context, &scope(&[1])).await.unwrap();
    assert_eq!(looked.ends, 1, "of an end that was announced nothing is said again: {looked:?}");
    let report = recover(&mut cluster, &[1]).await;
    assert_eq!((report.finished, report.ends), (true, 1), "{report:?}");
    let after = cluster.running();
    eventually("the end", || async { !cluster.events(EventType::Committed, 0).await.is_empty() })
        .await;
    let [record] = &cluster.events(EventType::Committed, 0).await[..] else {
        panic!("it is announced once")
    };
    let event = envelope::event(record).unwrap();
    let account = event.account.expect("the row that it changed");
    assert_eq!((event.terms.id, account.id), (untold, alice));
    assert_eq!((account.posted, account.held), (-60, 0));
    cluster.finish([after]).await;
}
