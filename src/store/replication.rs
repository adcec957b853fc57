//! How far a server has come that follows another.

use super::StoreError;
use crate::domain::Shard;
use async_trait::async_trait;

/// What a shard's server has executed, told so that another can be asked for all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed(pub String);

/// Reads of how far a server has come.
#[async_trait]
pub trait Replication {
    /// All that is committed. None where the server does not number its transactions: SQLite, and
    /// MySQL without `gtid_mode=ON`.
    async fn executed(&self, shard: Shard) -> Result<Option<Executed>, StoreError>;

    /// Whether all of it can be read here.
    async fn has_executed(&self, shard: Shard, executed: &Executed) -> Result<bool, StoreError>;
}
