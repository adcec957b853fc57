//! The audit log's chain: how it grows, and what is found when somebody has written to the tables.

use super::world::{Databases, OTHER, SHARD, World, name, suspects};
use holdfast::domain::Shard;
use holdfast::store::chain::{ChainReport, Noted, What, audit_chain};
use holdfast::store::{Act, ActFilter, Action, Actor, NEWEST, record};
use serde_json::json;
use std::sync::Arc;

/// An act with everything in it that a database could change.
fn act(target: &str) -> Act {
    let actor = Actor {
        operator: "Zoë \u{1f600} ".to_owned(),
        reason: (target != "none").then(|| "it's \\ \"quoted\"\n\t ".to_owned()),
        request: (target != "none").then(|| "r-1".to_owned()),
    };
    let states = [json!({ "state": "é\u{0}", "amount": "1.50" }), json!(null)];
    actor.act(Action::CancelTransfer, &target, &states[0], &states[1])
}

fn acts(targets: &[&str]) -> Vec<Act> {
    targets.iter().copied().map(act).collect()
}

async fn log(world: &World, targets: &[&str]) {
    record(&*world.store, SHARD, &acts(targets)).await.unwrap();
}

async fn verified(world: &World, shard: Shard) -> ChainReport {
    audit_chain(&*world.store, shard, &[]).await.unwrap()
}

/// What is wrong with [`SHARD`]'s log, with the ids that are named.
async fn found(world: &World) -> Vec<(What, i64, i64)> {
    let report = verified(world, SHARD).await;
    report.faults.iter().map(|fault| (fault.what, fault.from, fault.through)).collect()
}

/// The ids of the newest rows, in order.
async fn listed(world: &World) -> Vec<i64> {
    let acts = world.store.acts(SHARD, &ActFilter::default(), NEWEST, 100).await.unwrap();
    let mut ids: Vec<i64> = acts.iter().map(|logged| logged.id).collect();
    ids.sort_unstable();
    ids
}

pub async fn a_chain_grows_across_transactions_and_within_one(world: World) {
    assert_eq!(verified(&world, SHARD).await.head.unwrap().last_hash, None);
    log(&world, &["one", "none", "three"]).await;
    log(&world, &[]).await;
    log(&world, &["four"]).await;
    let mut tx = world.begin().await;
    tx.record_acts(&acts(&["five"])).await.unwrap();
    tx.record_acts(&acts(&["six", "seven"])).await.unwrap();
    tx.commit().await.unwrap();
    let report = verified(&world, SHARD).await;
    assert_eq!((report.rows, report.before, &report.faults[..]), (7, 0, &[][..]));
    let head = report.head.unwrap();
    let page = world.store.chained_acts(SHARD, 0, 100).await.unwrap();
    assert_eq!((page.rows.len(), page.head.as_ref()), (7, Some(&head)));
    assert_eq!((head.last_id, &head.last_hash), (7, &page.rows[6].hash));
    assert_eq!(page.rows[1].columns[3], None, "no reason is NULL");
    let rest = world.store.chained_acts(SHARD, 5, 1).await.unwrap();
    assert_eq!((&rest.rows[..], rest.head), (&page.rows[5..6], Some(head)));
    assert_eq!(verified(&world, OTHER).await.rows, 0);
}

pub async fn more_acts_than_a_page_are_one_chain(world: World) {
    let targets: Vec<String> = (0..1200).map(|number| format!("target-{number}")).collect();
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    log(&world, &targets).await;
    let report = verified(&world, SHARD).await;
    assert_eq!((report.rows, &report.faults[..]), (1200, &[][..]));
    world.databases.sql(SHARD, "UPDATE audit_log SET operator = 'eve' WHERE id > 600").await;
    let report = verified(&world, SHARD).await;
    assert_eq!((report.faults.len() as u64 + report.more, report.faults[0].from), (1, 601));
    assert_eq!((report.faults[0].what, report.faults[0].through), (What::Changed, 1200));
}

pub async fn a_transaction_that_is_rolled_back_leaves_no_gap(world: World) {
    log(&world, &["one"]).await;
    world.customers(SHARD, &["alice"]).await;
    let mut tx = world.begin().await;
    tx.quarantine(&suspects(["alice"])).await.unwrap();
    tx.record_acts(&acts(&["lost", "lost"])).await.unwrap();
    drop(tx);
    log(&world, &["two"]).await;
    assert!(!world.row(SHARD, "alice").await.quarantined);
    assert_eq!(listed(&world).await, [1, 2]);
    assert_eq!(found(&world).await, []);
}

pub async fn writers_at_once_make_one_chain(world: World) {
    let writers = (0..8).map(|writer| {
        let store = Arc::clone(&world.store);
        tokio::spawn(async move {
            for number in 0..10 {
                let target = format!("{writer}-{number}");
                record(&*store, SHARD, &[act(&target), act("none")]).await.unwrap();
            }
        })
    });
    let verifier = {
        let world = &world;
        async move {
            for _ in 0..10 {
                assert_eq!(found(world).await, [], "while it is written");
            }
        }
    };
    let (ended, ()) = tokio::join!(futures::future::join_all(writers), verifier);
    ended.into_iter().for_each(|ended| ended.unwrap());
    let report = verified(&world, SHARD).await;
    assert_eq!((report.rows, &report.faults[..]), (160, &[][..]));
    assert_eq!(listed(&world).await.last(), Some(&160));
}

/// What an act says and a column does not take is cut off before it is hashed.
pub async fn what_a_column_does_not_take_is_cut_off_and_hashed_so(world: World) {
    let long = "é".repeat(3000);
    let mut act = act(&long);
    act.actor =
        Actor { operator: long.clone(), reason: Some(long.clone()), request: Some(long.clone()) };
    record(&*world.store, SHARD, &[act]).await.unwrap();
    assert_eq!(found(&world).await, []);
    let page = world.store.chained_acts(SHARD, 0, 1).await.unwrap();
    let columns = &page.rows[0].columns;
    let lengths = [0, 2, 3, 6].map(|at| columns[at].as_ref().map(Vec::len));
    assert_eq!(lengths, [Some(256), Some(255), Some(2048), Some(64)]);
}

pub async fn every_change_of_a_column_is_found_and_named(world: World) {
    log(&world, &["one", "two", "none", "four", "five"]).await;
    let changes = [
        ("at = at + 1", "at = at - 1"),
        ("operator = 'eve'", "operator = 'Zoë \u{1f600} '"),
        ("operator = 'Zoë \u{1f600}'", "operator = 'Zoë \u{1f600} '"),
        ("action = 'transfer.retry'", "action = 'transfer.cancel'"),
        ("target = 'One'", "target = CASE id WHEN 1 THEN 'one' WHEN 3 THEN 'none' ELSE 'five' END"),
        ("before_state = 'null'", "before_state = @before"),
        ("after_state = '{}'", "after_state = 'null'"),
    ];
    // Of the first, one in the middle and the newest row.
    for id in [1, 3, 5] {
        for (change, back) in changes {
            let update = |set: &str| format!("UPDATE audit_log SET {set} WHERE id = {id}");
            world.databases.sql(SHARD, &update(change)).await;
            assert_eq!(found(&world).await, [(What::Changed, id, id)], "{change}");
            let back = if back.contains("@before") {
                format!(
                    "before_state = (SELECT kept FROM (SELECT before_state AS kept FROM audit_log \
                     WHERE id = {}) AS other)",
                    id % 5 + 1
                )
            } else {
                back.to_owned()
            };
            world.databases.sql(SHARD, &update(&back)).await;
            assert_eq!(found(&world).await, [], "{back}");
        }
    }
    let empty = "UPDATE audit_log SET reason = '' WHERE id = 3";
    world.databases.sql(SHARD, empty).await;
    assert_eq!(found(&world).await, [(What::Changed, 3, 3)], "empty is not NULL");
    world
        .databases
        .sql(SHARD, "UPDATE audit_log SET reason = NULL, request_id = '' WHERE id = 3")
        .await;
    assert_eq!(found(&world).await, [(What::Changed, 3, 3)], "nor is it for the request");
    world.databases.sql(SHARD, "UPDATE audit_log SET request_id = NULL WHERE id = 3").await;
    assert_eq!(found(&world).await, []);
    world.databases.sql(SHARD, "UPDATE audit_log SET entry_hash = NULL WHERE id = 2").await;
    assert_eq!(found(&world).await, [(What::Changed, 2, 2)]);
}

pub async fn rows_that_are_taken_away_or_added_are_found(world: World) {
    log(&world, &["one", "two", "three", "four", "five", "six"]).await;
    world.databases.sql(SHARD, "DELETE FROM audit_log WHERE id IN (2, 3)").await;
    assert_eq!(found(&world).await, [(What::Missing, 2, 3)]);
    world.databases.sql(SHARD, "DELETE FROM audit_log WHERE id = 6").await;
    let cut = (What::CutOff, 6, 6);
    assert_eq!(found(&world).await, [(What::Missing, 2, 3), cut]);
    log(&world, &["seven"]).await;
    assert_eq!(listed(&world).await, [1, 4, 5, 7], "an id is not given twice");
    let missing = [(What::Missing, 2, 3), (What::Missing, 6, 6)];
    assert_eq!(found(&world).await, missing);
    let add = "INSERT INTO audit_log (id, at, operator, action, target, before_state, after_state) \
        VALUES (8, 1, 'eve', 'dlq.discard', 'x', '{}', '{}')";
    world.databases.sql(SHARD, add).await;
    let added = [&missing[..], &[(What::Added, 8, 8)]].concat();
    assert_eq!(found(&world).await, added);
    log(&world, &["nine"]).await;
    assert_eq!(listed(&world).await, [1, 4, 5, 7, 8, 9], "acts go on behind what was added");
    assert_eq!(found(&world).await, added);
    world.databases.sql(SHARD, "DELETE FROM audit_log").await;
    assert_eq!(found(&world).await, [(What::CutOff, 1, 9)]);
}

pub async fn a_head_that_was_changed_is_found(world: World) {
    log(&world, &["one", "two", "three"]).await;
    let set = async |change: &str| {
        world.databases.sql(SHARD, &format!("UPDATE audit_chain SET {change}")).await;
        let found = found(&world).await;
        (found[0].0, found[0].1, found.len())
    };
    assert_eq!(set("last_id = 2").await, (What::Head, 2, 1));
    assert_eq!(set("last_id = 4").await, (What::Head, 4, 1));
    assert_eq!(set("last_id = 3, began_after = 1").await, (What::Beginning, 1, 1));
    assert_eq!(set("began_after = 0, last_hash = NULL").await, (What::Head, 3, 1));
    let before = "last_id = 2, last_hash = (SELECT entry_hash FROM audit_log WHERE id = 2)";
    assert_eq!(set(before).await, (What::PastHead, 3, 1));
    world.databases.sql(SHARD, "DELETE FROM audit_chain").await;
    assert_eq!(found(&world).await, [(What::NoHead, 3, 3)]);
    let refused = record(&*world.store, SHARD, &acts(&["four"])).await;
    let error = refused.unwrap_err();
    assert_eq!(name(&error), "corrupt");
    assert!(error.to_string().contains("audit_chain"), "{error}");
}

/// The whole chain made anew, as only somebody can who knows how and may write to everything: no
/// row is wrong, and a hash that was noted is another.
pub async fn a_chain_made_anew_is_found_by_what_was_noted(world: World) {
    log(&world, &["one", "two"]).await;
    let page = world.store.chained_acts(SHARD, 0, 10).await.unwrap();
    let note = |row: usize| {
        let hash: String = page.rows[row]
            .hash
            .as_ref()
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{SHARD}:{}:{hash}", page.rows[row].id).parse::<Noted>().unwrap()
    };
    let noted = [note(0), note(1)];
    log(&world, &["three"]).await;
    assert_eq!(audit_chain(&*world.store, SHARD, &noted).await.unwrap().faults, []);
    let anew = "DELETE FROM audit_log; \
        UPDATE audit_chain SET began_after = 0, last_id = 0, last_hash = NULL";
    world.databases.sql(SHARD, anew).await;
    log(&world, &["one", "another"]).await;
    assert_eq!(found(&world).await, []);
    let report = audit_chain(&*world.store, SHARD, &noted).await.unwrap();
    let found: Vec<_> = report.faults.iter().map(|fault| (fault.what, fault.from)).collect();
    assert_eq!(found, [(What::NotAsNoted, 1), (What::NotAsNoted, 2)]);
}

/// A log moved to another shard, table by table, does not follow from that shard's beginning.
pub async fn a_chain_of_another_shard_is_found(world: World) {
    log(&world, &["one", "two", "three"]).await;
    let own = world.store.chained_acts(SHARD, 0, 10).await.unwrap();
    record(&*world.store, OTHER, &acts(&["one", "two", "three"])).await.unwrap();
    let other = world.store.chained_acts(OTHER, 0, 10).await.unwrap();
    for (row, foreign) in own.rows.iter().zip(&other.rows) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let hash = hex(row.hash.as_ref().unwrap());
        let set = format!("at = {}, entry_hash = x'{hash}'", row.at.micros());
        let update = format!("UPDATE audit_log SET {set} WHERE id = {}", foreign.id);
        world.databases.sql(OTHER, &update).await;
        let update = format!("UPDATE audit_chain SET last_hash = x'{hash}'");
        world.databases.sql(OTHER, &update).await;
    }
    let report = verified(&world, OTHER).await;
    let found: Vec<_> = report.faults.iter().map(|fault| (fault.what, fault.from)).collect();
    assert_eq!(found, [(What::Changed, 1)]);
}

/// Rows of a release without a chain: they stay, they are counted, and the chain begins behind them.
pub async fn rows_from_before_the_chain_stay_and_are_counted(databases: Databases) {
    databases.migrate().await.unwrap();
    let numbered = match &databases {
        Databases::Sqlite(..) => "SELECT 1",
        Databases::MySql(_) => "ALTER TABLE audit_log MODIFY id BIGINT NOT NULL AUTO_INCREMENT",
    };
    let old = format!(
        "DROP TABLE audit_chain; ALTER TABLE audit_log DROP COLUMN entry_hash; {numbered}; \
         DELETE FROM _sqlx_migrations WHERE version = 4; \
         INSERT INTO audit_log (at, operator, action, target, before_state, after_state) \
         VALUES (1, 'zoe', 'dlq.discard', 'x', '{{}}', '{{}}'), \
                (2, 'zoe', 'dlq.discard', 'y', '{{}}', '{{}}')"
    );
    databases.sql(SHARD, &old).await;
    databases.migrate().await.unwrap();
    let world = World { store: databases.open().await.unwrap(), databases };
    let report = verified(&world, SHARD).await;
    assert_eq!((report.before, report.rows, &report.faults[..]), (2, 0, &[][..]));
    log(&world, &["three", "four"]).await;
    let report = verified(&world, SHARD).await;
    assert_eq!((report.before, report.rows, &report.faults[..]), (2, 2, &[][..]));
    assert_eq!(listed(&world).await, [1, 2, 3, 4]);
    world.databases.sql(SHARD, "UPDATE audit_chain SET began_after = 1").await;
    assert_eq!(found(&world).await, [(What::Beginning, 3, 3)]);
    world.databases.sql(SHARD, "UPDATE audit_chain SET began_after = 3").await;
    assert_eq!(found(&world).await, [(What::Beginning, 3, 3)]);
    world.databases.sql(SHARD, "UPDATE audit_chain SET began_after = 2").await;
    let hashed =
        "UPDATE audit_log SET entry_hash = (SELECT last_hash FROM audit_chain) WHERE id = 2";
    world.databases.sql(SHARD, hashed).await;
    assert_eq!(found(&world).await, [(What::Added, 2, 2)]);
}
