//! The broker port of one process.

use super::consumer::SimConsumer;
use super::producer::SimProducer;
use super::unavailable;
use crate::gate::Gate;
use async_trait::async_trait;
use holdfast::broker::{
    Broker, BrokerError, Consumer, Delivered, Group, PartitionLag, Position, Producer, Topic,
};

pub struct SimBroker {
    pub gate: Gate,
}

impl SimBroker {
    async fn reach(&self, call: &'static str) -> Result<(), BrokerError> {
        self.gate.enter(call, None).await.map_err(|_| unavailable())?;
        if self.gate.world.lock().log.down { Err(unavailable()) } else { Ok(()) }
    }

    async fn answer<T>(&self, call: &'static str, value: T) -> Result<T, BrokerError> {
        self.gate.leave(call, None).await.map_err(|_| unavailable())?;
        Ok(value)
    }
}

#[async_trait]
impl Broker for SimBroker {
    async fn missing_topics(
        &self,
        _topics: &[Topic],
        _partitions: u32,
    ) -> Result<Vec<Topic>, BrokerError> {
        Ok(Vec::new())
    }

    async fn create_topics(&self, _topics: &[Topic], _partitions: u32) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, BrokerError> {
        self.gate.enter("open producer", None).await.map_err(|_| unavailable())?;
        Ok(Box::new(SimProducer::start(self.gate.clone())))
    }

    async fn consumer(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        self.gate.enter("join", Some(group.shard)).await.map_err(|_| unavailable())?;
        Ok(Box::new(SimConsumer::join(self.gate.clone(), group, topics)))
    }

    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError> {
        self.reach("lag").await?;
        let lags = {
            let state = self.gate.world.lock();
            let committed = state.log.groups.get(group).map(|group| &group.committed);
            let places = topics.iter().flat_map(|topic| state.log.places(*topic));
            let lag = |(topic, partition)| PartitionLag {
                topic,
                partition,
                committed: committed.and_then(|at| at.get(&(topic, partition))).copied(),
                start: 0,
                end: state.log.end((topic, partition)),
            };
            places.map(lag).collect()
        };
        self.answer("lag", lags).await
    }

    async fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, BrokerError> {
        self.reach("read from").await?;
        let found = {
            let state = self.gate.world.lock();
            let records = &state.log.partitions[&(position.topic, position.partition)];
            let from = usize::try_from(position.offset).unwrap_or(0).min(records.len());
            records[from..].iter().take(max).cloned().collect()
        };
        self.answer("read from", found).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.reach("ping").await
    }

    fn address(&self) -> String {
        "broker.simulated:9092".to_owned()
    }
}
