//! The simulated log: topics with partitions, groups with members, everything kept for ever.

mod consumer;
mod groups;
mod port;
mod producer;

pub use groups::GroupState;
pub use port::SimBroker;

use crate::dice::Dice;
use crate::world::{State, World};
use holdfast::broker::{BrokerError, Delivered, Group, Position, Record, Topic};
use holdfast::domain::{Partition, Timestamp};
use std::collections::BTreeMap;

pub type Place = (Topic, Partition);

pub struct Log {
    pub partitions: BTreeMap<Place, Vec<Delivered>>,
    pub groups: BTreeMap<Group, GroupState>,
    pub down: bool,
}

impl Log {
    pub fn new(shards: u16, partitions: u32) -> Self {
        let topics = Topic::all((0..shards).map(holdfast::domain::Shard));
        let places = topics
            .into_iter()
            .flat_map(|topic| (0..partitions).map(move |partition| (topic, Partition(partition))));
        Self {
            partitions: places.map(|place| (place, Vec::new())).collect(),
            groups: BTreeMap::new(),
            down: false,
        }
    }

    pub fn end(&self, place: Place) -> i64 {
        self.partitions[&place].len() as i64
    }

    /// The partitions of a topic.
    pub fn places(&self, topic: Topic) -> impl Iterator<Item = Place> + '_ {
        self.partitions
            .range((topic, Partition(0))..)
            .map(|(place, _)| *place)
            .take_while(move |(of, _)| *of == topic)
    }

    /// A process is no member of any group any more.
    pub fn expel(&mut self, process: usize, dice: &mut Dice) {
        for group in self.groups.values_mut() {
            group.expel(process, dice);
        }
    }

    fn append(&mut self, record: &Record) {
        let place = (record.topic, record.partition);
        let offset = self.end(place);
        let position = Position { topic: record.topic, partition: record.partition, offset };
        let delivered = Delivered {
            position,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            // Kafka keeps whole milliseconds.
            timestamp: Timestamp::from_micros(record.timestamp.millis() * 1000),
        };
        self.partitions.get_mut(&place).expect("every topic was created").push(delivered);
        for group in self.groups.values().filter(|group| group.reads(place)) {
            group.wake.notify_waiters();
        }
    }
}

impl World {
    /// Writes records to the log, each of them audited.
    pub fn publish(&self, state: &mut State, process: usize, records: &[Record]) {
        let at = self.elapsed();
        for record in records {
            state.log.append(record);
            state.trace.mix(record.value.len() as u64);
            let (topic, partition) = (record.topic, record.partition);
            state.trace.say(at, || {
                let value = String::from_utf8_lossy(&record.value);
                let id = value.split("\"id\":\"").nth(1).and_then(|rest| rest.get(..36));
                let id = id.unwrap_or("?");
                format!("process {process}: published {topic}/{partition} of {id}")
            });
            let verdict = state.auditor.announced(topic, &record.value);
            self.judge(state, verdict);
        }
    }
}

pub fn unavailable() -> BrokerError {
    let address = "broker.simulated:9092".to_owned();
    BrokerError::Unavailable { address, detail: "no answer".to_owned() }
}
