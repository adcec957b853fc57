//! What can be seen of the surroundings of transfers that stand still: the outbox, how far the
//! stages have come, the pivots.

use super::decide::{PivotLook, Surroundings};
use crate::backlog::Progress;
use crate::context::Context;
use crate::domain::{EntryRow, PivotDecision, Shard, State, StuckTransfer, Timestamp, TransferId};
use crate::roles::Role;
use crate::store::StoreError;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// A view of one shard at one time.
pub struct Sight<'a> {
    context: &'a Context,
    /// Database time.
    pub now: Timestamp,
    /// When the oldest unsent outbox row was written.
    unsent: Option<Timestamp>,
    hold: Option<Arc<Progress>>,
    credit: Option<Arc<Progress>>,
    commit: Option<Arc<Progress>>,
}

/// A pivot and when it was decided, by its own shard's time.
type Decided = (PivotDecision, Timestamp);

/// Pivots of held transfers, none where there is none; those of a shard that did not answer are
/// left out.
pub type Pivots = HashMap<TransferId, Option<Decided>>;

impl<'a> Sight<'a> {
    /// Looks at a shard.
    pub async fn of(context: &'a Context, shard: Shard) -> Result<Self, StoreError> {
        let progress = |role| context.backlog.of(&*context.broker, role, shard);
        let (hold, credit, commit) =
            tokio::join!(progress(Role::Hold), progress(Role::Credit), progress(Role::Commit));
        Ok(Self {
            context,
            now: context.store.now(shard).await?,
            unsent: context.store.outbox_depth(shard).await?.1,
            hold,
            credit,
            commit,
        })
    }

    /// The stage whose group has to act next on a transfer, and whether the broker says how far
    /// that group has come.
    pub fn stage(&self, stuck: &StuckTransfer, pivots: &Pivots) -> (Role, bool) {
        let (role, progress, _) = self.next(stuck, pivots.get(&stuck.row.terms.id).copied());
        (role, progress.is_some())
    }

    fn next(
        &self,
        stuck: &StuckTransfer,
        pivot: Option<Option<Decided>>,
    ) -> (Role, Option<&Progress>, Timestamp) {
        let row = &stuck.row;
        let (role, progress, entered) = match (row.state, pivot) {
            (State::Held, Some(Some((_, at)))) => (Role::Commit, &self.commit, at),
            (State::Held, _) => {
                (Role::Credit, &self.credit, row.held_at.unwrap_or(row.requested_at))
            }
            _ => (Role::Hold, &self.hold, row.requested_at),
        };
        (role, progress.as_deref(), entered)
    }

    /// What is to be known for a decision about a transfer.
    pub fn surroundings(&self, stuck: &StuckTransfer, pivots: &Pivots) -> Surroundings {
        let row = &stuck.row;
        let pivot = pivots.get(&row.terms.id).copied();
        let driven = (stuck.attempts > 0).then(|| stuck.due_at.minus(self.backoff(stuck.attempts)));
        let (_, progress, entered) = self.next(stuck, pivot);
        let entered = driven.map_or(entered, |driven| driven.max(entered));
        let partition = self.context.store.map().partition_of_slot(row.terms.id.slot());
        Surroundings {
            now: self.now,
            unsent: self.unsent.is_some_and(|oldest| oldest <= row.requested_at),
            behind: progress.is_none_or(|progress| progress.behind(partition, entered, self.now)),
            pivot: match pivot {
                None => PivotLook::Unknown,
                Some(None) => PivotLook::None,
                Some(Some((decision, _))) => PivotLook::Decided(decision),
            },
        }
    }

    /// The pivots of held transfers; those of a shard that did not answer in time are left out.
    pub async fn pivots(&self, due: &[StuckTransfer]) -> Pivots {
        let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
        for stuck in due.iter().filter(|stuck| stuck.row.state == State::Held) {
            let shard = self.context.store.map().shard_of(&stuck.row.terms.destination);
            by_shard.entry(shard).or_default().push(stuck.row.terms.id);
        }
        let mut pivots = HashMap::new();
        for (shard, ids) in by_shard {
            let (store, asked) = (Arc::clone(&self.context.store), ids.clone());
            let lookup = tokio::spawn(async move { store.entries_of(shard, &asked).await });
            let bound = self.context.policy.foreign_shard_timeout;
            if let Ok(Ok(Ok(entries))) = tokio::time::timeout(bound, lookup).await {
                pivots.extend(ids.into_iter().map(|id| (id, None)));
                pivots.extend(entries.iter().filter_map(decided));
            }
        }
        pivots
    }

    /// How long after it was driven so often a transfer is looked at again.
    pub fn backoff(&self, attempts: u32) -> Duration {
        let doubled = 1_u32 << attempts.saturating_sub(1).min(16);
        (self.context.policy.redrive_backoff * doubled).min(LONGEST_BACKOFF)
    }
}

fn decided(entry: &EntryRow) -> Option<(TransferId, Option<Decided>)> {
    let pivot = entry.pivot()?;
    Some((pivot.transfer, Some((pivot.decision, entry.at))))
}
