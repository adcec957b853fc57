//! The log between the steps: a port with two adapters, Kafka and an embedded durable log.
//!
//! Delivery is at least once and in order per partition. A record that was acknowledged is never
//! lost. A consumer begins at its group's committed offset, or at the start where there is none.

pub mod embedded;
pub mod envelope;
mod headers;
pub mod kafka;

pub use headers::Headers;

use crate::domain::{EventType, Partition, Shard, Timestamp};
use crate::roles::Role;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use std::fmt;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long an adapter waits for a [`DrainToken`] before the partitions go to their new owner all
/// the same.
pub const DRAIN_BOUND: Duration = Duration::from_secs(10);

/// The largest record, as [`Record::bytes`] counts: what a Kafka broker takes by default, less
/// some room for its framing.
pub const MAX_RECORD_BYTES: usize = 1_000_000;

/// The families of topics; each has one topic a shard, the source's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// The topics of one event type.
    Event(EventType),
    /// Records that a role could not act on.
    DeadLetter,
}

impl Family {
    /// Every family, in the order of the pipeline.
    pub const ALL: [Self; 8] = [
        Self::Event(EventType::Requested),
        Self::Event(EventType::Held),
        Self::Event(EventType::Credited),
        Self::Event(EventType::Refused),
        Self::Event(EventType::Committed),
        Self::Event(EventType::Rejected),
        Self::Event(EventType::Cancelled),
        Self::DeadLetter,
    ];

    /// The topic's name without prefix and shard: `transfer.requested`, `transfer.dlq`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event(kind) => kind.as_str(),
            Self::DeadLetter => "transfer.dlq",
        }
    }
}

/// A topic: `transfer.held.0`. Adapters may put a configured prefix before the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// What it carries.
    pub family: Family,
    /// The shard of the transfers' sources.
    pub shard: Shard,
}

impl Topic {
    /// The topic of an event type on a shard.
    pub const fn of(kind: EventType, shard: Shard) -> Self {
        Self { family: Family::Event(kind), shard }
    }

    /// Every topic of the given shards.
    pub fn all(shards: impl IntoIterator<Item = Shard>) -> Vec<Self> {
        shards
            .into_iter()
            .flat_map(|shard| Family::ALL.map(|family| Self { family, shard }))
            .collect()
    }

    /// The topic with this name, as [`Topic`]'s `Display` writes it.
    pub fn parse(name: &str) -> Option<Self> {
        let (family, shard) = name.rsplit_once('.')?;
        let family = Family::ALL.into_iter().find(|known| known.as_str() == family)?;
        Some(Self { family, shard: Shard(shard.parse().ok()?) })
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.family.as_str(), self.shard)
    }
}

/// A consumer group, one a role and shard: `holdfast.hold.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// The role's name.
    pub role: &'static str,
    /// The shard whose topics it reads.
    pub shard: Shard,
}

impl Group {
    /// Whether its members work in rounds, so that records may gather before they are read.
    pub fn gathers(&self) -> bool {
        self.role == Role::Projector.as_str()
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "holdfast.{}.{}", self.role, self.shard)
    }
}

/// A record to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where to.
    pub topic: Topic,
    /// Set by us, never by the client library's partitioner.
    pub partition: Partition,
    /// The source account.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// `CloudEvents` attributes and the trace context.
    pub headers: Headers,
    /// Database time of the transaction behind it; what backlog is measured by. Kafka keeps whole
    /// milliseconds of it.
    pub timestamp: Timestamp,
}

impl Record {
    /// Its size without framing: key, value and headers.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.len() + self.headers.bytes()
    }
}

/// A place in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// The offset of a record, or of the next one to be read, as the user of it says.
    pub offset: i64,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it stands.
    pub position: Position,
    /// The source account, as bytes: anybody may have written it.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// Those that are UTF-8.
    pub headers: Headers,
    /// The record's timestamp.
    pub timestamp: Timestamp,
}

/// What a consumer hands to its worker.
#[derive(Debug)]
pub enum Incoming {
    /// What was there, at most as many as asked for; in order within each partition.
    Records(Vec<Delivered>),
    /// These partitions go to another member. Finish what is in flight for them and commit it,
    /// then drop the token; the adapter waits for that, at most for its drain bound.
    Revoked(Vec<(Topic, Partition)>, DrainToken),
}

/// Dropped when the partitions it came with are drained.
#[derive(Debug)]
pub struct DrainToken(#[allow(dead_code, reason = "held for its drop")] pub oneshot::Sender<()>);

/// Committed and existing offsets of one partition, for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: Partition,
    /// The next offset that the group will read; none where it never committed.
    pub committed: Option<i64>,
    /// The first offset that still exists.
    pub start: i64,
    /// One past the last offset that exists.
    pub end: i64,
}

impl PartitionLag {
    /// Records that the group has yet to read.
    pub fn records(&self) -> i64 {
        (self.end - self.committed.unwrap_or(self.start).max(self.start)).max(0)
    }
}

/// What went wrong, by what the caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    /// It does not answer: wait and try again.
    #[error("the broker at {address} does not answer: {detail}")]
    Unavailable {
        /// Host and port, or the data directory.
        address: String,
        /// The client library's words.
        detail: String,
    },
    /// This record can never be written; the others of the call may or may not have been.
    #[error("the broker will never take record {index} of this call: {detail}")]
    Refused {
        /// Which record of the call.
        index: usize,
        /// The broker's words.
        detail: String,
    },
    /// The producer or consumer is broken: drop it and begin again from what is committed.
    #[error("the connection to the broker must be opened anew: {0}")]
    Broken(String),
    /// A topic that `migrate` should have created is not there.
    #[error("topic {0} does not exist or has another number of partitions: run `holdfast migrate`")]
    Topic(String),
}

impl BrokerError {
    /// The refusal of a record over [`MAX_RECORD_BYTES`].
    fn too_large(index: usize, record: &Record) -> Self {
        let bytes = record.bytes();
        let detail = format!("it has {bytes} bytes, {MAX_RECORD_BYTES} are allowed");
        Self::Refused { index, detail }
    }
}

/// The port.
#[async_trait]
pub trait Broker: Send + Sync + 'static {
    /// Which of these topics do not exist with this many partitions.
    async fn missing_topics(
        &self,
        topics: &[Topic],
        partitions: u32,
    ) -> Result<Vec<Topic>, BrokerError>;

    /// Creates the topics that do not exist; an existing one with another number of partitions is
    /// an error and stays as it is.
    async fn create_topics(&self, topics: &[Topic], partitions: u32) -> Result<(), BrokerError>;

    /// A producer of its own; idempotent, all replicas acknowledge.
    async fn producer(&self) -> Result<Box<dyn Producer>, BrokerError>;

    /// A member of `group` that reads `topics`. Dropping it leaves the group, without blocking.
    async fn consumer(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Box<dyn Consumer>, BrokerError>;

    /// Where a group stands in these topics.
    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError>;

    /// Records at and after this position, in order, without being a member of any group: at most
    /// `max`, fewer where fewer are at hand, at least one where anything has been written there.
    async fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, BrokerError>;

    /// The first of them; none where nothing has been written there yet.
    async fn read_at(&self, position: Position) -> Result<Option<Delivered>, BrokerError> {
        Ok(self.read_from(position, 1).await?.into_iter().next())
    }

    /// Waits until every consumer that was dropped has committed what it marked and left its group.
    /// A process that ends before leaves its partitions without a reader until its session is over.
    async fn left(&self) {}

    /// Whether it answers.
    async fn ping(&self) -> Result<(), BrokerError>;

    /// Host and port, or the data directory: for messages.
    fn address(&self) -> String;
}

/// Writes records.
pub trait Producer: Send + Sync {
    /// Puts the records into the queue in this order, after those of earlier calls, before it
    /// returns; the future resolves when every one is acknowledged. After an error other than
    /// [`BrokerError::Refused`] the producer refuses everything: drop it. A refused record (too
    /// large) is found before anything of the call is queued.
    fn send(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), BrokerError>>;
}

/// Reads records as a member of a group.
#[async_trait]
pub trait Consumer: Send {
    /// Waits until there is something, then takes what is there, at most `max` records.
    /// Cancel-safe: a future that is dropped has taken nothing.
    async fn next(&mut self, max: usize) -> Result<Incoming, BrokerError>;

    /// Marks positions (the next offset to be read, per partition) as done; they are committed
    /// within the adapter's commit interval, on revocation and on drop. Positions of partitions
    /// that this member no longer has are ignored.
    fn commit(&mut self, positions: &[Position]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_read_back() {
        for topic in Topic::all([Shard(0), Shard(12)]) {
            assert_eq!(Topic::parse(&topic.to_string()), Some(topic));
        }
        assert_eq!(Topic::parse("transfer.held.x"), None);
        assert_eq!(Topic::parse("transfer.other.1"), None);
        assert_eq!(Topic::of(EventType::Held, Shard(1)).to_string(), "transfer.held.1");
    }
}
