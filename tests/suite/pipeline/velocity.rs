//! Velocity limits while money moves.

use super::backend::Backend;
use super::cluster::{Cluster, usd};
use super::process::{Process, request, reversal};
use crate::wait::eventually;
use futures::future::join_all;
use holdfast::domain::{AccountId, AccountKind, Limit, Period, Reason, State};
use holdfast::ingress::VelocityChange;
use holdfast::roles::Role;
use holdfast::store::Actor;

scenarios! {
    what_is_over_a_limit_is_refused_until_the_limit_is_another
    of_many_callers_exactly_as_many_get_through_as_the_limit_says
}

/// Windows that have not begun yet stay until they have: no test waits for midnight.
async fn open_window_of_tomorrow(cluster: &Cluster, shard: u16) {
    let tomorrow = "UPDATE velocity_limits SET window_start = 4102444800000000";
    cluster.sql(shard, tomorrow).await;
}

async fn limit(process: &Process, id: &AccountId, count: Option<i64>, amount: Option<i64>) {
    let change = VelocityChange::Set(Period::Day, Limit::new(count, amount).unwrap());
    process.ingress.set_velocity(id, &change, &Actor::itself()).await.unwrap();
}

async fn used(process: &Process, id: &AccountId) -> (i64, i64) {
    let view = process.ingress.velocity(id).await.unwrap();
    let [(Period::Day, kept)] = view.limits[..] else { panic!("{view:?}") };
    (kept.used.count, kept.used.amount)
}

async fn what_is_over_a_limit_is_refused_until_the_limit_is_another(backend: Backend) {
    let cluster = Cluster::new(backend).await;
    let process = cluster.running();
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let neighbour = cluster.account(0, 0).await;
    limit(&process, &alice, Some(3), Some(500)).await;
    open_window_of_tomorrow(&cluster, 0).await;
    let version = cluster.row(&alice).await.version;
    limit(&process, &alice, Some(3), Some(500)).await;
    assert_eq!(cluster.row(&alice).await.version, version, "a repeat changes nothing");
    let first = process.transfer(&alice, &bob, 300).await;
    cluster.assert_committed(first).await;
    // To an account of the same shard it goes all the way in one transaction, and counts as well.
    let second = process.transfer(&alice, &neighbour, 150).await;
    cluster.assert_committed(second).await;
    let over = process.transfer(&alice, &bob, 51).await;
    cluster.assert_refused(over, Reason::VelocityLimitExceeded).await;
    assert_eq!(used(&process, &alice).await, (2, 450));
    // What is refused by the destination was set in motion, and counts.
    process.ingress.freeze_account(&bob, &Actor::itself()).await.unwrap();
    let refused = process.transfer(&alice, &bob, 50).await;
    cluster.assert_refused(refused, Reason::DestinationFrozen).await;
    assert_eq!(used(&process, &alice).await, (3, 500));
    // Another limit keeps what is used of it.
    limit(&process, &alice, None, Some(510)).await;
    assert_eq!(used(&process, &alice).await, (3, 500));
    let last = process.transfer(&alice, &neighbour, 10).await;
    cluster.assert_committed(last).await;
    let more = process.transfer(&alice, &neighbour, 1).await;
    cluster.assert_refused(more, Reason::VelocityLimitExceeded).await;
    // A reversal is paid by who was paid, and is limited there.
    limit(&process, &neighbour, Some(0), None).await;
    let back = process.ingress.reverse(reversal(second, 150)).await.unwrap();
    let back = back.transfer.row.terms.id;
    cluster.assert_refused(back, Reason::VelocityLimitExceeded).await;
    process
        .ingress
        .set_velocity(&alice, &VelocityChange::Remove(Period::Day), &Actor::itself())
        .await
        .unwrap();
    let free = process.transfer(&alice, &neighbour, 490).await;
    cluster.assert_committed(free).await;
    cluster.finish([process]).await;
}

/// Hazard 45: 64 callers ask at once, and two processes hold. Hazard 47: each of them dies in the
/// middle of it, again and again.
async fn of_many_callers_exactly_as_many_get_through_as_the_limit_says(backend: Backend) {
    const CALLERS: usize = 64;
    const LIMIT: i64 = 100;
    let cluster = Cluster::new(backend).await;
    let processes = [cluster.running(), cluster.running()];
    let world = cluster.account_of(cluster.name(0), AccountKind::External, usd(), 0).await;
    let paid = [cluster.account(0, 0).await, cluster.account(1, 0).await];
    limit(&processes[0], &world, Some(LIMIT), None).await;
    open_window_of_tomorrow(&cluster, 0).await;
    let callers = (0..CALLERS).map(|number| {
        let (door, world, to) = (&processes[number % 2], &world, &paid[number / 2 % 2]);
        async move {
            let mut asked = Vec::new();
            for _ in 0..4 {
                asked.push(door.submit(&request(world, to, 1)).await.transfer.row.terms.id);
            }
            asked
        }
    });
    let kills = async {
        for round in 0..6 {
            let held = used(&processes[0], &world).await.0;
            eventually("holds are made", || async {
                let now = used(&processes[0], &world).await.0;
                now > held || now == LIMIT
            })
            .await;
            let process = &processes[round % 2];
            process.abort_on(Role::Hold, 0).await;
            process.start_on(Role::Hold, 0);
        }
    };
    let (asked, ()) = tokio::join!(join_all(callers), kills);
    let mut committed = 0;
    for id in asked.into_iter().flatten() {
        match cluster.end_of(id).await {
            (State::Committed, None) => committed += 1,
            end => assert_eq!(end, (State::Rejected, Some(Reason::VelocityLimitExceeded))),
        }
    }
    assert_eq!(committed, LIMIT);
    assert_eq!(used(&processes[0], &world).await, (LIMIT, LIMIT));
    cluster.finish(processes).await;
}
