//! What the reconciler's looks cost: what is unfinished, not what is stored. Counted by the server,
//! which knows how many rows of each table it fetched.

use super::world::{Databases, OTHER, SHARD, World, customer, stage, transfer};
use holdfast::domain::State;
use holdfast::store::{Mark, NewTransfer};
use sqlx::{Connection, Executor, MySqlConnection, Row};
use std::time::Duration;

const STORED: i64 = 100_000;
const UNFINISHED: usize = 20;
/// A page of a scan.
const PAGE: u32 = 2000;

async fn connection(world: &World) -> MySqlConnection {
    let Databases::MySql(settings) = &world.databases else { unreachable!("this is MySQL") };
    MySqlConnection::connect(&settings.urls[0]).await.unwrap()
}

/// Rows of any table of the shard that were fetched so far.
async fn fetched(world: &World) -> i64 {
    let count = "SELECT CAST(SUM(COUNT_FETCH) AS SIGNED) \
        FROM performance_schema.table_io_waits_summary_by_table WHERE OBJECT_SCHEMA = DATABASE()";
    let row = connection(world).await.fetch_one(count).await.unwrap();
    row.get(0)
}

/// Transfers of the last days, all of them committed, with their debits.
async fn history(world: &World) {
    let now = world.store.now(SHARD).await.unwrap().minus(Duration::from_secs(2 * 86_400));
    let numbers = format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {})",
        STORED - 1
    );
    let id = format!(
        "UNHEX(CONCAT(LPAD(HEX({} + i), 12, '0'), '70008', LPAD(HEX(i), 15, '0')))",
        now.millis()
    );
    let transfers = format!(
        "INSERT INTO transaction_status (id, source, destination, amount, currency, state, client, \
         idempotency_key, requested_at, held_at, completed_at) {numbers} \
         SELECT {id}, 'alice', 'bob', 1, 'USD', 3, 'tests', CONCAT('old-', i), {at}, {at}, {at} \
         FROM n",
        at = now.micros()
    );
    let entries = format!(
        "INSERT INTO ledger_entries (transfer_id, side, account_id, counterparty, currency, amount, \
         balance_after, version, created_at, cause_attempt) {numbers} \
         SELECT {id}, 1, 'alice', 'bob', 'USD', 1, -1 - i, 2 + i, {at}, 1 FROM n",
        at = now.micros()
    );
    let mut connection = connection(world).await;
    connection.execute("SET SESSION cte_max_recursion_depth = 1000000").await.unwrap();
    for statement in [transfers, entries] {
        connection.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
    }
    let passed = "UPDATE reconciler_mark SET position = (SELECT MAX(id) FROM transaction_status) \
        WHERE name = 'recent'";
    connection.execute(passed).await.unwrap();
}

/// All that one round of the reconciler asks a shard; returns how many unfinished transfers it found.
async fn round(world: &World) -> usize {
    let store = &world.store;
    let now = store.now(SHARD).await.unwrap();
    assert!(store.lease(SHARD, "reconciler", "tests", Duration::from_secs(15)).await.unwrap());
    store.scan_unfinished(SHARD, Mark::Recent, now, PAGE).await.unwrap();
    store.outbox_depth(SHARD).await.unwrap();
    let due = store.stuck(SHARD, 500).await.unwrap();
    let (over, due): (Vec<_>, Vec<_>) = due.iter().partition(|stuck| stuck.row.state.is_final());
    let over: Vec<_> = over.iter().map(|stuck| stuck.row.terms.id).collect();
    store.stuck_over(SHARD, &over).await.unwrap();
    let ids: Vec<_> = due.iter().map(|stuck| stuck.row.terms.id).collect();
    store.entries_of(OTHER, &ids).await.unwrap();
    store.transfer_records(SHARD, &ids).await.unwrap();
    let seen: Vec<_> = ids.iter().map(|id| (*id, 1, now)).collect();
    store.stuck_seen(SHARD, &seen).await.unwrap();
    store.standing(SHARD).await.unwrap();
    ids.len()
}

#[tokio::test]
async fn the_reconciler_pays_for_what_is_unfinished_and_not_for_what_is_stored() {
    let world = World::mysql().await;
    world.create(SHARD, &[customer("alice")]).await;
    history(&world).await;
    let ago = world.store.now(SHARD).await.unwrap().minus(Duration::from_secs(60));
    let open: Vec<NewTransfer> =
        (0..UNFINISHED as u64).map(|number| transfer(number, ago, "alice", "bob", 1)).collect();
    world.request(&open).await;

    let before = fetched(&world).await;
    let all = "SELECT COUNT(*) FROM transaction_status WHERE amount > 0";
    connection(&world).await.fetch_one(all).await.unwrap();
    let counted = fetched(&world).await - before;
    assert!(counted >= STORED, "the server counts what is fetched: {counted}");

    let before = fetched(&world).await;
    assert_eq!(round(&world).await, UNFINISHED);
    assert_eq!(round(&world).await, UNFINISHED);
    let of_rounds = fetched(&world).await - before;
    let most = UNFINISHED as i64 * 40;
    assert!(of_rounds <= most, "{of_rounds} rows for {UNFINISHED} transfers in two rounds");

    let mut tx = world.begin().await;
    let at = tx.now();
    let ends: Vec<_> =
        open.iter().map(|new| stage(&new.terms, State::Requested, State::Cancelled, at)).collect();
    assert_eq!(tx.advance_transfers(&ends).await.unwrap(), UNFINISHED as u64);
    tx.commit().await.unwrap();
    assert_eq!(round(&world).await, 0);
    let before = fetched(&world).await;
    assert_eq!(round(&world).await, 0);
    let of_nothing = fetched(&world).await - before;
    assert!(of_nothing <= 40, "{of_nothing} rows where nothing is unfinished");

    // The sweep is the only look at what is stored, and takes a page at a time.
    let before = fetched(&world).await;
    let now = world.store.now(SHARD).await.unwrap();
    let looked = world.store.scan_unfinished(SHARD, Mark::Sweep, now, PAGE).await.unwrap();
    let of_page = fetched(&world).await - before;
    assert_eq!(looked, PAGE);
    assert!(of_page <= i64::from(PAGE) + 40, "{of_page} rows for a page of {PAGE}");
}
