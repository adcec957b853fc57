//! Looks at the embedded log of another process, for the command line: each call reads the files
//! anew, without a lock.

use super::segment::{JournalError, Segment};
use super::state::{Found, State};
use crate::broker::{
    Broker, BrokerError, Consumer, Delivered, Group, PartitionLag, Position, Producer, Topic,
};
use async_trait::async_trait;
use std::path::{Path, PathBuf};

/// The writer may roll or drop a segment, or be in the middle of a frame, while the files are read.
const ATTEMPTS: usize = 5;

/// The log, opened for reading only.
#[derive(Debug)]
pub struct EmbeddedReader {
    dir: PathBuf,
}

impl EmbeddedReader {
    pub(super) fn open(dir: PathBuf) -> Result<Self, JournalError> {
        load(&dir)?;
        Ok(Self { dir })
    }

    /// Runs `read` on the log as it stands, away from the async runtime.
    async fn with_state<T: Send + 'static>(
        &self,
        read: impl Fn(&State) -> Result<T, BrokerError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let dir = self.dir.clone();
        let task = tokio::task::spawn_blocking(move || {
            let state = load(&dir).map_err(|error| BrokerError::Unavailable {
                address: dir.display().to_string(),
                detail: error.to_string(),
            })?;
            read(&state)
        });
        task.await.map_err(|stopped| self.unavailable(stopped.to_string()))?
    }

    fn unavailable(&self, detail: impl Into<String>) -> BrokerError {
        BrokerError::Unavailable { address: self.address(), detail: detail.into() }
    }

    fn read_only(&self) -> BrokerError {
        self.unavailable("it is opened for reading only; the process that runs it writes")
    }
}

fn load(dir: &Path) -> Result<State, JournalError> {
    let mut attempt = 1;
    loop {
        match try_load(dir) {
            Err(JournalError::Io { .. } | JournalError::Damaged { .. }) if attempt < ATTEMPTS => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

fn try_load(dir: &Path) -> Result<State, JournalError> {
    let segments = Segment::open_all(dir, false)?;
    if segments.is_empty() {
        return Err(JournalError::Io {
            path: dir.to_owned(),
            source: std::io::Error::other("there is no journal here"),
        });
    }
    State::load(segments).map(|(state, _)| state)
}

#[async_trait]
impl Broker for EmbeddedReader {
    async fn missing_topics(
        &self,
        topics: &[Topic],
        partitions: u32,
    ) -> Result<Vec<Topic>, BrokerError> {
        let topics = topics.to_vec();
        self.with_state(move |state| {
            let missing = |topic: &Topic| state.partitions(*topic) != Some(partitions);
            Ok(topics.iter().copied().filter(missing).collect())
        })
        .await
    }

    async fn create_topics(&self, _: &[Topic], _: u32) -> Result<(), BrokerError> {
        Err(self.read_only())
    }

    async fn producer(&self) -> Result<Box<dyn Producer>, BrokerError> {
        Err(self.read_only())
    }

    async fn consumer(&self, _: &Group, _: &[Topic]) -> Result<Box<dyn Consumer>, BrokerError> {
        Err(self.read_only())
    }

    async fn lag(&self, group: &Group, topics: &[Topic]) -> Result<Vec<PartitionLag>, BrokerError> {
        let (group, topics) = (group.to_string(), topics.to_vec());
        self.with_state(move |state| {
            let lags = topics.iter().map(|topic| match state.partitions(*topic) {
                Some(_) => Ok(state.lag(&group, *topic)),
                None => Err(BrokerError::Topic(topic.to_string())),
            });
            Ok(lags.collect::<Result<Vec<_>, _>>()?.concat())
        })
        .await
    }

    async fn read_from(
        &self,
        position: Position,
        max: usize,
    ) -> Result<Vec<Delivered>, BrokerError> {
        self.with_state(move |state| {
            let place = (position.topic, position.partition);
            state.end(place).ok_or_else(|| BrokerError::Topic(position.topic.to_string()))?;
            match state.find(place, position.offset, max) {
                Found::Nothing => Ok(Vec::new()),
                Found::Hot(_) => unreachable!("only a writer has records in memory"),
                Found::Cold(cold) => {
                    cold.run(usize::MAX).map_err(|error| BrokerError::Broken(error.to_string()))
                }
            }
        })
        .await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.with_state(|_| Ok(())).await
    }

    fn address(&self) -> String {
        self.dir.display().to_string()
    }
}
