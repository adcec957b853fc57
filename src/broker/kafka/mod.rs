//! Kafka, through rdkafka, which is named in this folder only.
//!
//! librdkafka has threads of its own and calls that block; `member` and `producer` keep them away
//! from the async runtime, `observer` is called on blocking threads.
//!
//! A breaker stands before everything that is asked or opened. Records given to a producer that
//! lives wait in its queue, in order, and so do its consumers: refusing them would only make their
//! workers begin again.

mod mailbox;
mod member;
mod observer;
mod producer;
mod settings;

pub use settings::KafkaSettings;

use super::{
    Broker, BrokerError, Consumer, Delivered, Group, PartitionLag, Position, Producer, Topic,
};
use crate::breaker::Breaker;
use async_trait::async_trait;
use member::KafkaConsumer;
use observer::{Failure, Observer};
use producer::KafkaProducer;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// A Kafka cluster.
pub struct KafkaBroker {
    settings: Arc<KafkaSettings>,
    /// There until it is dropped.
    observer: Option<Arc<Observer>>,
    breaker: Arc<Breaker>,
    /// The threads of its consumers.
    members: TaskTracker,
}

impl KafkaBroker {
    /// Does not wait for a connection; an error means that librdkafka refuses the settings.
    pub fn new(settings: KafkaSettings) -> Result<Self, BrokerError> {
        let settings = Arc::new(settings);
        let observer = Arc::new(Observer::create(settings.clone())?);
        let breaker = breaker(&observer);
        Ok(Self { settings, observer: Some(observer), breaker, members: TaskTracker::new() })
    }

    /// Runs what blocks away from the async runtime.
    async fn observe<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Observer) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let began = self.breaker.enter().map_err(|outage| self.settings.unavailable(outage))?;
        let observer = self.observer.as_ref().expect("it is only taken by drop").clone();
        let asked = tokio::task::spawn_blocking(move || ask(&observer));
        let answer = asked.await.map_err(|stopped| self.settings.unavailable(stopped))?;
        match &answer {
            Err(failure) if failure.silent => self.breaker.failed(began, &failure.error),
            Ok(_) | Err(_) => self.breaker.answered(),
        }
        answer.map_err(|failure| failure.error)
    }
}

/// The probe asks what a ping asks.
fn breaker(observer: &Arc<Observer>) -> Arc<Breaker> {
    let observer = Arc::downgrade(observer);
    Breaker::new("kafka", move || {
        let observer = observer.clone();
        let ask = move || match observer.upgrade() {
            Some(observer) => match observer.ping() {
                Err(failure) if failure.silent => Err(failure.error.to_string()),
                Ok(()) | Err(_) => Ok(()),
            },
            None => Err("it was dropped".to_owned()),
        };
        let asked = tokio::task::spawn_blocking(ask);
        Box::pin(async move { asked.await.unwrap_or_else(|stopped| Err(stopped.to_string())) })
    })
}

impl Drop for KafkaBroker {
    /// Closing connections blocks for a moment.
    fn drop(&mut self) {
        if let Some(observer) = self.observer.take() {
            std::thread::spawn(move || drop(observer));
        }
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn missing_topics(
        &self,
        topics: &[Topic],
        partitions: u32,
    ) -> Result<Vec<Topic>, BrokerError> {
        let topics = topics.to_vec();
        self.observe(move |observer| observer.missing(&topics, partitions)).await
    }

    async fn create_topics(&self, topics: &[Topic], partitions: u32) -> Result<(), BrokerError> {
        let topics = topics.to_vec();
        self.observe(move |observer| observer.create_topics(&topics, partitions)).await
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, BrokerError> {
        self.breaker.enter().map_err(|outage| self.settings.unavailable(outage))?;
        let producer = KafkaProducer::create(self.settings.clone());
        Ok(Box::new(producer.map_err(|error| self.settings.unavailable(error))?))
    }

    async fn consumer(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        let (group, topics, settings) = (group.clone(), topics.to_vec(), self.settings.clone());
        let member = self.members.token();
        self.observe(move |observer| {
            observer.check(&topics)?;
            let consumer = KafkaConsumer::join(settings.clone(), &group, &topics, member);
            Ok(Box::new(consumer.map_err(|error| settings.unavailable(error))?) as Box<_>)
        })
        .await
    }

    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError> {
        let (group, topics) = (group.clone(), topics.to_vec());
        self.observe(move |observer| observer.lag(&group, &topics)).await
    }

    async fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, BrokerError> {
        self.observe(move |observer| observer.read_from(position, max)).await
    }

    async fn left(&self) {
        self.members.close();
        self.members.wait().await;
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.observe(Observer::ping).await
    }

    fn address(&self) -> String {
        self.settings.brokers.clone()
    }
}
