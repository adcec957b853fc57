//! Accounts, their settings and their lists.

use super::world::{
    OTHER, SHARD, World, account, change, constraint, customer, external, name, suspects,
};
use holdfast::domain::{AccountKind, AccountRow, AccountStatus, POSTED_LIMIT, Velocity};
use holdfast::store::{AccountFilter, AccountSettings, Constraint};

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

pub async fn every_attribute_of_an_account_is_kept(world: World) {
    let mut record = external(&"Z".repeat(64));
    record.row.currency = "JPY".parse().unwrap();
    record.row.status = AccountStatus::Frozen;
    record.row.quarantined = true;
    record.row.overdraft_limit = POSTED_LIMIT;
    record.metadata = "{\"n\u{e4}me\":\"\u{1f600} \\\"quoted\\\" \\\\ line\\n\"}".to_owned();
    world.create(SHARD, std::slice::from_ref(&record)).await;
    let stored = world.store.account(SHARD, &record.row.id).await.unwrap().unwrap();
    assert_eq!(stored.row, record.row);
    assert_eq!(stored.metadata, record.metadata);
    let mut tx = world.begin().await;
    let records = tx.account_records(&[record.row.id.clone(), account("nobody")].into()).await;
    assert_eq!(records.unwrap(), [(record.row.id.clone(), stored)].into());
}

/// Hazard 14.
pub async fn ids_that_differ_in_case_are_two_accounts(world: World) {
    world.customers(SHARD, &["Alice", "alice"]).await;
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&[account("alice")].into()).await.unwrap();
    assert_eq!(rows.keys().collect::<Vec<_>>(), [&account("alice")]);
    assert_eq!(tx.write_accounts(&[change(&rows[&account("alice")], 5, 0)]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(world.row(SHARD, "alice").await.posted, 5);
    assert_eq!(world.row(SHARD, "Alice").await.posted, 0);
    assert_eq!(world.store.account(SHARD, &account("ALICE")).await.unwrap(), None);
}

pub async fn an_account_is_created_once(world: World) {
    world.customers(SHARD, &["bob"]).await;
    let mut tx = world.begin().await;
    let again = tx.insert_accounts(&["carol", "bob", "alice"].map(customer)).await;
    assert_eq!(constraint(again), Constraint::Account);
    assert_eq!(name(&tx.commit().await.unwrap_err()), "retry", "nothing may follow an error");
    for of_the_same_statement in ["alice", "carol"].map(account) {
        assert_eq!(world.store.account(SHARD, &of_the_same_statement).await.unwrap(), None);
    }
}

pub async fn locked_rows_come_without_those_that_do_not_exist(world: World) {
    world.customers(SHARD, &["bob", "alice"]).await;
    let mut tx = world.begin().await;
    let ids = [account("alice"), account("bob"), account("nobody")].into();
    let rows = tx.lock_accounts(&ids).await.unwrap();
    assert_eq!(rows.into_keys().collect::<Vec<_>>(), [account("alice"), account("bob")]);
    assert!(tx.lock_accounts(&[].into()).await.unwrap().is_empty());
}

pub async fn money_is_written_where_the_version_is_the_one_before(world: World) {
    world.customers(SHARD, &["alice", "bob"]).await;
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&[account("alice"), account("bob")].into()).await.unwrap();
    let alice = change(&rows[&account("alice")], 7, 3);
    let stale = AccountRow { version: 9, ..rows[&account("bob")].clone() };
    assert_eq!(tx.write_accounts(&[change(&stale, 1, 1), alice]).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let alice = world.row(SHARD, "alice").await;
    assert_eq!((alice.posted, alice.held, alice.version), (7, 3, 2));
    assert_eq!(world.row(SHARD, "bob").await, customer("bob").row);
}

pub async fn writing_what_is_there_already_counts(world: World) {
    world.customers(SHARD, &["alice"]).await;
    let row = world.row(SHARD, "alice").await;
    let same = holdfast::store::AccountChange { version: row.version, ..change(&row, 0, 0) };
    let mut tx = world.begin().await;
    assert_eq!(tx.write_accounts(&[same]).await.unwrap(), 1);
}

pub async fn balances_reach_the_bounds_and_no_held_is_negative(world: World) {
    world.create(SHARD, &[external("world"), customer("rich")]).await;
    let mut tx = world.begin().await;
    let rows = tx.lock_accounts(&[account("rich"), account("world")].into()).await.unwrap();
    let lowest = change(&rows[&account("world")], -POSTED_LIMIT, 0);
    let highest = change(&rows[&account("rich")], POSTED_LIMIT, POSTED_LIMIT);
    assert_eq!(tx.write_accounts(&[lowest, highest]).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(world.row(SHARD, "world").await.posted, -POSTED_LIMIT);
    let rich = world.row(SHARD, "rich").await;
    assert_eq!((rich.posted, rich.held), (POSTED_LIMIT, POSTED_LIMIT));
    let mut tx = world.begin().await;
    let negative = tx.write_accounts(&[change(&rich, 0, -1)]).await;
    assert_eq!(name(&negative.unwrap_err()), "corrupt");
}

pub async fn settings_are_written_with_their_projection(world: World) {
    world.customers(SHARD, &["alice"]).await;
    let before = world.row(SHARD, "alice").await;
    let row = AccountRow {
        status: AccountStatus::Frozen,
        overdraft_limit: 500,
        quarantined: true,
        version: 2,
        velocity: Velocity::NONE,
        ..before
    };
    let metadata = Some("{\"a\":\"1\"}".to_owned());
    let settings = AccountSettings { row: row.clone(), version_before: 1, metadata, owner: None };
    let mut tx = world.begin().await;
    assert_eq!(tx.write_settings(&settings).await.unwrap(), 1);
    assert_eq!(tx.write_settings(&settings).await.unwrap(), 0, "the version has moved on");
    tx.commit().await.unwrap();
    let stored = world.store.account(SHARD, &row.id).await.unwrap().unwrap();
    assert_eq!((&stored.row, stored.metadata.as_str()), (&row, "{\"a\":\"1\"}"));
    let projected = world.store.balance(SHARD, &row.id).await.unwrap().unwrap().row;
    assert_eq!(projected, AccountRow { quarantined: false, ..row.clone() });

    let row = AccountRow { version: 3, quarantined: false, ..row };
    let settings = AccountSettings { row, version_before: 2, metadata: None, owner: None };
    let mut tx = world.begin().await;
    assert_eq!(tx.write_settings(&settings).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let stored = world.store.account(SHARD, &account("alice")).await.unwrap().unwrap();
    assert_eq!(stored.metadata, "{\"a\":\"1\"}", "metadata that is not given stays");
    assert!(!stored.row.quarantined);
}

pub async fn quarantine_raises_the_version_once(world: World) {
    world.customers(SHARD, &["alice", "bob", "carol"]).await;
    for _ in 0..2 {
        let mut tx = world.begin().await;
        tx.quarantine(&suspects(["alice", "carol", "nobody"])).await.unwrap();
        tx.commit().await.unwrap();
    }
    for id in ["alice", "carol"] {
        let row = world.row(SHARD, id).await;
        assert_eq!((row.quarantined, row.version), (true, 2), "{id}");
    }
    assert_eq!(world.row(SHARD, "bob").await, customer("bob").row);
}

pub async fn accounts_are_listed_in_id_order_by_prefix_currency_and_status(world: World) {
    let mut yen = customer("a-yen");
    yen.row.currency = "JPY".parse().unwrap();
    let mut frozen = customer("a-frozen");
    frozen.row.status = AccountStatus::Frozen;
    let plain = ["B", "a", "a-1", "a-2", "a.1", "b", "a-"].map(customer);
    world.create(SHARD, &plain).await;
    world.create(SHARD, &[yen, frozen]).await;
    let list = async |filter: AccountFilter, after: Option<&str>, limit: u32| {
        let after = after.map(account);
        let rows = world.store.accounts(SHARD, &filter, after.as_ref(), limit).await.unwrap();
        rows.into_iter().map(|record| record.row.id.to_string()).collect::<Vec<_>>()
    };
    let any = AccountFilter::default();
    let prefix = |prefix: &str| AccountFilter { prefix: Some(prefix.to_owned()), ..any.clone() };
    assert_eq!(
        list(any.clone(), None, 50).await,
        ["B", "a", "a-", "a-1", "a-2", "a-frozen", "a-yen", "a.1", "b"]
    );
    assert_eq!(list(any.clone(), Some("a-1"), 2).await, ["a-2", "a-frozen"]);
    assert_eq!(list(prefix("a-"), None, 50).await, ["a-", "a-1", "a-2", "a-frozen", "a-yen"]);
    assert_eq!(list(prefix("a-"), Some("a-2"), 50).await, ["a-frozen", "a-yen"]);
    assert_eq!(list(prefix("A"), None, 50).await, [""; 0]);
    assert_eq!(list(prefix("%"), None, 50).await, [""; 0]);
    assert_eq!(list(prefix("\u{e9}"), None, 50).await, [""; 0]);
    let currency = Some("JPY".parse().unwrap());
    assert_eq!(list(AccountFilter { currency, ..any.clone() }, None, 50).await, ["a-yen"]);
    let status = Some(AccountStatus::Frozen);
    assert_eq!(list(AccountFilter { status, ..prefix("a") }, None, 50).await, ["a-frozen"]);
}

pub async fn decision_rows_come_in_pages(world: World) {
    world.create(SHARD, &[customer("a"), customer("b"), external("c")]).await;
    let first = world.store.decision_rows(SHARD, None, 2).await.unwrap();
    assert_eq!(first, [customer("a").row, customer("b").row]);
    let rest = world.store.decision_rows(SHARD, Some(&account("b")), 2).await.unwrap();
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0].kind, AccountKind::External);
}
