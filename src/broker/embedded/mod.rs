//! A durable log inside the process, for a single node and for development.
//!
//! All topics share one journal of segments, so that one sync acknowledges everything that was
//! written meanwhile, whatever partition it is for. Where each partition's records lie is an index
//! in memory; the newest records are in memory too. `frame` is the format, `segment` the files,
//! `state` the memory, `writer` the group commit, `membership` the consumer groups.

mod client;
mod frame;
mod membership;
mod reader;
mod segment;
mod state;
mod writer;

pub use reader::EmbeddedReader;
pub use segment::JournalError;

use super::{
    Broker, BrokerError, Consumer, Delivered, Group, PartitionLag, Position, Producer, Topic,
};
use crate::domain::Partition;
use async_trait::async_trait;
use client::{EmbeddedConsumer, EmbeddedProducer};
use frame::Entry;
use membership::MemberId;
use segment::{Segment, Walked, io_error};
use state::State;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use writer::{Shared, Writer};

type TopicPartition = (Topic, Partition);

/// Where the log lies and how much of what has been read it keeps.
#[derive(Clone, Debug)]
pub struct EmbeddedSettings {
    /// Its directory; created where it does not exist.
    pub dir: PathBuf,
    /// Bytes of records that are kept after every group has read them, over all topics. A topic
    /// that no group has ever read holds nothing back.
    pub retention_bytes: u64,
    /// Size of the files, 1 GiB at most. The last one is read when the log is opened.
    pub segment_bytes: u64,
}

impl EmbeddedSettings {
    /// What suits a single node: 1 GiB of read records in files of 16 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), retention_bytes: 1 << 30, segment_bytes: 16 << 20 }
    }
}

/// The log, opened for reading and writing by this process alone.
pub struct EmbeddedBroker {
    log: Arc<Log>,
    members: AtomicU64,
}

/// Closes the log when the broker and its last producer and consumer are gone.
struct Log {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    /// Locked as long as it is open; the lock goes with the process, however that ends.
    _lock: File,
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.close();
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!(dir = %self.shared.dir.display(), "the embedded log's writer panicked");
        }
    }
}

impl EmbeddedBroker {
    /// Opens or creates the log in a directory. A torn end, as a crash leaves it, is cut off; it
    /// was never acknowledged. Blocks for as long as it takes to read one segment.
    pub fn open(settings: EmbeddedSettings) -> Result<Self, JournalError> {
        let EmbeddedSettings { dir, retention_bytes, segment_bytes } = settings;
        assert!((1..=1 << 30).contains(&segment_bytes), "a segment has 1 byte to 1 GiB");
        fs::create_dir_all(&dir).map_err(io_error(&dir))?;
        let lock = lock(&dir)?;
        let mut segments = Segment::open_all(&dir, true)?;
        if segments.is_empty() {
            let mut opening = State::default().opening();
            frame::seal(&mut opening, 1);
            segments.push(Arc::new(Segment::create(&dir, 0, &opening)?));
        }
        let segment = segments.last().expect("there is at least one").clone();
        let (state, end) = State::load(segments)?;
        cut_torn_end(&segment, &end)?;
        let shared = Arc::new(Shared::new(dir, state));
        let keep = (retention_bytes / segment_bytes) as usize;
        let writer = Writer { shared: shared.clone(), segment, end, segment_bytes, keep };
        let writer = std::thread::Builder::new()
            .name("embedded-log".to_owned())
            .spawn(|| writer.run())
            .map_err(io_error(&shared.dir))?;
        let log = Arc::new(Log { shared, writer: Some(writer), _lock: lock });
        Ok(Self { log, members: AtomicU64::new(0) })
    }

    /// Opens the log to look at it, also while another process writes to it.
    pub fn open_read_only(dir: impl Into<PathBuf>) -> Result<EmbeddedReader, JournalError> {
        EmbeddedReader::open(dir.into())
    }

    fn check_topics(&self, topics: &[Topic]) -> Result<(), BrokerError> {
        let state = self.log.shared.state();
        match topics.iter().find(|topic| state.partitions(**topic).is_none()) {
            Some(topic) => Err(BrokerError::Topic(topic.to_string())),
            None => Ok(()),
        }
    }

    /// Makes retention wait for a group that is new to some of these topics.
    async fn register(&self, group: &str, topics: &[Topic]) -> Result<(), BrokerError> {
        let entries: Vec<Entry> = {
            let state = self.log.shared.state();
            let new = topics.iter().filter(|topic| !state.reads(group, **topic));
            new.map(|topic| Entry::Group { group: group.to_owned(), topic: *topic }).collect()
        };
        if entries.is_empty() { Ok(()) } else { self.log.shared.submit_entries(entries).await }
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error(&path)(error)),
    }
}

fn cut_torn_end(segment: &Segment, end: &Walked) -> Result<(), JournalError> {
    let length = segment.length()?;
    if length > end.length {
        let (path, bytes) = (segment.path.display(), length - end.length);
        tracing::warn!(%path, bytes, "cutting off a group commit that a crash left unfinished");
        segment.truncate(end.length)?;
    }
    Ok(())
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn missing_topics(
        &self,
        topics: &[Topic],
        partitions: u32,
    ) -> Result<Vec<Topic>, BrokerError> {
        let state = self.log.shared.state();
        let missing = |topic: &Topic| state.partitions(*topic) != Some(partitions);
        Ok(topics.iter().copied().filter(missing).collect())
    }

    async fn create_topics(&self, topics: &[Topic], partitions: u32) -> Result<(), BrokerError> {
        assert!(partitions > 0, "a topic has at least one partition");
        let mut entries = Vec::new();
        for topic in topics {
            match self.log.shared.state().partitions(*topic) {
                None => entries.push(Entry::Topic { topic: *topic, partitions }),
                Some(existing) if existing == partitions => {}
                Some(_) => return Err(BrokerError::Topic(topic.to_string())),
            }
        }
        if entries.is_empty() { Ok(()) } else { self.log.shared.submit_entries(entries).await }
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, BrokerError> {
        self.ping().await?;
        Ok(Box::new(EmbeddedProducer { log: self.log.clone(), broken: AtomicBool::new(false) }))
    }

    async fn consumer(
        &self,
        group: &Group,
        topics: &[Topic],
    ) -> Result<Box<dyn Consumer>, BrokerError> {
        self.check_topics(topics)?;
        let group = group.to_string();
        self.register(&group, topics).await?;
        let member = MemberId(self.members.fetch_add(1, Ordering::Relaxed));
        Ok(Box::new(EmbeddedConsumer::join(self.log.clone(), group, member, topics)))
    }

    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError> {
        self.check_topics(topics)?;
        let (group, state) = (group.to_string(), self.log.shared.state());
        Ok(topics.iter().flat_map(|topic| state.lag(&group, *topic)).collect())
    }

    async fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, BrokerError> {
        let place = (position.topic, position.partition);
        let found = {
            let state = self.log.shared.state();
            state.end(place).ok_or_else(|| BrokerError::Topic(position.topic.to_string()))?;
            state.find(place, position.offset, max)
        };
        client::read(&self.log.shared, found).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        match self.log.shared.failure() {
            None => Ok(()),
            Some(failure) => Err(BrokerError::Unavailable {
                address: self.address(),
                detail: failure.to_owned(),
            }),
        }
    }

    fn address(&self) -> String {
        self.log.shared.dir.display().to_string()
    }
}
