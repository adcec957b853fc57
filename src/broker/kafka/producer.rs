//! The producer: idempotent, and dead after its first failed delivery.

use super::settings::{KafkaSettings, log};
use crate::broker::{BrokerError, MAX_RECORD_BYTES, Producer, Record, Topic};
use crate::domain::Partition;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// How long its thread waits for delivery reports before it looks whether it is to end. The last
/// millisecond of each wait is spent spinning (rdkafka 0.39), so that short ones are expensive.
const POLL: Duration = Duration::from_secs(1);

/// One call of `send`.
struct Call {
    /// Parts that are not acknowledged yet.
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

type Place = (Topic, Partition);

/// The records of a call for one partition.
struct Part {
    call: Arc<Call>,
    place: Place,
    /// Records that are not acknowledged yet.
    unacknowledged: AtomicUsize,
}

/// A partition. What comes while something is on its way there waits for the acknowledgement, and
/// then goes together. librdkafka would do the same (an idempotent producer has five *records* a
/// partition on their way before it holds the next back), but its thread spins until it may go on
/// (version 2.12).
#[derive(Default)]
struct Lane {
    on_their_way: usize,
    waiting: Vec<(Arc<Part>, Vec<Record>)>,
}

/// Receives delivery reports, and remembers why the producer is dead.
struct Deliveries {
    settings: Arc<KafkaSettings>,
    /// For what waits in a lane; set once the client is there.
    client: OnceLock<Weak<BaseProducer<Self>>>,
    lanes: Mutex<HashMap<Place, Lane>>,
    reason: OnceLock<String>,
    /// Ends the wait of every call: librdkafka does not report on what it still had queued when it
    /// stopped.
    dead: CancellationToken,
}

impl Deliveries {
    fn lanes(&self) -> MutexGuard<'_, HashMap<Place, Lane>> {
        self.lanes.lock().expect("nothing panics while it holds this")
    }

    /// Sends a part now, or once what is on its way to its partition is acknowledged.
    fn enter(&self, client: &BaseProducer<Self>, part: Arc<Part>, records: Vec<Record>) {
        {
            let mut lanes = self.lanes();
            let lane = lanes.entry(part.place).or_default();
            if lane.on_their_way > 0 {
                lane.waiting.push((part, records));
                return;
            }
            lane.on_their_way = 1;
        }
        self.queue(client, &part, &records);
    }

    /// A part is acknowledged. The last one of those on their way lets go what waits.
    fn acknowledged(&self, part: &Part) {
        let waiting = {
            let mut lanes = self.lanes();
            let lane = lanes.entry(part.place).or_default();
            lane.on_their_way = lane.on_their_way.saturating_sub(1);
            if lane.on_their_way > 0 {
                return;
            }
            lane.on_their_way = lane.waiting.len();
            std::mem::take(&mut lane.waiting)
        };
        // Without a client the producer was dropped, and so were its calls.
        if let Some(client) = self.client.get().and_then(Weak::upgrade) {
            for (part, records) in waiting {
                self.queue(&client, &part, &records);
            }
        }
    }

    fn queue(&self, client: &BaseProducer<Self>, part: &Arc<Part>, records: &[Record]) {
        let topic = self.settings.topic(part.place.0);
        let partition = i32::try_from(part.place.1.0).unwrap_or(i32::MAX);
        for record in records {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for (key, value) in record.headers.iter() {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            let message = BaseRecord::with_opaque_to(&topic, Arc::clone(part))
                .partition(partition)
                .key(&record.key[..])
                .payload(&record.value[..])
                .timestamp(record.timestamp.millis())
                .headers(headers);
            if let Err((error, _)) = client.send(message) {
                return self.fail(&part.call, &error);
            }
        }
    }

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
    /// The part travels with each of its records.
    type DeliveryOpaque = Arc<Part>;

    fn delivery(&self, result: &DeliveryResult<'_>, part: Arc<Part>) {
        match result {
            Ok(_) if part.unacknowledged.fetch_sub(1, Ordering::AcqRel) == 1 => {
                self.acknowledged(&part);
                part.call.acknowledge_one();
            }
            Ok(_) => {}
            Err((error, _)) => self.fail(&part.call, error),
        }
    }
}

pub(super) struct KafkaProducer {
    /// There until it is dropped.
    client: Option<Arc<BaseProducer<Deliveries>>>,
    stopped: Arc<AtomicBool>,
}

impl KafkaProducer {
    pub(super) fn create(settings: Arc<KafkaSettings>) -> KafkaResult<Self> {
        let config = settings.producer();
        let deliveries = Deliveries {
            settings,
            client: OnceLock::new(),
            lanes: Mutex::default(),
            reason: OnceLock::new(),
            dead: CancellationToken::new(),
        };
        let client: BaseProducer<Deliveries> = config.create_with_context(deliveries)?;
        let (client, stopped) = (Arc::new(client), Arc::new(AtomicBool::new(false)));
        client.context().client.get_or_init(|| Arc::downgrade(&client));
        let (polled, stop) = (Arc::clone(&client), Arc::clone(&stopped));
        std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    polled.poll(POLL);
                }
            })
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self { client: Some(client), stopped })
    }

    fn client(&self) -> &BaseProducer<Deliveries> {
        self.client.as_ref().expect("it is only taken by drop")
    }

    fn deliveries(&self) -> &Arc<Deliveries> {
        self.client().client().context()
    }

    fn queue(&self, records: Vec<Record>) -> oneshot::Receiver<Result<(), BrokerError>> {
        let mut parts: Vec<(Place, Vec<Record>)> = Vec::new();
        for record in records {
            let place = (record.topic, record.partition);
            match parts.iter_mut().find(|(known, _)| *known == place) {
                Some((_, part)) => part.push(record),
                None => parts.push((place, vec![record])),
            }
        }
        let (done, acknowledged) = oneshot::channel();
        let unacknowledged = AtomicUsize::new(parts.len());
        let call = Arc::new(Call { unacknowledged, done: Mutex::new(Some(done)) });
        for (place, records) in parts {
            let unacknowledged = AtomicUsize::new(records.len());
            let part = Part { call: Arc::clone(&call), place, unacknowledged };
            self.deliveries().enter(self.client(), Arc::new(part), records);
        }
        acknowledged
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
        let acknowledged = self.queue(records);
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
