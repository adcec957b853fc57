//! The two sets of adapters that every scenario runs on.

use crate::services::{fresh_database, services, unique};
use crate::wait::{DEADLINE, eventually};
use holdfast::broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use holdfast::broker::kafka::{KafkaBroker, KafkaSettings};
use holdfast::broker::{Broker, BrokerError, Topic};
use holdfast::cache::BalanceCache;
use holdfast::domain::Shard;
use holdfast::sealing::MasterKeys;
use holdfast::store::mysql::{self, MySqlSettings, MySqlStore};
use holdfast::store::sqlite::{self, SqliteSettings, SqliteStore};
use holdfast::store::{Opening, Store};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, MySqlConnection};
use std::sync::{Arc, Mutex, Once};
use tempfile::TempDir;

/// Which adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// SQLite and the embedded log.
    Embedded,
    /// MySQL, Kafka and Redis.
    Real,
}

/// The adapters of one cluster, without any fault.
pub struct Ports {
    pub store: Arc<dyn Store>,
    pub broker: Arc<dyn Broker>,
    redis: Option<(String, String)>,
    migration: Migration,
}

enum Migration {
    /// The directory is removed with the cluster.
    Embedded {
        shards: u16,
        place: TempDir,
    },
    Real(MySqlSettings),
}

impl Backend {
    /// A cluster that no other test uses.
    pub async fn create(self, shards: u16, partitions: u32) -> Ports {
        logging();
        let ports = match self {
            Self::Embedded => embedded(shards, partitions).await,
            Self::Real => real(shards, partitions).await,
        };
        let topics = Topic::all((0..shards).map(Shard));
        answered(|| ports.broker.create_topics(&topics, partitions)).await.unwrap();
        ports
    }
}

/// What the broker says: on a busy machine it may take a while until it does.
pub async fn answered<T, F>(ask: impl Fn() -> F) -> Result<T, BrokerError>
where
    F: Future<Output = Result<T, BrokerError>>,
{
    let answer = Mutex::new(None);
    eventually("an answer of the broker", || async {
        let said = ask().await;
        let silent = matches!(said, Err(BrokerError::Unavailable { .. }));
        *answer.lock().unwrap() = Some(said);
        !silent
    })
    .await;
    answer.into_inner().unwrap().expect("it was asked")
}

impl Ports {
    /// A client of its own for this cluster's Redis.
    pub fn cache(&self) -> Option<BalanceCache> {
        let (url, prefix) = self.redis.as_ref()?;
        Some(BalanceCache::new(url, prefix).unwrap())
    }

    /// The same Redis, without the product's client.
    pub fn raw_redis(&self) -> Option<RawRedis> {
        let (url, prefix) = self.redis.clone()?;
        Some(RawRedis { client: redis::Client::open(url).unwrap(), prefix })
    }

    /// Opens the shards anew, in the generation that they are in now.
    pub async fn open(&self) -> Arc<dyn Store> {
        match &self.migration {
            Migration::Embedded { place, .. } => {
                let settings = sqlite_settings(place);
                let store = SqliteStore::open(&settings, Opening::AllShards).await.unwrap();
                Arc::new(store.with_encryption(keys()))
            }
            Migration::Real(settings) => {
                let store = MySqlStore::open(settings, Opening::AllShards).await.unwrap();
                Arc::new(store.with_encryption(keys()))
            }
        }
    }

    /// Runs statements in a transaction on a shard behind the store's back. Whatever a process that
    /// was killed had begun there ends before.
    pub async fn sql(&self, shard: Shard, statements: &str) {
        let begin = match &self.migration {
            Migration::Embedded { .. } => "BEGIN IMMEDIATE",
            Migration::Real(_) => "START TRANSACTION",
        };
        let statements = format!("{begin}; {}; COMMIT", statements.trim_end_matches(';'));
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements));
        match &self.migration {
            Migration::Embedded { place, .. } => {
                let file = sqlite_settings(place).dir.join(format!("shard-{shard}.db"));
                let options = SqliteConnectOptions::new().filename(file).busy_timeout(DEADLINE);
                let mut connection = options.connect().await.unwrap();
                statements.execute(&mut connection).await.unwrap();
            }
            Migration::Real(settings) => {
                let url = &settings.urls[usize::from(shard.0)];
                let mut connection = MySqlConnection::connect(url).await.unwrap();
                statements.execute(&mut connection).await.unwrap();
            }
        }
    }

    /// Migrates once more; returns the number of partitions that the shards store, or none where
    /// the migration is refused.
    pub async fn migrate(&self, partitions: u32) -> Option<u32> {
        let migrated = match &self.migration {
            Migration::Embedded { shards, place } => {
                sqlite::migrate(&sqlite_settings(place), *shards, partitions).await
            }
            Migration::Real(settings) => mysql::migrate(settings, partitions).await,
        };
        Some(migrated.ok()?.identity.partitions)
    }
}

/// Redis as an operator sees it, limited to the keys of one cluster.
pub struct RawRedis {
    client: redis::Client,
    prefix: String,
}

impl RawRedis {
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.client.get_multiplexed_async_connection().await.unwrap()
    }

    async fn keys(&self, connection: &mut redis::aio::MultiplexedConnection) -> Vec<String> {
        let pattern = format!("{}*", self.prefix);
        redis::cmd("KEYS").arg(pattern).query_async(connection).await.unwrap()
    }

    /// Removes every key.
    pub async fn flush(&self, connection: &mut redis::aio::MultiplexedConnection) {
        for key in self.keys(connection).await {
            let _: i64 = redis::cmd("DEL").arg(key).query_async(connection).await.unwrap();
        }
    }

    /// Seconds until each key is gone.
    pub async fn expiries(&self, connection: &mut redis::aio::MultiplexedConnection) -> Vec<i64> {
        let mut expiries = Vec::new();
        for key in self.keys(connection).await {
            expiries.push(redis::cmd("TTL").arg(key).query_async(connection).await.unwrap());
        }
        expiries
    }
}

/// Personal fields are encrypted in every scenario: none of the steps may need them.
fn keys() -> Option<Arc<MasterKeys>> {
    const KEY: &str = "tests:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    Some(Arc::new(KEY.parse().unwrap()))
}

fn sqlite_settings(place: &TempDir) -> SqliteSettings {
    SqliteSettings::new(place.path().join("shards"))
}

async fn embedded(shards: u16, partitions: u32) -> Ports {
    let place = TempDir::new().unwrap();
    let settings = sqlite_settings(&place);
    sqlite::migrate(&settings, shards, partitions).await.unwrap();
    let store = SqliteStore::open(&settings, Opening::AllShards).await.unwrap();
    let log = EmbeddedSettings::new(place.path().join("log"));
    Ports {
        store: Arc::new(store.with_encryption(keys())),
        broker: Arc::new(EmbeddedBroker::open(log).unwrap()),
        redis: None,
        migration: Migration::Embedded { shards, place },
    }
}

/// Databases, topics and keys of its own on services that all tests share.
async fn real(shards: u16, partitions: u32) -> Ports {
    let services = services().await;
    let mut urls = Vec::new();
    for shard in 0..shards {
        urls.push(fresh_database(usize::from(shard) % services.mysql.len()).await);
    }
    let settings = MySqlSettings::new(urls);
    mysql::migrate(&settings, partitions).await.unwrap();
    let store = MySqlStore::open(&settings, Opening::AllShards).await.unwrap();
    let prefix = format!("pipeline-{}", unique());
    let broker = KafkaBroker::new(KafkaSettings {
        brokers: services.kafka.clone(),
        topic_prefix: format!("{prefix}."),
        options: Vec::new(),
        replication_factor: 1,
    });
    Ports {
        store: Arc::new(store.with_encryption(keys())),
        broker: Arc::new(broker.unwrap()),
        redis: Some((services.redis.clone(), format!("{prefix}:"))),
        migration: Migration::Real(settings),
    }
}

/// What the roles say is shown with a failed test: RUST_LOG chooses, as everywhere.
fn logging() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().init();
    });
}
