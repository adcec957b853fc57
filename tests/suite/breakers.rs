//! Dependencies that go away and come back, each behind its breaker: callers are told at once, the
//! dependency is asked seldom, and all is as before by itself when it answers.

use crate::proxy::{Line, Proxy};
use crate::services::{fresh_database, services, unique};
use crate::wait::{DEADLINE, eventually, within};
use futures::future::join_all;
use holdfast::broker::kafka::{KafkaBroker, KafkaSettings};
use holdfast::broker::{Broker, BrokerError};
use holdfast::cache::{BalanceCache, CacheError};
use holdfast::domain::{AccountId, Shard};
use holdfast::store::mysql::{self, MySqlSettings, MySqlStore};
use holdfast::store::{Opening, Store, StoreError};
use std::time::Duration;

/// The shard that goes away.
pub const AWAY: Shard = Shard(0);
/// One that does not.
pub const OTHER: Shard = Shard(1);
/// Connections to each shard.
const MOST: u32 = 4;

/// Two shards, the first of them behind a proxy.
pub async fn shards() -> (Proxy, MySqlStore) {
    shards_with(Duration::from_millis(300)).await
}

/// The same with another bound of the wait for a connection.
async fn shards_with(acquire_timeout: Duration) -> (Proxy, MySqlStore) {
    let mut settings = MySqlSettings {
        max_connections: MOST,
        acquire_timeout,
        statement_timeout: Duration::from_secs(3),
        ..MySqlSettings::new(vec![fresh_database(0).await, fresh_database(1).await])
    };
    let patient = MySqlSettings::new(settings.urls.clone());
    mysql::migrate(&patient, 4).await.unwrap();
    let proxy = Proxy::start(&settings.urls[0], 0).await;
    settings.urls[0] = proxy.url(&settings.urls[0]);
    let store = MySqlStore::open(&settings, Opening::AllShards).await.unwrap();
    (proxy, store)
}

fn is_open(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable { detail, .. } => detail.starts_with("breaker open"),
        _ => false,
    }
}

async fn until_open(store: &MySqlStore) {
    eventually("an open breaker", || async {
        let answers = join_all((0..MOST).map(|_| store.now(AWAY))).await;
        answers.into_iter().filter_map(Result::err).any(|error| is_open(&error))
    })
    .await;
}

async fn until_back(store: &MySqlStore) {
    eventually("a closed breaker", || async { store.now(AWAY).await.is_ok() }).await;
}

/// However it goes away: callers are told at once, it is asked seldom, other shards go on, and when
/// it is back nobody has to do anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_goes_away_is_left_alone_until_it_comes_back() {
    for away in [Line::Cut, Line::Silent] {
        let (proxy, store) = shards().await;
        proxy.line(away);
        until_open(&store).await;
        let before = proxy.connections();
        for _ in 0..2000 {
            assert!(is_open(&store.begin(AWAY).await.err().unwrap()), "{away:?}");
            assert!(is_open(&store.ping(AWAY).await.unwrap_err()), "{away:?}");
        }
        let asked = proxy.connections() - before;
        assert!(asked < 100, "{away:?}: asked {asked} times");
        store.begin(OTHER).await.unwrap();
        proxy.line(Line::Up);
        until_back(&store).await;
        store.begin(AWAY).await.unwrap();
    }
}

/// Thousands that were told to come again do so at the same moment: the pool bounds what the shard
/// sees of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_comes_back_is_not_run_over() {
    let (proxy, store) = shards_with(DEADLINE).await;
    for _ in 0..2 {
        proxy.line(Line::Cut);
        until_open(&store).await;
        proxy.line(Line::Up);
        until_back(&store).await;
        let before = proxy.connections();
        let answers = join_all((0..200).map(|_| store.now(AWAY))).await;
        let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(proxy.connections() - before <= MOST as usize);
    }
}

/// What was begun is finished: an open breaker lends no connection and takes none back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_was_begun_commits_behind_an_open_breaker() {
    let (proxy, store) = shards().await;
    let all: Vec<_> = join_all((0..MOST).map(|_| store.begin(AWAY))).await;
    let mut begun: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    proxy.line(Line::Full);
    until_open(&store).await;
    for tx in begun.drain(..2) {
        tx.commit().await.unwrap();
    }
    assert!(is_open(&store.now(AWAY).await.unwrap_err()), "its answers do not close it");
    proxy.line(Line::Cut);
    for tx in begun {
        let error = tx.commit().await.unwrap_err();
        assert!(matches!(error, StoreError::CommitUnknown { .. }), "{error}");
    }
    proxy.line(Line::Up);
    until_back(&store).await;
}

/// A shard that answers with errors is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_that_a_shard_answers_open_nothing() {
    let (proxy, store) = shards().await;
    let missing: AccountId = "nobody".parse().unwrap();
    for _ in 0..20 {
        let mut tx = store.begin(AWAY).await.unwrap();
        tx.lock_accounts(&[missing.clone()].into()).await.unwrap();
        // Commits nothing that exists, again and again.
        drop(tx);
        let lost = store.lease(AWAY, &"x".repeat(10_000), "y", Duration::from_secs(1)).await;
        assert!(matches!(lost, Err(StoreError::Failed { .. })), "{lost:?}");
    }
    store.now(AWAY).await.unwrap();
    drop(proxy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_asked_by_one_probe_until_it_answers() {
    let server = services().await.kafka.clone();
    let proxy = Proxy::start(&format!("kafka://{server}"), 0).await;
    proxy.line(Line::Cut);
    let broker = KafkaBroker::new(KafkaSettings {
        brokers: format!("127.0.0.1:{}", proxy.port()),
        topic_prefix: unique(),
        options: Vec::new(),
        replication_factor: 1,
    })
    .unwrap();
    let first = within("first answers", join_all((0..3).map(|_| broker.ping()))).await;
    for answer in first {
        assert!(matches!(answer, Err(BrokerError::Unavailable { .. })), "{answer:?}");
    }
    let told = |error: Option<BrokerError>| match error {
        Some(BrokerError::Unavailable { detail, .. }) => detail.starts_with("breaker open"),
        _ => false,
    };
    assert!(told(broker.ping().await.err()));
    assert!(told(broker.producer().await.err()), "no client is made for a broker that is away");
    proxy.line(Line::Up);
    eventually("an answer", || async { broker.ping().await.is_ok() }).await;
    broker.producer().await.unwrap();
}

/// A hanging Redis costs the first callers half a second, and further ones nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_gone_without_until_it_answers() {
    let server = services().await.redis.clone();
    let account: AccountId = "alice".parse().unwrap();
    for away in [Line::Silent, Line::Cut] {
        let proxy = Proxy::start(&server, 0).await;
        let url = format!("redis://127.0.0.1:{}", proxy.port());
        let cache = BalanceCache::new(&url, &unique()).unwrap();
        for _ in 0..2 {
            assert_eq!(cache.get(&account).await.unwrap(), None);
            proxy.line(away);
            eventually("an open breaker", || async {
                let answers = join_all((0..3).map(|_| cache.get(&account))).await;
                answers.iter().any(|answer| matches!(answer, Err(CacheError::Open(_))))
            })
            .await;
            let before = proxy.connections();
            for _ in 0..2000 {
                let answer = cache.get(&account).await;
                assert!(matches!(answer, Err(CacheError::Open(_))), "{away:?}: {answer:?}");
            }
            let asked = proxy.connections() - before;
            assert!(asked < 100, "{away:?}: asked {asked} times");
            proxy.line(Line::Up);
            eventually("an answer", || async { cache.get(&account).await.is_ok() }).await;
        }
    }
}
