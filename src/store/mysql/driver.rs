//! Connections to MySQL, and what MySQL's errors mean.

use super::statements::STATEMENTS;
use crate::breaker::Breaker;
use crate::domain::{Shard, Timestamp, hex};
use crate::store::sql::cells::{Cell, Cells, Packed};
use crate::store::sql::connections::Connections;
use crate::store::sql::driver::{Arg, Bounds, Driver, Fault, Texts, Value, breaker};
use crate::store::sql::late;
use crate::store::sql::statements::Statements;
use crate::store::sql::{Opening, SqlStore};
use crate::store::{Constraint, StoreError};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use serde::Serialize;
use sqlx::error::DatabaseError;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlRow,
    MySqlSslMode,
};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Executor, MySql, Row, TypeInfo, ValueRef};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// The shards of one cluster, each a database on some server.
pub type MySqlStore = SqlStore<MySqlDriver>;

/// READ COMMITTED: statements see what was committed when they began, and locks are of rows, not of
/// gaps. A short lock timeout: what waits longer is better given up and done again.
const SESSION: &str = "SET SESSION transaction_isolation = 'READ-COMMITTED', \
    innodb_lock_wait_timeout = 5, autocommit = 1, sql_mode = 'STRICT_TRANS_TABLES,\
    NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'";

/// Where the shards are, and how long things may take.
#[derive(Clone, Debug)]
pub struct MySqlSettings {
    /// One `mysql://user:password@host:port/database?ssl-mode=…` a shard, in the shards' order.
    /// `ssl-mode`, `ssl-ca`, `ssl-cert` and `ssl-key` are MySQL's own.
    pub urls: Vec<String>,
    /// Connections to each shard.
    pub max_connections: u32,
    /// How long to wait for a connection: after it a shard counts as not answering.
    pub acquire_timeout: Duration,
    /// How long a statement may take: after it its connection is closed.
    pub statement_timeout: Duration,
}

impl MySqlSettings {
    /// These addresses, with the default bounds.
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            max_connections: 16,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

impl MySqlStore {
    /// Connects to shards that were migrated.
    pub async fn open(settings: &MySqlSettings, opening: Opening) -> Result<Self, StoreError> {
        Self::open_with(MySqlDriver::new("mysql", settings)?, opening).await
    }

    /// Replicas of these shards, one of each. Nothing is connected yet.
    pub fn replicas(&self, settings: &MySqlSettings) -> Result<Self, StoreError> {
        Ok(self.elsewhere(MySqlDriver::new("mysql-replica", settings)?))
    }
}

/// The shards' databases.
pub struct MySqlDriver {
    pub(super) databases: Vec<Database>,
    statement_timeout: Duration,
}

/// One shard's.
pub(super) struct Database {
    pub options: MySqlConnectOptions,
    pub name: String,
    pub address: String,
    connections: Arc<Connections<MySql>>,
    breaker: Arc<Breaker>,
}

impl MySqlDriver {
    /// Connects when it is asked for something. A server is called `kind`, a dot and its shard.
    pub(super) fn new(kind: &str, settings: &MySqlSettings) -> Result<Self, StoreError> {
        let shards = (0..).map(Shard).zip(&settings.urls);
        let databases = shards.map(|(shard, url)| {
            Database::new(kind, settings, shard, url)
                .map_err(|fault| StoreError::Failed { shard, detail: fault })
        });
        Ok(Self {
            databases: databases.collect::<Result<_, _>>()?,
            statement_timeout: settings.statement_timeout,
        })
    }
}

impl Database {
    /// The fault does not repeat the address, which may hold a password.
    fn new(kind: &str, settings: &MySqlSettings, shard: Shard, text: &str) -> Result<Self, String> {
        const SHAPE: &str = "a shard's address is mysql://user:password@host:port/database";
        let url = Url::parse(text).map_err(|error| format!("{SHAPE}: {error}"))?;
        let name = url.path().trim_start_matches('/').to_owned();
        if url.scheme() != "mysql" || name.is_empty() || name.contains(['/', '`', '%']) {
            return Err(SHAPE.to_owned());
        }
        let options = encrypted(
            &url,
            MySqlConnectOptions::from_url(&url).map_err(|error| format!("{SHAPE}: {error}"))?,
        )
        .charset("utf8mb4")
        .timezone(Some("+00:00".to_owned()))
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging();
        let host = url.host_str().unwrap_or("localhost");
        let address = format!("{host}:{}/{name}", url.port().unwrap_or(3306));
        let connections = Connections::new(
            options.clone(),
            Some(session),
            settings.max_connections,
            settings.acquire_timeout,
        );
        let breaker = breaker::<MySqlDriver>(format!("{kind}.{shard}"), vec![connections.clone()]);
        Ok(Self { options, name, address, connections, breaker })
    }
}

/// Left to itself the client library falls back to plain text without a word where the server, or
/// somebody in between, says that it has no TLS. So a URL that does not say has to have TLS, with a
/// certificate from the authority that it names, if it names one; but for this machine itself.
pub fn encrypted(url: &Url, options: MySqlConnectOptions) -> MySqlConnectOptions {
    let names = |wanted: &[&str]| url.query_pairs().any(|(name, _)| wanted.contains(&&*name));
    if names(&["ssl-mode", "sslmode"]) {
        return options;
    }
    if names(&["ssl-ca", "sslca"]) {
        return options.ssl_mode(MySqlSslMode::VerifyIdentity);
    }
    let here = match url.host_str().unwrap_or("localhost") {
        "localhost" => true,
        host => {
            let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
            address.is_ok_and(|address| address.is_loopback())
        }
    };
    let mode = if here { MySqlSslMode::Preferred } else { MySqlSslMode::Required };
    options.ssl_mode(mode)
}

fn session(conn: &mut MySqlConnection) -> BoxFuture<'_, Result<(), sqlx::Error>> {
    Box::pin(async move { conn.execute(SESSION).await.map(drop) })
}

impl Driver for MySqlDriver {
    type Database = MySql;

    const STATEMENTS: &'static Statements = &STATEMENTS;
    const TEXTS: Option<Texts> = Some(Texts { literal, count });

    fn shards(&self) -> u16 {
        u16::try_from(self.databases.len()).unwrap_or(u16::MAX)
    }

    fn writers(&self, shard: Shard) -> &Arc<Connections<MySql>> {
        &self.databases[usize::from(shard.0)].connections
    }

    fn readers(&self, shard: Shard) -> &Arc<Connections<MySql>> {
        &self.databases[usize::from(shard.0)].connections
    }

    fn breaker(&self, shard: Shard) -> &Arc<Breaker> {
        &self.databases[usize::from(shard.0)].breaker
    }

    fn address(&self, shard: Shard) -> &str {
        &self.databases[usize::from(shard.0)].address
    }

    fn bounds(&self) -> Bounds {
        Bounds { statement: self.statement_timeout, audit: Duration::from_secs(3600) }
    }

    /// Unpacking JSON costs as much again, most of it for the statement.
    fn values<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Arg {
        Arg::Rows(Packed::of(rows))
    }

    fn time(told: Option<i64>) -> Timestamp {
        Timestamp::from_micros(told.unwrap_or_default())
    }

    fn script<'a>(
        conn: &'a mut MySqlConnection,
        sql: &'static str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, sqlx::Error>> {
        Box::pin(async move { values(&sqlx::raw_sql(sql).fetch_all(conn).await?) })
    }

    fn together<'a>(
        conn: &'a mut MySqlConnection,
        sql: String,
        answered: &'a mut usize,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move {
            let mut results = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_many(conn);
            while let Some(result) = results.try_next().await? {
                *answered += usize::from(result.is_left());
            }
            Ok(())
        })
    }

    fn fetch<'a>(
        conn: &'a mut MySqlConnection,
        sql: &'static str,
        args: &'a [Arg],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, sqlx::Error>> {
        Box::pin(async move { values(&sqlx::query_with(sql, bind(args)?).fetch_all(conn).await?) })
    }

    /// The connection asks for matched rows (`CLIENT_FOUND_ROWS`), so that writing what is there
    /// already counts.
    fn execute<'a>(
        conn: &'a mut MySqlConnection,
        sql: &'static str,
        args: &'a [Arg],
    ) -> BoxFuture<'a, Result<u64, sqlx::Error>> {
        Box::pin(async move {
            let done = match args {
                [Arg::Rows(_), ..] => {
                    let mut text = String::new();
                    late::put(literal, sql, args, &mut text);
                    sqlx::raw_sql(AssertSqlSafe(text)).execute(conn).await?
                }
                _ => sqlx::query_with(sql, bind(args)?).execute(conn).await?,
            };
            Ok(done.rows_affected())
        })
    }

    fn fault(error: &dyn DatabaseError) -> Fault {
        match number(error) {
            // Deadlock, lock timeout, NOWAIT, rolled back by group replication, interrupted, table
            // definition changed.
            1213 | 1205 | 3572 | 3101 | 1317 | 1412 => Fault::Retry,
            // The question after a write.
            1690 if error.message().contains("row_count()") => Fault::Retry,
            1062 | 1586 => Fault::Duplicate(constraint(error.message())),
            // CHECK, column out of range, expression out of range.
            3819 | 1264 | 1690 => Fault::Check,
            // Database, table.
            1049 | 1146 => Fault::Missing,
            // Read-only server or transaction, shutting down, too many connections, killed, out of
            // memory or disk, network, offline mode, idle for too long.
            1290
            | 1836
            | 1792
            | 1053
            | 1040
            | 1203
            | 3168
            | 3169
            | 1037
            | 1038
            | 1041
            | 1021
            | 1114
            | 1158..=1161
            | 1129
            | 3032
            | 4031 => Fault::Unavailable,
            _ => Fault::Failed,
        }
    }

    fn words(error: &dyn DatabaseError) -> String {
        match number(error) {
            // Access, and columns, tables and constraints that are missing or violated: only names
            // stand in quotes.
            1044 | 1045 | 1048 | 1054 | 1136 | 1142 | 1143 | 1227 | 1264 | 1305 | 1364 | 1370
            | 1406 | 3819 => error.to_string(),
            number @ (1062 | 1586) => {
                let text = error.to_string();
                let key = text.rfind(" for key '").map_or("", |at| &text[at..]);
                format!("{number}: a value is there already{key}")
            }
            _ => match Self::fault(error) {
                Fault::Retry | Fault::Unavailable | Fault::Missing => error.to_string(),
                Fault::Duplicate(_) | Fault::Check | Fault::Failed => {
                    without_quoted(&error.to_string())
                }
            },
        }
    }

    /// Deadlock, lock timeouts, group replication's refusal and read-only servers roll back. After
    /// anything else (a shutdown, an interruption while a replica's acknowledgement is awaited) the
    /// transaction may stand.
    fn rolled_back(error: &dyn DatabaseError) -> bool {
        matches!(number(error), 1213 | 1205 | 3572 | 3101 | 1290 | 1836 | 1792)
    }
}

fn number(error: &dyn DatabaseError) -> u16 {
    error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number)
}

/// A text without what lies between its first and its last quote: of a statement that is cut off in
/// the middle of a value, they are the only ones that can be told apart.
fn without_quoted(text: &str) -> String {
    match (text.find('\''), text.rfind('\'')) {
        (Some(first), Some(last)) => format!("{}'…'{}", &text[..first], &text[last + 1..]),
        _ => text.to_owned(),
    }
}

/// From `Duplicate entry '…' for key 'table.key'`; what was entered may hold anything.
fn constraint(message: &str) -> Constraint {
    let key = message.rsplit("for key '").next().unwrap_or("").trim_end_matches('\'');
    match key {
        "idempotency_keys.PRIMARY" | "proposals.proposal_claim" => Constraint::Claim,
        "transaction_status.PRIMARY" => Constraint::Transfer,
        "ledger_entries.PRIMARY" => Constraint::Entry,
        "ledger_entries.account_version" => Constraint::EntryVersion,
        "account_mst.PRIMARY" => Constraint::Account,
        _ => Constraint::Other,
    }
}

/// Quotes and backslashes are doubled. Where `NO_BACKSLASH_ESCAPES` is on after all, which the session
/// turns off, a text cannot end before its end either: it is not what it was, and no JSON.
fn literal(arg: &Arg, out: &mut String) {
    match arg {
        Arg::Null => out.push_str("NULL"),
        Arg::Int(number) => out.push_str(&number.to_string()),
        Arg::Text(text) => put_text(text, out),
        Arg::Bytes(bytes) => put_bytes(bytes, out),
        Arg::Rows(rows) => put_rows(rows, out),
    }
}

fn put_rows(rows: &Packed, out: &mut String) {
    let between = if out.ends_with("ROW") { "),ROW(" } else { "),(" };
    let mut before = "(";
    for (place, cell) in Cells::of(rows).enumerate() {
        out.push_str(before);
        match cell {
            Cell::Null => out.push_str("NULL"),
            Cell::Int(number) => out.push_str(&number.to_string()),
            Cell::Text(text) => put_text(text, out),
            Cell::Bytes(bytes) => put_bytes(bytes, out),
        }
        before = if (place + 1) % rows.columns == 0 { between } else { "," };
    }
    out.push(')');
}

fn put_text(text: &str, out: &mut String) {
    out.push('\'');
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '\\']) {
        out.push_str(&rest[..=at]);
        out.push_str(&rest[at..=at]);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('\'');
}

fn put_bytes(bytes: &[u8], out: &mut String) {
    out.push_str("x'");
    hex::put(bytes, out);
    out.push('\'');
}

/// One more than the largest number there is fails; `DO` would hide that.
fn count(rows: usize, out: &mut String) {
    out.push_str("SELECT 18446744073709551615 + (ROW_COUNT() <> ");
    out.push_str(&rows.to_string());
    out.push(')');
}

fn bind(args: &[Arg]) -> Result<MySqlArguments, sqlx::Error> {
    let mut bound = MySqlArguments::default();
    for arg in args {
        match arg {
            Arg::Null => bound.add(None::<String>),
            Arg::Int(number) => bound.add(*number),
            Arg::Text(text) => bound.add(text.as_str()),
            Arg::Bytes(bytes) => bound.add(bytes.as_slice()),
            Arg::Rows(_) => Err("rows stand in the text of an insert".into()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(bound)
}

fn values(rows: &[MySqlRow]) -> Result<Vec<Vec<Value>>, sqlx::Error> {
    let column = |row: &MySqlRow, index: usize| {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        if raw.type_info().name().contains("INT") {
            return Ok(Value::Int(row.try_get_unchecked(index)?));
        }
        Ok(Value::Bytes(row.try_get_unchecked(index)?))
    };
    rows.iter().map(|row| (0..row.len()).map(|index| column(row, index)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_in_quotes_is_left_out_however_they_pair() {
        for (text, left) in [
            ("near 'VALUES ('al' at line 1", "near '…' at line 1"),
            ("near 'x' at line 1, 'y'", "near '…'"),
            ("one ' quote", "one '…' quote"),
            ("none", "none"),
        ] {
            assert_eq!(without_quoted(text), left);
        }
    }

    #[test]
    fn only_this_machine_may_have_no_tls_unless_somebody_says_so() {
        for (url, mode) in [
            ("mysql://u@localhost/a", "PREFERRED"),
            ("mysql://u@127.0.0.1:3307/a", "PREFERRED"),
            ("mysql://u@[::1]/a", "PREFERRED"),
            ("mysql://u@db0/a", "REQUIRED"),
            ("mysql://u@192.0.2.1/a", "REQUIRED"),
            ("mysql://u@localhost.example/a", "REQUIRED"),
            ("mysql://u@db0/a?ssl-mode=DISABLED", "DISABLED"),
            ("mysql://u@db0/a?ssl-ca=/ca.pem", "VERIFY_IDENTITY"),
            ("mysql://u@db0/a?ssl-mode=VERIFY_CA&ssl-ca=/ca.pem", "VERIFY_CA"),
        ] {
            let url = Url::parse(url).unwrap();
            let options = encrypted(&url, MySqlConnectOptions::from_url(&url).unwrap());
            let shown = options.to_url_lossy().to_string();
            assert!(shown.contains(&format!("ssl-mode={mode}")), "{url} became {shown}");
        }
    }
}
