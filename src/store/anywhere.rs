//! What any shard can answer.

use super::{Store, StoreError};
use crate::domain::{Shard, Timestamp};

/// Database time of a shard, or of any other where that one does not answer.
pub async fn now_of_any(store: &dyn Store, first: Shard) -> Result<Timestamp, StoreError> {
    let mut failed = match store.now(first).await {
        Ok(now) => return Ok(now),
        Err(error) => error,
    };
    for shard in store.map().all_shards().filter(|shard| *shard != first) {
        match store.now(shard).await {
            Ok(now) => return Ok(now),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
