//! Between the thread that polls Kafka and the worker that calls `next`.

use crate::broker::{BrokerError, Delivered, DrainToken, Incoming, Topic};
use crate::domain::Partition;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// More than this is not taken from Kafka before the worker has come for it.
const MAX_RECORDS: usize = 1000;
const MAX_BYTES: usize = 1 << 20;
/// How often a waiting thread looks at what nobody wakes it for.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Contents {
    records: VecDeque<Delivered>,
    bytes: usize,
    revoked: Option<(Vec<(Topic, Partition)>, DrainToken)>,
    failure: Option<BrokerError>,
    /// The failure stays.
    broken: bool,
    closed: bool,
}

/// What has arrived and what has to be drained.
#[derive(Default)]
pub(super) struct Mailbox {
    contents: Mutex<Contents>,
    arrived: Notify,
    taken: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().expect("nothing panics while it holds the mailbox")
    }

    /// Waits for something and takes it; revocations first.
    pub(super) async fn take(&self, max: usize) -> Result<Incoming, BrokerError> {
        loop {
            if let Some(taken) = self.take_now(max) {
                return taken;
            }
            self.arrived.notified().await;
        }
    }

    fn take_now(&self, max: usize) -> Option<Result<Incoming, BrokerError>> {
        let mut contents = self.lock();
        if let Some((partitions, token)) = contents.revoked.take() {
            return Some(Ok(Incoming::Revoked(partitions, token)));
        }
        if !contents.records.is_empty() {
            let count = max.min(contents.records.len());
            let records: Vec<Delivered> = contents.records.drain(..count).collect();
            contents.bytes -= records.iter().map(size).sum::<usize>();
            self.taken.notify_all();
            return Some(Ok(Incoming::Records(records)));
        }
        let failure = contents.failure.take()?;
        if contents.broken {
            contents.failure = Some(failure.clone());
        }
        Some(Err(failure))
    }

    /// Adds a record, also beyond the bound; the worker is told by [`Mailbox::tell`].
    pub(super) fn put(&self, record: Delivered) {
        let mut contents = self.lock();
        contents.bytes += size(&record);
        contents.records.push_back(record);
    }

    /// Tells the worker that there are records.
    pub(super) fn tell(&self) {
        self.arrived.notify_one();
    }

    /// Lets the worker know; what can be waited out is told once.
    pub(super) fn fail(&self, error: BrokerError) {
        let mut contents = self.lock();
        contents.broken |= matches!(error, BrokerError::Broken(_));
        contents.failure = Some(error);
        self.arrived.notify_one();
    }

    /// Waits until there is room, at most `patience`; whether there is.
    pub(super) fn wait_for_room(&self, patience: Duration) -> bool {
        let full = |contents: &mut Contents| {
            let full = contents.records.len() >= MAX_RECORDS || contents.bytes >= MAX_BYTES;
            full && !contents.closed
        };
        let waited = self.taken.wait_timeout_while(self.lock(), patience, full);
        !waited.expect("nothing panics while it holds the mailbox").1.timed_out()
    }

    /// Throws away what the worker has not taken of these partitions, tells it to drain the rest
    /// and waits until it has, at most until `bound` is over or nobody is there any more.
    pub(super) fn revoke(&self, partitions: Vec<(Topic, Partition)>, bound: Duration) {
        let (token, mut drained) = oneshot::channel();
        let mut gone: BTreeSet<(Topic, Partition)> = partitions.into_iter().collect();
        let mut contents = self.lock();
        if contents.closed {
            return;
        }
        // A revocation that the worker has not come for, although its bound is over.
        gone.extend(contents.revoked.take().into_iter().flat_map(|(earlier, _)| earlier));
        contents.records.retain(|Delivered { position, .. }| {
            !gone.contains(&(position.topic, position.partition))
        });
        contents.bytes = contents.records.iter().map(size).sum();
        contents.revoked = Some((gone.into_iter().collect(), DrainToken(token)));
        self.arrived.notify_one();
        let deadline = Instant::now() + bound;
        while !contents.closed && Instant::now() < deadline {
            if drained.try_recv() == Err(oneshot::error::TryRecvError::Closed) {
                return;
            }
            let waited = self.taken.wait_timeout(contents, LOOK);
            contents = waited.expect("nothing panics while it holds the mailbox").0;
        }
    }

    /// The worker comes no more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.taken.notify_all();
    }

    /// Whether it has gone.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }
}

/// What a record takes in memory, about.
fn size(record: &Delivered) -> usize {
    record.value.len() + record.key.len() + record.headers.packed().len() + 512
}
