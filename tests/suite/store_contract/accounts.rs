//! Accounts and the money on them.

use super::world::{OTHER, SHARD, World, account, change, customer, entry, stage, transfer};
use holdfast::domain::{Side, State};

pub async fn created_accounts_read_back_with_their_projection(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    let stored = world.store.account(SHARD, &account("alice")).await.unwrap().unwrap();
    assert_eq!(stored.row, customer("alice").row);
    assert_eq!(stored.metadata, "{}");
    assert!(stored.created_at.micros() > 0);
    let projected = world.store.balance(SHARD, &account("alice")).await.unwrap().unwrap();
    assert_eq!(projected.row, stored.row);
    assert_eq!(projected.as_of, stored.created_at);
    assert_eq!(world.store.account(OTHER, &account("alice")).await.unwrap(), None);
    assert_eq!(world.store.balance(OTHER, &account("alice")).await.unwrap(), None);
}

pub async fn a_hold_a_credit_and_a_commit_move_money(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    let mut tx = world.begin().await;
    let at = tx.now();
    let requested = transfer(1, at, "alice", "bob", 100);
    let terms = &requested.terms;
    tx.insert_transfers(std::slice::from_ref(&requested)).await.unwrap();
    tx.commit().await.unwrap();

    let both = [account("alice"), account("bob")].into();
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&both).await.unwrap();
    let alice = &rows[&account("alice")];
    assert_eq!(tx.write_accounts(&[change(alice, 0, 100)]).await.unwrap(), 1);
    let hold = stage(terms, State::Requested, State::Held, tx.now());
    assert_eq!(tx.advance_transfers(&[hold]).await.unwrap(), 1);
    tx.commit().await.unwrap();

    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&both).await.unwrap();
    let (alice, bob) = (&rows[&account("alice")], &rows[&account("bob")]);
    let changes = [change(bob, 100, 0), change(alice, -100, 0)];
    assert_eq!(tx.write_accounts(&changes).await.unwrap(), 2);
    let entries = [
        entry(terms, Side::Credit, 100, 2, tx.now()),
        entry(terms, Side::Debit, -100, 3, tx.now()),
    ];
    assert_eq!(tx.insert_entries(&entries).await.unwrap(), 2);
    let commit = stage(terms, State::Held, State::Committed, tx.now());
    assert_eq!(tx.advance_transfers(&[commit]).await.unwrap(), 1);
    tx.commit().await.unwrap();

    assert_eq!(world.row(SHARD, "alice").await.posted, -100);
    assert_eq!(world.row(SHARD, "bob").await.posted, 100);
    let stored = world.store.transfer_records(SHARD, &[terms.id]).await.unwrap();
    assert_eq!(stored[0].row.terms, *terms);
    assert_eq!(stored[0].row.state, State::Committed);
    let found = world.store.entries_of(SHARD, &[terms.id]).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(entries.iter().all(|entry| found.contains(entry)));
}
