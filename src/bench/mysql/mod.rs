//! A MySQL server seen from outside: what a benchmark asks it beside the store, and the yardstick
//! that is not Holdfast's. With `src/store` the only place with SQL.

pub mod naive;

use crate::store::mysql::encrypted;
use anyhow::{Context as _, bail};
use serde::Serialize;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Row};
use std::collections::BTreeMap;
use url::Url;

/// A server, by its address; databases on it are named where they are used.
#[derive(Clone, Debug)]
pub struct Server {
    url: Url,
    options: MySqlConnectOptions,
}

impl Server {
    /// Of `mysql://user:password@host:port/anything`. Messages do not repeat the address, which
    /// may hold a password.
    pub fn new(url: &str) -> anyhow::Result<Self> {
        const SHAPE: &str = "a server's address is mysql://user:password@host:port";
        let url = Url::parse(url).context(SHAPE)?;
        if url.scheme() != "mysql" || url.host_str().is_none() {
            bail!(SHAPE);
        }
        let options = encrypted(&url, MySqlConnectOptions::from_url(&url).context(SHAPE)?);
        Ok(Self { url, options: options.charset("utf8mb4").database("") })
    }

    /// Host and port.
    pub fn address(&self) -> String {
        let host = self.url.host_str().unwrap_or("localhost");
        format!("{host}:{}", self.url.port().unwrap_or(3306))
    }

    /// The address of a database on it, credentials included.
    pub fn url_of(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// A connection; an empty name is no database.
    async fn connect(&self, database: &str) -> anyhow::Result<MySqlConnection> {
        let options = self.options.clone().database(database).disable_statement_logging();
        options
            .connect()
            .await
            .with_context(|| format!("MySQL at {} does not answer", self.address()))
    }

    async fn run(&self, text: String) -> anyhow::Result<()> {
        let mut conn = self.connect("").await?;
        conn.execute(AssertSqlSafe(text)).await?;
        Ok(conn.close().await?)
    }

    /// Makes a database. The name is ours: letters, digits and underscores.
    pub async fn create(&self, database: &str) -> anyhow::Result<()> {
        self.run(format!("CREATE DATABASE `{database}`")).await
    }

    /// Drops a database and all that is in it, where it exists.
    pub async fn drop(&self, database: &str) -> anyhow::Result<()> {
        self.run(format!("DROP DATABASE IF EXISTS `{database}`")).await
    }

    /// Version, and whether a COMMIT is on disk before it is answered.
    pub async fn facts(&self) -> anyhow::Result<ServerFacts> {
        let mut conn = self.connect("").await?;
        let row = conn
            .fetch_one(
                "SELECT VERSION(), CAST(@@global.innodb_flush_log_at_trx_commit AS SIGNED), \
                 CAST(@@global.sync_binlog AS SIGNED), CAST(@@global.log_bin AS SIGNED), \
                 CAST(@@global.innodb_doublewrite = 'ON' AS SIGNED), \
                 CAST(@@global.innodb_buffer_pool_size AS SIGNED), @@global.innodb_flush_method",
            )
            .await?;
        let facts = ServerFacts {
            address: self.address(),
            version: row.try_get_unchecked(0)?,
            innodb_flush_log_at_trx_commit: row.try_get_unchecked(1)?,
            sync_binlog: row.try_get_unchecked(2)?,
            log_bin: row.try_get_unchecked::<i64, _>(3)? != 0,
            innodb_doublewrite: row.try_get_unchecked::<i64, _>(4)? != 0,
            innodb_buffer_pool_bytes: row.try_get_unchecked(5)?,
            innodb_flush_method: row.try_get_unchecked(6)?,
        };
        conn.close().await?;
        Ok(facts)
    }

    /// Counters of the server since it began, those of [`COUNTED`] that it has.
    pub async fn counters(&self) -> anyhow::Result<Counters> {
        let mut conn = self.connect("").await?;
        let rows = conn.fetch_all("SHOW GLOBAL STATUS").await?;
        let mut counters = BTreeMap::new();
        for row in rows {
            let name: String = row.try_get_unchecked(0)?;
            let value: String = row.try_get_unchecked(1)?;
            if let (true, Ok(value)) = (COUNTED.contains(&name.as_str()), value.parse()) {
                counters.insert(name, value);
            }
        }
        if let Some(bytes) = binlog_bytes(&mut conn).await {
            counters.insert("Binlog_bytes".to_owned(), bytes);
        }
        conn.close().await?;
        Ok(Counters(counters))
    }
}

/// Bytes of all binary logs, where they are on and this user may see them. A log that is purged
/// between two looks makes it smaller.
async fn binlog_bytes(conn: &mut MySqlConnection) -> Option<u64> {
    let rows = conn.fetch_all("SHOW BINARY LOGS").await.ok()?;
    let sizes = rows.iter().map(|row| row.try_get_unchecked::<u64, _>(1));
    sizes.sum::<Result<u64, _>>().ok()
}

/// What is counted of a server.
pub const COUNTED: [&str; 9] = [
    "Innodb_rows_inserted",
    "Innodb_rows_updated",
    "Innodb_rows_deleted",
    "Innodb_rows_read",
    "Innodb_os_log_written",
    "Innodb_os_log_fsyncs",
    "Innodb_data_written",
    "Com_commit",
    "Questions",
];

/// Counters by name; over several servers their sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Counters(pub BTreeMap<String, u64>);

impl Counters {
    /// Adds another server's.
    pub fn add(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            *self.0.entry(name.clone()).or_default() += value;
        }
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let since = |(name, value): (&String, &u64)| {
            Some((name.clone(), value.saturating_sub(*earlier.0.get(name)?)))
        };
        Self(self.0.iter().filter_map(since).collect())
    }
}

/// What a server is, as far as figures depend on it.
#[derive(Clone, Debug, Serialize)]
pub struct ServerFacts {
    /// Host and port.
    pub address: String,
    /// Its version.
    pub version: String,
    /// 1: the redo log is on disk before a COMMIT is answered.
    pub innodb_flush_log_at_trx_commit: i64,
    /// 1: so is the binary log.
    pub sync_binlog: i64,
    /// Whether there is a binary log.
    pub log_bin: bool,
    /// Whether pages are written twice, so that a torn one can be mended.
    pub innodb_doublewrite: bool,
    /// Bytes of the buffer pool.
    pub innodb_buffer_pool_bytes: i64,
    /// How files are written.
    pub innodb_flush_method: String,
}

impl ServerFacts {
    /// Whether what was answered is on disk.
    pub fn durable(&self) -> bool {
        self.innodb_flush_log_at_trx_commit == 1 && self.sync_binlog == 1
    }
}
