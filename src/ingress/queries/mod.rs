//! Reads: nothing here writes.

mod accounts;
mod acts;
mod timeline;
mod transfers;

pub use accounts::Balance;
pub use acts::{ActPosition, Acts};
pub use timeline::{Timeline, TimelineEvent};
pub use transfers::{
    Direction, ListedTransfer, TransferListing, TransferPosition, TransferView, ViewState,
};

use super::{Ingress, Refusal};
use crate::domain::{Currency, TransferId};
use crate::store::{EntryRow, Side, StoreError, TransferRecord};
use std::time::Duration;

/// A part of a list, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// At most as many as were asked for.
    pub items: Vec<T>,
    /// Whether more follow.
    pub more: bool,
}

impl<T> Listed<T> {
    /// Of `limit` and one more row that were read, keeps `limit`.
    fn of(mut items: Vec<T>, limit: u32) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        Self { items, more }
    }

    /// The last item, if more follow it: where the next part begins.
    pub fn last_if_more(&self) -> Option<&T> {
        if self.more { self.items.last() } else { None }
    }
}

impl Ingress {
    /// The currency of requests on the compatibility paths that name none.
    pub fn default_currency(&self) -> Currency {
        self.context.policy.default_currency
    }

    /// The pivot's row on the destination's shard, as far as that shard answers in time.
    async fn pivot_row(&self, transfer: &TransferRecord) -> Result<Option<EntryRow>, Unanswered> {
        let id = transfer.row.terms.id;
        let shard = self.context.store.map().shard_of(&transfer.row.terms.destination);
        let store = self.context.store.clone();
        let read = async move { store.entries_of(shard, &[id]).await };
        let rows = within(self.context.policy.foreign_shard_timeout, read).await?;
        Ok(credit_side(id, rows))
    }
}

/// The other shard did not answer, or not in time.
struct Unanswered;

/// Runs a read of a shard that the caller can do without. The read is a task of its own: past the
/// limit it is left to itself, for a query must not be dropped in the middle.
async fn within<T: Send + 'static>(
    limit: Duration,
    read: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, Unanswered> {
    match tokio::time::timeout(limit, tokio::spawn(read)).await {
        Ok(Ok(Ok(value))) => Ok(value),
        Ok(Ok(Err(error))) => {
            tracing::debug!(%error, "another shard does not answer");
            Err(Unanswered)
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "a read of another shard panicked");
            Err(Unanswered)
        }
        Err(_) => Err(Unanswered),
    }
}

fn credit_side(id: TransferId, rows: Vec<EntryRow>) -> Option<EntryRow> {
    rows.into_iter().find(|row| row.transfer == id && row.side == Side::Credit)
}
