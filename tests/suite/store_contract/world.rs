//! A fresh cluster of two shards, and short words for what tests do to it.

use crate::services::fresh_database;
use crate::wait::{DEADLINE, eventually};
use holdfast::broker::{Record, Topic};
use holdfast::domain::{
    AccountChange, AccountId, AccountKind, AccountRow, AccountStatus, Cause, Client, Currency,
    Entry, EntryRow, EventType, IdempotencyKey, Money, Partition, Reason, Shard, Side, StageWrite,
    State, Suspicion, Terms, Timestamp, TransferId, Velocity,
};
use holdfast::routing::slot_of;
use holdfast::store::mysql::{self, MySqlSettings, MySqlStore};
use holdfast::store::sqlite::{self, SqliteSettings, SqliteStore};
use holdfast::store::{
    AccountRecord, ClaimKey, Constraint, MigrationReport, NewTransfer, Opening, PendingShard,
    Store, StoreError, TransferRecord, Tx,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use std::collections::BTreeMap;
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
        self.migrate_with(2, 4).await
    }

    pub async fn migrate_with(
        &self,
        shards: u16,
        partitions: u32,
    ) -> Result<MigrationReport, StoreError> {
        match self {
            Self::Sqlite(settings, _) => sqlite::migrate(settings, shards, partitions).await,
            Self::MySql(settings) => mysql::migrate(settings, partitions).await,
        }
    }

    /// One more shard, without tables.
    pub async fn with_third(self) -> Self {
        match self {
            Self::Sqlite(..) => self,
            Self::MySql(mut settings) => {
                settings.urls.push(fresh_database(0).await);
                Self::MySql(settings)
            }
        }
    }

    /// The shards in the wrong order, once nothing has the files open any more.
    pub async fn swapped(mut self) -> Self {
        match &mut self {
            Self::Sqlite(settings, _) => {
                let path = |name: &str| settings.dir.join(name);
                let closed =
                    || !path("shard-0.db-wal").exists() && !path("shard-1.db-wal").exists();
                eventually("closing of the files", async || closed()).await;
                std::fs::rename(path("shard-0.db"), path("other")).unwrap();
                std::fs::rename(path("shard-1.db"), path("shard-0.db")).unwrap();
                std::fs::rename(path("other"), path("shard-1.db")).unwrap();
            }
            Self::MySql(settings) => settings.urls.reverse(),
        }
        self
    }

    pub async fn pending(&self) -> Result<Vec<PendingShard>, StoreError> {
        match self {
            Self::Sqlite(settings, _) => sqlite::pending(settings).await,
            Self::MySql(settings) => mysql::pending(settings).await,
        }
    }

    pub async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.open_for(Opening::AllShards).await
    }

    pub async fn open_for(&self, opening: Opening) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Sqlite(settings, _) => Arc::new(SqliteStore::open(settings, opening).await?),
            Self::MySql(settings) => Arc::new(MySqlStore::open(settings, opening).await?),
        })
    }

    /// With personal fields encrypted under these keys.
    pub async fn open_with(&self, keys: &str) -> Arc<dyn Store> {
        let keys = Some(Arc::new(keys.parse().unwrap()));
        match self {
            Self::Sqlite(settings, _) => {
                let store = SqliteStore::open(settings, Opening::AllShards).await.unwrap();
                Arc::new(store.with_encryption(keys))
            }
            Self::MySql(settings) => {
                let store = MySqlStore::open(settings, Opening::AllShards).await.unwrap();
                Arc::new(store.with_encryption(keys))
            }
        }
    }

    /// Every column of every row of every table of a shard, in hexadecimal.
    pub async fn dump(&self, shard: Shard) -> Vec<String> {
        let named = |columns: Vec<(String, String)>| {
            let mut tables = BTreeMap::<String, Vec<String>>::new();
            for (table, column) in columns {
                tables.entry(table).or_default().push(format!("'{column} ', HEX(`{column}`)"));
            }
            tables.into_iter().map(|(table, columns)| (table, columns.join(", ")))
        };
        let mut dump = Vec::new();
        match self {
            Self::Sqlite(settings, _) => {
                let file = settings.dir.join(format!("shard-{shard}.db"));
                let options = SqliteConnectOptions::new().filename(file).busy_timeout(DEADLINE);
                let mut conn = options.connect().await.unwrap();
                let columns = "SELECT m.name, c.name FROM sqlite_schema m \
                    JOIN pragma_table_info(m.name) c WHERE m.type = 'table'";
                let columns = sqlx::query_as(columns).fetch_all(&mut conn).await.unwrap();
                for (table, columns) in named(columns) {
                    let text = format!("SELECT concat('{table} ', {columns}) FROM {table}");
                    let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
                    dump.extend(rows.fetch_all(&mut conn).await.unwrap());
                }
            }
            Self::MySql(settings) => {
                let url = &settings.urls[usize::from(shard.0)];
                let mut conn = sqlx::MySqlConnection::connect(url).await.unwrap();
                let columns = "SELECT CAST(table_name AS CHAR), CAST(column_name AS CHAR) \
                    FROM information_schema.columns WHERE table_schema = DATABASE()";
                let columns = sqlx::query_as(columns).fetch_all(&mut conn).await.unwrap();
                for (table, columns) in named(columns) {
                    let text = format!("SELECT CONCAT_WS('', '{table} ', {columns}) FROM {table}");
                    let rows = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
                    dump.extend(rows.fetch_all(&mut conn).await.unwrap());
                }
            }
        }
        dump
    }

    /// Runs statements on a shard behind the store's back.
    pub async fn sql(&self, shard: Shard, statements: &str) {
        let statements = sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned()));
        let done = match self {
            Self::Sqlite(settings, _) => {
                let file = settings.dir.join(format!("shard-{shard}.db"));
                let options = SqliteConnectOptions::new().filename(file).busy_timeout(DEADLINE);
                let mut conn = options.connect().await.unwrap();
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

    /// New accounts.
    pub async fn create(&self, shard: Shard, records: &[AccountRecord]) {
        let mut tx = self.store.begin(shard).await.unwrap();
        assert_eq!(tx.insert_accounts(records).await.unwrap(), records.len() as u64);
        tx.commit().await.unwrap();
    }

    /// Customers without money on a shard.
    pub async fn customers(&self, shard: Shard, ids: &[&str]) {
        let records: Vec<_> = ids.iter().map(|id| customer(id)).collect();
        self.create(shard, &records).await;
    }

    /// An account's decision row.
    pub async fn row(&self, shard: Shard, id: &str) -> AccountRow {
        self.store.account(shard, &account(id)).await.unwrap().unwrap().row
    }

    /// A transfer as it is stored on [`SHARD`].
    pub async fn record(&self, id: TransferId) -> Option<TransferRecord> {
        self.store.transfer_records(SHARD, &[id]).await.unwrap().pop()
    }

    /// Stores transfers in state REQUESTED.
    pub async fn request(&self, transfers: &[NewTransfer]) {
        let mut tx = self.begin().await;
        tx.insert_transfers(transfers).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Puts outbox records in one row.
    pub async fn publish(&self, records: &[Record]) {
        let mut tx = self.begin().await;
        tx.insert_outbox(records).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// REQUESTED to HELD, with the money.
    pub async fn hold(&self, transfer: &NewTransfer) {
        let terms = &transfer.terms;
        let mut tx = self.begin().await;
        let rows = tx.lock_accounts(&[terms.source.clone()].into()).await.unwrap();
        let source = &rows[&terms.source];
        let held = source.held + terms.amount.minor();
        assert_eq!(tx.write_accounts(&[change(source, source.posted, held)]).await.unwrap(), 1);
        let write = stage(terms, State::Requested, State::Held, tx.now());
        assert_eq!(tx.advance_transfers(&[write]).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// HELD to COMMITTED, both accounts being on [`SHARD`].
    pub async fn complete(&self, transfer: &NewTransfer) {
        let terms = &transfer.terms;
        let minor = terms.amount.minor();
        let mut tx = self.begin().await;
        let both = [terms.source.clone(), terms.destination.clone()].into();
        let rows = tx.lock_accounts(&both).await.unwrap();
        let (source, destination) = (&rows[&terms.source], &rows[&terms.destination]);
        let debit = change(source, source.posted - minor, source.held - minor);
        let credit = change(destination, destination.posted + minor, destination.held);
        let entries = [
            entry(terms, Side::Debit, debit.posted, debit.version, tx.now()),
            entry(terms, Side::Credit, credit.posted, credit.version, tx.now()),
        ];
        assert_eq!(tx.write_accounts(&[debit, credit]).await.unwrap(), 2);
        tx.insert_entries(&entries).await.unwrap();
        let write = stage(terms, State::Held, State::Committed, tx.now());
        assert_eq!(tx.advance_transfers(&[write]).await.unwrap(), 1);
        tx.commit().await.unwrap();
    }

    /// Copies all decision rows to the projection.
    pub async fn refresh(&self, shard: Shard) -> Vec<AccountId> {
        let (copied, last) = self.store.refresh_balances(shard, None, 1000).await.unwrap();
        assert_eq!(last, None);
        copied.into_iter().map(|balance| balance.row.id).collect()
    }
}

pub fn account(id: &str) -> AccountId {
    id.parse().unwrap()
}

/// Accounts to be quarantined.
pub fn suspects<const N: usize>(ids: [&str; N]) -> BTreeMap<AccountId, Suspicion> {
    ids.map(|id| (account(id), Suspicion::of("the test says so"))).into()
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
            velocity: Velocity::NONE,
        },
        metadata: "{}".to_owned(),
        created_at: Timestamp::default(),
        owner: None,
    }
}

/// An account that money enters through.
pub fn external(id: &str) -> AccountRecord {
    let mut record = customer(id);
    record.row.kind = AccountKind::External;
    record
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
        sealed: None,
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

/// The mark that the destination refuses a transfer.
pub fn refusal(terms: &Terms, reason: Reason, at: Timestamp) -> EntryRow {
    EntryRow::pivot_row(terms, Err(reason), at, Cause::default())
}

/// An outbox record.
pub fn record(key: &str, value: &str) -> Record {
    Record {
        topic: Topic::of(EventType::Requested, SHARD),
        partition: Partition(3),
        key: key.to_owned().into(),
        value: value.as_bytes().to_vec().into(),
        headers: [("ce_id", "caf\u{e9} \u{1f600}")].into_iter().collect(),
        timestamp: Timestamp::from_micros(1_700_000_000_123_456),
    }
}

/// Inserts transfers and learns what they run into: that may come as late as at the next read.
pub async fn insert(tx: &mut dyn Tx, transfers: &[NewTransfer]) -> Result<(), StoreError> {
    tx.insert_transfers(transfers).await?;
    tx.transfers(&[transfers[0].terms.id]).await.map(drop)
}

/// Which constraint an insert ran into.
pub fn constraint<T: std::fmt::Debug>(result: Result<T, StoreError>) -> Constraint {
    match result {
        Err(StoreError::Duplicate { constraint, .. }) => constraint,
        other => panic!("no duplicate: {other:?}"),
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
