//! Creating the files of a directory and their tables.

use super::driver::{SqliteDriver, SqliteSettings, options};
use crate::domain::Shard;
use crate::store::StoreError;
use crate::store::sql::{self, MigrationReport, PendingShard, Schema};
use futures::future::BoxFuture;
use sqlx::migrate::Migrator;
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::sync::Arc;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Creates or completes the cluster in a directory.
pub async fn migrate(
    settings: &SqliteSettings,
    shards: u16,
    partitions: u32,
) -> Result<MigrationReport, StoreError> {
    std::fs::create_dir_all(&settings.dir).map_err(|error| StoreError::Failed {
        shard: Shard(0),
        detail: format!("{} cannot be created: {error}", settings.dir.display()),
    })?;
    for shard in (0..shards).map(Shard) {
        create(&settings.file(shard), shard).await?;
    }
    let shards = shards.max(settings.existing_shards());
    sql::migrate(&Arc::new(SqliteDriver::new(settings, shards)), partitions).await
}

/// What [`migrate`] would do to the files that exist; nothing where there are none.
pub async fn pending(settings: &SqliteSettings) -> Result<Vec<PendingShard>, StoreError> {
    let shards = settings.existing_shards();
    sql::pending(&Arc::new(SqliteDriver::new(settings, shards))).await
}

impl Schema for SqliteDriver {
    fn migrator() -> &'static Migrator {
        &MIGRATOR
    }

    fn create_tables(&self, shard: Shard) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let failed = |detail: String| StoreError::Failed { shard, detail };
            run(Path::new(sql::Driver::address(self, shard))).await.map_err(failed)
        })
    }
}

/// Everything in one immediate transaction: of two that migrate at once the second finds it done.
async fn run(file: &Path) -> Result<(), String> {
    let mut conn = options(file).connect().await.map_err(|error| error.to_string())?;
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await.map_err(|error| error.to_string())?;
    MIGRATOR.run_direct(None, &mut *tx, false).await.map_err(|error| error.to_string())?;
    tx.commit().await.map_err(|error| error.to_string())?;
    conn.close().await.map_err(|error| error.to_string())
}

/// An empty file in write-ahead mode. Setting that mode does not wait for locks, so it is tried
/// again while another process does the same.
async fn create(file: &Path, shard: Shard) -> Result<(), StoreError> {
    let mut tries = 0;
    loop {
        let error = match options(file).create_if_missing(true).connect().await {
            Ok(conn) => match conn.close().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            },
            Err(error) => error,
        };
        tries += 1;
        if tries == 20 {
            let detail = format!("{} cannot be opened: {error}", file.display());
            return Err(StoreError::Failed { shard, detail });
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
