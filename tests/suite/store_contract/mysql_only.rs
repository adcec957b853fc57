//! What only a server can do: keep two writers, kill a connection, go away.

use super::world::{
    Databases, OTHER, SHARD, World, account, customer, name, record, suspects, transfer,
};
use crate::proxy::{Commits, Proxy};
use crate::services::own_services;
use crate::wait::eventually;
use holdfast::store::mysql::{self, MySqlSettings, MySqlStore};
use holdfast::store::{Opening, Store, Tx};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn settings(world: &World) -> MySqlSettings {
    match &world.databases {
        Databases::MySql(settings) => settings.clone(),
        Databases::Sqlite(..) => unreachable!("these tests are about MySQL"),
    }
}

/// The same shards, the first of them through a proxy.
async fn proxied(world: &World, statement_timeout: Duration) -> (Proxy, MySqlStore) {
    let mut settings = settings(world);
    let proxy = Proxy::start(&settings.urls[0], 0).await;
    settings.urls[0] = proxy.url(&settings.urls[0]);
    settings.statement_timeout = statement_timeout;
    let store = MySqlStore::open(&settings, Opening::AllShards).await.unwrap();
    (proxy, store)
}

/// Closes every connection to the first shard's database but the one that asks.
async fn kill_connections(world: &World) {
    let database = settings(world).urls[0].rsplit('/').next().unwrap().to_owned();
    let statement = format!(
        "SELECT GROUP_CONCAT(id) INTO @ids FROM information_schema.processlist \
         WHERE db = '{database}' AND id <> CONNECTION_ID()"
    );
    use sqlx::{Connection, Row};
    let mut conn = sqlx::MySqlConnection::connect(&settings(world).urls[0]).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut conn).await.unwrap();
    let row = sqlx::raw_sql("SELECT @ids").fetch_one(&mut conn).await.unwrap();
    for id in row.get::<String, _>(0).split(',') {
        let kill = sqlx::AssertSqlSafe(format!("KILL {id}"));
        sqlx::raw_sql(kill).execute(&mut conn).await.unwrap();
    }
}

/// "Everything with id over the last one" would skip it.
#[tokio::test]
async fn a_row_that_commits_late_is_published() {
    let world = World::mysql().await;
    let mut late = world.begin().await;
    late.insert_outbox(&[record("alice", "late")]).await.unwrap();
    world.publish(&[record("alice", "early")]).await;
    let rows = world.store.outbox(SHARD, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    world.store.outbox_sent(SHARD, &[rows[0].id]).await.unwrap();
    late.commit().await.unwrap();
    let rows = world.store.outbox(SHARD, 0, 10).await.unwrap();
    assert_eq!(rows[0].records, Ok(vec![record("alice", "late")]));
}

#[tokio::test]
async fn a_lock_that_is_not_given_is_a_reason_to_run_again() {
    let world = World::mysql().await;
    world.customers(SHARD, &["alice"]).await;
    let ids = [account("alice")].into();
    let mut one = world.begin().await;
    one.lock_accounts(&ids).await.unwrap();
    let mut other = world.begin().await;
    assert_eq!(name(&other.lock_accounts(&ids).await.unwrap_err()), "retry");
    assert_eq!(name(&other.lock_accounts(&ids).await.unwrap_err()), "retry", "and nothing else");
    drop(one);
    world.begin().await.lock_accounts(&ids).await.unwrap();
}

#[tokio::test]
async fn a_deadlock_is_a_reason_to_run_again() {
    let world = World::mysql().await;
    world.customers(SHARD, &["alice", "bob"]).await;
    let (alice, bob) = ([account("alice")].into(), [account("bob")].into());
    let (mut one, mut other) = (world.begin().await, world.begin().await);
    one.lock_accounts(&alice).await.unwrap();
    other.lock_accounts(&bob).await.unwrap();
    let (first, second) = futures::join!(one.lock_accounts(&bob), async {
        let locked = other.lock_accounts(&alice).await;
        drop(other);
        locked
    });
    let failed: Vec<_> = [first.err(), second.err()].into_iter().flatten().collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(name(&failed[0]), "retry");
}

#[tokio::test]
async fn a_statement_that_does_not_answer_is_bounded() {
    let world = World::mysql().await;
    world.customers(SHARD, &["alice"]).await;
    let mut settings = settings(&world);
    settings.statement_timeout = Duration::from_millis(300);
    settings.max_connections = 1;
    let hasty = MySqlStore::open(&settings, Opening::AllShards).await.unwrap();
    let ids = [account("alice")].into();
    let mut holder = world.begin().await;
    holder.lock_accounts(&ids).await.unwrap();
    let mut tx = hasty.begin(SHARD).await.unwrap();
    assert_eq!(name(&tx.lock_accounts(&ids).await.unwrap_err()), "unavailable");
    drop(tx);
    hasty.now(SHARD).await.unwrap();
    drop(holder);
}

#[tokio::test]
async fn a_killed_connection_is_replaced() {
    let world = World::mysql().await;
    let mut tx = world.begin().await;
    tx.insert_accounts(&[customer("alice")]).await.unwrap();
    kill_connections(&world).await;
    let error = tx.insert_accounts(&[customer("bob")]).await.unwrap_err();
    assert_eq!(name(&error), "unavailable");
    drop(tx);
    let mut tx = begun(&world).await;
    tx.insert_accounts(&[customer("alice")]).await.unwrap();
    kill_connections(&world).await;
    assert_eq!(name(&tx.commit().await.unwrap_err()), "commit unknown");
    begun(&world).await;
    world.customers(SHARD, &["alice"]).await;
}

/// A transaction, once the connections of the pool that were killed are found out, each once.
async fn begun(world: &World) -> Box<dyn Tx> {
    let began = Instant::now();
    loop {
        match world.store.begin(SHARD).await {
            Ok(tx) => return tx,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(30), "{error}"),
        }
    }
}

/// Hazard 7.
#[tokio::test]
async fn an_unconfirmed_commit_is_unknown() {
    let world = World::mysql().await;
    let (proxy, store) = proxied(&world, Duration::from_millis(500)).await;
    let cases = [
        (Commits::LoseAnswer, "answer", true),
        (Commits::Silence, "silence", true),
        (Commits::LoseRequest, "request", false),
    ];
    for (mode, id, stands) in cases {
        let mut tx = store.begin(SHARD).await.unwrap();
        tx.insert_accounts(&[customer(id)]).await.unwrap();
        proxy.commits(mode);
        let met = tx.commit().await.expect_err(&format!("{mode:?}"));
        assert_eq!(name(&met), "commit unknown", "{mode:?}");
        proxy.commits(Commits::Pass);
        let found = async || world.store.account(SHARD, &account(id)).await.unwrap().is_some();
        if stands {
            eventually("the server has ended the text", found).await;
        } else {
            assert!(!found().await, "{mode:?}");
        }
    }
}

#[tokio::test]
async fn a_shard_that_is_down_at_the_start_is_compared_when_it_answers() {
    let world = World::mysql().await;
    let mut settings = settings(&world);
    settings.acquire_timeout = Duration::from_millis(300);
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = unused.local_addr().unwrap().port();
    drop(unused);
    let (first, second) = (settings.urls[0].clone(), settings.urls[1].clone());
    let mut down = url::Url::parse(&second).unwrap();
    down.set_port(Some(port)).unwrap();
    // The same name on both servers, so that the proxy can lead to the wrong one.
    down.set_path(url::Url::parse(&first).unwrap().path());
    settings.urls[1] = format!("{down}?ssl-mode=disabled");
    let error = MySqlStore::open(&settings, Opening::AllShards).await.err().unwrap();
    assert_eq!(name(&error), "unavailable");
    let store = MySqlStore::open(&settings, Opening::AnyShard).await.unwrap();
    assert_eq!(store.identity(), world.store.identity());
    store.begin(SHARD).await.unwrap();
    let began = Instant::now();
    assert_eq!(name(&store.begin(OTHER).await.err().unwrap()), "unavailable");
    assert_eq!(name(&store.ping(OTHER).await.unwrap_err()), "unavailable");
    assert!(began.elapsed() < Duration::from_secs(3));
    let _wrong = Proxy::start(&first, port).await;
    // Its breaker may be open by now.
    eventually("an answer", || async {
        name(&store.begin(OTHER).await.err().unwrap()) == "identity"
    })
    .await;
    let read = store.account(OTHER, &account("alice")).await;
    assert_eq!(name(&read.unwrap_err()), "identity");
    settings.urls.truncate(1);
    let error = MySqlStore::open(&settings, Opening::AnyShard).await.err().unwrap();
    assert!(error.to_string().contains("has 2 shards and 1 are configured"), "{error}");
}

#[tokio::test]
async fn a_missing_database_is_created() {
    let world = World::mysql().await;
    let mut settings = settings(&world);
    for url in &mut settings.urls {
        url.push_str("_new");
    }
    let error = MySqlStore::open(&settings, Opening::AllShards).await.err().unwrap();
    assert!(error.to_string().contains("run `holdfast migrate`"), "{error}");
    assert!(mysql::pending(&settings).await.unwrap().iter().all(|shard| shard.joins));
    mysql::migrate(&settings, 4).await.unwrap();
    MySqlStore::open(&settings, Opening::AllShards).await.unwrap();
}

/// `migrate` was killed after some of its tables were made.
#[tokio::test]
async fn an_interrupted_migration_is_taken_up_again() {
    let databases = Databases::mysql().await;
    databases.migrate().await.unwrap();
    let interrupted =
        "UPDATE _sqlx_migrations SET success = FALSE; DROP TABLE leases, outbox, audit_log";
    databases.sql(SHARD, interrupted).await;
    assert_eq!(databases.pending().await.unwrap()[0].migrations.len(), 9);
    databases.migrate().await.unwrap();
    // Behind the audit log's new column, before its chain.
    let interrupted = "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 4; \
        DROP TABLE audit_chain";
    databases.sql(SHARD, interrupted).await;
    databases.migrate().await.unwrap();
    let store = databases.open().await.unwrap();
    assert_eq!(store.outbox_depth(SHARD).await.unwrap(), (0, None));
}

/// Before its third migration a transfer had NULL where it has 0 and -1 now.
#[tokio::test]
async fn transfers_of_an_earlier_release_read_the_same() {
    let world = World::mysql().await;
    let at = world.store.now(SHARD).await.unwrap();
    world.customers(SHARD, &["alice", "bob"]).await;
    let new = transfer(1, at, "alice", "bob", 1);
    world.request(std::slice::from_ref(&new)).await;
    let before = world.record(new.terms.id).await.unwrap();
    let columns = ["held_at", "hold_deadline", "completed_at", "hold_offset", "final_offset"];
    let nullable = columns.map(|column| format!("MODIFY {column} BIGINT")).join(", ");
    let null = columns.map(|column| format!("{column} = NULL")).join(", ");
    for sql in [
        format!("ALTER TABLE transaction_status {nullable}"),
        format!("UPDATE transaction_status SET {null}"),
        "DELETE FROM _sqlx_migrations WHERE version = 3".to_owned(),
    ] {
        world.databases.sql(SHARD, &sql).await;
    }
    world.databases.migrate().await.unwrap();
    let after = world.record(new.terms.id).await.unwrap();
    assert_eq!((after.row.held_at, after.row.completed_at), (None, None));
    assert_eq!(after, before);
}

#[tokio::test]
async fn addresses_are_checked_and_never_show_a_password() {
    for url in ["mysql://root:secret@localhost:1", "postgres://a:secret@b/c", "secret", "mysql:///"]
    {
        let settings = MySqlSettings::new(vec![url.to_owned()]);
        let error = MySqlStore::open(&settings, Opening::AnyShard).await.err().unwrap().to_string();
        assert!(error.contains("mysql://user:password@host:port/database"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let mut settings = MySqlSettings::new(vec!["mysql://root:secret@127.0.0.1:1/db".to_owned()]);
    settings.acquire_timeout = Duration::from_millis(50);
    let error = MySqlStore::open(&settings, Opening::AnyShard).await.err().unwrap().to_string();
    assert!(error.contains("127.0.0.1:1/db") && !error.contains("secret"), "{error}");
}

/// Every statement that locks reads by the primary key in the order of its batch, also while the
/// tables are so small that reading all of them would be cheaper.
#[tokio::test]
async fn only_the_rows_of_a_batch_are_locked() {
    let world = World::mysql().await;
    let at = world.store.now(SHARD).await.unwrap();
    world.customers(SHARD, &["alice", "bob"]).await;
    let (one, other) = (transfer(1, at, "alice", "bob", 1), transfer(2, at, "bob", "alice", 1));
    world.request(&[one.clone(), other.clone()]).await;
    let (mut left, mut right) = (world.begin().await, world.begin().await);
    left.lock_accounts(&[account("alice")].into()).await.unwrap();
    right.lock_accounts(&[account("bob")].into()).await.unwrap();
    left.transfers(&[one.terms.id]).await.unwrap();
    right.transfers(&[other.terms.id]).await.unwrap();
    use super::world::stage;
    use holdfast::domain::State;
    let hold =
        |new: &holdfast::store::NewTransfer| [stage(&new.terms, State::Requested, State::Held, at)];
    assert_eq!(left.advance_transfers(&hold(&one)).await.unwrap(), 1);
    assert_eq!(right.advance_transfers(&hold(&other)).await.unwrap(), 1);
    left.lock_reversed(&[one.terms.id].into()).await.unwrap();
    right.lock_reversed(&[other.terms.id].into()).await.unwrap();
    left.quarantine(&suspects(["alice"])).await.unwrap();
    right.quarantine(&suspects(["bob"])).await.unwrap();
    left.commit().await.unwrap();
    right.commit().await.unwrap();
}

/// A server of its own: it is made read-only, killed and started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_comes_back_to_the_same_store() {
    let services = own_services("mysql", 1).await;
    let urls = vec![format!("{}/ledger", services.mysql[0].trim_end_matches('/'))];
    let settings = MySqlSettings { max_connections: 4, ..MySqlSettings::new(urls) };
    mysql::migrate(&settings, 4).await.unwrap();
    let store: Arc<dyn Store> =
        Arc::new(MySqlStore::open(&settings, Opening::AllShards).await.unwrap());
    let world = World { store, databases: Databases::MySql(settings) };

    let mut tx = world.begin().await;
    tx.insert_accounts(&[customer("alice")]).await.unwrap();
    world.databases.sql(SHARD, "SET GLOBAL super_read_only = ON").await;
    assert_eq!(name(&tx.commit().await.unwrap_err()), "unavailable", "and known not to stand");
    assert_eq!(name(&world.store.ping(SHARD).await.unwrap_err()), "unavailable");
    let mut tx = world.begin().await;
    let error = tx.insert_accounts(&[customer("alice")]).await.unwrap_err();
    assert_eq!(name(&error), "unavailable");
    drop(tx);
    world.databases.sql(SHARD, "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").await;
    world.store.ping(SHARD).await.unwrap();
    world.customers(SHARD, &["alice"]).await;

    let mut tx = world.begin().await;
    tx.insert_accounts(&[customer("bob")]).await.unwrap();
    services.control("mysql0", "kill").await.unwrap();
    assert_eq!(name(&tx.commit().await.unwrap_err()), "commit unknown");
    assert_eq!(name(&world.store.begin(SHARD).await.err().unwrap()), "unavailable");
    services.control("mysql0", "start").await.unwrap();
    drop(begun(&world).await);
    world.customers(SHARD, &["bob"]).await;
    assert_eq!(world.row(SHARD, "alice").await, customer("alice").row);
    services.control("mysql0", "stop").await.unwrap();
}
