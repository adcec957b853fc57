//! The producer and the consumer of the embedded log.

use super::frame::{decode_record, put_record};
use super::membership::MemberId;
use super::state::{Found, State};
use super::writer::{Call, Shared};
use super::{Log, TopicPartition};
use crate::broker::{
    BrokerError, Consumer, Delivered, DrainToken, Incoming, MAX_RECORD_BYTES, Position, Producer,
    Record, Topic,
};
use async_trait::async_trait;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// What one call of `next` returns at most, beside the number of records.
const NEXT_BYTES: usize = 4 << 20;

pub(super) struct EmbeddedProducer {
    pub log: Arc<Log>,
    pub broken: AtomicBool,
}

impl EmbeddedProducer {
    fn queue(&self, records: &[Record]) -> Result<oneshot::Receiver<()>, BrokerError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(BrokerError::Broken("an earlier record of it was not written".to_owned()));
        }
        if let Some(index) = records.iter().position(|record| record.bytes() > MAX_RECORD_BYTES) {
            return Err(BrokerError::too_large(index, &records[index]));
        }
        self.check_topics(records)?;
        let mut bytes = Vec::with_capacity(records.iter().map(|record| record.bytes() + 128).sum());
        let mut places = Vec::with_capacity(records.len());
        for record in records {
            places.push(((record.topic, record.partition), bytes.len()));
            put_record(record, &mut bytes);
        }
        let (done, written) = oneshot::channel();
        self.log.shared.submit(Call { bytes, records: places, entries: Vec::new(), done })?;
        Ok(written)
    }

    fn check_topics(&self, records: &[Record]) -> Result<(), BrokerError> {
        let state = self.log.shared.state();
        let known = |record: &&Record| state.end((record.topic, record.partition)).is_none();
        match records.iter().find(known) {
            None => Ok(()),
            Some(record) => {
                self.broken.store(true, Ordering::Release);
                Err(BrokerError::Topic(record.topic.to_string()))
            }
        }
    }
}

impl Producer for EmbeddedProducer {
    fn send(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), BrokerError>> {
        if records.is_empty() {
            return future::ready(Ok(())).boxed();
        }
        match self.queue(&records) {
            Err(error) => future::ready(Err(error)).boxed(),
            Ok(written) => {
                let log = self.log.clone();
                async move { written.await.map_err(|_| log.shared.broken()) }.boxed()
            }
        }
    }
}

/// Where a member reads a partition.
struct Cursor {
    /// The ownership that it belongs to.
    epoch: u64,
    /// The next offset.
    offset: i64,
}

pub(super) struct EmbeddedConsumer {
    log: Arc<Log>,
    group: String,
    member: MemberId,
    wake: Arc<Notify>,
    cursors: BTreeMap<TopicPartition, Cursor>,
    /// The partition that was read last, so that a busy one does not starve the others.
    last: Option<TopicPartition>,
}

enum Step {
    Revoked(Vec<(TopicPartition, u64)>),
    Found(Found),
    Wait(Option<Instant>),
}

impl EmbeddedConsumer {
    /// Joins the group, which is already registered for these topics.
    pub(super) fn join(log: Arc<Log>, group: String, member: MemberId, topics: &[Topic]) -> Self {
        let wake = Arc::new(Notify::new());
        let mut state = log.shared.state();
        let subscribed = topics.iter().flat_map(|topic| state.places(*topic)).collect();
        state.listen(member, topics, &wake);
        let members = &mut state.group_mut(&group).expect("it is registered").members;
        members.join(member, subscribed, wake.clone(), Instant::now());
        drop(state);
        Self { log, group, member, wake, cursors: BTreeMap::new(), last: None }
    }

    /// What to do next. Revocations come first: after one, nothing of those partitions is read.
    fn step(&mut self, max: usize) -> Step {
        let log = self.log.clone();
        let mut state = log.shared.state();
        let members = &mut state.group_mut(&self.group).expect("it is registered").members;
        members.expire(Instant::now());
        let revoked = members.take_revoked(self.member);
        if !revoked.is_empty() {
            return Step::Revoked(revoked);
        }
        let owned: Vec<(TopicPartition, u64)> = members.owned(self.member).collect();
        let deadline = members.deadline();
        match self.find(&state, &owned, max) {
            Found::Nothing => Step::Wait(deadline),
            found => Step::Found(found),
        }
    }

    /// What there is in the partitions of this member: from memory over several of them, or from
    /// a file of one.
    fn find(&mut self, state: &State, owned: &[(TopicPartition, u64)], max: usize) -> Found {
        self.cursors.retain(|place, cursor| owned.binary_search(&(*place, cursor.epoch)).is_ok());
        let next = owned.partition_point(|(place, _)| self.last.is_some_and(|last| *place <= last));
        let mut hot = Vec::new();
        for (place, epoch) in owned[next..].iter().chain(&owned[..next]) {
            let cursor = self.cursors.entry(*place).or_insert_with(|| Cursor {
                epoch: *epoch,
                offset: state.committed(&self.group, *place),
            });
            match state.find(*place, cursor.offset, max - hot.len()) {
                Found::Nothing => {}
                Found::Hot(found) => hot.extend(found),
                Found::Cold(cold) if hot.is_empty() => return Found::Cold(cold),
                Found::Cold(_) => break,
            }
            if hot.len() == max {
                break;
            }
        }
        if hot.is_empty() { Found::Nothing } else { Found::Hot(hot) }
    }

    fn advance(&mut self, records: Vec<Delivered>) -> Incoming {
        for Delivered { position, .. } in &records {
            let place = (position.topic, position.partition);
            let cursor = self.cursors.get_mut(&place).expect("it was read from there");
            cursor.offset = position.offset + 1;
            self.last = Some(place);
        }
        Incoming::Records(records)
    }

    /// Frees the partitions when the token is dropped. The bound is kept by the members that wait.
    fn revoke(&self, revoked: Vec<(TopicPartition, u64)>) -> Incoming {
        let (token, drained) = oneshot::channel();
        let (shared, group) = (self.log.shared.clone(), self.group.clone());
        let places = revoked.iter().map(|(place, _)| *place).collect();
        tokio::spawn(async move {
            // Nothing is ever sent: the error says that the token was dropped.
            let _ = drained.await;
            if let Some(group) = shared.state().group_mut(&group) {
                group.members.drained(&revoked, Instant::now());
            }
        });
        Incoming::Revoked(places, DrainToken(token))
    }
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn next(&mut self, max: usize) -> Result<Incoming, BrokerError> {
        assert!(max > 0, "asked for no records");
        loop {
            match self.step(max) {
                Step::Revoked(revoked) => return Ok(self.revoke(revoked)),
                Step::Found(found) => {
                    let records = read(&self.log.shared, found).await?;
                    return Ok(self.advance(records));
                }
                Step::Wait(None) => self.wake.notified().await,
                Step::Wait(Some(deadline)) => {
                    // Woken or not: the next step looks at the clock itself.
                    let _ = tokio::time::timeout_at(deadline, self.wake.notified()).await;
                }
            }
        }
    }

    fn commit(&mut self, positions: &[Position]) {
        if self.log.shared.state().commit(&self.group, self.member, positions) {
            self.log.shared.note_commits();
        }
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        let mut state = self.log.shared.state();
        state.unlisten(self.member);
        if let Some(group) = state.group_mut(&self.group) {
            group.members.leave(self.member, Instant::now());
        }
    }
}

/// Reads what was found; files are read away from the async runtime.
pub(super) async fn read(shared: &Shared, found: Found) -> Result<Vec<Delivered>, BrokerError> {
    match found {
        Found::Nothing => Ok(Vec::new()),
        Found::Hot(hot) => {
            let mut bytes = 0;
            let mut records = Vec::with_capacity(hot.len());
            for (frame, position) in hot {
                let record = decode_record(&frame, position as usize)
                    .expect("the frame was made by this process and is in memory");
                bytes += record.value.len();
                records.push(record);
                if bytes >= NEXT_BYTES {
                    break;
                }
            }
            Ok(records)
        }
        Found::Cold(cold) => match tokio::task::spawn_blocking(|| cold.run(NEXT_BYTES)).await {
            Ok(read) => read.map_err(|error| BrokerError::Broken(error.to_string())),
            Err(stopped) => Err(BrokerError::Unavailable {
                address: shared.dir.display().to_string(),
                detail: stopped.to_string(),
            }),
        },
    }
}
