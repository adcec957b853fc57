//! The producer: idempotent, and dead after its first failed delivery.

use super::settings::{KafkaSettings, log};
use crate::broker::{BrokerError, MAX_RECORD_BYTES, Producer, Record};
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// One call of `send`.
struct Call {
    /// Records that are not acknowledged yet.
    unacknowledged: AtomicUsize,
    done: Mutex<Option<oneshot::Sender<Result<(), BrokerError>>>>,
}

impl Call {
    fn finish(&self, result: Result<(), BrokerError>) {
        let done = self.done.lock().expect("nothing panics while it holds this").take();
        if let Some(done) = done {
            // The caller may have stopped waiting.
            let _ = done.send(result);
        }
    }

    fn acknowledge_one(&self) {
        if self.unacknowledged.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(Ok(()));
        }
    }
}

/// Travels with each record and comes back with its delivery report.
struct Ticket {
    call: Arc<Call>,
    index: usize,
}

/// Receives delivery reports, and remembers why the producer is dead.
#[derive(Default)]
struct Deliveries {
    broken: OnceLock<String>,
}

impl Deliveries {
    /// The producer is dead; the first reason is kept.
    fn fail(&self, error: &KafkaError, index: usize) -> BrokerError {
        let reason = self.broken.get_or_init(|| error.to_string()).clone();
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidMessageSize,
            ) => BrokerError::Refused { index, detail: error.to_string() },
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                BrokerError::Topic(reason)
            }
            _ => BrokerError::Broken(reason),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.broken.get_or_init(|| reason.to_owned());
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        match result {
            Ok(_) => ticket.call.acknowledge_one(),
            Err((error, _)) => ticket.call.finish(Err(self.fail(error, ticket.index))),
        }
    }
}

pub(super) struct KafkaProducer {
    settings: Arc<KafkaSettings>,
    /// There until it is dropped.
    client: Option<ThreadedProducer<Deliveries>>,
    dropped: CancellationToken,
}

impl KafkaProducer {
    pub(super) fn create(settings: Arc<KafkaSettings>) -> KafkaResult<Self> {
        let client = settings.producer().create_with_context(Deliveries::default())?;
        Ok(Self { settings, client: Some(client), dropped: CancellationToken::new() })
    }

    fn client(&self) -> &ThreadedProducer<Deliveries> {
        self.client.as_ref().expect("it is only taken by drop")
    }

    fn deliveries(&self) -> &Deliveries {
        self.client().client().context()
    }

    fn queue(&self, records: &[Record]) -> oneshot::Receiver<Result<(), BrokerError>> {
        let (done, acknowledged) = oneshot::channel();
        let call = Arc::new(Call {
            unacknowledged: AtomicUsize::new(records.len()),
            done: Mutex::new(Some(done)),
        });
        for (index, record) in records.iter().enumerate() {
            let ticket = Box::new(Ticket { call: call.clone(), index });
            if let Err(error) = self.queue_one(record, ticket) {
                call.finish(Err(self.deliveries().fail(&error, index)));
                break;
            }
        }
        acknowledged
    }

    fn queue_one(&self, record: &Record, ticket: Box<Ticket>) -> Result<(), KafkaError> {
        let topic = self.settings.topic(record.topic);
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let partition = i32::try_from(record.partition.0).unwrap_or(i32::MAX);
        let message = BaseRecord::with_opaque_to(&topic, ticket)
            .partition(partition)
            .key(&record.key)
            .payload(&record.value)
            .timestamp(record.timestamp.millis())
            .headers(headers);
        self.client().send(message).map_err(|(error, _)| error)
    }
}

impl Producer for KafkaProducer {
    fn send(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), BrokerError>> {
        if let Some(reason) = self.deliveries().broken.get() {
            return future::ready(Err(BrokerError::Broken(reason.clone()))).boxed();
        }
        if let Some(index) = records.iter().position(|record| record.bytes() > MAX_RECORD_BYTES) {
            return future::ready(Err(BrokerError::too_large(index, &records[index]))).boxed();
        }
        if records.is_empty() {
            return future::ready(Ok(())).boxed();
        }
        let acknowledged = self.queue(&records);
        let dropped = self.dropped.clone();
        let gone = || Err(BrokerError::Broken("the producer was dropped".to_owned()));
        async move {
            tokio::select! {
                biased;
                result = acknowledged => result.unwrap_or_else(|_| gone()),
                () = dropped.cancelled() => gone(),
            }
        }
        .boxed()
    }
}

impl Drop for KafkaProducer {
    /// Throws away what is queued. librdkafka needs up to half a second for that, so it happens on
    /// a thread of its own.
    fn drop(&mut self) {
        self.dropped.cancel();
        if let Some(client) = self.client.take() {
            client.purge(PurgeConfig::default().queue().inflight());
            std::thread::spawn(move || drop(client));
        }
    }
}
