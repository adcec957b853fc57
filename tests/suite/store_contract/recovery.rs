//! What recovery after a promotion asks of a shard.

use super::world::{OTHER, SHARD, World, name, transfer};
use holdfast::domain::{Generation, TransferId};
use holdfast::store::{Lease, Opening};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

pub async fn a_raised_generation_shuts_out_all_that_came_before(world: World) {
    let store = &world.store;
    assert_eq!(store.stored_generation(SHARD).await.unwrap(), Generation(1));
    store.raise_generation(SHARD, Generation(2)).await.unwrap();
    assert_eq!(store.stored_generation(SHARD).await.unwrap(), Generation(2));
    assert_eq!(name(&store.begin(SHARD).await.err().unwrap()), "identity");
    assert!(store.begin(OTHER).await.is_ok(), "it was not raised yet");
    assert_eq!(name(&world.databases.open().await.err().unwrap()), "identity");
    let again = store.raise_generation(SHARD, Generation(2)).await.unwrap_err();
    assert_eq!(name(&again), "identity");
    store.raise_generation(SHARD, Generation(3)).await.unwrap();
    store.raise_generation(OTHER, Generation(3)).await.unwrap();
    let opened = world.databases.open().await.unwrap();
    assert_eq!(opened.identity().generation, Generation(3));
    opened.begin(SHARD).await.unwrap().commit().await.unwrap();
}

pub async fn a_recovery_that_was_interrupted_is_seen_and_begun_again(world: World) {
    let shards = [SHARD, OTHER];
    for shard in shards {
        assert!(!world.store.recovery_unfinished(shard).await.unwrap());
    }
    world.store.raise_generation(OTHER, Generation(7)).await.unwrap();
    let store = world.databases.open_for(Opening::AnyGeneration).await.unwrap();
    assert!(!store.recovery_unfinished(SHARD).await.unwrap());
    assert!(store.recovery_unfinished(OTHER).await.unwrap());
    assert_eq!(store.leases(OTHER).await.unwrap(), [], "it is no role");
    for shard in shards {
        store.raise_generation(shard, Generation(8)).await.unwrap();
    }
    let store = world.databases.open().await.unwrap();
    for shard in shards {
        assert!(store.recovery_unfinished(shard).await.unwrap());
        store.finish_recovery(shard).await.unwrap();
        assert!(!store.recovery_unfinished(shard).await.unwrap());
    }
}

pub async fn raising_the_generation_waits_for_transactions_under_way(world: World) {
    let store = Arc::clone(&world.store);
    let new = transfer(1, store.now(SHARD).await.unwrap(), "alice", "bob", 10);
    let mut tx = store.begin(SHARD).await.unwrap();
    let raising = tokio::spawn(async move { store.raise_generation(SHARD, Generation(2)).await });
    tx.insert_transfers(std::slice::from_ref(&new)).await.unwrap();
    tx.commit().await.unwrap();
    raising.await.unwrap().unwrap();
    assert_eq!(world.store.stored_generation(SHARD).await.unwrap(), Generation(2));
    assert!(world.record(new.terms.id).await.is_some());
}

pub async fn leases_are_seen_until_they_run_out(world: World) {
    let store = &world.store;
    assert_eq!(store.leases(SHARD).await.unwrap(), []);
    let now = store.now(SHARD).await.unwrap();
    assert!(store.lease(SHARD, "relay", "one", MINUTE).await.unwrap());
    assert!(store.lease(SHARD, "reconciler", "two", Duration::ZERO).await.unwrap());
    let leases = store.leases(SHARD).await.unwrap();
    let [Lease { name, holder, until }] = &leases[..] else { panic!("{leases:?}") };
    assert_eq!((name.as_str(), holder.as_str()), ("relay", "one"));
    assert!(*until >= now.plus(MINUTE));
    assert_eq!(store.leases(OTHER).await.unwrap(), []);
}

pub async fn watched_transfers_are_due_at_once(world: World) {
    let now = world.store.now(SHARD).await.unwrap();
    let transfers = [1, 2].map(|number| transfer(number, now, "alice", "bob", 10));
    world.request(&transfers).await;
    let ids: Vec<TransferId> = transfers.iter().map(|new| new.terms.id).collect();
    world.store.watch(SHARD, &ids).await.unwrap();
    world.store.watch(SHARD, &[]).await.unwrap();
    world.store.stuck_seen(SHARD, &[(ids[0], 3, now.plus(MINUTE))]).await.unwrap();
    world.store.watch(SHARD, &ids).await.unwrap();
    let due = async || {
        let due = world.store.stuck(SHARD, 10).await.unwrap();
        due.iter().map(|stuck| (stuck.row.terms.id, stuck.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(due().await, [(ids[1], 1)], "one that is watched already is due when it was");
    world.store.stuck_seen(SHARD, &[(ids[0], 0, now), (ids[1], 0, now)]).await.unwrap();
    world.store.watch(SHARD, &ids).await.unwrap();
    assert_eq!(due().await, [(ids[0], 3), (ids[1], 1)]);
}
