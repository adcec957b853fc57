//! The producer: idempotent, and dead after its first failed delivery.

use super::settings::{KafkaSettings, log};
use crate::broker::{BrokerError, MAX_RECORD_BYTES, Producer, Record};
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How long its thread waits for delivery reports before it looks whether it is to end. The last
/// millisecond of each wait is spent spinning (rdkafka 0.39), so that short ones are expensive.
const POLL: Duration = Duration::from_secs(1);

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

/// Receives delivery reports, and remembers why the producer is dead.
#[derive(Default)]
struct Deliveries {
    reason: OnceLock<String>,
    /// Ends the wait of every call: librdkafka does not report on what it still had queued when it
    /// stopped.
    dead: CancellationToken,
}

impl Deliveries {
    /// The producer is dead; the first reason is kept.
    fn die(&self, reason: &str) {
        self.reason.get_or_init(|| reason.to_owned());
        self.dead.cancel();
    }

    /// The call hears of its own error before all calls hear that the producer is dead. A record that
    /// only the broker finds too large is no exception: the broker refuses whole batches, so nobody
    /// knows which record it was.
    fn fail(&self, call: &Call, error: &KafkaError) {
        let reason = error.to_string();
        call.finish(Err(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                BrokerError::Topic(reason.clone())
            }
            _ => BrokerError::Broken(reason.clone()),
        }));
        self.die(&reason);
    }

    /// The error of everything that is sent to a dead producer.
    fn broken(&self) -> BrokerError {
        BrokerError::Broken(self.reason.get().map_or("it is dead", String::as_str).to_owned())
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka producer");
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            self.die(reason);
        }
    }
}

impl ProducerContext for Deliveries {
    /// The call travels with each of its records.
    type DeliveryOpaque = Arc<Call>;

    fn delivery(&self, result: &DeliveryResult<'_>, call: Arc<Call>) {
        match result {
            Ok(_) => call.acknowledge_one(),
            Err((error, _)) => self.fail(&call, error),
        }
    }
}

pub(super) struct KafkaProducer {
    settings: Arc<KafkaSettings>,
    /// There until it is dropped.
    client: Option<Arc<BaseProducer<Deliveries>>>,
    stopped: Arc<AtomicBool>,
}

impl KafkaProducer {
    pub(super) fn create(settings: Arc<KafkaSettings>) -> KafkaResult<Self> {
        let client: BaseProducer<Deliveries> =
            settings.producer().create_with_context(Deliveries::default())?;
        let (client, stopped) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        let (polled, stop) = (Arc::clone(&client), Arc::clone(&stopped));
        std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    polled.poll(POLL);
                }
            })
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { settings, client: Some(client), stopped })
    }

    fn client(&self) -> &BaseProducer<Deliveries> {
        self.client.as_ref().expect("it is only taken by drop")
    }

    fn deliveries(&self) -> &Arc<Deliveries> {
        self.client().client().context()
    }

    fn queue(&self, records: &[Record]) -> oneshot::Receiver<Result<(), BrokerError>> {
        let (done, acknowledged) = oneshot::channel();
        let call = Arc::new(Call {
            unacknowledged: AtomicUsize::new(records.len()),
            done: Mutex::new(Some(done)),
        });
        for record in records {
            if let Err(error) = self.queue_one(record, call.clone()) {
                self.deliveries().fail(&call, &error);
                break;
            }
        }
        acknowledged
    }

    fn queue_one(&self, record: &Record, call: Arc<Call>) -> Result<(), KafkaError> {
        let topic = self.settings.topic(record.topic);
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let partition = i32::try_from(record.partition.0).unwrap_or(i32::MAX);
        let message = BaseRecord::with_opaque_to(&topic, call)
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
        let deliveries = self.deliveries().clone();
        if deliveries.dead.is_cancelled() {
            return future::ready(Err(deliveries.broken())).boxed();
        }
        if let Some(index) = records.iter().position(|record| record.bytes() > MAX_RECORD_BYTES) {
            return future::ready(Err(BrokerError::too_large(index, &records[index]))).boxed();
        }
        if records.is_empty() {
            return future::ready(Ok(())).boxed();
        }
        let acknowledged = self.queue(&records);
        async move {
            tokio::select! {
                biased;
                result = acknowledged => result.unwrap_or_else(|_| Err(deliveries.broken())),
                () = deliveries.dead.cancelled() => Err(deliveries.broken()),
            }
        }
        .boxed()
    }
}

impl Drop for KafkaProducer {
    /// Throws away what is queued. librdkafka blocks at its end, so its thread has the last
    /// reference.
    fn drop(&mut self) {
        self.deliveries().die("the producer was dropped");
        if let Some(client) = self.client.take() {
            client.purge(PurgeConfig::default().queue().inflight());
        }
        self.stopped.store(true, Ordering::Release);
    }
}
