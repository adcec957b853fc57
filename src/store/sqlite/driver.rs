//! Connections to SQLite files, and what SQLite's errors mean.

use super::batch;
use super::statements::STATEMENTS;
use crate::breaker::Breaker;
use crate::domain::{Shard, Timestamp};
use crate::store::sql::connections::Connections;
use crate::store::sql::driver::{Arg, Bounds, Driver, Fault, Texts, Value, breaker};
use crate::store::sql::statements::Statements;
use crate::store::sql::{Opening, SqlStore};
use crate::store::{Constraint, StoreError};
use futures::future::BoxFuture;
use serde::Serialize;
use sqlx::error::DatabaseError;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Row, Sqlite, TypeInfo, ValueRef};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The shards of one cluster in one directory.
pub type SqliteStore = SqlStore<SqliteDriver>;

/// How long a transaction waits for another process's, in SQLite itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a transaction waits for those of its own process: they queue for one connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections for reads, which never wait for a writer.
const READERS: u32 = 4;

/// KiB of pages in memory for the connections that write, all shards together: an index that grows
/// in random places does not read what it wrote a moment ago.
const WRITERS_CACHE: usize = 64 << 10;
/// The same for each connection that reads, which forgets them with every commit.
const READER_CACHE: usize = 2 << 10;
/// Pages of 4 KiB in the write-ahead log before they are written to the file, each once however
/// often it was changed: 256 MiB, which a start after a kill reads in a moment.
const CHECKPOINT: &str = "65536";

/// Prepared texts that a connection keeps: every text, in every length that its batches come in.
const KEPT_TEXTS: usize = 400;
/// Rows that a statement reads ahead of who asked.
const ROWS_AHEAD: usize = 1024;

/// Where the files are, and how long a statement may take.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The directory; shard N is the file `shard-N.db`.
    pub dir: PathBuf,
    /// A statement that takes longer fails.
    pub statement_timeout: Duration,
}

impl SqliteSettings {
    /// A directory, with the default bound of 30 s.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), statement_timeout: Duration::from_secs(30) }
    }

    pub(super) fn file(&self, shard: Shard) -> PathBuf {
        self.dir.join(format!("shard-{shard}.db"))
    }

    /// How many shards have files, from 0 on.
    pub fn existing_shards(&self) -> u16 {
        let exists = |shard: &u16| self.file(Shard(*shard)).exists();
        u16::try_from((0..u16::MAX).take_while(exists).count()).unwrap_or(u16::MAX)
    }
}

/// Durable on commit: the write-ahead log is synchronised at every COMMIT (on macOS to the
/// platter too).
pub(super) fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("fullfsync", "ON")
        .pragma("wal_autocheckpoint", CHECKPOINT)
        .statement_cache_capacity(KEPT_TEXTS)
        .row_buffer_size(ROWS_AHEAD)
        .foreign_keys(false)
        .busy_timeout(BUSY_TIMEOUT)
        .disable_statement_logging()
}

impl SqliteStore {
    /// Opens the files of a directory that was migrated.
    pub async fn open(settings: &SqliteSettings, opening: Opening) -> Result<Self, StoreError> {
        let shards = settings.existing_shards();
        if shards == 0 {
            let detail = format!("{} has no shard: run `holdfast migrate`", settings.dir.display());
            return Err(StoreError::Failed { shard: Shard(0), detail });
        }
        Self::open_with(SqliteDriver::new(settings, shards), opening).await
    }
}

/// The files of one directory.
pub struct SqliteDriver {
    files: Vec<File>,
    statement_timeout: Duration,
}

impl SqliteDriver {
    /// Connects when it is asked for something.
    pub(super) fn new(settings: &SqliteSettings, shards: u16) -> Self {
        let files = (0..shards).map(|shard| File::new(settings, Shard(shard), shards)).collect();
        Self { files, statement_timeout: settings.statement_timeout }
    }
}

struct File {
    path: String,
    writer: Arc<Connections<Sqlite>>,
    readers: Arc<Connections<Sqlite>>,
    breaker: Arc<Breaker>,
}

impl File {
    /// One connection writes, so that transactions of this process queue in order instead of
    /// polling for SQLite's lock.
    fn new(settings: &SqliteSettings, shard: Shard, shards: u16) -> Self {
        let path = settings.file(shard);
        let connections = |most, cache: usize| {
            // In negative KiB, as SQLite has it.
            let options = options(&path).pragma("cache_size", format!("-{cache}"));
            Connections::new(options, None, most, ACQUIRE_TIMEOUT)
        };
        let writer = connections(1, WRITERS_CACHE / usize::from(shards));
        let readers = connections(READERS, READER_CACHE);
        let both = vec![writer.clone(), readers.clone()];
        let breaker = breaker::<SqliteDriver>(format!("sqlite.{shard}"), both);
        Self { path: path.display().to_string(), writer, readers, breaker }
    }
}

impl Driver for SqliteDriver {
    type Database = Sqlite;

    const STATEMENTS: &'static Statements = &STATEMENTS;
    const TEXTS: Option<Texts> = None;

    fn shards(&self) -> u16 {
        u16::try_from(self.files.len()).unwrap_or(u16::MAX)
    }

    fn writers(&self, shard: Shard) -> &Arc<Connections<Sqlite>> {
        &self.files[usize::from(shard.0)].writer
    }

    fn readers(&self, shard: Shard) -> &Arc<Connections<Sqlite>> {
        &self.files[usize::from(shard.0)].readers
    }

    fn breaker(&self, shard: Shard) -> &Arc<Breaker> {
        &self.files[usize::from(shard.0)].breaker
    }

    fn address(&self, shard: Shard) -> &str {
        &self.files[usize::from(shard.0)].path
    }

    fn bounds(&self) -> Bounds {
        Bounds { statement: self.statement_timeout, audit: Duration::from_secs(3600) }
    }

    fn rows<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Arg {
        batch::pack(rows)
    }

    /// SQLite's own clock has milliseconds only.
    fn time(_: Option<i64>) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    fn script<'a>(
        conn: &'a mut SqliteConnection,
        sql: &'static str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, sqlx::Error>> {
        Box::pin(async move { values(&sqlx::raw_sql(sql).fetch_all(conn).await?) })
    }

    fn together<'a>(
        _: &'a mut SqliteConnection,
        _: String,
        _: &'a mut usize,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        unreachable!("SQLite has no texts of several statements")
    }

    fn fetch<'a>(
        conn: &'a mut SqliteConnection,
        sql: &'static str,
        args: &'a [Arg],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, sqlx::Error>> {
        Box::pin(async move {
            let mut rows = Vec::new();
            for (sql, args) in batch::statements(sql, args)? {
                rows.extend(values(&sqlx::query_with(sql, args).fetch_all(&mut *conn).await?)?);
            }
            Ok(rows)
        })
    }

    fn execute<'a>(
        conn: &'a mut SqliteConnection,
        sql: &'static str,
        args: &'a [Arg],
    ) -> BoxFuture<'a, Result<u64, sqlx::Error>> {
        Box::pin(async move {
            let mut matched = 0;
            for (sql, args) in batch::statements(sql, args)? {
                matched += sqlx::query_with(sql, args).execute(&mut *conn).await?.rows_affected();
            }
            Ok(matched)
        })
    }

    fn fault(error: &dyn DatabaseError) -> Fault {
        match (primary_code(error), code(error)) {
            (SQLITE_BUSY | SQLITE_LOCKED, _) => Fault::Retry,
            (SQLITE_READONLY | SQLITE_IOERR | SQLITE_FULL | SQLITE_CANTOPEN, _) => {
                Fault::Unavailable
            }
            (_, SQLITE_CONSTRAINT_CHECK) => Fault::Check,
            (_, SQLITE_CONSTRAINT_PRIMARYKEY | SQLITE_CONSTRAINT_UNIQUE) => {
                Fault::Duplicate(constraint(error.message()))
            }
            _ if error.message().starts_with("no such table") => Fault::Missing,
            _ => Fault::Failed,
        }
    }

    /// SQLite names tables and columns and no values.
    fn words(error: &dyn DatabaseError) -> String {
        error.to_string()
    }

    /// Busy is what another connection is; the transaction is then still open and rolled back.
    fn rolled_back(error: &dyn DatabaseError) -> bool {
        primary_code(error) == SQLITE_BUSY
    }
}

// Result codes, https://www.sqlite.org/rescode.html
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_IOERR: u32 = 10;
const SQLITE_FULL: u32 = 13;
const SQLITE_CANTOPEN: u32 = 14;
const SQLITE_CONSTRAINT_CHECK: u32 = 275;
const SQLITE_CONSTRAINT_PRIMARYKEY: u32 = 1555;
const SQLITE_CONSTRAINT_UNIQUE: u32 = 2067;

fn code(error: &dyn DatabaseError) -> u32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or(0)
}

/// The code without what SQLite adds to it in its higher bytes.
fn primary_code(error: &dyn DatabaseError) -> u32 {
    code(error) & 0xff
}

/// From `UNIQUE constraint failed: table.column, …`.
fn constraint(message: &str) -> Constraint {
    let columns = message.rsplit("failed: ").next().unwrap_or("");
    match columns.split('.').next().unwrap_or("") {
        "idempotency_keys" | "proposals" => Constraint::Claim,
        "transaction_status" => Constraint::Transfer,
        "ledger_entries" if columns.contains("version") => Constraint::EntryVersion,
        "ledger_entries" => Constraint::Entry,
        "account_mst" => Constraint::Account,
        _ => Constraint::Other,
    }
}

fn values(rows: &[SqliteRow]) -> Result<Vec<Vec<Value>>, sqlx::Error> {
    let column = |row: &SqliteRow, index: usize| {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Value::Null);
        }
        if raw.type_info().name() == "INTEGER" {
            return Ok(Value::Int(row.try_get_unchecked(index)?));
        }
        Ok(Value::Bytes(row.try_get_unchecked(index)?))
    };
    rows.iter().map(|row| (0..row.len()).map(|index| column(row, index)).collect()).collect()
}
