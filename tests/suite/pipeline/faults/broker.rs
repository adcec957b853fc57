//! A broker that can be taken away, and whose producers can break in the middle.

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use holdfast::broker::{
    Broker, BrokerError, Consumer, Delivered, Group, Incoming, PartitionLag, Position, Producer,
    Record, Topic,
};
use holdfast::domain::Shard;
use rand::seq::SliceRandom;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What becomes of one call of `send`; the producer is broken afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFault {
    /// Only the first records are written.
    After(usize),
    /// All are written, and nobody is told.
    Unanswered,
}

/// The switches, for all producers and consumers of one process.
pub struct BrokerFaults {
    down: watch::Sender<bool>,
    hanging: watch::Sender<Option<Shard>>,
    sends: Mutex<VecDeque<SendFault>>,
    largest: AtomicUsize,
    scrambling: AtomicBool,
    forgetful: AtomicBool,
    revoked: AtomicUsize,
    /// Appended to the role in the names of groups.
    generation: Mutex<String>,
}

impl BrokerFaults {
    pub fn new() -> Self {
        Self {
            down: watch::Sender::new(false),
            hanging: watch::Sender::new(None),
            sends: Mutex::default(),
            largest: AtomicUsize::new(usize::MAX),
            scrambling: AtomicBool::new(false),
            forgetful: AtomicBool::new(false),
            revoked: AtomicUsize::new(0),
            generation: Mutex::default(),
        }
    }

    /// Nothing is answered but with an error from now on, or no longer.
    pub fn down(&self, down: bool) {
        self.down.send_replace(down);
    }

    /// Nothing about the topics of this shard is answered from now on; when it is over, those that
    /// wait go on.
    pub fn hang(&self, shard: Option<u16>) {
        self.hanging.send_replace(shard.map(Shard));
    }

    /// Until none of these topics hangs.
    fn answers(&self, topics: &[Topic]) -> impl Future<Output = ()> + Send + use<> {
        let shards: Vec<Shard> = topics.iter().map(|topic| topic.shard).collect();
        let mut hanging = self.hanging.subscribe();
        async move {
            let _ = hanging.wait_for(|shard| shard.is_none_or(|it| !shards.contains(&it))).await;
        }
    }

    /// What becomes of the next calls of `send`.
    pub fn sends(&self, faults: impl IntoIterator<Item = SendFault>) {
        self.sends.lock().unwrap().extend(faults);
    }

    /// Whether every fault of a send has happened.
    pub fn all_sends_failed(&self) -> bool {
        self.sends.lock().unwrap().is_empty()
    }

    /// Records over so many bytes are refused for ever, but for dead letters.
    pub fn largest(&self, bytes: usize) {
        self.largest.store(bytes, Ordering::SeqCst);
    }

    /// Whether every record is written twice and those of one call in any order.
    pub fn scramble(&self, scrambling: bool) {
        self.scrambling.store(scrambling, Ordering::SeqCst);
    }

    /// Whether offsets are forgotten instead of being committed.
    pub fn forget_offsets(&self, forgetful: bool) {
        self.forgetful.store(forgetful, Ordering::SeqCst);
    }

    /// Consumers that are opened from now on belong to other groups: they read from the start.
    pub fn new_groups(&self, name: &str) {
        *self.generation.lock().unwrap() = format!("-{name}");
    }

    /// How often partitions were taken from members of this process.
    pub fn revocations(&self) -> usize {
        self.revoked.load(Ordering::SeqCst)
    }

    fn group(&self, group: &Group) -> Group {
        let generation = self.generation.lock().unwrap();
        if generation.is_empty() {
            return group.clone();
        }
        Group { role: format!("{}{generation}", group.role).leak(), shard: group.shard }
    }

    fn reach(&self) -> Result<(), BrokerError> {
        if *self.down.borrow() { Err(unavailable()) } else { Ok(()) }
    }
}

fn unavailable() -> BrokerError {
    BrokerError::Unavailable { address: "taken away".to_owned(), detail: "by the test".to_owned() }
}

/// A broker behind [`BrokerFaults`].
pub struct FaultyBroker {
    pub inner: Arc<dyn Broker>,
    pub faults: Arc<BrokerFaults>,
}

#[async_trait]
impl Broker for FaultyBroker {
    async fn missing_topics(
        &self,
        topics: &[Topic],
        partitions: u32,
    ) -> Result<Vec<Topic>, BrokerError> {
        self.faults.reach()?;
        self.inner.missing_topics(topics, partitions).await
    }

    async fn create_topics(&self, topics: &[Topic], partitions: u32) -> Result<(), BrokerError> {
        self.faults.reach()?;
        self.inner.create_topics(topics, partitions).await
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, BrokerError> {
        self.faults.reach()?;
        let inner = self.inner.producer().await?;
        let faults = Arc::clone(&self.faults);
        Ok(Box::new(FaultyProducer { inner, faults, broken: AtomicBool::new(false) }))
    }

    async fn consumer(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        self.faults.answers(topics).await;
        self.faults.reach()?;
        let inner = self.inner.consumer(&self.faults.group(group), topics).await?;
        let (faults, topics) = (Arc::clone(&self.faults), topics.to_vec());
        Ok(Box::new(FaultyConsumer { inner, topics, faults }))
    }

    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError> {
        self.faults.answers(topics).await;
        self.faults.reach()?;
        self.inner.lag(&self.faults.group(group), topics).await
    }

    async fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, BrokerError> {
        self.faults.answers(&[position.topic]).await;
        self.faults.reach()?;
        self.inner.read_from(position, max).await
    }

    async fn left(&self) {
        self.inner.left().await;
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.faults.reach()?;
        self.inner.ping().await
    }

    fn address(&self) -> String {
        self.inner.address()
    }
}

struct FaultyProducer {
    inner: Box<dyn Producer>,
    faults: Arc<BrokerFaults>,
    broken: AtomicBool,
}

impl FaultyProducer {
    fn breaks(&self, error: BrokerError) -> BoxFuture<'static, Result<(), BrokerError>> {
        self.broken.store(true, Ordering::SeqCst);
        async move { Err(error) }.boxed()
    }

    fn refusal(&self, records: &[Record]) -> Option<BrokerError> {
        let largest = self.faults.largest.load(Ordering::SeqCst);
        let too_large = |record: &Record| {
            record.topic.family != holdfast::broker::Family::DeadLetter && record.bytes() > largest
        };
        let index = records.iter().position(too_large)?;
        Some(BrokerError::Refused { index, detail: format!("more than {largest} bytes") })
    }
}

impl Producer for FaultyProducer {
    fn send(&self, mut records: Vec<Record>) -> BoxFuture<'static, Result<(), BrokerError>> {
        if self.broken.load(Ordering::SeqCst) {
            return self.breaks(BrokerError::Broken("by the test, before".to_owned()));
        }
        if let Err(error) = self.faults.reach() {
            return self.breaks(error);
        }
        if let Some(refused) = self.refusal(&records) {
            return async move { Err(refused) }.boxed();
        }
        if self.faults.scrambling.load(Ordering::SeqCst) {
            records.extend(records.clone());
            records.shuffle(&mut rand::rng());
        }
        let fault = self.faults.sends.lock().unwrap().pop_front();
        let Some(fault) = fault else {
            // They are in the queue, and what the broker says of them takes its time.
            let topics: Vec<Topic> = records.iter().map(|record| record.topic).collect();
            let (answers, sent) = (self.faults.answers(&topics), self.inner.send(records));
            return async move {
                answers.await;
                sent.await
            }
            .boxed();
        };
        if let SendFault::After(written) = fault {
            records.truncate(written);
        }
        let written = self.inner.send(records);
        self.broken.store(true, Ordering::SeqCst);
        async move {
            written.await?;
            Err(BrokerError::Broken("by the test".to_owned()))
        }
        .boxed()
    }
}

struct FaultyConsumer {
    inner: Box<dyn Consumer>,
    topics: Vec<Topic>,
    faults: Arc<BrokerFaults>,
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn next(&mut self, max: usize) -> Result<Incoming, BrokerError> {
        let mut down = self.faults.down.subscribe();
        let mut hanging = self.faults.hanging.subscribe();
        let shards: Vec<Shard> = self.topics.iter().map(|topic| topic.shard).collect();
        let hangs = |shard: &Option<Shard>| shard.is_some_and(|shard| shards.contains(&shard));
        let incoming = loop {
            self.faults.answers(&self.topics).await;
            tokio::select! {
                biased;
                _ = down.wait_for(|down| *down) => break Err(unavailable()),
                _ = hanging.wait_for(hangs) => {}
                incoming = self.inner.next(max) => break incoming,
            }
        };
        if matches!(incoming, Ok(Incoming::Revoked(..))) {
            self.faults.revoked.fetch_add(1, Ordering::SeqCst);
        }
        incoming
    }

    fn commit(&mut self, positions: &[Position]) {
        if !self.faults.forgetful.load(Ordering::SeqCst) {
            self.inner.commit(positions);
        }
    }
}
