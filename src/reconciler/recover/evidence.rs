//! What the topics still say of transfers that a shard has lost, and of its accounts.
//!
//! An event follows the commit that it announces, so whatever it says was true. Of one transfer
//! only the newest generation is believed: what was decided after an earlier recovery replaces
//! what was announced before it.

use super::decide::{Announced, End};
use super::{RecoverError, Scope};
use crate::broker::{
    Broker, BrokerError, Delivered, Group, PartitionLag, Position, Topic, envelope,
};
use crate::context::Context;
use crate::domain::{
    AccountId, AccountSnapshot, Event, EventError, EventType, Generation, PivotDecision,
    RequestDetails, Shard, State, Terms, Timestamp, TransferId,
};
use crate::roles::Role;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Records read at once.
const PAGE: usize = 1000;

/// How often the broker is asked before a recovery gives up, and how long after each time.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

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
    /// Reads all topics that can say something of the lost shards.
    pub async fn read(context: &Context, scope: &Scope) -> Result<Self, RecoverError> {
        let mut evidence = Self::default();
        for shard in context.store.map().all_shards() {
            let lost = scope.lost.contains(&shard);
            let kinds: &[EventType] = if lost { &OF_SOURCES } else { &OF_PIVOTS };
            for kind in kinds {
                evidence.read_topic(context, scope, Topic::of(*kind, shard)).await?;
            }
        }
        Ok(evidence)
    }

    async fn read_topic(
        &mut self,
        context: &Context,
        scope: &Scope,
        topic: Topic,
    ) -> Result<(), RecoverError> {
        // Nobody's offsets are asked for: only where the partitions begin and end.
        let group = Group { role: Role::Reconciler.as_str(), shard: topic.shard };
        let (broker, topics) = (&*context.broker, [topic]);
        for lag in patiently(|| broker.lag(&group, &topics)).await? {
            let mut offset = first_since(broker, &lag, scope.since).await?;
            while offset < lag.end {
                let position = Position { topic, partition: lag.partition, offset };
                let records = patiently(|| broker.read_from(position, PAGE)).await?;
                let Some(last) = records.last() else { break };
                offset = last.position.offset + 1;
                self.take(context, scope, topic.shard, &records).await?;
            }
        }
        Ok(())
    }

    /// A page of records of transfers out of one shard.
    async fn take(
        &mut self,
        context: &Context,
        scope: &Scope,
        source: Shard,
        records: &[Delivered],
    ) -> Result<(), RecoverError> {
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            match envelope::event(record) {
                Ok(event) if event.cluster == context.store.identity().cluster => {
                    events.push(event);
                }
                Ok(_) | Err(EventError::Malformed(_)) => {}
                Err(error @ EventError::Newer(_)) => return Err(error.into()),
            }
        }
        self.events += events.len() as u64;
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
        let Some(snapshot) = &event.account else { return };
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

/// Asks again while the broker does not answer: a recovery should not have to begin anew for it.
async fn patiently<T, F>(mut ask: impl FnMut() -> F) -> Result<T, BrokerError>
where
    F: Future<Output = Result<T, BrokerError>>,
{
    for _ in 1..ATTEMPTS {
        match ask().await {
            Err(BrokerError::Unavailable { .. }) => tokio::time::sleep(PAUSE).await,
            answer => return answer,
        }
    }
    ask().await
}

/// The first offset of a partition whose record is not older than `since`, by halving: records of
/// a partition are in order of time but for moments.
async fn first_since(
    broker: &dyn Broker,
    lag: &PartitionLag,
    since: Option<Timestamp>,
) -> Result<i64, RecoverError> {
    let (mut low, mut high) = (lag.start, lag.end);
    let Some(since) = since else { return Ok(low) };
    while low < high {
        let middle = low + (high - low) / 2;
        let position = Position { topic: lag.topic, partition: lag.partition, offset: middle };
        match patiently(|| broker.read_at(position)).await? {
            Some(record) if record.timestamp < since => low = record.position.offset + 1,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}
