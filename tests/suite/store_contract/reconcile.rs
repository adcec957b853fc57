//! Marks, the list of stuck transfers, leases and the end of claims.

use super::world::{SHARD, World, account, client, stage, transfer};
use holdfast::domain::{State, Timestamp, TransferId};
use holdfast::store::{Mark, NewTransfer};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// Transfers accepted a minute after each other, the last one a minute ago.
async fn minutely(world: &World, count: u64) -> (Vec<NewTransfer>, Timestamp) {
    let now = world.store.now(SHARD).await.unwrap();
    let at = |number: u64| now.minus(MINUTE * (count - number) as u32);
    let transfers: Vec<_> =
        (0..count).map(|number| transfer(number, at(number), "alice", "bob", 10)).collect();
    world.request(&transfers).await;
    (transfers, now)
}

async fn finish(world: &World, new: &NewTransfer) {
    let mut tx = world.begin().await;
    let write = stage(&new.terms, State::Requested, State::Cancelled, tx.now());
    assert_eq!(tx.advance_transfers(&[write]).await.unwrap(), 1);
    tx.commit().await.unwrap();
}

async fn stuck(world: &World) -> Vec<TransferId> {
    let rows = world.store.stuck(SHARD, 100).await.unwrap();
    rows.into_iter().map(|stuck| stuck.row.terms.id).collect()
}

pub async fn the_scan_lists_what_is_not_final_and_goes_on_from_its_mark(world: World) {
    let (transfers, now) = minutely(&world, 5).await;
    let ids: Vec<TransferId> = transfers.iter().map(|new| new.terms.id).collect();
    finish(&world, &transfers[1]).await;
    let scan = async |until: Timestamp, limit: u32| {
        world.store.scan_unfinished(SHARD, Mark::Recent, until, limit).await.unwrap()
    };
    let until = now.minus(MINUTE + MINUTE / 2);
    assert_eq!(scan(until, 3).await, 3);
    assert_eq!(stuck(&world).await, [ids[0], ids[2]]);
    assert_eq!(scan(until, 3).await, 1);
    assert_eq!(scan(until, 3).await, 0);
    assert_eq!(stuck(&world).await, [ids[0], ids[2], ids[3]], "the last is not old enough");
    let first = &world.store.stuck(SHARD, 1).await.unwrap()[0];
    assert_eq!((first.attempts, first.since, first.due_at), (0, first.since, first.since));
    assert_eq!(first.row.terms, transfers[0].terms);
    assert!(first.since >= now);
}

/// Hazard 34: a transfer that commits behind the mark.
pub async fn the_sweep_finds_what_committed_behind_the_mark(world: World) {
    let (transfers, now) = minutely(&world, 3).await;
    assert_eq!(world.store.scan_unfinished(SHARD, Mark::Recent, now, 10).await.unwrap(), 3);
    for new in &transfers {
        finish(&world, new).await;
    }
    let late = transfer(9, now.minus(MINUTE * 10), "alice", "bob", 10);
    world.request(std::slice::from_ref(&late)).await;
    assert_eq!(world.store.scan_unfinished(SHARD, Mark::Recent, now, 10).await.unwrap(), 0);
    assert_eq!(stuck(&world).await, []);
    let sweep = async || world.store.scan_unfinished(SHARD, Mark::Sweep, now, 3).await.unwrap();
    assert_eq!(sweep().await, 3);
    assert_eq!(stuck(&world).await, [late.terms.id]);
    assert_eq!(sweep().await, 1, "the end");
    assert_eq!(sweep().await, 3, "it begins anew");
    assert_eq!(stuck(&world).await, [late.terms.id]);
    assert_eq!(sweep().await, 1);
    let later = transfer(10, now.minus(MINUTE * 9), "alice", "bob", 10);
    world.request(std::slice::from_ref(&later)).await;
    let whole = world.store.scan_unfinished(SHARD, Mark::Sweep, now, 100).await.unwrap();
    assert_eq!(whole, 5, "all of it in one page");
    assert_eq!(stuck(&world).await, [late.terms.id, later.terms.id]);
}

pub async fn stuck_transfers_wait_until_they_are_due_and_leave_when_final(world: World) {
    let (transfers, now) = minutely(&world, 3).await;
    let ids: Vec<TransferId> = transfers.iter().map(|new| new.terms.id).collect();
    world.store.scan_unfinished(SHARD, Mark::Recent, now, 10).await.unwrap();
    let soon = now.plus(Duration::from_secs(3600));
    let seen = [(ids[2], 4, now), (ids[0], 1, soon), (TransferId::first_at(now), 1, now)];
    world.store.stuck_seen(SHARD, &seen).await.unwrap();
    world.store.stuck_seen(SHARD, &[]).await.unwrap();
    let due = world.store.stuck(SHARD, 10).await.unwrap();
    let found: Vec<_> = due.iter().map(|stuck| (stuck.row.terms.id, stuck.attempts)).collect();
    assert_eq!(found, [(ids[1], 0), (ids[2], 4)]);
    assert_eq!(due[1].due_at, now);
    // Listing again neither wakes nor forgets what is listed.
    while world.store.scan_unfinished(SHARD, Mark::Sweep, now, 10).await.unwrap() == 10 {}
    assert_eq!(stuck(&world).await, [ids[1], ids[2]]);
    finish(&world, &transfers[1]).await;
    finish(&world, &transfers[0]).await;
    let due = world.store.stuck(SHARD, 1).await.unwrap();
    assert_eq!(due.len(), 1, "final ones do not use up the limit");
    assert_eq!(due[0].row.terms.id, ids[2]);
    world.store.stuck_seen(SHARD, &[(ids[0], 9, now)]).await.unwrap();
    assert_eq!(stuck(&world).await, [ids[0], ids[2]], "nobody may have announced its end");
    world.store.stuck_seen(SHARD, &[(ids[0], 0, now)]).await.unwrap();
    assert_eq!(stuck(&world).await, [ids[0], ids[2]], "who has seen it before does not know");
    world.store.stuck_over(SHARD, &[ids[0]]).await.unwrap();
    world.store.stuck_over(SHARD, &[]).await.unwrap();
    assert_eq!(stuck(&world).await, [ids[2]]);
}

pub async fn standing_counts_what_is_not_final(world: World) {
    assert_eq!(world.store.standing(SHARD).await.unwrap(), []);
    let now = world.store.now(SHARD).await.unwrap();
    let largest = holdfast::domain::MAX_AMOUNT;
    let transfers: Vec<NewTransfer> = (0..6)
        .map(|number| transfer(number, now.minus(MINUTE * (10 - number as u32)), "a", "b", largest))
        .collect();
    world.request(&transfers).await;
    world.customers(SHARD, &["a"]).await;
    world.hold(&transfers[1]).await;
    finish(&world, &transfers[0]).await;
    let check = async || {
        let standing = world.store.standing(SHARD).await.unwrap();
        assert_eq!(standing.len(), 2);
        let (requested, held) = (&standing[0], &standing[1]);
        assert_eq!((requested.state, held.state), (State::Requested, State::Held));
        assert_eq!((requested.transfers, held.transfers), (4, 1));
        assert_eq!(requested.amount, 4 * i128::from(largest));
        assert_eq!(requested.oldest, transfers[2].at);
        assert_eq!(held.oldest, transfers[1].at);
    };
    check().await;
    // Some behind the mark and on the list, some before it, one on both sides.
    let until = now.minus(MINUTE * 7);
    world.store.scan_unfinished(SHARD, Mark::Recent, until, 10).await.unwrap();
    check().await;
    world.store.scan_unfinished(SHARD, Mark::Sweep, now, 4).await.unwrap();
    check().await;
}

pub async fn a_lease_has_one_holder_until_it_runs_out(world: World) {
    let take = async |holder: &str, ttl: u64| {
        let ttl = Duration::from_millis(ttl);
        world.store.lease(SHARD, "relay", holder, ttl).await.unwrap()
    };
    assert!(take("one", 60_000).await);
    assert!(take("one", 60_000).await, "renewed");
    assert!(!take("other", 60_000).await);
    assert!(world.store.lease(SHARD, "reconciler", "other", MINUTE).await.unwrap());
    assert!(take("one", 0).await, "given back");
    assert!(take("other", 60_000).await);
    assert!(!take("one", 60_000).await);
    let (one, two) = futures::join!(
        world.store.lease(SHARD, "new", "one", MINUTE),
        world.store.lease(SHARD, "new", "two", MINUTE)
    );
    assert!(one.unwrap() != two.unwrap());
}

pub async fn claims_end_with_their_time(world: World) {
    let (transfers, now) = minutely(&world, 5).await;
    let claimed = async || {
        let mut found = Vec::new();
        for (number, new) in transfers.iter().enumerate() {
            let (by, source) = (client("tests"), account("alice"));
            let claim = world.store.claimed_transfer(SHARD, &by, &source, &new.claim.key).await;
            found.extend(claim.unwrap().map(|_| number));
        }
        found
    };
    // A key that was claimed again names another transfer: it stays.
    let renamed = "UPDATE idempotency_keys SET transfer_id = x'00000000000000000000000000000001' \
        WHERE idempotency_key = 'key-1'";
    world.databases.sql(SHARD, renamed).await;
    let before = now.minus(MINUTE + MINUTE / 2);
    assert_eq!(world.store.expire_claims(SHARD, before, 3).await.unwrap(), 3);
    assert_eq!(claimed().await, [1, 3, 4]);
    assert_eq!(world.store.expire_claims(SHARD, before, 3).await.unwrap(), 1);
    assert_eq!(claimed().await, [1, 4]);
    assert_eq!(world.store.expire_claims(SHARD, before, 3).await.unwrap(), 0);
    assert_eq!(claimed().await, [1, 4]);
    assert!(world.record(transfers[0].terms.id).await.is_some(), "transfers stay");
}
