//! What the behaviours are written with.

use crate::services::{services, unique};
pub use crate::wait::{eventually, within};
use holdfast::broker::embedded::{EmbeddedBroker, EmbeddedSettings, JournalError};
use holdfast::broker::kafka::{KafkaBroker, KafkaSettings};
use holdfast::broker::{Broker, Consumer, Delivered, Group, Incoming, Position, Record, Topic};
use holdfast::domain::{EventType, Partition, Shard, Timestamp};
use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::SystemTime;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The topic that most behaviours use.
pub const TOPIC: Topic = Topic::of(EventType::Held, Shard(0));
/// Its partitions.
pub const PARTITIONS: u32 = 4;

/// A broker with [`TOPIC`], used by nobody else.
pub struct Fixture {
    pub broker: Arc<dyn Broker>,
    place: Place,
}

enum Place {
    Embedded(TempDir),
    Kafka(KafkaSettings),
}

impl Fixture {
    pub async fn embedded() -> Self {
        Self::create(Place::Embedded(TempDir::new().unwrap())).await
    }

    pub async fn kafka() -> Self {
        Self::create(Place::Kafka(kafka_settings(&services().await.kafka))).await
    }

    async fn create(place: Place) -> Self {
        let broker = place.open().await;
        within("topics", broker.create_topics(&[TOPIC], PARTITIONS)).await.unwrap();
        Self { broker, place }
    }

    /// The same broker after everything of it in this process has been dropped.
    pub async fn reopened(self) -> Self {
        let Self { broker, place } = self;
        drop(broker);
        Self { broker: place.open().await, place }
    }

    pub async fn consumer(&self, group: &Group) -> Box<dyn Consumer> {
        within("consumer", self.broker.consumer(group, &[TOPIC])).await.unwrap()
    }
}

impl Place {
    async fn open(&self) -> Arc<dyn Broker> {
        match self {
            Self::Embedded(dir) => Arc::new(reopen(EmbeddedSettings::new(dir.path())).await),
            Self::Kafka(settings) => Arc::new(KafkaBroker::new(settings.clone()).unwrap()),
        }
    }
}

/// Opens a log that may have been open until now. Its lock outlives it for a moment where another
/// test is about to start a program, which has a copy of every open file until it runs.
pub async fn reopen(settings: EmbeddedSettings) -> EmbeddedBroker {
    let mut broker = None;
    eventually("the directory's lock", || {
        broker = match EmbeddedBroker::open(settings.clone()) {
            Err(JournalError::InUse { .. }) => None,
            opened => Some(opened.unwrap()),
        };
        ready(broker.is_some())
    })
    .await;
    broker.unwrap()
}

/// Settings under which no other test has topics or groups.
pub fn kafka_settings(brokers: &str) -> KafkaSettings {
    KafkaSettings {
        brokers: brokers.to_owned(),
        topic_prefix: format!("test-{}.", unique()),
        options: Vec::new(),
        replication_factor: -1,
    }
}

pub fn group(role: &'static str) -> Group {
    Group { role, shard: Shard(0) }
}

/// Of the present, for Kafka deletes records whose timestamps are older than a topic's retention.
static WRITTEN: LazyLock<Timestamp> = LazyLock::new(|| {
    let millis = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    Timestamp::from_micros(i64::try_from(millis).unwrap() * 1000)
});

/// A record that tells its number.
pub fn record(partition: u32, number: u32) -> Record {
    Record {
        topic: TOPIC,
        partition: Partition(partition),
        key: format!("account-{partition}").into(),
        value: number.to_string().into(),
        headers: [("ce_type", "transfer.held")].into_iter().collect(),
        timestamp: *WRITTEN,
    }
}

/// The number that [`record`] gave it.
pub fn sent(record: &Delivered) -> u32 {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

/// Writes records and waits until they are acknowledged.
pub async fn send(fixture: &Fixture, records: Vec<Record>) {
    let producer = within("producer", fixture.broker.producer()).await.unwrap();
    within("acknowledgement", producer.send(records)).await.unwrap();
}

/// Reads exactly `count` records; revocations are granted at once.
pub async fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivered> {
    let mut records = Vec::new();
    while records.len() < count {
        if let Incoming::Records(more) =
            within("next", consumer.next(count - records.len())).await.unwrap()
        {
            records.extend(more);
        }
    }
    records
}

/// The positions that commit all of these.
pub fn marked(records: &[Delivered]) -> Vec<Position> {
    let mut ends = BTreeMap::new();
    for Delivered { position, .. } in records {
        let end = ends.entry((position.topic, position.partition)).or_insert(0);
        *end = position.offset.max(*end - 1) + 1;
    }
    ends.into_iter()
        .map(|((topic, partition), offset)| Position { topic, partition, offset })
        .collect()
}

/// Waits until the group has committed `sum` records of [`TOPIC`].
pub async fn committed(fixture: &Fixture, group: &Group, sum: i64) {
    eventually("commit", || async {
        let lag = fixture.broker.lag(group, &[TOPIC]).await.unwrap();
        lag.iter().map(|lag| lag.committed.unwrap_or(0)).sum::<i64>() == sum
    })
    .await;
}

/// What the members of a group did, and who has which partition at this moment.
#[derive(Default)]
struct Processed {
    holders: BTreeMap<Partition, &'static str>,
    times: BTreeMap<(Partition, i64), usize>,
    by_member: BTreeMap<&'static str, usize>,
}

/// Members of one group that work until they are stopped.
pub struct Members<'a> {
    fixture: &'a Fixture,
    processed: Arc<Mutex<Processed>>,
    tasks: BTreeMap<&'static str, JoinHandle<()>>,
    sent: usize,
}

impl<'a> Members<'a> {
    pub fn new(fixture: &'a Fixture) -> Self {
        Self { fixture, processed: Arc::default(), tasks: BTreeMap::new(), sent: 0 }
    }

    pub async fn start(&mut self, name: &'static str) {
        let consumer = self.fixture.consumer(&group("hold")).await;
        let task = tokio::spawn(work(name, consumer, self.processed.clone()));
        self.tasks.insert(name, task);
    }

    /// Stops a member between two calls of `next` or in one of them: the consumer is dropped.
    pub async fn stop(&mut self, name: &'static str) {
        let task = self.tasks.remove(name).unwrap();
        task.abort();
        let _ = task.await;
        self.processed.lock().unwrap().holders.retain(|_, holder| *holder != name);
    }

    pub fn processed_by(&self, name: &str) -> usize {
        self.processed.lock().unwrap().by_member[name]
    }

    /// Sends rounds of records, each when the one before it has been processed.
    pub async fn send_until(&mut self, done: impl Fn(&BTreeMap<&'static str, usize>) -> bool) {
        while !done(&self.processed.lock().unwrap().by_member) {
            send(self.fixture, (0..PARTITIONS * 5).map(|n| record(n % PARTITIONS, n)).collect())
                .await;
            self.sent += PARTITIONS as usize * 5;
            eventually("processing", || async {
                assert!(self.tasks.values().all(|task| !task.is_finished()), "a member failed");
                self.processed.lock().unwrap().times.len() == self.sent
            })
            .await;
        }
    }

    pub fn assert_each_record_was_processed_once(&self) {
        let processed = self.processed.lock().unwrap();
        let repeated: Vec<_> = processed.times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(repeated.is_empty(), "drained and committed, and yet repeated: {repeated:?}");
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        self.tasks.values().for_each(JoinHandle::abort);
    }
}

/// Takes a partition with its first record and lets go of it when it is revoked.
async fn work(name: &'static str, mut consumer: Box<dyn Consumer>, all: Arc<Mutex<Processed>>) {
    loop {
        match consumer.next(3).await.unwrap() {
            Incoming::Records(records) => {
                process(name, &records, &mut all.lock().unwrap());
                consumer.commit(&marked(&records));
            }
            Incoming::Revoked(partitions, token) => {
                let mut all = all.lock().unwrap();
                for (_, partition) in partitions {
                    let holder = all.holders.remove(&partition);
                    assert!(holder.is_none_or(|holder| holder == name));
                }
                drop(token);
            }
        }
    }
}

fn process(name: &'static str, records: &[Delivered], all: &mut Processed) {
    for Delivered { position, .. } in records {
        let holder = *all.holders.entry(position.partition).or_insert(name);
        assert_eq!(holder, name, "partition {} is with two members", position.partition);
        *all.times.entry((position.partition, position.offset)).or_default() += 1;
        *all.by_member.entry(name).or_default() += 1;
    }
}
