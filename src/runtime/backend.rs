//! The adapters that a configuration names: MySQL, Kafka and Redis, or the embedded store and log.

use super::readiness::Services;
use super::waiting::Waiting;
use crate::backlog::Backlog;
use crate::broker::embedded::{EmbeddedBroker, EmbeddedSettings};
use crate::broker::kafka::{KafkaBroker, KafkaSettings};
use crate::broker::{Broker, Topic};
use crate::cache::BalanceCache;
use crate::config::{Config, Fault, Faults, MySql, Secret, Setting};
use crate::context::{Context, Policy};
use crate::domain::Shard;
use crate::roles::Role;
use crate::store::mysql::{MySqlSettings, MySqlStore};
use crate::store::sqlite::{self, SqliteSettings, SqliteStore};
use crate::store::{MigrationReport, Store, StoreError};
use anyhow::{Context as _, bail};
use futures::future::join_all;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use crate::store::Opening;

/// Shards of new embedded data where nobody says how many.
pub const EMBEDDED_SHARDS: u16 = 2;

/// Opened adapters.
pub struct Backend {
    /// The shards.
    pub store: Arc<dyn Store>,
    /// The log between the steps.
    pub broker: Arc<dyn Broker>,
    /// Redis, where it is configured.
    pub cache: Option<BalanceCache>,
    /// Replicas of the shards, where they are configured, and how old they may be.
    pub replicas: Option<(Arc<dyn Store>, Duration)>,
    /// What they are called.
    pub services: Services,
}

const SERVERS: Services = Services { store: "mysql", broker: "kafka" };
const EMBEDDED: Services = Services { store: "sqlite", broker: "log" };

impl Backend {
    /// What roles are given.
    pub fn into_context(self, policy: Policy) -> Context {
        let Self { store, broker, cache, replicas, .. } = self;
        let mut context = Context::new(store, broker, cache, policy, Backlog::default());
        if let Some((replicas, staleness)) = replicas {
            context.reads = context.reads.with_replicas(replicas, staleness);
        }
        context
    }
}

/// The configured databases, broker and cache for roles; waits for at least one database.
pub async fn connect(config: &Config, waiting: &Waiting) -> anyhow::Result<Backend> {
    let mysql = config.mysql.as_ref().context("HOLDFAST_MYSQL_SHARDS is not set")?;
    let broker = kafka(config)?;
    let cache = redis(config)?;
    let open = async || match MySqlStore::open(&mysql_settings(mysql), Opening::AnyShard).await {
        Err(StoreError::Unavailable { .. }) => Ok(Err(absent_shards(mysql).await)),
        Err(fatal) => Err(fatal),
        Ok(store) => Ok(Ok(store)),
    };
    waiting.look_at_others(Arc::clone(&broker), redis(config)?);
    let store = waiting.for_store(open).await?.with_encryption(config.encryption.clone());
    let replicas = replicas(&store, config, mysql)?;
    let store = Arc::new(store);
    waiting.look_at_shards(store.as_ref()).await;
    Ok(Backend { store, broker, cache, replicas, services: SERVERS })
}

/// The replicas that ingress reads from, where they are configured; nothing is connected yet.
fn replicas(
    shards: &MySqlStore,
    config: &Config,
    mysql: &MySql,
) -> anyhow::Result<Option<(Arc<dyn Store>, Duration)>> {
    if mysql.replicas.is_empty() || !config.roles.contains(&Role::Ingress) {
        return Ok(None);
    }
    let replicas = shards.replicas(&settings_of(mysql, &mysql.replicas))?;
    let replicas = Arc::new(replicas.with_encryption(config.encryption.clone()));
    Ok(Some((replicas, mysql.replica_staleness)))
}

/// The shards that do not answer, each asked by itself.
async fn absent_shards(mysql: &MySql) -> Vec<StoreError> {
    let look = async |(index, settings): (usize, MySqlSettings)| {
        let number = Shard(u16::try_from(index).expect("fewer shards than that"));
        match MySqlStore::open(&settings, Opening::AllShards).await {
            Err(StoreError::Unavailable { address, detail, .. }) => {
                Some(StoreError::Unavailable { shard: number, address, detail })
            }
            Ok(_) | Err(_) => None,
        }
    };
    let alone = (0..mysql.shards.len()).map(|index| {
        let shards = vec![mysql.shards[index].clone()];
        (index, mysql_settings(&MySql { shards, replicas: Vec::new(), ..mysql.clone() }))
    });
    join_all(alone.map(look)).await.into_iter().flatten().collect()
}

/// What a command works on: the configured databases, else the embedded store, whose log is only
/// read, for another process may be writing it.
pub async fn open_for_command(config: &Config, opening: Opening) -> anyhow::Result<Backend> {
    let Some(mysql) = &config.mysql else {
        require_embedded(&config.data)?;
        let store = SqliteStore::open(&SqliteSettings::new(&config.data), opening).await?;
        let store = Arc::new(store.with_encryption(config.encryption.clone()));
        let broker = Arc::new(EmbeddedBroker::open_read_only(log_dir(&config.data))?);
        return Ok(Backend { store, broker, cache: None, replicas: None, services: EMBEDDED });
    };
    let store = MySqlStore::open(&mysql_settings(mysql), opening).await?;
    let store = Arc::new(store.with_encryption(config.encryption.clone()));
    let (broker, cache) = (kafka(config)?, redis(config)?);
    Ok(Backend { store, broker, cache, replicas: None, services: SERVERS })
}

/// The embedded store and log, made where they do not exist, opened by this process alone.
pub async fn open_or_create_embedded(
    config: &Config,
    shards: Option<u16>,
) -> anyhow::Result<Backend> {
    let broker = open_log(&config.data)?;
    create_embedded(config, shards, &broker).await?;
    let settings = SqliteSettings::new(&config.data);
    let store = SqliteStore::open(&settings, Opening::AllShards).await?;
    let store = Arc::new(store.with_encryption(config.encryption.clone()));
    let broker = Arc::new(broker);
    Ok(Backend { store, broker, cache: None, replicas: None, services: EMBEDDED })
}

/// The embedded log, for this process alone.
pub fn open_log(data: &Path) -> anyhow::Result<EmbeddedBroker> {
    Ok(EmbeddedBroker::open(EmbeddedSettings::new(log_dir(data)))?)
}

/// Creates what does not exist of the embedded store and the log's topics.
pub async fn create_embedded(
    config: &Config,
    shards: Option<u16>,
    broker: &EmbeddedBroker,
) -> anyhow::Result<MigrationReport> {
    let settings = SqliteSettings::new(&config.data);
    let shards = match (settings.existing_shards(), shards) {
        (0, asked) => asked.unwrap_or(EMBEDDED_SHARDS),
        (existing, Some(asked)) if asked != existing => bail!(
            "{} has {existing} shards: leave out --shards, or choose another directory with --data",
            config.data.display()
        ),
        (existing, _) => existing,
    };
    let report = sqlite::migrate(&settings, shards, config.kafka.partitions).await?;
    let topics = Topic::all((0..shards).map(Shard));
    broker.create_topics(&topics, report.identity.partitions).await?;
    Ok(report)
}

/// Where the embedded log is.
pub fn log_dir(data: &Path) -> PathBuf {
    data.join("log")
}

fn require_embedded(data: &Path) -> anyhow::Result<()> {
    if SqliteSettings::new(data).existing_shards() == 0 {
        bail!(
            "there is no embedded store in {}: run `holdfast dev` there, name another directory with --data, or set HOLDFAST_MYSQL_SHARDS",
            data.display()
        );
    }
    Ok(())
}

/// How the databases are reached.
pub fn mysql_settings(mysql: &MySql) -> MySqlSettings {
    settings_of(mysql, &mysql.shards)
}

fn settings_of(mysql: &MySql, urls: &[Secret]) -> MySqlSettings {
    MySqlSettings {
        urls: urls.iter().map(|url| url.expose().to_owned()).collect(),
        max_connections: mysql.max_connections,
        acquire_timeout: mysql.acquire_timeout,
        statement_timeout: mysql.statement_timeout,
    }
}

/// The configured broker; nothing is connected yet.
pub fn kafka(config: &Config) -> anyhow::Result<Arc<dyn Broker>> {
    let kafka = &config.kafka;
    let options =
        kafka.options.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
    let broker = KafkaBroker::new(KafkaSettings {
        brokers: kafka.brokers.join(","),
        topic_prefix: kafka.topic_prefix.clone(),
        options: options.collect(),
        replication_factor: kafka.replication_factor,
    })
    .map_err(|error| fault("kafka_options", &error))?;
    Ok(Arc::new(broker))
}

/// What a client library says of a setting that looked fine.
fn fault(key: &str, error: &dyn Display) -> Faults {
    let setting = Setting::by_key(key).expect("it is in the table");
    let problem = format!("the client library refuses it: {error}");
    Faults(vec![Fault { name: setting.env(), value: None, problem }])
}

/// The configured cache; nothing is connected yet.
fn redis(config: &Config) -> anyhow::Result<Option<BalanceCache>> {
    let Some(redis) = &config.redis else { return Ok(None) };
    let ca = redis.tls_ca.as_ref().map(std::fs::read).transpose();
    let ca = ca.map_err(|error| fault("redis_tls_ca", &error))?;
    let key = if ca.is_some() { "redis_tls_ca" } else { "redis_url" };
    let opened = BalanceCache::with_ca(redis.url.expose(), &redis.prefix, ca);
    Ok(Some(opened.map_err(|error| fault(key, &error))?))
}
