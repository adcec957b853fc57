//! A fresh cluster of two shards, and short words for what tests do to it.

use crate::services::fresh_database;
use holdfast::domain::{
    AccountChange, AccountId, AccountKind, AccountRow, AccountStatus, Cause, Client, Currency,
    Entry, EntryRow, IdempotencyKey, Money, Shard, Side, StageWrite, State, Terms, Timestamp,
    TransferId,
};
use holdfast::routing::slot_of;
use holdfast::store::mysql::{self, MySqlSettings, MySqlStore};
use holdfast::store::sqlite::{self, SqliteSettings, SqliteStore};
use holdfast::store::{
    AccountRecord, ClaimKey, MigrationReport, NewTransfer, Opening, PendingShard, Store,
    StoreError, Tx,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::sync::Arc;
use tempfile::TempDir;

/// The shard that most tests use.
pub const SHARD: Shard = Shard(0);
/// The other one.
pub const OTHER: Shard = Shard(1);

/// A store, and what it is made of.
pub struct World {
    pub store: Arc<dyn Store>,
    pub databases: Databases,
}

/// Where the shards are.
pub enum Databases {
    Sqlite(SqliteSettings, #[allow(dead_code, reason = "removed when it is dropped")] TempDir),
    MySql(MySqlSettings),
}

impl Databases {
    /// Two files in a new directory, without tables.
    pub fn sqlite() -> Self {
        let dir = TempDir::new().unwrap();
        Self::Sqlite(SqliteSettings::new(dir.path()), dir)
    }

    /// Two new databases, without tables, on two servers.
    pub async fn mysql() -> Self {
        let urls = vec![fresh_database(0).await, fresh_database(1).await];
        Self::MySql(MySqlSettings { max_connections: 10, ..MySqlSettings::new(urls) })
    }

    pub async fn migrate(&self) -> Result<MigrationReport, StoreError> {
        match self {
            Self::Sqlite(settings, _) => sqlite::migrate(settings, 2, 4).await,
            Self::MySql(settings) => mysql::migrate(settings, 4).await,
        }
    }

    pub async fn pending(&self) -> Result<Vec<PendingShard>, StoreError> {
        match self {
            Self::Sqlite(settings, _) => sqlite::pending(settings).await,
            Self::MySql(settings) => mysql::pending(settings).await,
        }
    }

    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(settings, _) => Arc::new(SqliteStore::open(settings).await?),
            Self::MySql(settings) => {
                Arc::new(MySqlStore::open(settings, Opening::AllShards).await?)
            }
        })
    }

    /// Runs statements on a shard behind the store's back.
    pub async fn sql(&self, shard: Shard, statements: &str) {
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()));
        let done = match self {
            Self::Sqlite(settings, _) => {
                let file = settings.dir.join(format!("shard-{shard}.db"));
                let mut conn = SqliteConnectOptions::new().filename(file).connect().await.unwrap();
                statements.execute(&mut conn).await.map(drop)
            }
            Self::MySql(settings) => {
                let url = &settings.urls[usize::from(shard.0)];
                let mut conn = sqlx::MySqlConnection::connect(url).await.unwrap();
                statements.execute(&mut conn).await.map(drop)
            }
        };
        done.unwrap();
    }
}

impl World {
    pub async fn sqlite() -> Self {
        Self::of(Databases::sqlite()).await
    }

    pub async fn mysql() -> Self {
        Self::of(Databases::mysql().await).await
    }

    async fn of(databases: Databases) -> Self {
        databases.migrate().await.unwrap();
        Self { store: databases.open().await.unwrap(), databases }
    }

    /// A transaction on [`SHARD`].
    pub async fn begin(&self) -> Box<dyn Tx> {
        self.store.begin(SHARD).await.unwrap()
    }

    /// Customers without money on a shard.
    pub async fn customers(&self, shard: Shard, ids: &[&str]) {
        let mut tx = self.store.begin(shard).await.unwrap();
        let records: Vec<_> = ids.iter().map(|id| customer(id)).collect();
        assert_eq!(tx.insert_accounts(&records).await.unwrap(), ids.len() as u64);
        tx.commit().await.unwrap();
    }

    /// An account's decision row.
    pub async fn row(&self, shard: Shard, id: &str) -> AccountRow {
        self.store.account(shard, &account(id)).await.unwrap().unwrap().row
    }

    /// Stores transfers in state REQUESTED.
    pub async fn request(&self, transfers: &[NewTransfer]) {
        let mut tx = self.begin().await;
        tx.insert_transfers(transfers).await.unwrap();
        tx.commit().await.unwrap();
    }
}

pub fn account(id: &str) -> AccountId {
    id.parse().unwrap()
}

pub fn usd() -> Currency {
    "USD".parse().unwrap()
}

pub fn money(minor: i64) -> Money {
    Money::from_minor(minor, usd()).unwrap()
}

pub fn customer(id: &str) -> AccountRecord {
    AccountRecord {
        row: AccountRow {
            id: account(id),
            currency: usd(),
            kind: AccountKind::Customer,
            status: AccountStatus::Active,
            quarantined: false,
            overdraft_limit: 0,
            posted: 0,
            held: 0,
            version: 1,
        },
        metadata: "{}".to_owned(),
        created_at: Timestamp::default(),
    }
}

/// A transfer accepted at `at`, told apart by its number.
pub fn transfer(
    number: u64,
    at: Timestamp,
    source: &str,
    destination: &str,
    minor: i64,
) -> NewTransfer {
    let source = account(source);
    let id = TransferId::mint(at, slot_of(&source), 0, number);
    NewTransfer {
        terms: Terms {
            id,
            source: source.clone(),
            destination: account(destination),
            amount: money(minor),
            reverses: None,
        },
        claim: ClaimKey { source, client: client("tests"), key: key(&format!("key-{number}")) },
        fingerprint: [7; 32],
        fingerprint_version: 1,
        description: None,
        reference: None,
        metadata: None,
        at,
    }
}

pub fn client(name: &str) -> Client {
    name.parse().unwrap()
}

pub fn key(text: &str) -> IdempotencyKey {
    text.parse().unwrap()
}

pub fn change(row: &AccountRow, posted: i64, held: i64) -> AccountChange {
    AccountChange {
        id: row.id.clone(),
        posted,
        held,
        version_before: row.version,
        version: row.version + 1,
    }
}

pub fn stage(terms: &Terms, from: State, to: State, at: Timestamp) -> StageWrite {
    StageWrite {
        terms: terms.clone(),
        from,
        to,
        reason: None,
        hold_deadline: (to == State::Held).then_some(at),
        at,
        cause: Cause { offset: Some(17), attempt: 2 },
    }
}

/// One side's entry of a transfer.
pub fn entry(
    terms: &Terms,
    side: Side,
    balance_after: i64,
    version: i64,
    at: Timestamp,
) -> EntryRow {
    let (account, counterparty) = match side {
        Side::Debit => (terms.source.clone(), terms.destination.clone()),
        Side::Credit => (terms.destination.clone(), terms.source.clone()),
    };
    EntryRow {
        transfer: terms.id,
        side,
        account,
        counterparty,
        currency: terms.amount.currency(),
        outcome: Ok(Entry { amount: terms.amount, balance_after, version }),
        at,
        cause: Cause { offset: Some(3), attempt: 1 },
    }
}

/// The error's name, for comparisons.
pub fn name(error: &StoreError) -> &'static str {
    match error {
        StoreError::Retry { .. } => "retry",
        StoreError::Unavailable { .. } => "unavailable",
        StoreError::CommitUnknown { .. } => "commit unknown",
        StoreError::Duplicate { .. } => "duplicate",
        StoreError::Identity { .. } => "identity",
        StoreError::Corrupt { .. } => "corrupt",
        StoreError::Failed { .. } => "failed",
    }
}
