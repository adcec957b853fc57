//! Ledger entries and pivots.

use super::world::{
    OTHER, SHARD, World, account, constraint, customer, entry, external, refusal, transfer,
};
use holdfast::domain::{EntryRow, PivotDecision, Reason, Side, Timestamp};
use holdfast::store::{Constraint, NewTransfer, TransferFilter};

async fn insert(world: &World, entries: &[EntryRow]) {
    let mut tx = world.begin().await;
    tx.insert_entries(entries).await.unwrap();
    tx.commit().await.unwrap();
}

fn transfers(count: u64, at: Timestamp) -> Vec<NewTransfer> {
    (0..count).map(|number| transfer(number, at, "alice", "bob", 5)).collect()
}

pub async fn entries_and_marks_read_back(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let [one, two, three] = &transfers(3, at)[..] else { unreachable!() };
    let rows = [
        entry(&one.terms, Side::Debit, -5, 2, at),
        entry(&one.terms, Side::Credit, i64::MAX, 2, at),
        refusal(&two.terms, Reason::DestinationClosed, at),
    ];
    insert(&world, &rows).await;
    let ids = [one.terms.id, two.terms.id, three.terms.id];
    let mut stored = world.store.entries_of(SHARD, &ids).await.unwrap();
    stored.sort_unstable_by_key(|row| (row.transfer, row.side));
    assert_eq!(stored, rows);
    assert!(world.store.entries_of(OTHER, &ids).await.unwrap().is_empty());
    let mut tx = world.begin().await;
    let pivots = tx.pivots(&ids).await.unwrap();
    assert_eq!(pivots.len(), 2);
    assert_eq!(pivots[&one.terms.id].decision, PivotDecision::Credited);
    assert!(pivots[&one.terms.id].fits(&one.terms));
    let refused = PivotDecision::Refused(Reason::DestinationClosed);
    assert_eq!(pivots[&two.terms.id].decision, refused);
    assert!(pivots[&two.terms.id].fits(&two.terms));
}

/// Hazard 10.
pub async fn the_first_pivot_stays(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let [one, two] = &transfers(2, at)[..] else { unreachable!() };
    let credited = entry(&one.terms, Side::Credit, 5, 2, at);
    let refused = refusal(&two.terms, Reason::HoldTimeout, at);
    insert(&world, &[credited.clone(), refused.clone()]).await;
    let losers = [
        refusal(&one.terms, Reason::HoldTimeout, at),
        entry(&two.terms, Side::Credit, 5, 3, at),
        entry(&one.terms, Side::Credit, 5, 3, at),
        refusal(&two.terms, Reason::CancelledByClient, at),
    ];
    for loser in losers {
        let mut tx = world.begin().await;
        assert_eq!(constraint(tx.insert_entries(&[loser]).await), Constraint::Entry);
    }
    let mut stored = world.store.entries_of(SHARD, &[one.terms.id, two.terms.id]).await.unwrap();
    stored.sort_unstable_by_key(|row| row.transfer);
    assert_eq!(stored, [credited, refused]);
}

/// Hazard 37.
pub async fn marks_of_one_account_do_not_collide(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let transfers = transfers(4, at);
    let marks: Vec<EntryRow> =
        transfers.iter().map(|new| refusal(&new.terms, Reason::DestinationNotFound, at)).collect();
    insert(&world, &marks[..2]).await;
    insert(&world, &marks[2..3]).await;
    insert(&world, &[entry(&transfers[3].terms, Side::Credit, 5, 2, at)]).await;
    let listed = world.store.entries(SHARD, &account("bob"), None, 10).await.unwrap();
    assert_eq!(listed.len(), 1, "marks are in no list");
}

pub async fn two_entries_of_one_version_are_told_apart_from_two_pivots(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let [one, two] = &transfers(2, at)[..] else { unreachable!() };
    insert(&world, &[entry(&one.terms, Side::Credit, 5, 2, at)]).await;
    let mut tx = world.begin().await;
    let met = tx.insert_entries(&[entry(&two.terms, Side::Credit, 10, 2, at)]).await;
    assert_eq!(constraint(met), Constraint::EntryVersion);
    drop(tx);
    let mut tx = world.begin().await;
    let other_account = entry(&two.terms, Side::Debit, -5, 2, at);
    tx.insert_entries(&[other_account]).await.unwrap();
}

pub async fn entries_are_listed_newest_first(world: World) {
    let at = world.store.now(SHARD).await.unwrap();
    let transfers = transfers(4, at);
    let rows: Vec<EntryRow> = (2..)
        .zip(&transfers)
        .map(|(version, new)| entry(&new.terms, Side::Credit, version * 5, version, at))
        .collect();
    insert(&world, &rows).await;
    let list = async |before: Option<i64>, limit: u32| {
        let rows = world.store.entries(SHARD, &account("bob"), before, limit).await.unwrap();
        rows.iter().map(|row| row.outcome.unwrap().version).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10).await, [5, 4, 3, 2]);
    assert_eq!(list(None, 2).await, [5, 4]);
    assert_eq!(list(Some(4), 10).await, [3, 2]);
    assert_eq!(list(Some(2), 10).await, [0; 0]);
}

pub async fn incoming_transfers_are_listed_by_their_credits(world: World) {
    world.create(SHARD, &[external("world"), customer("alice"), customer("bob")]).await;
    let hour = std::time::Duration::from_secs(3600);
    let now = world.store.now(SHARD).await.unwrap();
    let early = transfer(1, now.minus(hour), "world", "alice", 30);
    let late = transfer(2, now, "world", "alice", 12);
    let out = transfer(3, now, "alice", "bob", 5);
    let refused = transfer(4, now, "world", "alice", 7);
    world.request(&[early.clone(), late.clone(), out.clone()]).await;
    for new in [&late, &out, &early] {
        world.hold(new).await;
        world.complete(new).await;
    }
    insert(&world, &[refusal(&refused.terms, Reason::DestinationFrozen, now)]).await;
    let list = async |filter: TransferFilter, before: Option<i64>, limit: u32| {
        let alice = account("alice");
        world.store.incoming(SHARD, &alice, &filter, before, limit).await.unwrap()
    };
    let ids = |rows: &[EntryRow]| rows.iter().map(|row| row.transfer).collect::<Vec<_>>();
    let any = TransferFilter::default();
    let rows = list(any.clone(), None, 10).await;
    assert_eq!(ids(&rows), [early.terms.id, late.terms.id], "by the order of the credits");
    assert_eq!(ids(&list(any.clone(), None, 1).await), [early.terms.id]);
    let before = rows[0].outcome.unwrap().version;
    assert_eq!(ids(&list(any.clone(), Some(before), 10).await), [late.terms.id]);
    let from = TransferFilter { from: Some(now.minus(hour / 2)), ..any.clone() };
    assert_eq!(ids(&list(from, None, 10).await), [late.terms.id]);
    let to = TransferFilter { to: Some(now.minus(hour / 2)), ..any };
    assert_eq!(ids(&list(to, None, 10).await), [early.terms.id]);
}
