//! Random transactions against the plainest store there is: maps in memory.

use super::world::{
    SHARD, World, account, change, customer, entry, insert, name, refusal, stage, transfer,
};
use holdfast::domain::{
    AccountId, AccountRow, EntryRow, Reason, Side, StageWrite, State, Timestamp, TransferId,
};
use holdfast::store::{Constraint, NewTransfer, StoreError, Tx};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};

const STEPS: usize = 250;
const NAMES: [&str; 6] = ["a", "A", "b", "c.c", "d-d", "e"];

/// What a store should hold.
#[derive(Clone, Default)]
struct Model {
    accounts: BTreeMap<AccountId, AccountRow>,
    transfers: BTreeMap<TransferId, (NewTransfer, State, Option<Reason>)>,
    entries: BTreeMap<(TransferId, Side), EntryRow>,
    reversed: BTreeMap<TransferId, i64>,
}

pub async fn random_work_leaves_what_a_model_of_it_says(world: World) {
    world.customers(SHARD, &NAMES).await;
    let accounts = NAMES.map(|id| (account(id), customer(id).row)).into();
    let mut model = Model { accounts, ..Model::default() };
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for number in 0..STEPS as u64 {
        let mut tx = world.begin().await;
        let mut next = model.clone();
        let whole = match random.random_range(0..5) {
            0 => request(&mut next, &mut *tx, &mut random, number).await,
            1 => move_money(&mut next, &mut *tx, &mut random).await,
            2 => advance(&mut next, &mut *tx, &mut random).await,
            3 => enter(&mut next, &mut *tx, &mut random).await,
            _ => reverse(&mut next, &mut *tx, &mut random).await,
        };
        if whole && random.random_bool(0.8) {
            tx.commit().await.unwrap();
            model = next;
        }
    }
    compare(&world, &model).await;
}

/// New transfers, now and then with a key or an id that exists.
async fn request(model: &mut Model, tx: &mut dyn Tx, random: &mut StdRng, number: u64) -> bool {
    let count = random.random_range(1..4);
    let mut fresh: Vec<NewTransfer> = (0..count)
        .map(|index| {
            let (source, destination) =
                (NAMES.choose(random).unwrap(), NAMES.choose(random).unwrap());
            transfer(number * 10 + index, tx.now(), source, destination, 1 + index as i64)
        })
        .collect();
    let known = model.transfers.values().choose(random).map(|(new, ..)| new.clone());
    let expected = match (random.random_range(0..5), known) {
        (0, Some(known)) => {
            fresh[0].claim = known.claim;
            Some(Constraint::Claim)
        }
        (1, Some(known)) => {
            fresh[0].terms.id = known.terms.id;
            Some(Constraint::Transfer)
        }
        _ => None,
    };
    let met = insert(tx, &fresh).await;
    for new in fresh {
        model.transfers.insert(new.terms.id, (new, State::Requested, None));
    }
    agrees(met, expected)
}

fn agrees<T>(met: Result<T, StoreError>, expected: Option<Constraint>) -> bool {
    match met {
        Ok(_) => assert_eq!(expected, None),
        Err(StoreError::Duplicate { constraint, .. }) => assert_eq!(Some(constraint), expected),
        Err(error) => panic!("{error}"),
    }
    expected.is_none()
}

/// Some accounts, of which some are written under a version that they do not have.
async fn move_money(model: &mut Model, tx: &mut dyn Tx, random: &mut StdRng) -> bool {
    let ids: BTreeSet<AccountId> =
        model.accounts.keys().cloned().choose_multiple(random, 3).into_iter().collect();
    let rows = tx.lock_accounts(&ids).await.unwrap();
    assert!(rows.iter().all(|(id, row)| model.accounts[id] == *row) && rows.len() == ids.len());
    let mut expected = 0;
    let mut changes = Vec::new();
    for row in rows.values() {
        let posted = row.posted + random.random_range(-50..50);
        let mut to = change(row, posted, random.random_range(0..50));
        if random.random_bool(0.2) {
            to.version_before += 1;
        } else {
            expected += 1;
            let stored = model.accounts.get_mut(&to.id).unwrap();
            (stored.posted, stored.held, stored.version) = (to.posted, to.held, to.version);
        }
        changes.push(to);
    }
    assert_eq!(tx.write_accounts(&changes).await.unwrap(), expected);
    true
}

/// Any steps of any transfers, expected or not.
async fn advance(model: &mut Model, tx: &mut dyn Tx, random: &mut StdRng) -> bool {
    let steps = [
        (State::Requested, State::Held, None),
        (State::Requested, State::Rejected, Some(Reason::InsufficientFunds)),
        (State::Requested, State::Cancelled, Some(Reason::Undeliverable)),
        (State::Held, State::Committed, None),
        (State::Held, State::Rejected, Some(Reason::DestinationClosed)),
        (State::Held, State::Cancelled, Some(Reason::HoldTimeout)),
    ];
    let mut expected = 0;
    let chosen = model.transfers.values_mut().choose_multiple(random, 5);
    let writes: Vec<StageWrite> = chosen
        .into_iter()
        .map(|(new, state, reason)| {
            let (from, to, why) = *steps.choose(random).unwrap();
            if *state == from {
                (*state, *reason) = (to, why);
                expected += 1;
            }
            StageWrite { reason: why, ..stage(&new.terms, from, to, tx.now()) }
        })
        .collect();
    assert_eq!(tx.advance_transfers(&writes).await.unwrap(), expected);
    true
}

/// One entry or mark, which may be there already or take a version that is taken.
async fn enter(model: &mut Model, tx: &mut dyn Tx, random: &mut StdRng) -> bool {
    let Some((new, ..)) = model.transfers.values().choose(random) else { return true };
    let terms = &new.terms;
    let version = random.random_range(2..200);
    let row = match random.random_range(0..3) {
        0 => entry(terms, Side::Debit, version, version, tx.now()),
        1 => entry(terms, Side::Credit, version, version, tx.now()),
        _ => refusal(terms, Reason::CurrencyMismatch, tx.now()),
    };
    let taken = |other: &EntryRow| {
        row.outcome.is_ok()
            && other.account == row.account
            && other.outcome.is_ok_and(|money| money.version == version)
    };
    let known = model.entries.contains_key(&(row.transfer, row.side));
    let taken = model.entries.values().any(taken);
    let met = tx.insert_entries(std::slice::from_ref(&row)).await;
    model.entries.insert((row.transfer, row.side), row);
    // Where it runs into both, either may be named.
    if let (true, true, Err(StoreError::Duplicate { constraint, .. })) = (known, taken, &met) {
        assert!(matches!(constraint, Constraint::Entry | Constraint::EntryVersion));
        return false;
    }
    let taken = taken.then_some(Constraint::EntryVersion);
    agrees(met, known.then_some(Constraint::Entry).or(taken))
}

/// Something taken back, or given back, which may be more than there is.
async fn reverse(model: &mut Model, tx: &mut dyn Tx, random: &mut StdRng) -> bool {
    let original = TransferId::first_at(Timestamp::from_micros(random.random_range(1..4) * 1000));
    let amount = random.random_range(-20..30);
    let stored = model.reversed.entry(original).or_default();
    let locked = tx.lock_reversed(&[original].into()).await.unwrap();
    assert_eq!(locked, [(original, *stored)].into());
    *stored += amount;
    match tx.add_reversed(&[(original, amount)].into()).await {
        Ok(changed) => assert!(changed == 1 && *stored >= 0),
        Err(error) => assert!(name(&error) == "corrupt" && *stored < 0),
    }
    *stored >= 0
}

async fn compare(world: &World, model: &Model) {
    let rows = world.store.decision_rows(SHARD, None, 100).await.unwrap();
    assert_eq!(rows, model.accounts.values().cloned().collect::<Vec<_>>());
    let ids: Vec<TransferId> = model.transfers.keys().copied().collect();
    let records = world.store.transfer_records(SHARD, &ids).await.unwrap();
    assert_eq!(records.len(), ids.len());
    for record in records {
        let (new, state, reason) = &model.transfers[&record.row.terms.id];
        assert_eq!((&record.row.terms, &record.claim), (&new.terms, &new.claim));
        assert_eq!((record.row.state, record.row.reason), (*state, *reason));
    }
    let mut entries = world.store.entries_of(SHARD, &ids).await.unwrap();
    entries.sort_unstable_by_key(|row| (row.transfer, row.side));
    assert_eq!(entries, model.entries.values().cloned().collect::<Vec<_>>());
    for id in model.accounts.keys() {
        let listed = world.store.entries(SHARD, id, None, 500).await.unwrap();
        let mut expected: Vec<&EntryRow> = model
            .entries
            .values()
            .filter(|row| row.account == *id && row.outcome.is_ok())
            .collect();
        expected.sort_unstable_by_key(|row| row.outcome.map_or(0, |money| -money.version));
        assert_eq!(listed.iter().collect::<Vec<_>>(), expected);
        let listed = world.store.outgoing(SHARD, id, &Default::default(), None, 500).await.unwrap();
        let expected = model.transfers.values().rev().filter(|(new, ..)| new.terms.source == *id);
        assert!(
            listed.iter().map(|row| row.row.terms.id).eq(expected.map(|(new, ..)| new.terms.id))
        );
    }
}
