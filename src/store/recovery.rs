//! What recovery after a promotion needs of a shard beyond the ordinary port: the generation, who
//! is still at work, and that a recovery is not finished yet.

use super::StoreError;
use crate::domain::{Generation, Shard, Timestamp, TransferId};
use async_trait::async_trait;

/// A lease that has not run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is for: a role's name.
    pub name: String,
    /// Which process has it.
    pub holder: String,
    /// When it runs out unless it is renewed, by database time.
    pub until: Timestamp,
}

/// Used by nothing but `reconcile recover`, and by processes that ask whether they may start.
#[async_trait]
pub trait Recovery {
    /// The generation in the shard's identity row, whichever the store was opened in.
    async fn stored_generation(&self, shard: Shard) -> Result<Generation, StoreError>;

    /// Raises the generation in the identity row, taken exclusively: it waits for writing
    /// transactions under way, and none of the old generation begins after it. With it the shard
    /// notes that a recovery is not finished. [`StoreError::Identity`] where the row is not of
    /// this shard and cluster, or has this generation or a later one.
    async fn raise_generation(&self, shard: Shard, to: Generation) -> Result<(), StoreError>;

    /// Whether a recovery has raised the generation and not been finished.
    async fn recovery_unfinished(&self, shard: Shard) -> Result<bool, StoreError>;

    /// Notes that the recovery is finished.
    async fn finish_recovery(&self, shard: Shard) -> Result<(), StoreError>;

    /// Whether a confirmed commit survives the loss of its server: replication is semi-synchronous
    /// with AFTER_SYNC and has not fallen back, or a group's with another member. A store without
    /// servers has none to lose.
    async fn keeps_commits(&self, _shard: Shard) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Leases that have not run out, by name.
    async fn leases(&self, shard: Shard) -> Result<Vec<Lease>, StoreError>;

    /// Puts transfers on the reconciler's list, due at once and with one attempt, so that it sees
    /// to their ends also if they are final by then. Those on it are due when they were.
    async fn watch(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError>;
}
