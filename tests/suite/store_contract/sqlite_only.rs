//! Several processes on the same files.

use super::world::{SHARD, World, account, change, name, suspects};
use futures::future::join_all;
use holdfast::domain::AccountId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Hazard 40: two processes that read and then write, in the same file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_and_then_writing_is_never_busy() {
    let world = World::sqlite().await;
    world.customers(SHARD, &["alice"]).await;
    let stores = [Arc::clone(&world.store), world.databases.open().await.unwrap()];
    let ids: BTreeSet<AccountId> = [account("alice")].into();
    let tasks = (0..4).map(|task| {
        let (store, ids) = (Arc::clone(&stores[task % 2]), ids.clone());
        tokio::spawn(async move {
            for _ in 0..25 {
                let mut tx = store.begin(SHARD).await.unwrap();
                let rows = tx.lock_accounts(&ids).await.unwrap();
                let row = &rows[&account("alice")];
                tokio::task::yield_now().await;
                let write = [change(row, row.posted + 1, 0)];
                assert_eq!(tx.write_accounts(&write).await.unwrap(), 1);
                tx.commit().await.unwrap();
            }
        })
    });
    join_all(tasks).await.into_iter().for_each(|task| task.unwrap());
    assert_eq!(world.row(SHARD, "alice").await.posted, 100);
}

#[tokio::test]
async fn readers_do_not_wait_for_a_writer() {
    let world = World::sqlite().await;
    world.customers(SHARD, &["alice"]).await;
    let mut tx = world.begin().await;
    tx.quarantine(&suspects(["alice"])).await.unwrap();
    let other = world.databases.open().await.unwrap();
    assert!(!other.account(SHARD, &account("alice")).await.unwrap().unwrap().row.quarantined);
    assert!(other.audit_snapshot(SHARD).await.unwrap().faulty_accounts.is_empty());
    tx.commit().await.unwrap();
    assert!(other.account(SHARD, &account("alice")).await.unwrap().unwrap().row.quarantined);
}

#[tokio::test]
async fn an_error_names_the_file() {
    let world = World::sqlite().await;
    world.databases.sql(SHARD, "DROP TABLE outbox").await;
    let error = world.store.outbox(SHARD, 0, 1).await.unwrap_err();
    assert_eq!(name(&error), "failed");
    assert!(error.to_string().contains("run `holdfast migrate`"), "{error}");
    assert!(world.store.address(SHARD).ends_with("shard-0.db"));
}
