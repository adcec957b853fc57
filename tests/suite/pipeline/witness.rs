//! Reads every event as it is published and holds it against the rows: an event that is not true
//! when it can be read is a lie, however true it becomes.

use super::backend::answered;
use crate::wait::eventually;
use holdfast::broker::{Broker, Consumer, Delivered, Family, Group, Incoming, Topic, envelope};
use holdfast::domain::{
    AccountId, AccountRow, AccountSnapshot, Event, EventType, PivotDecision, Shard, State,
    TransferId, TransferRow,
};
use holdfast::store::Store;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use tokio::task::JoinHandle;

/// What the witness saw.
#[derive(Default)]
struct Seen {
    records: usize,
    kinds: HashMap<TransferId, Vec<EventType>>,
    lies: Vec<String>,
}

/// The witness of one cluster.
pub struct Witness {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
    topics: Vec<Topic>,
    group: Group,
}

impl Witness {
    pub async fn start(store: &Arc<dyn Store>, broker: &Arc<dyn Broker>) -> Self {
        let all = Topic::all(store.map().all_shards());
        let topics: Vec<Topic> =
            all.into_iter().filter(|topic| topic.family != Family::DeadLetter).collect();
        let group = Group { role: "witness", shard: Shard(0) };
        let consumer = broker.consumer(&group, &topics).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let task = tokio::spawn(watch(Arc::clone(store), consumer, Arc::clone(&seen)));
        Self { seen, task, topics, group }
    }

    /// Waits until an end of every transfer was announced: a step that died before it could say so
    /// says it once it has begun again.
    pub async fn all_ended(&self, transfers: &[TransferId]) {
        let ends = [EventType::Committed, EventType::Rejected, EventType::Cancelled];
        eventually("every end is announced", || async {
            let seen = self.seen.lock().unwrap();
            let ended = |id| {
                seen.kinds.get(id).is_some_and(|kinds| ends.iter().any(|end| kinds.contains(end)))
            };
            transfers.iter().all(ended)
        })
        .await;
    }

    /// Waits until everything that was published was seen: none of it was a lie, and the end of
    /// every transfer was announced.
    pub async fn all_was_true(&self, broker: &dyn Broker, transfers: &[TransferId]) {
        let lags = answered(|| broker.lag(&self.group, &self.topics)).await.unwrap();
        let written: i64 = lags.iter().map(|lag| lag.end - lag.start).sum();
        eventually("all events seen", || async {
            assert!(!self.task.is_finished(), "the witness ended");
            self.seen.lock().unwrap().records as i64 >= written
        })
        .await;
        let seen = self.seen.lock().unwrap();
        assert!(seen.lies.is_empty(), "{:#?}", seen.lies);
        for transfer in transfers {
            let kinds = seen.kinds.get(transfer).expect("every transfer is announced");
            let has = |kind| kinds.contains(&kind);
            let ends = [EventType::Committed, EventType::Rejected, EventType::Cancelled];
            assert!(
                !(has(EventType::Credited) && has(EventType::Refused)),
                "{transfer} was announced credited and refused"
            );
            assert_eq!(
                ends.into_iter().filter(|kind| has(*kind)).count(),
                1,
                "every transfer has one end, and it is announced: {transfer} {kinds:?}"
            );
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The header of records that a test forges: the witness leaves them out.
pub const FORGED: &str = "forged";

async fn watch(store: Arc<dyn Store>, mut consumer: Box<dyn Consumer>, seen: Arc<Mutex<Seen>>) {
    loop {
        let Incoming::Records(records) = consumer.next(500).await.unwrap() else { continue };
        let ours = |event: &Event| event.cluster == store.identity().cluster;
        let forged = |delivered: &Delivered| delivered.headers.get(FORGED).is_some();
        let events: Vec<Event> = records
            .iter()
            .filter(|delivered| !forged(delivered))
            .filter_map(|delivered| envelope::event(delivered).ok())
            .filter(ours)
            .collect();
        let rows = Rows::read(&*store, &events).await;
        let mut seen = seen.lock().unwrap();
        seen.records += records.len();
        for event in events {
            let lie = rows.lie(&event);
            seen.lies.extend(lie.map(|why| format!("{}: {why}; {event:?}", event.ce_id())));
            let kinds = seen.kinds.entry(event.terms.id).or_default();
            if !kinds.contains(&event.kind) {
                kinds.push(event.kind);
            }
        }
    }
}

/// The rows that some events are about, read after the events could be.
#[derive(Default)]
struct Rows {
    transfers: HashMap<TransferId, TransferRow>,
    pivots: HashMap<TransferId, PivotDecision>,
    accounts: HashMap<AccountId, AccountRow>,
}

impl Rows {
    async fn read(store: &dyn Store, events: &[Event]) -> Self {
        let map = store.map();
        let mut rows = Self::default();
        let mut sources: BTreeMap<Shard, BTreeSet<TransferId>> = BTreeMap::new();
        let mut destinations = sources.clone();
        for Event { terms, .. } in events {
            sources.entry(map.shard_of_transfer(terms.id)).or_default().insert(terms.id);
            destinations.entry(map.shard_of(&terms.destination)).or_default().insert(terms.id);
        }
        for (shard, ids) in sources {
            let ids: Vec<TransferId> = ids.into_iter().collect();
            let found = store.transfer_records(shard, &ids).await.unwrap();
            rows.transfers.extend(found.into_iter().map(|found| (found.row.terms.id, found.row)));
        }
        for (shard, ids) in destinations {
            let ids: Vec<TransferId> = ids.into_iter().collect();
            let found = store.credit_facts_of(shard, &ids).await.unwrap();
            rows.pivots.extend(found.into_iter().map(|fact| (fact.transfer, fact.decision)));
        }
        let accounts = events.iter().flat_map(Event::accounts);
        for id in accounts.map(|account| &account.id).collect::<BTreeSet<_>>() {
            let found = store.account(map.shard_of(id), id).await.unwrap();
            rows.accounts.extend(found.map(|found| (id.clone(), found.row)));
        }
        rows
    }

    /// Why an event is not true, if it is not.
    fn lie(&self, event: &Event) -> Option<String> {
        let terms = &event.terms;
        let Some(row) = self.transfers.get(&terms.id) else {
            return Some("there is no such transfer".to_owned());
        };
        if row.terms != *terms {
            return Some(format!("the transfer has other terms: {:?}", row.terms));
        }
        let pivot = self.pivots.get(&terms.id).copied();
        let ended = |state| row.state == state && row.reason == event.reason;
        let agrees = match event.kind {
            EventType::Requested => true,
            EventType::Held => row.held_at.is_some(),
            EventType::Credited => pivot == Some(PivotDecision::Credited),
            EventType::Refused => match pivot {
                Some(PivotDecision::Refused(reason)) => event.reason.is_none_or(|it| it == reason),
                Some(PivotDecision::Credited) | None => false,
            },
            EventType::Committed => ended(State::Committed),
            EventType::Rejected => ended(State::Rejected),
            EventType::Cancelled => ended(State::Cancelled),
        };
        if !agrees {
            return Some(format!("stored: {:?} {:?}, pivot {pivot:?}", row.state, row.reason));
        }
        event.accounts().find_map(|told| self.lie_of_account(told))
    }

    fn lie_of_account(&self, told: &AccountSnapshot) -> Option<String> {
        let stored = self.accounts.get(&told.id)?;
        let differs = stored.version == told.version
            && (stored.posted, stored.held) != (told.posted, told.held);
        let lies = stored.version < told.version || differs;
        lies.then(|| format!("the account's row is {stored:?}"))
    }
}
