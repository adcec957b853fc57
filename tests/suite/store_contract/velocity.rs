//! Velocity limits: set with what is used of them, read under the lock, written with a plan.

use super::world::{OTHER, SHARD, World, account, change, name, stage, transfer};
use holdfast::domain::{
    Allowance, Limit, Period, Plan, State, Timestamp, UsageChange, Used, Velocity,
};

fn limit(max_count: Option<i64>, max_amount: Option<i64>) -> Limit {
    Limit::new(max_count, max_amount).unwrap()
}

fn used(minutes: i64, count: i64, amount: i64) -> Used {
    Used { window: Timestamp::from_micros(minutes * 60_000_000), count, amount }
}

fn all_limits() -> Velocity {
    let mut velocity = Velocity::NONE;
    let minute = Allowance { limit: limit(Some(i64::MAX), None), used: used(7, 2, 30) };
    let hour = Allowance { limit: limit(None, Some(0)), used: Used::default() };
    let day = Allowance { limit: limit(Some(0), Some(i64::MAX)), used: used(0, 1, i64::MAX) };
    for (period, allowance) in Period::ALL.into_iter().zip([minute, hour, day]) {
        velocity.insert(period, allowance);
    }
    velocity
}

async fn set(world: &World, id: &str, velocity: &Velocity) {
    let mut tx = world.begin().await;
    tx.set_velocity(&account(id), velocity).await.unwrap();
    tx.commit().await.unwrap();
}

pub async fn limits_are_replaced_with_what_is_used_of_them(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    assert!(world.store.velocity(SHARD, &account("alice")).await.unwrap().is_none());
    assert!(world.store.velocity(SHARD, &account("nobody")).await.unwrap().is_none());
    set(&world, "alice", &all_limits()).await;
    assert_eq!(world.store.velocity(SHARD, &account("alice")).await.unwrap(), all_limits());
    assert!(world.store.velocity(SHARD, &account("bob")).await.unwrap().is_none());
    assert!(world.store.velocity(OTHER, &account("alice")).await.unwrap().is_none());
    let one = all_limits().limited_to(&[(Period::Day, limit(Some(3), None))].into());
    set(&world, "alice", &one).await;
    assert_eq!(world.store.velocity(SHARD, &account("alice")).await.unwrap(), one);
    set(&world, "alice", &Velocity::NONE).await;
    assert!(world.store.velocity(SHARD, &account("alice")).await.unwrap().is_none());
}

pub async fn locked_rows_come_with_their_limits_and_others_without(world: World) {
    world.customers(SHARD, &["alice", "bob", "carol"]).await;
    set(&world, "alice", &all_limits()).await;
    set(&world, "carol", &all_limits()).await;
    set(&world, "carol", &Velocity::NONE).await;
    let ids = ["alice", "bob", "carol"].map(account);
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&ids.clone().into()).await.unwrap();
    assert_eq!(rows[&ids[0]].velocity, all_limits());
    assert!(rows[&ids[1]].velocity.is_none() && rows[&ids[2]].velocity.is_none());
    // What the transaction itself has set is there for it, too.
    tx.set_velocity(&ids[1], &all_limits()).await.unwrap();
    let rows = tx.lock_accounts(&ids.clone().into()).await.unwrap();
    assert_eq!(rows[&ids[1]].velocity, all_limits());
    drop(tx);
    assert!(world.row(SHARD, "alice").await.velocity.is_none(), "it was read to be shown");
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&ids.clone().into()).await.unwrap();
    assert!(rows[&ids[1]].velocity.is_none(), "rolled back");
}

/// Hazard 47: a hold that was not counted would be made over the limit.
pub async fn usage_is_written_with_the_hold_or_neither_is(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    set(&world, "alice", &all_limits()).await;
    let one = transfer(1, world.store.now(SHARD).await.unwrap(), "alice", "bob", 30);
    world.request(std::slice::from_ref(&one)).await;
    let usage =
        |id: &str, period| UsageChange { account: account(id), period, used: used(9, 5, 70) };
    // The last has no limit for anything: as if it had been removed behind the decision's back.
    for (usages, written) in [
        (vec![usage("alice", Period::Day), usage("bob", Period::Day)], false),
        (vec![usage("alice", Period::Hour), usage("alice", Period::Day)], true),
    ] {
        let mut tx = world.begin().await;
        let rows = tx.lock_accounts(&[account("alice")].into()).await.unwrap();
        let row = &rows[&account("alice")];
        let plan = Plan {
            accounts: vec![change(row, row.posted, row.held + 30)],
            usage: usages,
            transfers: vec![stage(&one.terms, State::Requested, State::Held, tx.now())],
            ..Plan::default()
        };
        let outcome = match tx.write(&plan).await {
            Ok(()) => tx.commit().await,
            Err(error) => Err(error),
        };
        let stored = world.store.velocity(SHARD, &account("alice")).await.unwrap();
        let state = world.record(one.terms.id).await.unwrap().row.state;
        let found: Vec<Used> = stored.iter().map(|(_, kept)| kept.used).collect();
        if written {
            outcome.unwrap();
            assert_eq!(state, State::Held);
            assert_eq!(found, [used(7, 2, 30), used(9, 5, 70), used(9, 5, 70)]);
            assert_eq!(stored.limits(), all_limits().limits(), "limits stay");
        } else {
            assert_eq!(name(&outcome.unwrap_err()), "retry");
            assert_eq!((state, stored), (State::Requested, all_limits()));
        }
    }
}

pub async fn usage_of_many_accounts_is_one_batch(world: World) {
    let names: Vec<String> = (0..300).map(|number| format!("a-{number:03}")).collect();
    world.customers(SHARD, &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut tx = world.begin().await;
    for name in &names {
        tx.set_velocity(&account(name), &all_limits()).await.unwrap();
    }
    tx.commit().await.unwrap();
    let mut tx = world.begin().await;
    let ids = names.iter().map(|name| account(name)).collect();
    let rows = tx.lock_accounts(&ids).await.unwrap();
    assert!(rows.values().all(|row| row.velocity == all_limits()));
    let usage: Vec<UsageChange> = (0..)
        .zip(&names)
        .map(|(number, name)| UsageChange {
            account: account(name),
            period: Period::Minute,
            used: used(number, number, number),
        })
        .collect();
    assert_eq!(tx.write_usage(&usage).await.unwrap(), 300);
    assert_eq!(tx.write_usage(&usage).await.unwrap(), 300, "what is there already counts");
    assert_eq!(tx.write_usage(&[]).await.unwrap(), 0);
    tx.commit().await.unwrap();
    let last = world.store.velocity(SHARD, &account("a-299")).await.unwrap();
    assert_eq!(last.iter().next().unwrap().1.used, used(299, 299, 299));
}
