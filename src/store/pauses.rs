//! What operators have stopped.

use super::StoreError;
use crate::domain::{Shard, Timestamp};
use async_trait::async_trait;

/// A scope as a shard has it. Scopes that go on again stay, so that the shards' rows can be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseRow {
    /// What; up to 192 ASCII characters.
    pub scope: String,
    /// `pause`, `drain` or `resumed`.
    pub mode: String,
    /// Rises with every change, from 1.
    pub revision: i64,
    /// When it was changed last.
    pub since: Timestamp,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: Option<String>,
}

/// Reads of what is stopped.
#[async_trait]
pub trait PauseReads {
    /// All rows of a shard, by scope.
    async fn pauses(&self, shard: Shard) -> Result<Vec<PauseRow>, StoreError>;
}

/// Writes of what is stopped, within a transaction.
#[async_trait]
pub trait PausesTx {
    /// Writes a scope where there is none of its name, or one of a lower revision; whether it did.
    async fn put_pause(&mut self, row: &PauseRow) -> Result<bool, StoreError>;
}
