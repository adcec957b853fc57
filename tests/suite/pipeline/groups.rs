//! Several members of each group, and what they notice of each other.

use super::backend::{Backend, answered};
use super::cluster::{Cluster, PARTITIONS};
use super::load::{Load, Mix};
use holdfast::broker::{BrokerError, Topic};
use holdfast::domain::Shard;
use holdfast::roles::Role;
use holdfast::routing::{ShardMap, slot_of};

scenarios! {
    members_that_come_and_go_under_load_lose_and_repeat_nothing
    a_shard_notices_nothing_of_the_members_of_another
    an_account_is_in_one_partition_for_ever
    a_relay_that_is_told_to_stop_leaves_its_lease_to_the_next
}

/// Else nothing is published until it has run out, each time that a process is replaced.
async fn a_relay_that_is_told_to_stop_leaves_its_lease_to_the_next(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let published = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(published).await;
    let leases = async || -> Vec<String> {
        let leases = cluster.store().leases(Shard(0)).await.unwrap();
        leases.into_iter().map(|lease| lease.name).collect()
    };
    assert!(leases().await.contains(&"relay".to_owned()));
    process.stop(&[Role::Relay]).await;
    assert!(!leases().await.contains(&"relay".to_owned()));
    process.start(&[Role::Relay]);
    cluster.finish([process]).await;
}

async fn members_that_come_and_go_under_load_lose_and_repeat_nothing(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (staying, visiting) = (cluster.running(), cluster.process());
    let mut load = Load::open(&cluster, Mix { accounts: 10, overdraft: 500 }).await;
    for round in 0..3 {
        load.submit(&staying, 60).await;
        visiting.start_all();
        load.submit(&visiting, 60).await;
        if round == 1 {
            visiting.abort(&super::process::ROLES).await;
        } else {
            visiting.stop_all().await;
        }
        load.submit(&staying, 30).await;
    }
    load.assert_model(&cluster).await;
    cluster.finish([staying, visiting]).await;
}

/// Hazard 24: one group serves all shards, and the end of shard 0's worker takes the partitions of
/// shard 1 away from theirs.
async fn a_shard_notices_nothing_of_the_members_of_another(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (zero, one, others) = (cluster.process(), cluster.process(), cluster.process());
    zero.start_on(Role::Hold, 0);
    one.start_on(Role::Hold, 1);
    others.start_all_but(&[Role::Hold]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 1000).await);
    let first = others.transfer(&bob, &alice, 1).await;
    let second = others.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(first).await;
    cluster.assert_committed(second).await;
    for round in 0..3 {
        if round == 1 {
            zero.stop_on(Role::Hold, 0).await;
        } else {
            zero.abort_on(Role::Hold, 0).await;
        }
        let id = others.transfer(&bob, &alice, 1).await;
        cluster.assert_committed(id).await;
        zero.start_on(Role::Hold, 0);
        let id = others.transfer(&alice, &bob, 1).await;
        cluster.assert_committed(id).await;
    }
    assert_eq!(one.broker.revocations(), 0);
    cluster.finish([zero, one, others]).await;
}

/// Hazard 26: the number of partitions is raised by configuration, one account's events go to two
/// partitions, and the later one is read first.
async fn an_account_is_in_one_partition_for_ever(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let topics: Vec<Topic> = Topic::all([Shard(0), Shard(1)]);
    let broker = cluster.broker();
    let raised = answered(|| broker.create_topics(&topics, PARTITIONS + 1)).await;
    assert!(matches!(raised, Err(BrokerError::Topic(_))), "{raised:?}");
    let missing = answered(|| broker.missing_topics(&topics, PARTITIONS + 1)).await.unwrap();
    assert_eq!(missing.len(), topics.len(), "readiness tells of every topic");
    assert_eq!(cluster.migrated_again(PARTITIONS + 1).await, None, "refused");
    assert_eq!(cluster.migrated_again(PARTITIONS).await, Some(PARTITIONS));
    let map = cluster.store().map();
    assert_eq!(map.partitions(), PARTITIONS);
    // A process that was started with another count would place this account elsewhere.
    let other = ShardMap::lay_out(map.shards(), PARTITIONS + 1);
    let moved = loop {
        let account = cluster.account(0, 1000).await;
        let slot = slot_of(&account);
        if map.partition_of_slot(slot) != other.partition_of_slot(slot) {
            break account;
        }
    };
    let bob = cluster.account(1, 0).await;
    let id = process.transfer(&moved, &bob, 1).await;
    cluster.assert_committed(id).await;
    for delivered in cluster.events(holdfast::domain::EventType::Requested, 0).await {
        assert_eq!(delivered.position.partition, map.partition_of_slot(slot_of(&moved)));
    }
    cluster.finish([process]).await;
}
