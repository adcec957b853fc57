//! Keys of personal fields, on each shard beside what they seal.

use super::{Actor, StoreError};
use crate::domain::{Shard, Timestamp};
use crate::sealing::{KeyFault, Purpose};
use async_trait::async_trait;
use std::time::Duration;

/// A data key, without itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataKeyRow {
    /// One more than that of the shard's key before it.
    pub id: u32,
    /// What it is for.
    pub purpose: Purpose,
    /// The name of the configured key that wraps it.
    pub wrapped_by: String,
    /// How many values may have been sealed with it, in whole grants; it never seals more.
    pub sealed: i64,
    /// When it was made, by database time.
    pub created_at: Timestamp,
    /// Why this process cannot use it.
    pub fault: Option<KeyFault>,
}

/// Data keys of a shard. All but the first need a configured key.
#[async_trait]
pub trait Sealing {
    /// All of them, by id.
    async fn data_keys(&self, shard: Shard) -> Result<Vec<DataKeyRow>, StoreError>;

    /// Makes another data key for fields, unless the newest is younger than `older_than`; its id. New
    /// rows are sealed with it within two minutes.
    async fn rotate_data_key(
        &self,
        shard: Shard,
        older_than: Duration,
        actor: &Actor,
    ) -> Result<Option<u32>, StoreError>;

    /// Wraps all data keys with the first configured key, in one transaction; how many were not yet.
    async fn rewrap_data_keys(&self, shard: Shard, actor: &Actor) -> Result<u32, StoreError>;
}
