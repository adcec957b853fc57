//! Looking at topics, groups and single records from outside, and creating topics. Everything here
//! blocks, for a bounded time; the broker calls it away from the async runtime.

use super::member::{Names, deliver};
use super::settings::{KafkaSettings, Quiet};
use crate::broker::{BrokerError, Delivered, Family, Group, PartitionLag, Position, Topic};
use crate::domain::{EventType, Partition, Shard};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// For one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// For a new topic to be known everywhere.
const CREATION: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

type Client = BaseConsumer<Quiet>;

/// Why a question was not answered as it was meant.
pub(super) struct Failure {
    pub(super) error: BrokerError,
    /// No answer came at all. A broker that says that it is not the leader, or is still loading, is
    /// there.
    pub(super) silent: bool,
    /// A broker that was asked does not lead yet, or no longer: another one will answer, or the
    /// same one in a moment.
    moving: bool,
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self { error, silent: false, moving: false }
    }
}

pub(super) struct Observer {
    settings: Arc<KafkaSettings>,
    topics: Client,
    /// One a group that was ever asked about: a client asks for one group's offsets only.
    groups: Mutex<HashMap<String, Arc<Client>>>,
    /// Reads single records, one at a time.
    reader: Mutex<Client>,
}

impl Observer {
    pub(super) fn create(settings: Arc<KafkaSettings>) -> Result<Self, BrokerError> {
        let failed = |error: KafkaError| settings.unavailable(error);
        let topics = settings.observer().create_with_context(Quiet).map_err(failed)?;
        let reader = settings.reader().create_with_context(Quiet).map_err(failed)?;
        Ok(Self { topics, groups: Mutex::default(), reader: Mutex::new(reader), settings })
    }

    /// The partition counts of those of these topics that exist. Each is asked for by its name: a
    /// broker may have thousands of others.
    fn partitions(&self, topics: &[Topic]) -> Result<HashMap<Topic, u32>, Failure> {
        let mut counts = HashMap::new();
        drop_errors(&self.topics);
        for topic in topics {
            let name = self.settings.topic(*topic);
            let answer = self.topics.fetch_metadata(Some(&name), TIMEOUT);
            let metadata = answer.map_err(|error| self.failed(&error))?;
            let found = metadata.topics().iter().find(|found| found.name() == name);
            if let Some(found) = found.filter(|found| found.error().is_none()) {
                counts.insert(*topic, found.partitions().len() as u32);
            }
        }
        Ok(counts)
    }

    /// Which of these do not exist with this many partitions.
    pub(super) fn missing(&self, topics: &[Topic], partitions: u32) -> Result<Vec<Topic>, Failure> {
        let existing = self.partitions(topics)?;
        let missing = |topic: &Topic| existing.get(topic) != Some(&partitions);
        Ok(topics.iter().copied().filter(missing).collect())
    }

    /// The partition counts of these, all of which must exist.
    fn existing(&self, topics: &[Topic]) -> Result<Vec<(Topic, u32)>, Failure> {
        let existing = self.partitions(topics)?;
        let counts = topics.iter().map(|topic| match existing.get(topic) {
            Some(partitions) => Ok((*topic, *partitions)),
            None => Err(BrokerError::Topic(topic.to_string()).into()),
        });
        counts.collect()
    }

    /// An error unless all of these exist.
    pub(super) fn check(&self, topics: &[Topic]) -> Result<(), Failure> {
        self.existing(topics).map(drop)
    }

    /// Creates those that do not exist and waits until they are known.
    pub(super) fn create_topics(&self, topics: &[Topic], partitions: u32) -> Result<(), Failure> {
        let existing = self.partitions(topics)?;
        let mut new = Vec::new();
        for topic in topics {
            match existing.get(topic) {
                None => new.push(*topic),
                Some(count) if *count == partitions => {}
                Some(_) => return Err(BrokerError::Topic(topic.to_string()).into()),
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        self.request_topics(&new, partitions)?;
        let deadline = Instant::now() + CREATION;
        while let Some(topic) = self.missing(topics, partitions)?.first() {
            if Instant::now() > deadline {
                return Err(BrokerError::Topic(topic.to_string()).into());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn request_topics(&self, topics: &[Topic], partitions: u32) -> Result<(), Failure> {
        let admin: AdminClient<Quiet> =
            self.settings.observer().create_with_context(Quiet).map_err(|e| self.failed(&e))?;
        let factor = self.settings.replication_factor;
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        let names: Vec<String> = topics.iter().map(|topic| self.settings.topic(*topic)).collect();
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .zip(&names)
            .map(|(topic, name)| {
                let new = NewTopic::new(name, partitions, TopicReplication::Fixed(factor));
                match topic.family {
                    // They block money until somebody has decided about them.
                    Family::DeadLetter => new.set("retention.ms", "-1"),
                    Family::Event(_) => new,
                }
            })
            .collect();
        let options =
            AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
        let created = admin.create_topics(&new, &options);
        let results =
            tokio::runtime::Handle::current().block_on(created).map_err(|e| self.failed(&e))?;
        for result in results {
            match result {
                // Another process may have been quicker; the caller looks at the outcome.
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(self
                        .settings
                        .unavailable(format!("cannot create {name}: {code}"))
                        .into());
                }
            }
        }
        Ok(())
    }

    /// Where a group stands. New topics have no leader for a moment.
    pub(super) fn lag(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Vec<PartitionLag>, Failure> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.look_at_lag(group, topics) {
                Err(failure) if failure.moving && Instant::now() < deadline => {
                    std::thread::sleep(LOOK);
                }
                answer => return answer,
            }
        }
    }

    fn look_at_lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, Failure> {
        let places: Vec<(Topic, Partition)> = self
            .existing(topics)?
            .into_iter()
            .flat_map(|(topic, count)| (0..count).map(move |number| (topic, Partition(number))))
            .collect();
        let client = self.group(group)?;
        let committed = client
            .committed_offsets(self.list(&places, Offset::Invalid)?, TIMEOUT)
            .map_err(|error| self.failed(&error))?;
        let start = self.bounds(&places, Offset::Beginning)?;
        let end = self.bounds(&places, Offset::End)?;
        let lags = places.iter().map(|place| {
            Ok(PartitionLag {
                topic: place.0,
                partition: place.1,
                committed: self.offset(&committed, *place)?,
                start: self.offset(&start, *place)?.unwrap_or(0),
                end: self.offset(&end, *place)?.unwrap_or(0),
            })
        });
        lags.collect()
    }

    /// The client that asks about a group; it never joins it.
    fn group(&self, group: &Group) -> Result<Arc<Client>, Failure> {
        let name = self.settings.group(group);
        let mut groups = lock(&self.groups);
        let client = match groups.get(&name) {
            Some(client) => client.clone(),
            None => {
                let config = self.settings.group_observer(&name);
                let client = config.create_with_context(Quiet).map_err(|e| self.failed(&e))?;
                groups.entry(name).or_insert(Arc::new(client)).clone()
            }
        };
        drop(groups);
        drop_errors(&client);
        Ok(client)
    }

    /// First or last offsets of many partitions with one request a broker: `ListOffsets` takes
    /// these two in the place of a time.
    fn bounds(
        &self,
        places: &[(Topic, Partition)],
        which: Offset,
    ) -> Result<TopicPartitionList, Failure> {
        let list = self.list(places, which)?;
        self.topics.offsets_for_times(list, TIMEOUT).map_err(|error| self.failed(&error))
    }

    fn list(
        &self,
        places: &[(Topic, Partition)],
        offset: Offset,
    ) -> Result<TopicPartitionList, Failure> {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for (topic, partition) in places {
            list.add_partition_offset(
                &self.settings.topic(*topic),
                partition_id(*partition),
                offset,
            )
            .map_err(|error| self.failed(&error))?;
        }
        Ok(list)
    }

    fn offset(
        &self,
        list: &TopicPartitionList,
        (topic, partition): (Topic, Partition),
    ) -> Result<Option<i64>, Failure> {
        let name = self.settings.topic(topic);
        let Some(found) = list.find_partition(&name, partition_id(partition)) else {
            return Err(BrokerError::Topic(topic.to_string()).into());
        };
        found.error().map_err(|error| self.failed(&error))?;
        match found.offset() {
            Offset::Offset(offset) => Ok(Some(offset)),
            Offset::Beginning
            | Offset::End
            | Offset::Stored
            | Offset::Invalid
            | Offset::OffsetTail(_) => Ok(None),
        }
    }

    /// Records at and after a position, at most `max`.
    pub(super) fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, Failure> {
        let Position { topic, partition, offset } = position;
        let name = self.settings.topic(topic);
        let reader = lock(&self.reader);
        let bounds = reader.fetch_watermarks(&name, partition_id(partition), TIMEOUT);
        let (start, end) = bounds.map_err(|error| match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition,
            ) => BrokerError::Topic(topic.to_string()).into(),
            _ => self.failed(&error),
        })?;
        let from = offset.max(start);
        if from >= end {
            return Ok(Vec::new());
        }
        let list = self.list(&[(topic, partition)], Offset::Offset(from))?;
        reader.assign(&list).map_err(|error| self.failed(&error))?;
        let last = end.min(from.saturating_add(i64::try_from(max).unwrap_or(i64::MAX))) - 1;
        let found = self.poll_for(&reader, &name, Position { offset: from, ..position }, last);
        reader.unassign().map_err(|error| self.failed(&error))?;
        found
    }

    /// What stands from here to the offset `last`, as far as it comes in time.
    fn poll_for(
        &self,
        reader: &Client,
        name: &str,
        from: Position,
        last: i64,
    ) -> Result<Vec<Delivered>, Failure> {
        let names = Names::from([(name.to_owned(), from.topic)]);
        let deadline = Instant::now() + TIMEOUT;
        let mut fault = "no answer in time".to_owned();
        let mut all: Vec<Delivered> = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            match reader.poll(left) {
                Some(Ok(message)) => match deliver(&message, &names) {
                    Some(found)
                        if found.position.partition == from.partition
                            && found.position.offset >= from.offset =>
                    {
                        let offset = found.position.offset;
                        if offset <= last || all.is_empty() {
                            all.push(found);
                        }
                        if offset >= last {
                            return Ok(all);
                        }
                    }
                    Some(_) | None => {}
                },
                Some(Err(error)) => fault = error.to_string(),
                None => {}
            }
        }
        if all.is_empty() { Err(self.settings.unavailable(fault).into()) } else { Ok(all) }
    }

    /// Whether the cluster answers.
    pub(super) fn ping(&self) -> Result<(), Failure> {
        // Whether it exists is not the question.
        self.partitions(&[Topic::of(EventType::Requested, Shard(0))]).map(drop)
    }

    fn failed(&self, error: &KafkaError) -> Failure {
        Failure {
            error: self.settings.unavailable(error),
            silent: is_silence(error),
            moving: is_moving(error),
        }
    }
}

/// Nobody polls these clients otherwise, and errors of lost connections would pile up.
fn drop_errors(client: &Client) {
    while client.poll(Duration::ZERO).is_some() {}
}

fn partition_id(partition: Partition) -> i32 {
    i32::try_from(partition.0).unwrap_or(i32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this")
}

fn is_silence(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::TimedOutQueue
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::SSL
        )
    )
}

fn is_moving(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_answers_is_no_silence() {
        for code in [RDKafkaErrorCode::OperationTimedOut, RDKafkaErrorCode::AllBrokersDown] {
            assert!(is_silence(&KafkaError::MetadataFetch(code)), "{code}");
        }
        for code in [
            RDKafkaErrorCode::NotLeaderForPartition,
            RDKafkaErrorCode::CoordinatorLoadInProgress,
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ] {
            assert!(!is_silence(&KafkaError::MetadataFetch(code)), "{code}");
            let passes = code != RDKafkaErrorCode::TopicAuthorizationFailed;
            assert_eq!(is_moving(&KafkaError::MetadataFetch(code)), passes, "{code}");
        }
    }
}
