//! What the two databases have to say for themselves: how to reach a shard, how to run a text with
//! arguments, and what an error means. Everything else is written once, over this.

use super::cells::Packed;
use super::connections::Connections;
use super::statements::Statements;
use crate::breaker::Breaker;
use crate::domain::{Shard, Timestamp, TransferId, hex};
use crate::store::{Constraint, StoreError};
use futures::future::BoxFuture;
use serde::{Serialize, Serializer};
use sqlx::{Connection, Database};
use std::sync::Arc;
use std::time::Duration;

/// A value bound to a placeholder.
#[derive(Clone, Debug)]
pub enum Arg {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    /// Of a batch.
    Rows(Packed),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<Timestamp> for Arg {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.micros())
    }
}

impl From<Vec<u8>> for Arg {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Arg {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Bytes in a batch: hexadecimal digits where it is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<T>(pub T);

impl<T: AsRef<[u8]>> Serialize for Hex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex::encode(self.0.as_ref()))
        } else {
            serializer.serialize_bytes(self.0.as_ref())
        }
    }
}

impl From<TransferId> for Hex<[u8; 16]> {
    fn from(id: TransferId) -> Self {
        Self(id.bytes())
    }
}

/// A value as it was read. Texts and bytes are told apart by who asks.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Int(i64),
    Bytes(Vec<u8>),
}

/// What an error means for the transaction that met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Given up by the database; run it again.
    Retry,
    /// The database is gone, or takes no writes.
    Unavailable,
    /// A unique key.
    Duplicate(Constraint),
    /// A CHECK constraint: the row would break an invariant.
    Check,
    /// No such database or table: it was never migrated.
    Missing,
    /// Anything else.
    Failed,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// A statement, after which its connection is closed.
    pub statement: Duration,
    /// A statement of the audit, which reads whole tables.
    pub audit: Duration,
}

/// How statements are put into one text.
pub struct Texts {
    /// A value as it stands in a statement.
    pub literal: fn(&Arg, &mut String),
    /// A statement that answers one row where the one before it changed so many rows, and fails
    /// where it did not.
    pub count: fn(usize, &mut String),
}

/// One of the two databases. Futures of the statements may be dropped only together with their
/// connection.
pub trait Driver: Send + Sync + 'static {
    /// sqlx's name for it.
    type Database: Database;

    /// Its texts.
    const STATEMENTS: &'static Statements;

    /// Where each statement has a way to go: how several go together.
    const TEXTS: Option<Texts>;

    /// How many shards are configured.
    fn shards(&self) -> u16;

    /// Where writing transactions of a shard get their connections.
    fn writers(&self, shard: Shard) -> &Arc<Connections<Self::Database>>;

    /// Where single reads of a shard get theirs.
    fn readers(&self, shard: Shard) -> &Arc<Connections<Self::Database>>;

    /// What every connection to a shard is asked for at.
    fn breaker(&self, shard: Shard) -> &Arc<Breaker>;

    /// Host, port and database, or the file; no credentials.
    fn address(&self, shard: Shard) -> &str;

    /// How long things may take.
    fn bounds(&self) -> Bounds;

    /// A batch as one argument, the first of its statement: rows are tuples. Here as JSON, an array
    /// of arrays. One text serves every length, so that the server and the client prepare it once a
    /// connection.
    fn rows<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Arg {
        let mut text = Vec::with_capacity(4096);
        serde_json::Serializer::new(&mut text)
            .collect_seq(rows)
            .expect("rows are arrays of strings, integers and nulls");
        Arg::Text(String::from_utf8(text).expect("serde_json writes UTF-8"))
    }

    /// A batch as it stands behind `VALUES`, or behind `VALUES ROW` where it is a table.
    fn values<R: Serialize>(rows: impl IntoIterator<Item = R>) -> Arg {
        Self::rows(rows)
    }

    /// Database time: what a statement told of it, or the clock where the database has none with
    /// microseconds.
    fn time(told: Option<i64>) -> Timestamp;

    /// Runs statements without arguments, several if need be, and returns their rows.
    fn script<'a>(
        conn: &'a mut <Self::Database as Database>::Connection,
        sql: &'static str,
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, sqlx::Error>>;

    /// Runs statements that were put into one text, until one fails, and counts those that did
    /// not.
    fn together<'a>(
        conn: &'a mut <Self::Database as Database>::Connection,
        sql: String,
        answered: &'a mut usize,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>>;

    /// Runs one prepared statement and returns its rows.
    fn fetch<'a>(
        conn: &'a mut <Self::Database as Database>::Connection,
        sql: &'static str,
        args: &'a [Arg],
    ) -> BoxFuture<'a, Result<Vec<Vec<Value>>, sqlx::Error>>;

    /// Runs one prepared statement and returns how many rows it matched.
    fn execute<'a>(
        conn: &'a mut <Self::Database as Database>::Connection,
        sql: &'static str,
        args: &'a [Arg],
    ) -> BoxFuture<'a, Result<u64, sqlx::Error>>;

    /// What the database's own answer means; not asked about broken connections.
    fn fault(error: &dyn sqlx::error::DatabaseError) -> Fault;

    /// What the database's own answer says, without the values that it says it about: these are
    /// callers' accounts, keys and texts, and what is made of this goes to the log.
    fn words(error: &dyn sqlx::error::DatabaseError) -> String;

    /// Whether this answer to COMMIT says that the transaction was rolled back.
    fn rolled_back(error: &dyn sqlx::error::DatabaseError) -> bool;
}

/// What any error means.
pub(super) fn fault_of<D: Driver>(error: &sqlx::Error) -> Fault {
    use sqlx::Error;
    match error {
        Error::Database(answer) => D::fault(answer.as_ref()),
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed => Fault::Unavailable,
        _ => Fault::Failed,
    }
}

/// What an error says, for operators and the log.
pub(super) fn words<D: Driver>(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(answer) => D::words(answer),
        None => error.to_string(),
    }
}

/// An error of one statement, said for the caller of the store.
pub(super) fn store_error<D: Driver>(driver: &D, shard: Shard, error: &sqlx::Error) -> StoreError {
    let detail = words::<D>(error);
    match fault_of::<D>(error) {
        Fault::Retry => StoreError::Retry { shard, detail },
        Fault::Unavailable => unavailable(driver, shard, detail),
        Fault::Duplicate(constraint) => StoreError::Duplicate { shard, constraint, detail },
        Fault::Check => StoreError::Corrupt { shard, detail },
        Fault::Missing => StoreError::Failed { shard, detail: format!("{detail}{RUN_MIGRATE}") },
        Fault::Failed => StoreError::Failed { shard, detail },
    }
}

/// The shard does not answer.
pub(super) fn unavailable<D: Driver>(
    driver: &D,
    shard: Shard,
    detail: impl Into<String>,
) -> StoreError {
    StoreError::Unavailable {
        shard,
        address: driver.address(shard).to_owned(),
        detail: detail.into(),
    }
}

/// What to do about a database or table that is not there.
pub const RUN_MIGRATE: &str = ": run `holdfast migrate`";

/// The breaker of a shard with these connections, the first of them the writers'. The probe has a
/// connection of its own, and once it was answered the idle ones are given up: they are from before
/// the outage.
pub fn breaker<D: Driver>(
    dependency: String,
    connections: Vec<Arc<Connections<D::Database>>>,
) -> Arc<Breaker> {
    Breaker::new(dependency, move || {
        let connections = connections.clone();
        Box::pin(async move {
            match probe::<D>(&connections[0]).await {
                Err(error) if fault_of::<D>(&error) == Fault::Unavailable => {
                    return Err(error.to_string());
                }
                Ok(()) | Err(_) => {}
            }
            connections.iter().for_each(|connections| connections.give_up_idle());
            Ok(())
        })
    })
}

async fn probe<D: Driver>(connections: &Connections<D::Database>) -> Result<(), sqlx::Error> {
    let mut conn = connections.connect().await?;
    D::script(&mut conn, "SELECT 1").await?;
    conn.close().await
}
