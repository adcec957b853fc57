//! Projected balances.

use super::world::{SHARD, World, account, change, customer};
use holdfast::domain::{AccountRow, AccountStatus, Timestamp};
use holdfast::store::BalanceRow;

fn balance(version: i64, posted: i64) -> BalanceRow {
    BalanceRow {
        row: AccountRow { version, posted, ..customer("alice").row },
        as_of: Timestamp::from_micros(1_000 * version),
    }
}

async fn projected(world: &World) -> Option<BalanceRow> {
    world.store.balance(SHARD, &account("alice")).await.unwrap()
}

pub async fn a_newer_or_equal_version_wins(world: World) {
    let project = async |rows: &[BalanceRow]| {
        world.store.project_balances(SHARD, rows).await.unwrap();
        projected(&world).await.unwrap()
    };
    assert_eq!(projected(&world).await, None);
    world.store.project_balances(SHARD, &[]).await.unwrap();
    assert_eq!(project(&[balance(3, 30)]).await, balance(3, 30));
    assert_eq!(project(&[balance(2, 20)]).await, balance(3, 30));
    let mut frozen = balance(3, 31);
    frozen.row.status = AccountStatus::Frozen;
    frozen.row.overdraft_limit = 9;
    frozen.as_of = Timestamp::from_micros(9_999);
    assert_eq!(project(&[frozen.clone()]).await, frozen);
    let batch = [balance(5, 50), balance(7, 70), balance(6, 60)];
    assert_eq!(project(&batch).await, balance(7, 70), "the newest of a batch");
}

pub async fn projections_at_once_end_at_the_newest(world: World) {
    let rows: Vec<Vec<BalanceRow>> = (1..=20)
        .map(|version| {
            let mut other = balance(version, version);
            other.row.id = account("bob");
            let mut rows = vec![balance(version, version), other];
            if version % 2 == 0 {
                rows.reverse();
            }
            rows
        })
        .collect();
    let all = rows.iter().map(|rows| world.store.project_balances(SHARD, rows));
    futures::future::join_all(all).await.into_iter().for_each(Result::unwrap);
    assert_eq!(projected(&world).await, Some(balance(20, 20)));
}

pub async fn refreshing_copies_what_differs_and_only_that(world: World) {
    world.customers(SHARD, &["alice", "bob", "carol", "dora", "erin"]).await;
    assert_eq!(world.refresh(SHARD).await, []);
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&[account("alice")].into()).await.unwrap();
    tx.write_accounts(&[change(&rows[&account("alice")], 7, 2)]).await.unwrap();
    tx.commit().await.unwrap();
    let faults = "UPDATE balances SET posted = 1 WHERE account_id = 'bob'; \
        DELETE FROM balances WHERE account_id = 'carol'; \
        UPDATE balances SET version = 9 WHERE account_id = 'dora'";
    world.databases.sql(SHARD, faults).await;
    let ids = ["alice", "bob", "carol", "dora"].map(account);
    assert_eq!(world.refresh(SHARD).await, ids);
    for id in ids {
        let stored = world.row(SHARD, id.as_str()).await;
        let projected = world.store.balance(SHARD, &id).await.unwrap().unwrap();
        assert_eq!(projected.row, stored);
    }
    assert_eq!(world.refresh(SHARD).await, []);
}

pub async fn refreshing_goes_page_by_page(world: World) {
    world.customers(SHARD, &["a", "b", "c"]).await;
    world.databases.sql(SHARD, "DELETE FROM balances").await;
    let page = async |after: Option<&str>| {
        let after = after.map(account);
        let (rows, last) = world.store.refresh_balances(SHARD, after.as_ref(), 2).await.unwrap();
        let ids: Vec<_> = rows.into_iter().map(|balance| balance.row.id.to_string()).collect();
        (ids, last)
    };
    assert_eq!(page(None).await, (vec!["a".to_owned(), "b".to_owned()], Some(account("b"))));
    assert_eq!(page(Some("b")).await, (vec!["c".to_owned()], None));
    assert_eq!(page(Some("c")).await, (vec![], None));
}
