//! How librdkafka is set up, and how its errors and log lines become ours.

use crate::broker::{BrokerError, Group, MAX_RECORD_BYTES, Topic};
use crate::seldom::Seldom;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;

/// Where Kafka is and what our names there begin with.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    /// Put before the names of topics and groups, so that clusters can share a broker.
    pub topic_prefix: String,
    /// Further settings of librdkafka, such as those for TLS and SASL. They win over our choices
    /// about speed, not over those that the guarantees rest on.
    pub options: Vec<(String, String)>,
    /// Replicas of topics that are created; -1 for the broker's default.
    pub replication_factor: i32,
}

/// Choices about speed and recovery, for every client.
const CLIENT: [(&str, &str); 5] = [
    ("client.id", "holdfast"),
    ("socket.keepalive.enable", "true"),
    // A broker that comes back is found within a second; the default waits up to ten.
    ("reconnect.backoff.max.ms", "1000"),
    ("allow.auto.create.topics", "false"),
    ("log.connection.close", "false"),
];

const PRODUCER: [(&str, &str); 4] = [
    // The smallest that there is: without any, the first record of a batch goes alone.
    ("linger.ms", "1"),
    ("batch.num.messages", "10000"),
    // The queue has no bound of its own: callers wait for their acknowledgements, and a full
    // queue could only be answered by blocking or by writing out of order.
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", "2147483647"),
];

/// What "acknowledged, in order, without a gap" rests on.
const PRODUCER_GUARANTEES: [(&str, &str); 4] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    // A record never expires in the queue: that would be a gap. Who gives up drops the producer.
    ("message.timeout.ms", "0"),
    // A record that fails for good stops the producer instead of being skipped.
    ("enable.gapless.guarantee", "true"),
];

const CONSUMER: [(&str, &str); 11] = [
    // A member that was killed is replaced after ten seconds.
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "1000"),
    ("auto.commit.interval.ms", "250"),
    // The defaults (1 s and 500 ms) are latencies after a full queue and after a broker's restart.
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "50"),
    // Memory: a process has one consumer a role and shard.
    ("queued.min.messages", "1000"),
    ("queued.max.messages.kbytes", "1024"),
    ("fetch.max.bytes", "2097152"),
    ("max.partition.fetch.bytes", "524288"),
    // The same partition of all topics goes to the same member: it meets the same accounts in all
    // of them, and members do not wait for each other's row locks. It is an eager assignor, and
    // deliberately so: with a cooperative one, offsets that are committed during a rebalance can
    // be refused, and then what was drained would be delivered again.
    ("partition.assignment.strategy", "range"),
    // A worker may wait for its database for long; pauses keep polling going, see `member`.
    ("max.poll.interval.ms", "300000"),
];

/// For a member that works in rounds: an answer for each of them, and not one for each batch that
/// somebody produces.
const GATHERING: [(&str, &str); 2] = [("fetch.min.bytes", "262144"), ("fetch.wait.max.ms", "100")];

const CONSUMER_GUARANTEES: [(&str, &str); 4] = [
    ("auto.offset.reset", "earliest"),
    ("enable.auto.commit", "true"),
    // Only what the worker has marked is committed.
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
];

impl KafkaSettings {
    fn config(&self, speed: &[(&str, &str)], guarantees: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in CLIENT.iter().chain(speed) {
            config.set(*key, *value);
        }
        for (key, value) in &self.options {
            config.set(key, value);
        }
        for (key, value) in guarantees {
            config.set(*key, *value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(RDKafkaLogLevel::Info);
        config
    }

    /// For a producer.
    pub(super) fn producer(&self) -> ClientConfig {
        // The size that we check is without framing; brokers take 1,048,588 bytes by default.
        let size = (MAX_RECORD_BYTES + 48_000).to_string();
        self.config(
            &[&PRODUCER[..], &[("message.max.bytes", &size)]].concat(),
            &PRODUCER_GUARANTEES,
        )
    }

    /// For a member of a group.
    pub(super) fn member(&self, group: &Group) -> ClientConfig {
        let gathering: &[(&str, &str)] = if group.gathers() { &GATHERING } else { &[] };
        let mut config = self.config(&[&CONSUMER[..], gathering].concat(), &CONSUMER_GUARANTEES);
        config.set("group.id", self.group(group));
        config
    }

    /// For looking at topics.
    pub(super) fn observer(&self) -> ClientConfig {
        self.config(&[], &[])
    }

    /// For looking at a group's offsets without joining it.
    pub(super) fn group_observer(&self, group: &str) -> ClientConfig {
        self.config(&[], &[("group.id", group), ("enable.auto.commit", "false")])
    }

    /// For reading single records. It needs the name of a group, but never joins one.
    pub(super) fn reader(&self) -> ClientConfig {
        let group = format!("{}holdfast.reader", self.topic_prefix);
        let guarantees = [
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
        ];
        let speed = [("queued.min.messages", "1"), ("max.partition.fetch.bytes", "65536")];
        self.config(&[&CONSUMER[..], &speed].concat(), &guarantees)
    }

    /// A topic's name with the prefix.
    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}{topic}", self.topic_prefix)
    }

    /// A group's name with the prefix.
    pub(super) fn group(&self, group: &Group) -> String {
        format!("{}{group}", self.topic_prefix)
    }

    /// The broker does not answer, or not with what was asked for.
    pub(super) fn unavailable(&self, error: impl std::fmt::Display) -> BrokerError {
        BrokerError::Unavailable { address: self.brokers.clone(), detail: error.to_string() }
    }
}

/// A client without callbacks of its own. What it reports in the background is what librdkafka
/// retries by itself; who needs to know gets an error from the call.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// A log line of librdkafka. Lost connections are errors to it and everyday to us; not so where a
/// broker and we do not trust each other, which no call says otherwise.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    static DISTRUST: Seldom = Seldom::unsaid();
    const TELLING: [&str; 2] = ["SSL handshake failed", "SASL authentication error"];
    if TELLING.iter().any(|words| line.contains(words)) {
        if let Some(left_out) = DISTRUST.due() {
            tracing::warn!(facility, left_out, "kafka client: {line}");
        }
        return;
    }
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "kafka client: {line}");
        }
        RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning
        | RDKafkaLogLevel::Notice
        | RDKafkaLogLevel::Info
        | RDKafkaLogLevel::Debug => tracing::debug!(facility, "kafka client: {line}"),
    }
}
