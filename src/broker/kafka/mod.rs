//! Kafka, through rdkafka, which is named in this folder only.
//!
//! librdkafka has threads of its own and calls that block; `member` and `producer` keep them away
//! from the async runtime, `observer` is called on blocking threads.

mod mailbox;
mod member;
mod observer;
mod producer;
mod settings;

pub use settings::KafkaSettings;

use super::{
    Broker, BrokerError, Consumer, Delivered, Group, PartitionLag, Position, Producer, Topic,
};
use async_trait::async_trait;
use member::KafkaConsumer;
use observer::Observer;
use producer::KafkaProducer;
use std::sync::Arc;

/// A Kafka cluster.
pub struct KafkaBroker {
    settings: Arc<KafkaSettings>,
    /// There until it is dropped.
    observer: Option<Arc<Observer>>,
}

impl KafkaBroker {
    /// Does not wait for a connection; an error means that librdkafka refuses the settings.
    pub fn new(settings: KafkaSettings) -> Result<Self, BrokerError> {
        let settings = Arc::new(settings);
        let observer = Some(Arc::new(Observer::create(settings.clone())?));
        Ok(Self { settings, observer })
    }

    /// Runs what blocks away from the async runtime.
    async fn observe<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Observer) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let observer = self.observer.as_ref().expect("it is only taken by drop").clone();
        let asked = tokio::task::spawn_blocking(move || ask(&observer));
        asked.await.map_err(|stopped| self.settings.unavailable(stopped))?
    }
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
        let producer = KafkaProducer::create(self.settings.clone());
        Ok(Box::new(producer.map_err(|error| self.settings.unavailable(error))?))
    }

    async fn consumer(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        let (group, topics, settings) = (group.clone(), topics.to_vec(), self.settings.clone());
        self.observe(move |observer| {
            observer.check(&topics)?;
            let consumer = KafkaConsumer::join(settings.clone(), &group, &topics);
            Ok(Box::new(consumer.map_err(|error| settings.unavailable(error))?) as Box<_>)
        })
        .await
    }

    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError> {
        let (group, topics) = (group.clone(), topics.to_vec());
        self.observe(move |observer| observer.lag(&group, &topics)).await
    }

    async fn read_at(&self, position: Position) -> Result<Option<Delivered>, BrokerError> {
        self.observe(move |observer| observer.read_at(position)).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.observe(Observer::ping).await
    }

    fn address(&self) -> String {
        self.settings.brokers.clone()
    }
}
