//! Step 5, commit: the source is debited where the pivot is CREDITED, its hold released where the
//! pivot is REFUSED. Only this step leaves HELD.
//!
//! State before: HELD. State after: COMMITTED, REJECTED or CANCELLED. One transaction a batch on
//! the source's shard. `refused` is only a wake-up: the pivot itself is read before anything is
//! released.

#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm
)]

mod decide;

pub use decide::{Settled, decide};

use crate::broker::Topic;
use crate::context::Context;
use crate::domain::{
    AccountId, AccountRow, DeadReason, Event, EventType, Input, Outcome, Pivot, PivotDecision,
    Plan, Reason, Shard, Stamp, TransferId,
};
use crate::roles::Role;
use crate::store::{StoreError, Tx, Work, transact};
use crate::turn::{Decision, Reads, Stored};
use crate::worker::Step;
use async_trait::async_trait;
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Runs the role for one shard until `stop`, through every outage.
pub async fn run(
    context: Arc<Context>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let step = Arc::new(Commit { context: Arc::clone(&context) });
    crate::worker::run(context, step, shard, stop).await
}

struct Commit {
    context: Arc<Context>,
}

#[async_trait]
impl Step for Commit {
    fn role(&self) -> Role {
        Role::Commit
    }

    fn topics(&self, shard: Shard) -> Vec<Topic> {
        vec![Topic::of(EventType::Credited, shard), Topic::of(EventType::Refused, shard)]
    }

    fn account<'e>(&self, event: &'e Event) -> Option<&'e AccountId> {
        Some(&event.terms.source)
    }

    fn lets_go(&self, _own_shard: bool) -> bool {
        false
    }

    fn most(&self, lane: Shard, batch: usize) -> usize {
        batch.min(self.context.turns.full(lane))
    }

    async fn ready(&self, lane: Shard) {
        self.context.turns.free(lane).await;
    }

    fn answered(&self, lane: Shard) -> Option<Instant> {
        self.context.turns.answered(lane)
    }

    async fn apply(&self, lane: Shard, batch: Arc<Vec<Input>>) -> Result<Vec<Outcome>, StoreError> {
        let pivots = self.pivots_of_refused(&batch).await;
        let released = self.released(lane, &batch, &pivots).await?;
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(batch.len());
        let mut settled = Vec::with_capacity(batch.len());
        for input in batch.iter() {
            match decision(input, &pivots, &released) {
                Ok(decision) => {
                    settled.push(Settled { input: input.clone(), decision });
                    outcomes.push(None);
                }
                Err(outcome) => outcomes.push(Some(outcome)),
            }
        }
        let mut applied = self.settle(lane, settled).await?.into_iter();
        let merged = outcomes.into_iter().map(|outcome| {
            outcome.or_else(|| applied.next()).expect("one outcome for each settled event")
        });
        Ok(merged.collect())
    }
}

impl Commit {
    async fn settle(&self, shard: Shard, batch: Vec<Settled>) -> Result<Vec<Outcome>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let outcomes = self.context.turns.take(shard, Arc::new(Commits { batch })).await?;
        self.context.wake.finals_written(shard);
        Ok(outcomes)
    }

    /// The pivots of refused transfers, read from their destinations' shards, all at once and
    /// bounded; transfers of a shard that did not answer are left out.
    async fn pivots_of_refused(&self, batch: &[Input]) -> Looked {
        let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
        for input in batch.iter().filter(|input| input.event.kind == EventType::Refused) {
            let shard = self.context.store.map().shard_of(&input.event.terms.destination);
            by_shard.entry(shard).or_default().push(input.event.terms.id);
        }
        let lookups = by_shard.into_iter().map(|(shard, ids)| self.look(shard, ids));
        join_all(lookups).await.into_iter().flatten().collect()
    }

    /// Why refused transfers whose pivot could not be read were released, as far as they were: a
    /// transfer that is final needs no pivot, and this step announces its end. The others are let
    /// go. Another member that still has the event may release them after this and die before it
    /// says so, so that the reconciler is to see to their ends.
    async fn released(
        &self,
        shard: Shard,
        batch: &[Input],
        pivots: &Looked,
    ) -> Result<HashMap<TransferId, Reason>, StoreError> {
        let refused = batch.iter().filter(|input| input.event.kind == EventType::Refused);
        let terms = refused.map(|input| &input.event.terms);
        let open: Vec<TransferId> =
            terms.map(|terms| terms.id).filter(|id| !pivots.contains_key(id)).collect();
        if open.is_empty() {
            return Ok(HashMap::new());
        }
        let ends = transact(&*self.context.store, shard, &Ends(&open)).await?;
        let left: Vec<TransferId> =
            open.iter().filter(|id| !ends.contains_key(id)).copied().collect();
        self.context.store.watch(shard, &left).await?;
        Ok(ends)
    }

    async fn look(&self, shard: Shard, ids: Vec<TransferId>) -> Looked {
        let store = Arc::clone(&self.context.store);
        let asked = ids.clone();
        let lookup = tokio::spawn(async move { store.entries_of(shard, &asked).await });
        let bound = self.context.policy.foreign_shard_timeout;
        let Ok(Ok(Ok(entries))) = tokio::time::timeout(bound, lookup).await else {
            return HashMap::new();
        };
        let mut looked: Looked = ids.into_iter().map(|id| (id, None)).collect();
        for pivot in entries.iter().filter_map(crate::domain::EntryRow::pivot) {
            looked.insert(pivot.transfer, Some(pivot));
        }
        looked
    }
}

/// Why transfers ended, as far as they did, read under their locks: a COMMIT of this step that was
/// not confirmed may still be on its way, and whoever lets its transfer go before that would leave
/// an end that nobody announces.
struct Ends<'a>(&'a [TransferId]);

#[async_trait]
impl Work for Ends<'_> {
    type Output = HashMap<TransferId, Reason>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let rows = tx.transfers(self.0).await?;
        let ends = rows.into_values().filter(|row| row.state.is_final());
        Ok(ends.filter_map(|end| Some((end.terms.id, end.reason?))).collect())
    }
}

/// Transfers whose destination's shard answered, with their pivots.
type Looked = HashMap<TransferId, Option<Pivot>>;

/// What an event is to be settled by.
#[allow(clippy::result_large_err, reason = "an outcome is what the caller returns, not an error")]
fn decision(
    input: &Input,
    pivots: &Looked,
    released: &HashMap<TransferId, Reason>,
) -> Result<PivotDecision, Outcome> {
    let terms = &input.event.terms;
    if input.event.kind == EventType::Credited {
        return Ok(PivotDecision::Credited);
    }
    match pivots.get(&terms.id) {
        None => match released.get(&terms.id) {
            Some(reason) => Ok(PivotDecision::Refused(*reason)),
            None => Err(Outcome::LetGo("the destination's shard does not answer")),
        },
        Some(Some(pivot)) if pivot.fits(terms) => Ok(pivot.decision),
        Some(_) => Err(Outcome::Dead {
            reason: DeadReason::Contradiction,
            detail: "refused, but the destination's shard has no pivot with these terms".to_owned(),
        }),
    }
}

/// The decision about a batch.
pub struct Commits {
    /// Events with what their pivots say, each of another transfer.
    pub batch: Vec<Settled>,
}

impl Decision for Commits {
    fn accounts(&self) -> BTreeSet<AccountId> {
        self.batch.iter().map(|settled| settled.input.event.terms.source.clone()).collect()
    }

    fn transfers(&self) -> Vec<TransferId> {
        self.batch.iter().map(|settled| settled.input.event.terms.id).collect()
    }

    fn reads(&self) -> Reads {
        Reads { transfers: self.transfers(), ..Reads::default() }
    }

    fn decide(
        &self,
        rows: &mut BTreeMap<AccountId, AccountRow>,
        stored: Option<&Stored>,
        stamp: &Stamp,
    ) -> Plan {
        decide(&self.batch, rows, stored.map(|stored| &stored.transfers), stamp)
    }
}
