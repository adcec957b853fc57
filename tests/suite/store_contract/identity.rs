//! What a shard is: `migrate`, opening, and the comparison in every transaction.

use super::world::{
    Databases, OTHER, SHARD, World, account, customer, name, record, suspects, transfer,
};
use holdfast::domain::Shard;
use holdfast::store::{Mark, Store, StoreError};
use std::time::Duration;

const MIGRATIONS: [&str; 9] = [
    "0001 ledger",
    "0002 operations",
    "0003 fixed lengths",
    "0004 audit chain",
    "0005 access",
    "0006 velocity",
    "0007 proposals",
    "0008 sealed fields",
    "0009 pauses",
];

fn sentence<T>(result: Result<T, StoreError>) -> String {
    match result {
        Err(error @ StoreError::Identity { .. }) => error.to_string(),
        Err(other) => panic!("not about identity: {other}"),
        Ok(_) => panic!("no error"),
    }
}

pub async fn migrating_makes_one_cluster_and_can_be_repeated(databases: Databases) {
    let pending = databases.pending().await.unwrap();
    assert!(pending.iter().all(|shard| shard.joins && shard.migrations == MIGRATIONS));
    let report = databases.migrate().await.unwrap();
    assert_eq!(report.shards.len(), 2);
    for (index, shard) in (0..).zip(&report.shards) {
        assert_eq!(shard.shard, Shard(index));
        assert_eq!((shard.applied.len(), shard.joined), (MIGRATIONS.len(), true));
    }
    let again = databases.migrate().await.unwrap();
    assert_eq!(again.identity, report.identity);
    assert!(again.shards.iter().all(|shard| shard.applied.is_empty() && !shard.joined));
    let pending = databases.pending().await.unwrap();
    assert_eq!(pending.len(), 2);
    assert!(pending.iter().all(|shard| !shard.joins && shard.migrations.is_empty()));
    let store = databases.open().await.unwrap();
    assert_eq!(store.identity(), &report.identity);
    assert_eq!(store.map().fingerprint(), report.identity.map_fingerprint);
    assert_eq!((store.map().shards(), store.map().partitions()), (2, 4));
    assert!(!store.address(OTHER).contains("root"));
}

/// The tables of an earlier release, with what it had written.
pub async fn a_database_of_an_earlier_release_is_upgraded(databases: Databases) {
    databases.migrate().await.unwrap();
    let store = databases.open().await.unwrap();
    let mut tx = store.begin(SHARD).await.unwrap();
    tx.insert_accounts(&[customer("alice"), customer("bob")]).await.unwrap();
    tx.quarantine(&suspects(["alice"])).await.unwrap();
    tx.commit().await.unwrap();
    for shard in [SHARD, OTHER] {
        let tables = [
            "audit_log",
            "audit_chain",
            "account_quarantines",
            "dead_letters",
            "drift_progress",
            "drift_watched",
            "velocity_limits",
            "api_keys",
            "pauses",
            "proposals",
            "data_keys",
        ];
        for table in tables {
            databases.sql(shard, &format!("DROP TABLE {table}")).await;
        }
        databases.sql(shard, "ALTER TABLE account_mst DROP COLUMN limited").await;
        let index = match &databases {
            Databases::Sqlite(..) => "DROP INDEX owned",
            Databases::MySql(_) => "DROP INDEX owned ON account_mst",
        };
        databases.sql(shard, index).await;
        databases.sql(shard, "ALTER TABLE account_mst DROP COLUMN owner").await;
        for table in ["account_mst", "transaction_status"] {
            databases.sql(shard, &format!("ALTER TABLE {table} DROP COLUMN sealed")).await;
        }
        databases.sql(shard, "DELETE FROM _sqlx_migrations WHERE version >= 2").await;
    }
    let pending = databases.pending().await.unwrap();
    assert!(pending.iter().all(|shard| !shard.joins && shard.migrations == MIGRATIONS[1..]));
    let error = store.quarantines(SHARD, None, 10).await.unwrap_err();
    assert!(error.to_string().contains("run `holdfast migrate`"), "{error}");
    databases.migrate().await.unwrap();
    let store = databases.open().await.unwrap();
    let quarantined = store.quarantines(SHARD, None, 10).await.unwrap();
    let ids: Vec<&str> = quarantined.iter().map(|one| one.account.as_str()).collect();
    assert_eq!(ids, ["alice"]);
    assert!(quarantined[0].suspicion.reason.contains("before reasons were kept"));
}

pub async fn several_may_migrate_at_once(databases: Databases) {
    let runs = futures::future::join_all((0..4).map(|_| databases.migrate())).await;
    let identities: Vec<_> = runs.into_iter().map(|run| run.unwrap().identity).collect();
    assert!(identities.iter().all(|identity| *identity == identities[0]));
    assert_eq!(databases.open().await.unwrap().identity(), &identities[0]);
}

pub async fn a_cluster_that_is_not_in_use_is_completed(databases: Databases) {
    let first = databases.migrate().await.unwrap().identity;
    databases.sql(SHARD, "DELETE FROM shard_identity; DELETE FROM shard_map").await;
    let opened = databases.open().await;
    assert!(sentence(opened).contains("run `holdfast migrate`"));
    let pending = databases.pending().await.unwrap();
    assert_eq!(pending.iter().map(|shard| shard.joins).collect::<Vec<_>>(), [true, false]);
    let report = databases.migrate().await.unwrap();
    assert_eq!(report.identity, first);
    assert_eq!(report.shards.iter().map(|shard| shard.joined).collect::<Vec<_>>(), [true, false]);
    databases.open().await.unwrap();
}

/// An empty database in the place of one that holds accounts is a mistake or a loss.
pub async fn an_empty_shard_of_a_cluster_in_use_is_refused(databases: Databases) {
    databases.migrate().await.unwrap();
    let store = databases.open().await.unwrap();
    let mut tx = store.begin(OTHER).await.unwrap();
    tx.insert_accounts(&[customer("bob")]).await.unwrap();
    tx.commit().await.unwrap();
    databases.sql(SHARD, "DELETE FROM shard_identity; DELETE FROM shard_map").await;
    assert!(sentence(databases.migrate().await).contains("restore it"));
}

pub async fn another_number_of_partitions_or_shards_is_refused(databases: Databases) {
    databases.migrate().await.unwrap();
    let partitions = sentence(databases.migrate_with(2, 8).await);
    assert!(partitions.contains("8 are configured"), "{partitions}");
    let shards = sentence(databases.with_third().await.migrate_with(3, 4).await);
    assert!(shards.contains("adding shards is not supported yet"), "{shards}");
}

/// Hazard 8.
pub async fn swapped_shards_are_not_opened(world: World) {
    let databases = world.databases;
    drop(world.store);
    let swapped = databases.swapped().await;
    let error = sentence(swapped.open().await);
    assert!(error.contains("is shard 1, not shard 0"), "{error}");
    assert!(error.contains("order"), "{error}");
    let error = sentence(swapped.migrate().await);
    assert!(error.contains("is shard 1, not shard 0"), "{error}");
}

/// Everything that writes or reads a shard for the first time, on a shard that became another.
async fn refused(store: &dyn Store, word: &str) {
    let begun = store.begin(SHARD).await.map(drop);
    let error = sentence(begun);
    assert!(error.contains(word), "{error}");
    let at = holdfast::domain::Timestamp::from_micros(1);
    assert!(sentence(store.outbox_sent(SHARD, &[1]).await).contains(word));
    assert!(sentence(store.lease(SHARD, "a", "b", Duration::ZERO).await).contains(word));
    assert!(sentence(store.scan_unfinished(SHARD, Mark::Recent, at, 1).await).contains(word));
    assert!(sentence(store.stuck(SHARD, 1).await).contains(word));
    assert!(sentence(store.expire_claims(SHARD, at, 1).await).contains(word));
    assert!(sentence(store.refresh_balances(SHARD, None, 1).await).contains(word));
}

/// Hazard 32, and the promotion of a database that may have lost commits.
pub async fn a_raised_generation_stops_every_writer(world: World) {
    let new = transfer(1, world.store.now(SHARD).await.unwrap(), "alice", "bob", 1);
    world.request(&[new]).await;
    world.publish(&[record("alice", "1")]).await;
    world.databases.sql(SHARD, "UPDATE shard_identity SET generation = 2").await;
    refused(&*world.store, "generation 2, this process in 1").await;
    assert_eq!(world.store.outbox_depth(SHARD).await.unwrap().0, 1);
    world.store.begin(OTHER).await.unwrap();
    assert!(sentence(world.databases.open().await).contains("generation"));
}

pub async fn a_new_shard_map_stops_every_writer(world: World) {
    world.databases.sql(SHARD, "UPDATE shard_identity SET map_version = 2").await;
    refused(&*world.store, "shard map version 2").await;
}

pub async fn another_clusters_shard_is_refused(world: World) {
    let foreign = "UPDATE shard_identity SET cluster_id = x'00000000000000000000000000000001'";
    world.databases.sql(SHARD, foreign).await;
    refused(&*world.store, "belongs to cluster 00000000-0000-0000-0000-000000000001").await;
    assert!(sentence(world.databases.open().await).contains("cluster"));
}

pub async fn a_map_that_does_not_fit_its_fingerprint_is_corrupt(world: World) {
    world.databases.sql(OTHER, "UPDATE shard_map SET owners = x'0001'").await;
    assert_eq!(name(&world.databases.open().await.err().unwrap()), "corrupt");
}

pub async fn an_unknown_code_in_a_row_is_corrupt(world: World) {
    world.customers(SHARD, &["alice"]).await;
    world.databases.sql(SHARD, "UPDATE account_mst SET status = 9").await;
    let read = world.store.account(SHARD, &account("alice")).await;
    assert_eq!(name(&read.unwrap_err()), "corrupt");
}

pub async fn databases_without_tables_say_what_to_do(databases: Databases) {
    let error = databases.open().await.err().unwrap().to_string();
    assert!(error.contains("run `holdfast migrate`"), "{error}");
}
