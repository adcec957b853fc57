//! What a transaction promises, whatever it writes.

use super::world::{
    SHARD, World, account, change, constraint, customer, entry, name, record, stage, transfer,
};
use async_trait::async_trait;
use futures::future::join_all;
use holdfast::domain::{AccountId, Plan, Side, State, TransferId};
use holdfast::store::{
    Constraint, NewTransfer, Store, StoreError, Tx, Work, expect_rows, transact,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

pub async fn what_is_committed_is_seen_and_nothing_before(world: World) {
    let new = transfer(1, world.store.now(SHARD).await.unwrap(), "alice", "bob", 1);
    let mut tx = world.begin().await;
    assert_eq!(tx.shard(), SHARD);
    tx.insert_accounts(&[customer("alice")]).await.unwrap();
    tx.insert_transfers(std::slice::from_ref(&new)).await.unwrap();
    tx.insert_outbox(&[record("alice", "{}")]).await.unwrap();
    let seen = async || {
        let found = world.store.account(SHARD, &account("alice")).await.unwrap();
        let depth = world.store.outbox_depth(SHARD).await.unwrap();
        (found.is_some(), world.record(new.terms.id).await.is_some(), depth.0)
    };
    assert_eq!(seen().await, (false, false, 0));
    tx.commit().await.unwrap();
    assert_eq!(seen().await, (true, true, 1));
}

pub async fn a_dropped_transaction_leaves_nothing(world: World) {
    let new = transfer(1, world.store.now(SHARD).await.unwrap(), "alice", "bob", 1);
    let mut tx = world.begin().await;
    tx.insert_accounts(&[customer("alice")]).await.unwrap();
    tx.insert_transfers(std::slice::from_ref(&new)).await.unwrap();
    drop(tx);
    world.customers(SHARD, &["alice"]).await;
    world.request(&[new]).await;
}

/// A client that disconnects drops what is done for it, wherever that stands.
pub async fn work_dropped_in_the_middle_costs_no_connection(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    let both: BTreeSet<AccountId> = [account("alice"), account("bob")].into();
    for round in 0..100 {
        let mut begin = Box::pin(world.store.begin(SHARD));
        if round % 3 == 0 {
            let _ = futures::poll!(&mut begin);
            continue;
        }
        let mut tx = begin.await.unwrap();
        let rows = tx.lock_accounts(&both).await.unwrap();
        let write = [change(&rows[&account("alice")], 1, 0)];
        let mut writing = tx.write_accounts(&write);
        if round % 3 == 1 {
            let _ = futures::poll!(&mut writing);
        } else {
            writing.await.unwrap();
        }
    }
    for _ in 0..20 {
        let rows = world.begin().await.lock_accounts(&both).await.unwrap();
        assert_eq!(rows[&account("alice")], customer("alice").row);
    }
}

pub async fn a_commit_that_is_dropped_happened_or_not(world: World) {
    for round in 0..20 {
        let id = format!("account-{round}");
        let mut tx = world.begin().await;
        tx.insert_accounts(&[customer(&id), customer(&format!("{id}-b"))]).await.unwrap();
        let mut commit = tx.commit();
        let _ = futures::poll!(&mut commit);
        drop(commit);
    }
    let accounts = world.store.decision_rows(SHARD, None, 100).await.unwrap();
    assert_eq!(accounts.len() % 2, 0, "each of them whole");
    world.customers(SHARD, &["alice"]).await;
}

/// Rule 3: a count that is short rolls everything back.
pub async fn a_short_count_rolls_everything_back(world: World) {
    world.customers(SHARD, &["alice"]).await;
    let at = world.store.now(SHARD).await.unwrap();
    let (one, other) = (transfer(1, at, "alice", "bob", 1), transfer(2, at, "alice", "bob", 1));
    world.request(&[one.clone(), other.clone()]).await;
    // The other one was cancelled in between (hazard 12).
    let mut tx = world.begin().await;
    tx.advance_transfers(&[stage(&other.terms, State::Requested, State::Cancelled, at)])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&[account("alice")].into()).await.unwrap();
    tx.write_accounts(&[change(&rows[&account("alice")], 0, 2)]).await.unwrap();
    let holds = [&one, &other].map(|new| stage(&new.terms, State::Requested, State::Held, at));
    let changed = tx.advance_transfers(&holds).await.unwrap();
    let short = expect_rows(SHARD, "transaction_status", 2, changed).unwrap_err();
    assert_eq!(name(&short), "retry");
    drop(tx);
    assert_eq!(world.row(SHARD, "alice").await, customer("alice").row);
    assert_eq!(world.record(one.terms.id).await.unwrap().row.state, State::Requested);
}

/// Rule 3 for a plan: what is not exact is told at the COMMIT at the latest, and nothing of it stays.
pub async fn a_plan_is_written_whole_or_not_at_all(world: World) {
    world.customers(SHARD, &["alice"]).await;
    let at = world.store.now(SHARD).await.unwrap();
    let (one, other) = (transfer(1, at, "alice", "bob", 1), transfer(2, at, "alice", "bob", 1));
    world.request(&[one.clone(), other.clone()]).await;
    let hold = |new: &NewTransfer| stage(&new.terms, State::Requested, State::Held, at);
    let held = change(&customer("alice").row, 0, 1);
    let debit = entry(&one.terms, Side::Debit, -1, 2, at);
    let plan = Plan {
        accounts: vec![held.clone()],
        transfers: vec![hold(&one)],
        entries: vec![debit.clone()],
        ..Plan::default()
    };
    let mut elsewhere = plan.clone();
    elsewhere.transfers[0].from = State::Held;
    elsewhere.transfers[0].to = State::Committed;
    let mut behind = plan.clone();
    behind.accounts[0].version_before += 1;
    let mut unknown = plan.clone();
    unknown.transfers.push(hold(&transfer(3, at, "alice", "bob", 1)));
    for wrong in [elsewhere, behind, unknown] {
        let error = written(&world, &wrong).await.unwrap_err();
        assert_eq!(name(&error), "retry", "{error}");
        assert_eq!(world.row(SHARD, "alice").await, customer("alice").row);
        assert_eq!(world.record(one.terms.id).await.unwrap().row.state, State::Requested);
    }
    written(&world, &plan).await.unwrap();
    assert_eq!(world.row(SHARD, "alice").await.held, 1);
    assert_eq!(world.record(one.terms.id).await.unwrap().row.state, State::Held);
    assert_eq!(world.store.entries_of(SHARD, &[one.terms.id]).await.unwrap(), [debit]);
    let other_version = entry(&one.terms, Side::Debit, -2, 3, at);
    let again = Plan { entries: vec![other_version], ..Plan::default() };
    assert_eq!(constraint(written(&world, &again).await), Constraint::Entry);
    // What is read in the same transaction sees it.
    let mut tx = world.begin().await;
    tx.write(&Plan { transfers: vec![hold(&other)], ..Plan::default() }).await.unwrap();
    assert_eq!(tx.transfers(&[other.terms.id]).await.unwrap()[&other.terms.id].state, State::Held);
    drop(tx);
    assert_eq!(world.record(other.terms.id).await.unwrap().row.state, State::Requested);
}

async fn written(world: &World, plan: &Plan) -> Result<(), StoreError> {
    let mut tx = world.begin().await;
    tx.write(plan).await?;
    tx.commit().await
}

/// No text can end before its end, whatever it holds.
pub async fn texts_come_back_as_they_were(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let texts = [
        "it's",
        "\\",
        "\\'",
        "'; DROP TABLE outbox; -- ",
        "''\\''\"",
        "? ?",
        "caf\u{e9} \u{1f600}",
        "%_\\%",
        "a\nb\tc\u{1}",
        "\\u0027",
        "\\\\' OR 1=1 #",
    ];
    let new = |(number, text): (usize, &&str)| NewTransfer {
        description: Some((*text).to_owned()),
        reference: Some(format!("{text}'")),
        metadata: Some(serde_json::json!({ *text: *text }).to_string()),
        ..transfer(number as u64, at, "alice", "bob", 1)
    };
    let all: Vec<NewTransfer> = texts.iter().enumerate().map(new).collect();
    let mut tx = world.begin().await;
    tx.insert_transfers(&all).await.unwrap();
    let records: Vec<_> = texts.iter().map(|text| record("alice", text)).collect();
    tx.insert_outbox(&records).await.unwrap();
    tx.commit().await.unwrap();
    for new in all {
        let found = world.record(new.terms.id).await.unwrap();
        let of = |of: (&Option<String>, &Option<String>, &Option<String>)| {
            (of.0.clone(), of.1.clone(), of.2.clone())
        };
        assert_eq!(
            of((&found.description, &found.reference, &found.metadata)),
            of((&new.description, &new.reference, &new.metadata))
        );
    }
    let rows = world.store.outbox(SHARD, 0, 10).await.unwrap();
    assert_eq!(rows[0].records.as_ref().unwrap(), &records);
}

/// Moves one unit along a ring of accounts, in whichever direction.
async fn shift(store: &dyn Store, ids: &[AccountId]) -> Result<(), StoreError> {
    let mut tx = store.begin(SHARD).await?;
    let locked = tx.lock_accounts(&ids.iter().cloned().collect()).await?;
    let (mut rows, mut applied) = (locked.clone(), BTreeMap::<&AccountId, i64>::new());
    for pair in ids.windows(2) {
        for (id, amount) in [(&pair[0], -1), (&pair[1], 1)] {
            rows.get_mut(id).unwrap().posted += amount;
            *applied.entry(id).or_default() += 1;
        }
    }
    let changes: Vec<_> = locked
        .values()
        .map(|before| holdfast::store::AccountChange {
            version: before.version + applied[&before.id],
            ..change(before, rows[&before.id].posted, 0)
        })
        .collect();
    let written = tx.write_accounts(&changes).await?;
    expect_rows(SHARD, "account_mst", changes.len(), written)?;
    tx.commit().await
}

/// Rule 1: locks taken in one order are never given up.
pub async fn transfers_in_opposite_directions_do_not_deadlock(world: World) {
    const TASKS: usize = 8;
    const ROUNDS: usize = 25;
    let names: Vec<String> = (0..20).map(|number| format!("account-{number}")).collect();
    world.customers(SHARD, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let ids: Vec<AccountId> = names.iter().map(|name| account(name)).collect();
    let tasks = (0..TASKS).map(|task| {
        let (store, mut ids) = (Arc::clone(&world.store), ids.clone());
        if task % 2 == 0 {
            ids.reverse();
        }
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                ids.rotate_left(round % 7 + 1);
                shift(&*store, &ids[..6]).await.unwrap();
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(|task| task.unwrap());
    let rows = world.store.decision_rows(SHARD, None, 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.posted).sum::<i64>(), 0);
    let changes: i64 = rows.iter().map(|row| row.version - 1).sum();
    assert_eq!(changes, (TASKS * ROUNDS * 5 * 2) as i64);
}

/// Accepts requests as ingress does: claims are looked up first, and what is not claimed is
/// inserted. Yields the transfer that each key stands for.
struct Accept(Vec<NewTransfer>);

#[async_trait]
impl Work for Accept {
    type Output = Vec<TransferId>;

    async fn run(&self, tx: &mut dyn Tx, _: u32) -> Result<Vec<TransferId>, StoreError> {
        let keys: Vec<_> = self.0.iter().map(|new| new.claim.clone()).collect();
        let claimed = tx.claims(&keys).await?;
        let fresh: Vec<_> =
            self.0.iter().filter(|new| !claimed.contains_key(&new.claim)).cloned().collect();
        tx.insert_transfers(&fresh).await?;
        let answer = |new: &NewTransfer| {
            claimed.get(&new.claim).map_or(new.terms.id, |claim| claim.transfer)
        };
        Ok(self.0.iter().map(answer).collect())
    }
}

/// Hazard 30: two groups that claim the same keys in opposite order.
pub async fn one_of_two_groups_wins_every_key(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    for round in 0..15 {
        let group = |member: u64| -> Vec<NewTransfer> {
            let number = |key: u64| 1000 * round + 100 * member + key;
            (0..8)
                .map(|key| {
                    let mut new = transfer(number(key), at, "alice", "bob", 1);
                    new.claim.key = super::world::key(&format!("{round}-{key}"));
                    new
                })
                .collect()
        };
        let (one, mut other) = (Accept(group(1)), Accept(group(2)));
        other.0.reverse();
        let (one, other) = futures::join!(
            transact(&*world.store, SHARD, &one),
            transact(&*world.store, SHARD, &other)
        );
        let mut other = other.unwrap();
        other.reverse();
        assert_eq!(one.unwrap(), other);
    }
    let stored = world
        .store
        .outgoing(SHARD, &account("alice"), &Default::default(), None, 1000)
        .await
        .unwrap();
    assert_eq!(stored.len(), 15 * 8);
}

/// Does its work, and fails a number of times before it lets it stand.
struct Unlucky {
    failures: u32,
    error: fn() -> StoreError,
    runs: AtomicU32,
}

impl Unlucky {
    fn new(failures: u32, error: fn() -> StoreError) -> Self {
        Self { failures, error, runs: AtomicU32::new(0) }
    }
}

#[async_trait]
impl Work for Unlucky {
    type Output = u32;

    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<u32, StoreError> {
        assert_eq!(self.runs.fetch_add(1, Ordering::Relaxed), attempt);
        tx.insert_accounts(&[customer("alice")]).await?;
        if attempt < self.failures { Err((self.error)()) } else { Ok(attempt) }
    }
}

fn retry() -> StoreError {
    StoreError::Retry { shard: SHARD, detail: "a short count".to_owned() }
}

fn lost_race() -> StoreError {
    let (constraint, detail) = (Constraint::Claim, String::new());
    StoreError::Duplicate { shard: SHARD, constraint, detail }
}

fn violation() -> StoreError {
    let (constraint, detail) = (Constraint::EntryVersion, String::new());
    StoreError::Duplicate { shard: SHARD, constraint, detail }
}

pub async fn work_is_run_again_as_a_whole_or_given_up(world: World) {
    let hopeless = Unlucky::new(u32::MAX, retry);
    let error = transact(&*world.store, SHARD, &hopeless).await.unwrap_err();
    assert_eq!(name(&error), "retry");
    assert_eq!(hopeless.runs.into_inner(), 12);
    let broken = Unlucky::new(1, violation);
    let error = transact(&*world.store, SHARD, &broken).await.unwrap_err();
    assert_eq!((name(&error), broken.runs.into_inner()), ("duplicate", 1));
    assert_eq!(world.store.account(SHARD, &account("alice")).await.unwrap(), None);
    assert_eq!(transact(&*world.store, SHARD, &Unlucky::new(3, lost_race)).await.unwrap(), 3);
    assert_eq!(world.row(SHARD, "alice").await, customer("alice").row);
}

pub async fn times_are_the_databases_own(world: World) {
    let before = world.store.now(SHARD).await.unwrap();
    let tx = world.begin().await;
    let at = tx.now();
    drop(tx);
    let after = world.store.now(SHARD).await.unwrap();
    assert!(before <= at && at <= after, "{before} {at} {after}");
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let apart = (clock.as_micros() as i64 - after.micros()).abs();
    assert!(apart < 60_000_000, "microseconds of this host: {apart} apart");
    world.store.ping(SHARD).await.unwrap();
}

pub async fn a_shard_that_is_not_there_is_an_error(world: World) {
    let none = holdfast::domain::Shard(2);
    assert_eq!(name(&world.store.begin(none).await.err().unwrap()), "failed");
    assert_eq!(name(&world.store.now(none).await.unwrap_err()), "failed");
}
