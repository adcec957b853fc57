//! Final transfers whose end nobody announced.
//!
//! A process that dies between its COMMIT and its events announces them once it reads again what
//! they followed from. A recovery takes that away: whatever was published before it is dropped. So
//! an end that is in a row, and neither in the log nor on its way there, is announced by the
//! recovery, through the outbox of its shard. That concerns every shard, for all were stopped.

use super::RecoverError;
use super::log::record_at;
use super::report::Report;
use crate::broker::{Family, PartitionLag};
use crate::context::Context;
use crate::domain::{Event, EventType, Partition, Shard, Timestamp, TransferId};
use crate::routing::ShardMap;
use crate::stage::announce_ends;
use crate::store::SourceFact;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// The events that say that a transfer is over.
pub(super) const ENDS: [EventType; 3] =
    [EventType::Committed, EventType::Rejected, EventType::Cancelled];

/// Ends announced in one transaction.
const PAGE: usize = 100;

/// How far records of a partition may be out of the order of their times.
const DISORDER: Duration = Duration::from_secs(600);
/// What any log keeps.
const KEPT: Duration = Duration::from_secs(86_400);

/// The ends of one shard's transfers that were announced.
#[derive(Debug, Default)]
pub(super) struct Ends {
    announced: BTreeMap<EventType, HashSet<TransferId>>,
    /// Of partitions that have lost their first records to retention: since when every record is
    /// there.
    kept_since: BTreeMap<(EventType, Partition), Timestamp>,
}

impl Ends {
    /// Notes how far back a partition goes, if its topic is one of the final ones.
    pub async fn note_partition(
        &mut self,
        context: &Context,
        partition: &PartitionLag,
    ) -> Result<(), RecoverError> {
        let Family::Event(kind) = partition.topic.family else { return Ok(()) };
        if !ENDS.contains(&kind) || partition.start == 0 {
            return Ok(());
        }
        let first = record_at(&*context.broker, partition, partition.start).await?;
        let kept_since = match first {
            Some(record) => record.timestamp.plus(DISORDER),
            None => context.store.now(partition.topic.shard).await?.minus(KEPT),
        };
        self.kept_since.insert((kind, partition.partition), kept_since);
        Ok(())
    }

    /// Notes the end that an event announces, if it announces one.
    pub fn note(&mut self, event: &Event) {
        if ENDS.contains(&event.kind) {
            self.announced.entry(event.kind).or_default().insert(event.terms.id);
        }
    }

    /// Whether a transfer is final and nobody was told how it ended.
    ///
    /// Retention deletes what was said long ago: where the first records of a partition are gone,
    /// an end that is not in it counts only if it is later than the oldest record that is left,
    /// and by as much as records may be out of order; if none is left, only if it is of the last
    /// day. Where retention deletes sooner an end is said twice, and does no harm: it stays true.
    /// With `--since`, only transfers accepted since then are asked about, whose ends are as late.
    pub fn unannounced(&self, map: &ShardMap, fact: &SourceFact) -> bool {
        let (id, kind) = (fact.terms.id, EventType::announcing(fact.state));
        let announced = || self.announced.get(&kind).is_some_and(|ids| ids.contains(&id));
        let partition = map.partition_of_slot(id.slot());
        let kept = || match self.kept_since.get(&(kind, partition)) {
            Some(since) => fact.completed_at.is_some_and(|at| at > *since),
            None => true,
        };
        fact.state.is_final() && !announced() && kept()
    }
}

/// Announces the ends of these transfers.
pub(super) async fn announce(
    context: &Context,
    ends: &BTreeMap<Shard, Vec<TransferId>>,
    report: &mut Report,
) -> Result<(), RecoverError> {
    for (shard, ids) in ends {
        for page in ids.chunks(PAGE) {
            report.ends += announce_ends(context, *shard, page).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::State;
    use crate::domain::testing::{NOW, stamp, terms};

    fn fact(state: State, completed_at: Option<Timestamp>) -> SourceFact {
        SourceFact { terms: terms(1, "a", "b", 10), state, debit: None, completed_at }
    }

    fn unannounced(ends: &Ends, fact: &SourceFact) -> bool {
        ends.unannounced(&ShardMap::lay_out(2, 3), fact)
    }

    #[test]
    fn only_what_is_final_and_was_never_said_to_be_is_unannounced() {
        let mut ends = Ends::default();
        let committed = fact(State::Committed, Some(NOW));
        assert!(unannounced(&ends, &committed));
        assert!(!unannounced(&ends, &fact(State::Held, None)));
        ends.note(&stamp().event(EventType::Held, &committed.terms));
        assert!(unannounced(&ends, &committed));
        ends.note(&stamp().event(EventType::Cancelled, &committed.terms));
        assert!(unannounced(&ends, &committed), "another end was said before it was lost");
        ends.note(&stamp().event(EventType::Committed, &committed.terms));
        assert!(!unannounced(&ends, &committed));
    }

    #[test]
    fn what_retention_may_have_deleted_is_not_said_again() {
        let committed = |at| fact(State::Committed, Some(at));
        let partition = ShardMap::lay_out(2, 3).partition_of_slot(committed(NOW).terms.id.slot());
        let kept_since = [((EventType::Committed, partition), NOW)].into();
        let ends = Ends { kept_since, ..Ends::default() };
        assert!(!unannounced(&ends, &committed(NOW.minus(KEPT))));
        assert!(!unannounced(&ends, &committed(NOW)));
        assert!(unannounced(&ends, &committed(NOW.plus(DISORDER))));
        let rejected = fact(State::Rejected, Some(NOW.minus(KEPT)));
        assert!(unannounced(&ends, &rejected), "its partition has lost nothing");
    }
}
