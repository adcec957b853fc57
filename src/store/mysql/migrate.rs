//! Creating the shards' databases and their tables.

use super::driver::{Database, MySqlDriver, MySqlSettings};
use crate::domain::Shard;
use crate::store::StoreError;
use crate::store::sql::{self, MigrationReport, PendingShard, Schema};
use futures::future::BoxFuture;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::mysql::{MySqlConnection, MySqlDatabaseError};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use std::sync::Arc;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/mysql");

const UNKNOWN_DATABASE: u16 = 1049;
const NO_SUCH_TABLE: u16 = 1146;

/// Makes the databases one cluster, or completes it; creates those that are missing, where the
/// user may.
pub async fn migrate(
    settings: &MySqlSettings,
    partitions: u32,
) -> Result<MigrationReport, StoreError> {
    sql::migrate(&Arc::new(MySqlDriver::new("mysql", settings)?), partitions).await
}

/// What [`migrate`] would do.
pub async fn pending(settings: &MySqlSettings) -> Result<Vec<PendingShard>, StoreError> {
    sql::pending(&Arc::new(MySqlDriver::new("mysql", settings)?)).await
}

impl Schema for MySqlDriver {
    fn migrator() -> &'static Migrator {
        &MIGRATOR
    }

    fn create_tables(&self, shard: Shard) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let database = &self.databases[usize::from(shard.0)];
            create_tables(database).await.map_err(|error| {
                let detail = format!("{} cannot be migrated: {error}", database.address);
                StoreError::Failed { shard, detail }
            })
        })
    }
}

async fn create_tables(database: &Database) -> Result<(), MigrateError> {
    let mut conn = match database.options.connect().await {
        Err(error) if number(&error) == UNKNOWN_DATABASE => create_database(database).await?,
        answer => answer?,
    };
    sqlx::query(
        "SELECT GET_LOCK(CONCAT('holdfast.migrate.', LEFT(SHA2(DATABASE(), 256), 32)), -1)",
    )
    .execute(&mut conn)
    .await?;
    forget_interrupted(&mut conn).await?;
    MIGRATOR.run_direct(None, &mut conn, false).await?;
    Ok(conn.close().await?)
}

/// The name was checked to be without backticks.
async fn create_database(database: &Database) -> Result<MySqlConnection, sqlx::Error> {
    let mut conn = database.options.clone().database("").connect().await?;
    let text = format!("CREATE DATABASE IF NOT EXISTS `{}`", database.name);
    conn.execute(AssertSqlSafe(text)).await?;
    conn.close().await?;
    database.options.connect().await
}

/// MySQL commits every CREATE TABLE by itself, so a `migrate` that was killed leaves a migration
/// begun. Each of our statements can be run again: it is begun anew, under the lock.
async fn forget_interrupted(conn: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    match conn.execute("DELETE FROM _sqlx_migrations WHERE success = FALSE").await {
        Err(error) if number(&error) != NO_SUCH_TABLE => Err(error),
        _ => Ok(()),
    }
}

fn number(error: &sqlx::Error) -> u16 {
    let answer = error.as_database_error();
    answer
        .and_then(|answer| answer.try_downcast_ref::<MySqlDatabaseError>())
        .map_or(0, MySqlDatabaseError::number)
}
