//! Balances for reading: in the shards and in Redis.

use super::backend::Backend;
use super::cluster::Cluster;
use crate::wait::eventually;
use holdfast::broker::envelope;
use holdfast::domain::{AccountId, AccountStatus, EventType, Reason};
use holdfast::roles::Role;
use holdfast::store::Actor;
use holdfast::store::BalanceRow;

scenarios! {
    projected_balances_follow_the_rows
    a_release_is_announced_with_the_row_it_changed
    a_shard_that_is_down_stops_only_its_own_projection
    a_projection_that_missed_everything_is_copied_from_the_rows
    an_old_value_that_comes_back_in_redis_is_overwritten_and_expires
    balances_come_from_the_shards_while_redis_is_away
}

/// What a balance query without `consistency=strong` answers.
async fn projected(cluster: &Cluster, id: &AccountId) -> (i64, i64) {
    let row = cluster.process().ingress.balance(id, false).await.unwrap().balance.row;
    (row.posted, row.held)
}

async fn becomes(cluster: &Cluster, id: &AccountId, money: (i64, i64)) {
    let what = format!("a projected balance of {money:?}");
    eventually(&what, || async { projected(cluster, id).await == money }).await;
}

async fn projected_balances_follow_the_rows(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    assert_eq!(projected(&cluster, &bob).await, (0, 0), "from the start");
    let id = process.transfer(&alice, &bob, 100).await;
    becomes(&cluster, &alice, (0, 100)).await;
    process.start(&[Role::Credit]);
    becomes(&cluster, &alice, (-100, 0)).await;
    becomes(&cluster, &bob, (100, 0)).await;
    cluster.assert_committed(id).await;
    process.ingress.freeze_account(&bob, &Actor::itself()).await.unwrap();
    let row = cluster.process().ingress.balance(&bob, false).await.unwrap().balance.row;
    if backend == Backend::Embedded {
        assert_eq!(row.status, AccountStatus::Frozen);
    }
    cluster.finish([process]).await;
}

/// Hazard 15: commit releases a hold and says nothing of the account: the projection shows the old
/// `held` for ever.
async fn a_release_is_announced_with_the_row_it_changed(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.process();
    process.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let cancelled = process.transfer(&alice, &bob, 100).await;
    becomes(&cluster, &alice, (0, 100)).await;
    process.ingress.cancel(cancelled, Reason::CancelledByClient).await.unwrap();
    process.start(&[Role::Credit]);
    let rejected = process.transfer(&alice, &cluster.name(1), 10).await;
    becomes(&cluster, &alice, (0, 0)).await;
    cluster.assert_refused(rejected, Reason::DestinationNotFound).await;
    process.caught_up(&[Role::Commit]).await;
    for kind in [EventType::Cancelled, EventType::Rejected] {
        let records = cluster.events(kind, 0).await;
        let event = envelope::event(&records[0]).unwrap();
        let account = event.account.expect("the row that was changed");
        assert_eq!(account.id, alice);
        assert!(account.version > 1 && account.held < 100, "{account:?}");
    }
    cluster.finish([process]).await;
}

/// Hazard 17: the projector of shard 0 waits for shard 1, whose balances its events carry too, and
/// shard 0's own balances stand still.
async fn a_shard_that_is_down_stops_only_its_own_projection(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (projector, others) = (cluster.process(), cluster.process());
    projector.start_on(Role::Projector, 0);
    others.start_all_but(&[Role::Projector]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    projector.shard(1).down(true);
    for sent in 1..=5 {
        let id = others.transfer(&alice, &bob, 10).await;
        cluster.assert_committed(id).await;
        becomes(&cluster, &alice, (-10 * sent, 0)).await;
    }
    projector.shard(1).down(false);
    projector.start_on(Role::Projector, 1);
    becomes(&cluster, &bob, (50, 0)).await;
    cluster.finish([projector, others]).await;
}

/// What could not be written is let go; the comparison copies the rows of accounts that no event
/// mentions any more.
async fn a_projection_that_missed_everything_is_copied_from_the_rows(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let (blind, others) = (cluster.process(), cluster.process());
    others.start_all_but(&[Role::Projector]);
    blind.shard(0).down(true);
    blind.shard(1).down(true);
    blind.start(&[Role::Projector]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = others.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(id).await;
    blind.caught_up(&[Role::Projector]).await;
    blind.shard(0).down(false);
    blind.shard(1).down(false);
    cluster.settled().await;
    cluster.finish([blind, others]).await;
}

/// Hazard 16: Redis missed writes and comes back with an old version: an account that does not
/// move is read so for ever.
async fn an_old_value_that_comes_back_in_redis_is_overwritten_and_expires(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let old = cluster.row(&alice).await;
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(id).await;
    cluster.settled().await;
    if let (Some(cache), Some(redis)) = (cluster.cache(), cluster.redis()) {
        let mut raw = redis.connection().await;
        becomes(&cluster, &alice, (-100, 0)).await;
        // A value that is older than what is there does not come in.
        let now = cluster.store().now(cluster.store().map().shard_of(&alice)).await.unwrap();
        let value = [BalanceRow { row: old, as_of: now }];
        cache.set_newer(&value).await.unwrap();
        assert_eq!(projected(&cluster, &alice).await, (-100, 0));
        // After a flush anything does; it is gone within a minute by itself ...
        redis.flush(&mut raw).await;
        cache.set_newer(&value).await.unwrap();
        assert_eq!(projected(&cluster, &alice).await, (0, 0));
        for seconds in redis.expiries(&mut raw).await {
            assert!((1..=60).contains(&seconds), "{seconds}");
        }
    }
    // ... and at once when the account moves.
    let id = process.transfer(&alice, &bob, 1).await;
    cluster.assert_committed(id).await;
    becomes(&cluster, &alice, (-101, 0)).await;
    cluster.finish([process]).await;
}

async fn balances_come_from_the_shards_while_redis_is_away(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.without_redis();
    process.start_all();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let id = process.transfer(&alice, &bob, 100).await;
    cluster.assert_committed(id).await;
    eventually("the balance", || async {
        process.ingress.balance(&bob, false).await.unwrap().balance.row.posted == 100
    })
    .await;
    cluster.finish([process]).await;
}
