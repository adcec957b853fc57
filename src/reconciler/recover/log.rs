//! Reading topics from outside of any group: page by page, to where they end now.

use crate::broker::{Broker, BrokerError, Delivered, Group, PartitionLag, Position, Topic};
use crate::domain::Timestamp;
use crate::roles::Role;
use std::time::Duration;

/// Records read at once.
const PAGE: usize = 1000;

/// How often the broker is asked before a recovery gives up, and how long after each time.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_secs(1);

/// Where the partitions of a topic begin and end.
pub(super) async fn partitions(
    broker: &dyn Broker,
    topic: Topic,
) -> Result<Vec<PartitionLag>, BrokerError> {
    // Nobody's offsets are asked for.
    let group = Group { role: Role::Reconciler.as_str(), shard: topic.shard };
    let topics = [topic];
    patiently(|| broker.lag(&group, &topics)).await
}

/// The record of a partition at this offset, or the first after it; none at its end.
pub(super) async fn record_at(
    broker: &dyn Broker,
    partition: &PartitionLag,
    offset: i64,
) -> Result<Option<Delivered>, BrokerError> {
    if offset >= partition.end {
        return Ok(None);
    }
    let position = Position { topic: partition.topic, partition: partition.partition, offset };
    patiently(|| broker.read_at(position)).await
}

/// The records of one partition, in order.
pub(super) struct Reader<'a> {
    broker: &'a dyn Broker,
    next: Position,
    end: i64,
}

impl<'a> Reader<'a> {
    /// From the first record on that is not older than `since`.
    pub async fn begin(
        broker: &'a dyn Broker,
        partition: &PartitionLag,
        since: Option<Timestamp>,
    ) -> Result<Self, BrokerError> {
        let offset = first_since(broker, partition, since).await?;
        let next = Position { topic: partition.topic, partition: partition.partition, offset };
        Ok(Self { broker, next, end: partition.end })
    }

    /// The next page; none at the end.
    pub async fn page(&mut self) -> Result<Option<Vec<Delivered>>, BrokerError> {
        if self.next.offset >= self.end {
            return Ok(None);
        }
        let records = patiently(|| self.broker.read_from(self.next, PAGE)).await?;
        let Some(last) = records.last() else { return Ok(None) };
        self.next.offset = last.position.offset + 1;
        Ok(Some(records))
    }
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
    partition: &PartitionLag,
    since: Option<Timestamp>,
) -> Result<i64, BrokerError> {
    let (mut low, mut high) = (partition.start, partition.end);
    let Some(since) = since else { return Ok(low) };
    while low < high {
        let middle = low + (high - low) / 2;
        match record_at(broker, partition, middle).await? {
            Some(record) if record.timestamp < since => low = record.position.offset + 1,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}
