//! Making databases the shards of a cluster: tables first, then an identity and the shard map on
//! every one. Can be run at any time, by several at once, and again after it was interrupted.

use super::driver::{Arg, Driver, RUN_MIGRATE};
use super::identity::{Found, compare, decode};
use super::link::Link;
use super::{decode as rows, statements};
use crate::domain::{ClusterId, Generation, Shard};
use crate::routing::ShardMap;
use crate::store::{Constraint, Identity, StoreError};
use futures::future::BoxFuture;
use sqlx::migrate::Migrator;
use std::sync::Arc;

/// How often identities are read again because another `migrate` was faster.
const ROUNDS: u32 = 4;

/// A database whose tables can be created.
pub trait Schema: Driver {
    /// The migrations, embedded.
    fn migrator() -> &'static Migrator;

    /// Creates the database where it is missing and runs the migrations that it lacks. Two that do
    /// it at once wait for each other.
    fn create_tables(&self, shard: Shard) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What `migrate` did to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMigration {
    /// The shard.
    pub shard: Shard,
    /// Host, port and database, or the file.
    pub address: String,
    /// Names of the migrations that were run.
    pub applied: Vec<String>,
    /// Whether it was given its identity now.
    pub joined: bool,
}

/// What `migrate` did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationReport {
    /// The cluster and its map.
    pub identity: Identity,
    /// Every shard, in order.
    pub shards: Vec<ShardMigration>,
}

/// What `migrate` would do to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingShard {
    /// The shard.
    pub shard: Shard,
    /// Host, port and database, or the file.
    pub address: String,
    /// Names of the migrations that it lacks.
    pub migrations: Vec<String>,
    /// Whether it has no identity yet.
    pub joins: bool,
}

/// Makes the driver's databases one cluster, or completes it.
pub async fn migrate<D: Schema>(
    driver: &Arc<D>,
    partitions: u32,
) -> Result<MigrationReport, StoreError> {
    let mut shards = Vec::new();
    for shard in (0..driver.shards()).map(Shard) {
        let before = lacking(driver, shard).await?;
        driver.create_tables(shard).await?;
        shards.push(ShardMigration {
            shard,
            address: driver.address(shard).to_owned(),
            applied: before,
            joined: false,
        });
    }
    for _ in 0..ROUNDS {
        let found = identities(driver).await?;
        let identity = settle(driver, &found, partitions).await?;
        if join_all(driver, &found, &identity, &mut shards).await? {
            return Ok(MigrationReport { identity, shards });
        }
    }
    Err(StoreError::Retry {
        shard: Shard(0),
        detail: "other processes are migrating the same shards: try again".to_owned(),
    })
}

/// What `migrate` would do, without doing it.
pub async fn pending<D: Schema>(driver: &Arc<D>) -> Result<Vec<PendingShard>, StoreError> {
    let mut shards = Vec::new();
    for shard in (0..driver.shards()).map(Shard) {
        let migrations = lacking(driver, shard).await?;
        let joins = match identity(driver, shard).await {
            Ok(found) => found.is_none(),
            Err(error) if not_there(&error) => true,
            Err(error) => return Err(error),
        };
        let address = driver.address(shard).to_owned();
        shards.push(PendingShard { shard, address, migrations, joins });
    }
    Ok(shards)
}

/// Names of the migrations that a shard lacks.
async fn lacking<D: Schema>(driver: &Arc<D>, shard: Shard) -> Result<Vec<String>, StoreError> {
    let applied = match applied(driver, shard).await {
        Err(error) if not_there(&error) => Vec::new(),
        answer => answer?,
    };
    let lacks = D::migrator().iter().filter(|migration| !applied.contains(&migration.version));
    Ok(lacks
        .map(|migration| format!("{:04} {}", migration.version, migration.description))
        .collect())
}

async fn applied<D: Driver>(driver: &Arc<D>, shard: Shard) -> Result<Vec<i64>, StoreError> {
    let mut link = Link::writer(driver, shard).await?;
    rows::all(link.fetch(statements::APPLIED, &[]).await?, super::Row::int)
}

fn not_there(error: &StoreError) -> bool {
    matches!(error, StoreError::Failed { detail, .. } if detail.ends_with(RUN_MIGRATE))
}

async fn identities<D: Driver>(driver: &Arc<D>) -> Result<Vec<Option<Found>>, StoreError> {
    let mut found = Vec::new();
    for shard in (0..driver.shards()).map(Shard) {
        found.push(identity(driver, shard).await?);
    }
    Ok(found)
}

async fn identity<D: Driver>(driver: &Arc<D>, shard: Shard) -> Result<Option<Found>, StoreError> {
    let mut link = Link::writer(driver, shard).await?;
    rows::first(link.fetch(statements::IDENTITY, &[]).await?, decode)
}

/// The identity that shards have or are to get: that of those that have one, or a new one.
async fn settle<D: Driver>(
    driver: &Arc<D>,
    found: &[Option<Found>],
    partitions: u32,
) -> Result<Identity, StoreError> {
    let Some(known) = found.iter().flatten().next() else {
        let map = ShardMap::lay_out(driver.shards(), partitions);
        return Ok(Identity {
            cluster: ClusterId(uuid::Builder::from_random_bytes(rand::random()).into_uuid()),
            generation: Generation(1),
            map_version: map.version(),
            partitions,
            map_fingerprint: map.fingerprint(),
        });
    };
    let identity = known.identity.clone();
    for (shard, other) in (0..).map(Shard).zip(found) {
        if let Some(other) = other {
            compare(&identity, shard, driver.address(shard), other)?;
        } else if in_use(driver, found).await? {
            return Err(refused(
                shard,
                format!(
                    "{} is empty while other shards of its cluster hold accounts: restore it, or \
                 correct the addresses; adding shards to a cluster in use is not supported yet",
                    driver.address(shard)
                ),
            ));
        }
    }
    let map = ShardMap::lay_out(driver.shards(), identity.partitions);
    if identity.map_version == map.version() && identity.map_fingerprint != map.fingerprint() {
        return Err(refused(
            Shard(0),
            format!(
                "the cluster {} was laid out for another number of shards than the {} configured: \
             configure all of them; adding shards is not supported yet",
                identity.cluster,
                driver.shards()
            ),
        ));
    }
    if identity.partitions != partitions {
        return Err(refused(
            Shard(0),
            format!(
                "the cluster has {} partitions a topic and {partitions} are configured: configure {}; \
             changing the number is not supported yet",
                identity.partitions, identity.partitions
            ),
        ));
    }
    Ok(identity)
}

fn refused(shard: Shard, detail: String) -> StoreError {
    StoreError::Identity { shard, detail }
}

/// Whether any shard that has an identity has accounts.
async fn in_use<D: Driver>(driver: &Arc<D>, found: &[Option<Found>]) -> Result<bool, StoreError> {
    for (shard, found) in (0..).map(Shard).zip(found) {
        if found.is_some() {
            let mut link = Link::writer(driver, shard).await?;
            let accounts = link.fetch(statements::IN_USE, &[]).await?;
            if rows::first(accounts, super::Row::flag)? == Some(true) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Gives their identity to the shards that have none, in order, so that of several that mint one
/// at once the first shard takes one; false where another process was faster.
async fn join_all<D: Driver>(
    driver: &Arc<D>,
    found: &[Option<Found>],
    identity: &Identity,
    shards: &mut [ShardMigration],
) -> Result<bool, StoreError> {
    for (migration, found) in shards.iter_mut().zip(found) {
        if found.is_none() {
            if !join(driver, migration.shard, identity).await? {
                return Ok(false);
            }
            migration.joined = true;
        }
    }
    Ok(true)
}

/// Gives a shard its identity and map; false where another process has given it one meanwhile.
async fn join<D: Driver>(
    driver: &Arc<D>,
    shard: Shard,
    identity: &Identity,
) -> Result<bool, StoreError> {
    let map = ShardMap::lay_out(driver.shards(), identity.partitions);
    let mut link = Link::writer(driver, shard).await?;
    let told = rows::first(link.fetch(D::STATEMENTS.now, &[]).await?, super::Row::opt_int)?;
    let now = Arg::from(D::time(told.flatten()));
    link.begin(D::STATEMENTS.begin_unchecked).await?;
    let args = [
        Arg::Bytes(identity.cluster.0.as_bytes().to_vec()),
        i64::from(shard.0).into(),
        i64::from(identity.map_version).into(),
        i64::from(identity.partitions).into(),
        i64::from(identity.generation.0).into(),
        identity.map_fingerprint.as_str().into(),
        now.clone(),
    ];
    match link.execute(statements::INSERT_IDENTITY, &args).await {
        Err(StoreError::Duplicate { constraint: Constraint::Other, .. }) => return Ok(false),
        answer => answer?,
    };
    let args = [
        i64::from(map.version()).into(),
        i64::from(map.shards()).into(),
        Arg::Bytes(map.bytes()),
        now,
    ];
    link.execute(statements::INSERT_MAP, &args).await?;
    link.commit().await?;
    Ok(true)
}
