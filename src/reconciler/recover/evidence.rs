//! What the topics still say of transfers that a shard has lost, and of its accounts.
//!
//! An event follows the commit that it announces, so whatever it says was true. Of one transfer
//! only the newest generation is believed: what was decided after an earlier recovery replaces
//! what was announced before it.

use super::decide::{Announced, End};
use super::ends::{ENDS, Ends};
use super::log::{Reader, partitions};
use super::{RecoverError, Scope};
use crate::broker::{Delivered, Family, Topic, envelope};
use crate::context::Context;
use crate::domain::{
    AccountId, AccountSnapshot, Event, EventError, EventType, Generation, PivotDecision,
    RequestDetails, Shard, State, Terms, Timestamp, TransferId,
};
use std::collections::{BTreeMap, BTreeSet};

/// Topics of a shard that say something of transfers out of its accounts.
const OF_SOURCES: [EventType; 7] = [
    EventType::Requested,
    EventType::Held,
    EventType::Credited,
    EventType::Refused,
    EventType::Committed,
    EventType::Rejected,
    EventType::Cancelled,
];

/// Outbox rows read at once; each holds the records of one transaction.
const ROWS: u32 = 100;

/// Topics of any shard that say something of pivots on others.
const OF_PIVOTS: [EventType; 2] = [EventType::Credited, EventType::Refused];

/// What was said of one transfer.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub terms: Terms,
    pub announced: Announced,
    /// As ingress wrote it, with the time of acceptance.
    pub request: Option<(RequestDetails, Timestamp)>,
    generation: Generation,
}

/// Everything that was said.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Of transfers that are not final at their source, or are not there.
    pub transfers: BTreeMap<TransferId, Told>,
    /// The newest row of each account of a lost shard.
    pub accounts: BTreeMap<AccountId, AccountSnapshot>,
    /// Number of events read.
    pub events: u64,
}

impl Evidence {
    /// Reads the topics of one shard that can say something of the lost shards; and the final ones
    /// in any case, for the ends that they announce.
    pub async fn read(
        &mut self,
        context: &Context,
        scope: &Scope,
        shard: Shard,
    ) -> Result<Ends, RecoverError> {
        let mut ends = Ends::default();
        for kind in OF_SOURCES {
            let tells = scope.lost.contains(&shard) || OF_PIVOTS.contains(&kind);
            if tells || ENDS.contains(&kind) {
                let topic = Topic::of(kind, shard);
                self.read_topic(context, scope, topic, tells, &mut ends).await?;
            }
        }
        self.read_outbox(context, scope, shard, &mut ends).await?;
        Ok(ends)
    }

    /// What waits in the outbox of a shard is published as it is, whatever generation it is of: it
    /// tells what the log is going to tell.
    async fn read_outbox(
        &mut self,
        context: &Context,
        scope: &Scope,
        shard: Shard,
        ends: &mut Ends,
    ) -> Result<(), RecoverError> {
        let mut after = 0;
        loop {
            let rows = context.store.outbox(shard, after, ROWS).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            let mut events = Vec::new();
            // One that cannot be read is never published.
            for record in rows.iter().filter_map(|row| row.records.as_ref().ok()).flatten() {
                match Event::decode(&record.value) {
                    Ok(event) if record.topic.family == Family::Event(event.kind) => {
                        events.push(event);
                    }
                    Ok(_) | Err(EventError::Malformed(_)) => {}
                    Err(error @ EventError::Newer(_)) => return Err(error.into()),
                }
            }
            self.events += events.len() as u64;
            events.iter().for_each(|event| ends.note(event));
            let lost = scope.lost.contains(&shard);
            events.retain(|event| lost || OF_PIVOTS.contains(&event.kind));
            self.take(context, scope, shard, events).await?;
        }
    }

    async fn read_topic(
        &mut self,
        context: &Context,
        scope: &Scope,
        topic: Topic,
        tells: bool,
        ends: &mut Ends,
    ) -> Result<(), RecoverError> {
        let broker = &*context.broker;
        for partition in partitions(broker, topic).await? {
            ends.note_partition(context, &partition).await?;
            let mut reader = Reader::begin(broker, &partition, scope.since).await?;
            while let Some(records) = reader.page().await? {
                let events = events_in(context, &records)?;
                self.events += events.len() as u64;
                events.iter().for_each(|event| ends.note(event));
                if tells {
                    self.take(context, scope, topic.shard, events).await?;
                }
            }
        }
        Ok(())
    }

    /// A page of events of transfers out of one shard.
    async fn take(
        &mut self,
        context: &Context,
        scope: &Scope,
        source: Shard,
        events: Vec<Event>,
    ) -> Result<(), RecoverError> {
        let final_ones = final_transfers(context, source, &events).await?;
        for event in events {
            self.note_account(context, scope, &event);
            if !final_ones.contains(&event.terms.id) {
                self.note(event);
            }
        }
        Ok(())
    }

    fn note_account(&mut self, context: &Context, scope: &Scope, event: &Event) {
        for snapshot in event.accounts() {
            self.note_snapshot(context, scope, snapshot);
        }
    }

    fn note_snapshot(&mut self, context: &Context, scope: &Scope, snapshot: &AccountSnapshot) {
        if !scope.lost.contains(&context.store.map().shard_of(&snapshot.id)) {
            return;
        }
        let known = self.accounts.get(&snapshot.id).map_or(0, |known| known.version);
        if snapshot.version > known {
            self.accounts.insert(snapshot.id.clone(), snapshot.clone());
        }
    }

    fn note(&mut self, event: Event) {
        let told = self.transfers.entry(event.terms.id).or_insert_with(|| Told {
            terms: event.terms.clone(),
            announced: Announced::default(),
            request: None,
            generation: event.generation,
        });
        if event.generation > told.generation {
            told.generation = event.generation;
            told.announced = Announced::default();
        }
        if let (Some(request), None) = (event.request, &told.request) {
            // One that the reconciler emitted again has the time of that.
            let at = if event.attempt > 1 { event.terms.id.minted_at() } else { event.at };
            told.request = Some((request, at));
        }
        if event.generation < told.generation {
            return;
        }
        let announced = &mut told.announced;
        match (event.kind, event.reason) {
            (EventType::Credited, _) => announced.pivot = Some(PivotDecision::Credited),
            (EventType::Refused, Some(reason)) => {
                announced.pivot = Some(PivotDecision::Refused(reason));
            }
            (EventType::Committed, _) => announced.end = Some(End::Committed),
            (EventType::Rejected | EventType::Cancelled, Some(reason)) => {
                announced.end = Some(End::Without(reason));
            }
            (EventType::Requested | EventType::Held, _)
            | (EventType::Refused | EventType::Rejected | EventType::Cancelled, None) => {}
        }
    }
}

/// The events of this cluster among these records.
fn events_in(context: &Context, records: &[Delivered]) -> Result<Vec<Event>, EventError> {
    let mut events = Vec::with_capacity(records.len());
    for record in records {
        match envelope::event(record) {
            Ok(event) if event.cluster == context.store.identity().cluster => events.push(event),
            Ok(_) | Err(EventError::Malformed(_)) => {}
            Err(error @ EventError::Newer(_)) => return Err(error),
        }
    }
    Ok(events)
}

/// The transfers of these events that are final at their source: nothing said of them matters.
async fn final_transfers(
    context: &Context,
    source: Shard,
    events: &[Event],
) -> Result<BTreeSet<TransferId>, RecoverError> {
    let ids: BTreeSet<TransferId> = events.iter().map(|event| event.terms.id).collect();
    let ids: Vec<TransferId> = ids.into_iter().collect();
    let stored = context.store.source_facts_of(source, &ids).await?;
    let is_final = |state: State| state.is_final();
    Ok(stored.iter().filter(|fact| is_final(fact.state)).map(|fact| fact.terms.id).collect())
}
