//! A member of a consumer group: a thread that polls librdkafka and fills a mailbox.
//!
//! librdkafka calls back about rebalances from `poll` and waits for the callback, so `poll` is never
//! left alone for long: when the worker does not come for its records, the partitions are paused and
//! polling goes on. Whatever blocks (joining, draining, committing, leaving) blocks that thread only.

use super::mailbox::Mailbox;
use super::settings::{KafkaSettings, log};
use crate::broker::{
    BrokerError, Consumer, DRAIN_BOUND, Delivered, Group, Headers, Incoming, Position, Topic,
};
use crate::domain::{Partition, Timestamp};
use async_trait::async_trait;
use bytes::BytesMut;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Records that are handed over together.
const BATCH: usize = 500;
/// Bytes of the headers that nearly every record has.
const USUAL_HEADERS: usize = 512;
/// How long a poll waits for the first of them; also how soon a dropped consumer is noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long the worker may stay away before partitions are paused. A pause costs a refetch.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a member asks where its group stands before it joins anew; how often.
const OFFSETS_BOUND: Duration = Duration::from_secs(10);
const OFFSETS_PAUSE: Duration = Duration::from_millis(50);

/// Our topics by the names that they have in Kafka.
pub(super) type Names = HashMap<String, Topic>;

/// Answers librdkafka's callbacks, all on the polling thread.
struct Membership {
    settings: Arc<KafkaSettings>,
    mailbox: Arc<Mailbox>,
    names: Names,
    /// Where this assignment began.
    begun: Mutex<HashMap<(Topic, Partition), i64>>,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for Membership {
    /// In the place of librdkafka's own answer to an assignment, which has it ask for the offsets by
    /// itself: when the group's coordinator refuses that question as a whole, as one does that is
    /// just taking office, librdkafka 2.12 never asks again, and the partitions stand still while
    /// everything looks healthy.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let done = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.begin(consumer, partitions)
            }
            _ => self.give_back(consumer, partitions),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "kafka consumer: rebalance");
            self.mailbox.fail(self.settings.unavailable(error));
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "kafka consumer: commit");
        }
    }
}

impl Membership {
    /// Begins where the group stands. Where that cannot be learnt the worker is told, and joins
    /// anew.
    fn begin(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
    ) -> KafkaResult<()> {
        match self.stand(consumer, partitions) {
            Ok(known) => {
                *self.begun() = self.beginnings(&known);
                consumer.assign(&known)
            }
            Err(error) => {
                consumer.assign(&TopicPartitionList::new())?;
                Err(error)
            }
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<(Topic, Partition), i64>> {
        self.begun.lock().expect("nothing panics while it holds this")
    }

    /// Whether a mark is of an earlier assignment, by a worker that was too slow to drain it:
    /// others have read on since, and the group would go back.
    fn is_of_before(&self, mark: Position) -> bool {
        let begun = self.begun().get(&(mark.topic, mark.partition)).copied();
        begun.is_some_and(|begun| mark.offset <= begun)
    }

    /// A record was read. Of a topic that was made anew they begin at the first again.
    fn read(&self, position: Position) {
        if let Some(begun) = self.begun().get_mut(&(position.topic, position.partition)) {
            *begun = position.offset.min(*begun);
        }
    }

    fn beginnings(&self, list: &TopicPartitionList) -> HashMap<(Topic, Partition), i64> {
        let elements = list.elements();
        let known = elements.iter().filter_map(|element| {
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => 0,
            };
            Some((self.place(element)?, offset))
        });
        known.collect()
    }

    fn place(&self, element: &TopicPartitionListElem<'_>) -> Option<(Topic, Partition)> {
        let topic = self.names.get(element.topic())?;
        Some((*topic, Partition(u32::try_from(element.partition()).ok()?)))
    }

    /// Where the group stands. A coordinator that is loading or moving is asked again.
    fn stand(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
    ) -> KafkaResult<TopicPartitionList> {
        let deadline = Instant::now() + OFFSETS_BOUND;
        loop {
            match committed(consumer, partitions) {
                Err(error) if Instant::now() < deadline && !self.mailbox.is_closed() => {
                    tracing::debug!(%error, "kafka consumer: where the group stands");
                    std::thread::sleep(OFFSETS_PAUSE);
                }
                answer => return answer,
            }
        }
    }

    /// Nothing of a revoked partition is read on before the worker has drained it and what it
    /// marked is committed; then it is given back.
    fn give_back(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &TopicPartitionList,
    ) -> KafkaResult<()> {
        if partitions.count() > 0 {
            self.mailbox.revoke(self.places(partitions), DRAIN_BOUND);
            commit(consumer);
            // A pause would outlast the assignment and be there when the partition comes back.
            if let Err(error) = consumer.resume(partitions) {
                tracing::warn!(%error, "kafka consumer: resume");
            }
        }
        consumer.unassign()
    }

    fn places(&self, list: &TopicPartitionList) -> Vec<(Topic, Partition)> {
        list.elements().iter().filter_map(|element| self.place(element)).collect()
    }
}

/// These partitions with the offsets that the group has committed, or the beginning where it has
/// none.
fn committed(
    consumer: &BaseConsumer<Membership>,
    partitions: &TopicPartitionList,
) -> KafkaResult<TopicPartitionList> {
    let known = consumer.committed_offsets(partitions.clone(), OFFSETS_BOUND)?;
    for mut partition in known.elements() {
        partition.error()?;
        if partition.offset() == Offset::Invalid {
            partition.set_offset(Offset::Beginning)?;
        }
    }
    Ok(known)
}

/// Commits what has been marked, and waits for it. What fails is delivered again.
fn commit(consumer: &BaseConsumer<Membership>) {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
        Err(error) => tracing::warn!(%error, "kafka consumer: offsets were not committed"),
    }
}

pub(super) struct KafkaConsumer {
    settings: Arc<KafkaSettings>,
    mailbox: Arc<Mailbox>,
    /// There until it is dropped.
    client: Option<Arc<BaseConsumer<Membership>>>,
}

impl KafkaConsumer {
    /// Joins the group in the background. The token is dropped once it has left.
    pub(super) fn join(
        settings: Arc<KafkaSettings>,
        group: &Group,
        topics: &[Topic],
        member: TaskTrackerToken,
    ) -> KafkaResult<Self> {
        let mailbox = Arc::new(Mailbox::default());
        let names: Names = topics.iter().map(|topic| (settings.topic(*topic), *topic)).collect();
        let membership = Membership {
            settings: settings.clone(),
            mailbox: mailbox.clone(),
            names,
            begun: Mutex::default(),
        };
        let client: BaseConsumer<Membership> =
            settings.member(group).create_with_context(membership)?;
        let names: Vec<&str> = client.context().names.keys().map(String::as_str).collect();
        client.subscribe(&names)?;
        let client = Arc::new(client);
        let poller = Poller {
            settings: settings.clone(),
            client: client.clone(),
            mailbox: mailbox.clone(),
            paused: false,
        };
        std::thread::Builder::new()
            .name("kafka-consumer".to_owned())
            .spawn(move || {
                poller.run();
                drop(member);
            })
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { settings, mailbox, client: Some(client) })
    }
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&mut self, max: usize) -> Result<Incoming, BrokerError> {
        assert!(max > 0, "asked for no records");
        self.mailbox.take(max).await
    }

    fn commit(&mut self, positions: &[Position]) {
        let client = self.client.as_ref().expect("it is only taken by drop");
        for position in positions {
            let topic = self.settings.topic(position.topic);
            let partition = i32::try_from(position.partition.0).unwrap_or(i32::MAX);
            if client.context().is_of_before(*position) {
                tracing::debug!(topic, partition, "kafka consumer: a mark of before is ignored");
                continue;
            }
            let mut list = TopicPartitionList::with_capacity(1);
            let stored = list
                .add_partition_offset(&topic, partition, Offset::Offset(position.offset))
                .and_then(|()| client.store_offsets(&list));
            if let Err(error) = stored {
                // The partition has gone to another member, which begins at what is committed.
                tracing::debug!(%error, topic, partition, "kafka consumer: mark ignored");
            }
        }
    }
}

impl Drop for KafkaConsumer {
    /// The thread commits, leaves the group and has the last reference, whose drop blocks.
    fn drop(&mut self) {
        self.client = None;
        self.mailbox.close();
    }
}

struct Poller {
    settings: Arc<KafkaSettings>,
    client: Arc<BaseConsumer<Membership>>,
    mailbox: Arc<Mailbox>,
    paused: bool,
}

impl Poller {
    fn run(mut self) {
        while !self.mailbox.is_closed() {
            let patience = if self.paused { Duration::ZERO } else { PATIENCE };
            if self.mailbox.wait_for_room(patience) {
                self.resume();
                self.poll(POLL);
            } else {
                if !self.paused {
                    self.pause();
                }
                // One call hands over one event of librdkafka's. A rebalance waits behind the
                // others, and the whole group for this member: come again at once.
                if self.poll(POLL) {
                    // From partitions that were assigned since.
                    self.pause();
                }
            }
        }
        commit(&self.client);
    }

    /// Hands over what is there, waiting at most `wait` for the first record; whether there was
    /// anything. Each record goes to the mailbox at once, so that a revocation in the middle of
    /// this finds it there.
    fn poll(&self, wait: Duration) -> bool {
        let mut found = 0;
        let mut wait = wait;
        while found < BATCH {
            match self.client.poll(wait) {
                Some(Ok(message)) => {
                    if let Some(record) = deliver(&message, &self.client.context().names) {
                        self.client.context().read(record.position);
                        self.mailbox.put(record);
                        found += 1;
                    }
                }
                Some(Err(error)) => self.report(&error),
                None => break,
            }
            wait = Duration::ZERO;
        }
        if found > 0 {
            self.mailbox.tell();
        }
        found > 0
    }

    fn pause(&mut self) {
        self.paused |= self.with_assignment("pause", |client, list| client.pause(list));
    }

    fn resume(&mut self) {
        if self.paused {
            self.paused = !self.with_assignment("resume", |client, list| client.resume(list));
        }
    }

    fn with_assignment(
        &self,
        what: &str,
        change: impl Fn(&BaseConsumer<Membership>, &TopicPartitionList) -> KafkaResult<()>,
    ) -> bool {
        let changed = self.client.assignment().and_then(|assigned| change(&self.client, &assigned));
        if let Err(error) = &changed {
            tracing::warn!(%error, "kafka consumer: {what}");
        }
        changed.is_ok()
    }

    /// librdkafka goes on by itself after most errors.
    fn report(&self, error: &KafkaError) {
        tracing::debug!(%error, "kafka consumer");
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return self.mailbox.fail(BrokerError::Broken(error.to_string()));
        }
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SaslAuthenticationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => self.mailbox.fail(self.settings.unavailable(error)),
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                self.mailbox.fail(BrokerError::Topic(error.to_string()));
            }
            _ => {}
        }
    }
}

/// The record, if it is of one of our topics.
pub(super) fn deliver(message: &impl Message, names: &Names) -> Option<Delivered> {
    let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
    let mut buffer = BytesMut::with_capacity(key.len() + value.len() + USUAL_HEADERS);
    let headers = Headers::put(&mut buffer, |put| {
        for header in message.headers().iter().flat_map(|headers| headers.iter()) {
            if let Ok(text) = std::str::from_utf8(header.value.unwrap_or_default()) {
                put.header(header.key, text);
            }
        }
    });
    let mut put = |bytes: &[u8]| {
        buffer.extend_from_slice(bytes);
        buffer.split().freeze()
    };
    let position = Position {
        topic: *names.get(message.topic())?,
        partition: Partition(u32::try_from(message.partition()).ok()?),
        offset: message.offset(),
    };
    let millis = message.timestamp().to_millis().unwrap_or(0);
    Some(Delivered {
        position,
        key: put(key),
        value: put(value),
        headers,
        timestamp: Timestamp::from_micros(millis.saturating_mul(1000)),
    })
}
