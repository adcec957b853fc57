//! Bringing shards and topics to what this release needs.

use super::backend;
use crate::broker::embedded::EmbeddedBroker;
use crate::broker::{Broker, Topic};
use crate::config::{Config, MySql};
use crate::domain::Shard;
use crate::store::mysql::{self, MySqlStore};
use crate::store::sqlite::{self, SqliteSettings, SqliteStore};
use crate::store::{MigrationReport, Opening, PendingShard, Store};

/// Something that was done, or is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The address of the shard or of the broker.
    pub place: String,
    /// What.
    pub what: String,
}

impl Step {
    fn new(place: &str, what: String) -> Self {
        Self { place: place.to_owned(), what }
    }
}

/// Creates or upgrades every shard, then every topic; returns what was to do.
pub async fn migrate(config: &Config) -> anyhow::Result<Vec<Step>> {
    match &config.mysql {
        Some(mysql) => migrate_servers(config, mysql).await,
        None => migrate_embedded(config).await,
    }
}

/// What [`migrate`] would do.
pub async fn pending(config: &Config) -> anyhow::Result<Vec<Step>> {
    match &config.mysql {
        Some(mysql) => pending_on_servers(config, mysql).await,
        None => pending_embedded(config).await,
    }
}

async fn migrate_servers(config: &Config, mysql: &MySql) -> anyhow::Result<Vec<Step>> {
    let broker = backend::kafka(config)?;
    let report = mysql::migrate(&backend::mysql_settings(mysql), config.kafka.partitions).await?;
    let mut steps = done(&report);
    let (topics, partitions) = (topics(report.shards.len()), report.identity.partitions);
    steps.extend(missing(broker.as_ref(), &topics, partitions).await?);
    broker.create_topics(&topics, partitions).await?;
    Ok(steps)
}

async fn pending_on_servers(config: &Config, mysql: &MySql) -> anyhow::Result<Vec<Step>> {
    let (settings, broker) = (backend::mysql_settings(mysql), backend::kafka(config)?);
    let shards = mysql::pending(&settings).await?;
    let mut steps = to_do(&shards);
    // What the shards store counts; while they store nothing yet, what is configured.
    let stored = MySqlStore::open(&settings, Opening::AllShards).await;
    let partitions = stored.map_or(config.kafka.partitions, |store| store.map().partitions());
    steps.extend(missing(broker.as_ref(), &topics(shards.len()), partitions).await?);
    Ok(steps)
}

async fn migrate_embedded(config: &Config) -> anyhow::Result<Vec<Step>> {
    let steps = pending_embedded(config).await?;
    if !steps.is_empty() {
        let log = backend::open_log(&config.data)?;
        backend::create_embedded(config, None, &log).await?;
    }
    Ok(steps)
}

async fn pending_embedded(config: &Config) -> anyhow::Result<Vec<Step>> {
    let settings = SqliteSettings::new(&config.data);
    let shards = sqlite::pending(&settings).await?;
    if shards.is_empty() {
        let what = format!("create {} shards and their topics", backend::EMBEDDED_SHARDS);
        return Ok(vec![Step::new(&config.data.display().to_string(), what)]);
    }
    let mut steps = to_do(&shards);
    let (topics, log) = (topics(shards.len()), backend::log_dir(&config.data));
    let stored = SqliteStore::open(&settings, Opening::AllShards).await;
    let partitions = stored.map_or(config.kafka.partitions, |store| store.map().partitions());
    match EmbeddedBroker::open_read_only(&log) {
        Ok(broker) => steps.extend(missing(&broker, &topics, partitions).await?),
        Err(_) => steps.push(Step::new(&log.display().to_string(), "create the log".to_owned())),
    }
    Ok(steps)
}

fn topics(shards: usize) -> Vec<Topic> {
    (0..shards).flat_map(|shard| Topic::all(u16::try_from(shard).ok().map(Shard))).collect()
}

async fn missing(
    broker: &dyn Broker,
    topics: &[Topic],
    partitions: u32,
) -> anyhow::Result<Vec<Step>> {
    let missing = broker.missing_topics(topics, partitions).await?;
    let step = |topic: &Topic| {
        Step::new(&broker.address(), format!("topic {topic} with {partitions} partitions"))
    };
    Ok(missing.iter().map(step).collect())
}

fn to_do(shards: &[PendingShard]) -> Vec<Step> {
    let of_shard = |shard: &PendingShard| steps(&shard.address, &shard.migrations, shard.joins);
    shards.iter().flat_map(of_shard).collect()
}

fn done(report: &MigrationReport) -> Vec<Step> {
    let shards = report.shards.iter();
    shards.flat_map(|shard| steps(&shard.address, &shard.applied, shard.joined)).collect()
}

fn steps(address: &str, migrations: &[String], joins: bool) -> Vec<Step> {
    let tables = migrations.iter().map(|name| Step::new(address, format!("migration {name}")));
    let join = joins.then(|| Step::new(address, "identity as a shard of the cluster".to_owned()));
    tables.chain(join).collect()
}
