//! Step 2, relay: what ingress wrote to the outbox is published, in the order of the rows.
//!
//! State before and after: REQUESTED; the transfer's event is in Kafka. Rows are taken off the
//! outbox only once every record of theirs, and of the rows before them, is acknowledged. A crash
//! publishes some of them twice; nothing is ever left out.

mod traced;

use crate::broker::envelope::{self, Verdict};
use crate::broker::{BrokerError, Family, Headers, Producer, Record, Topic};
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{AccountId, DeadReason, EventType, Partition, Shard};
use crate::meters::table::{BATCH, OUTBOX_RECORDS, RESTARTS, STEP_SECONDS};
use crate::meters::{Counter, Histogram, dead_letter};
use crate::roles::Role;
use crate::seldom::Seldom;
use crate::store::{OutboxRow, StoreError};
use crate::trace::TraceContext;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use traced::{Publishing, given_up};

/// Rows read at once; each holds the records of a group commit.
const ROWS: u32 = 4;
/// Acknowledged rows that may wait to be marked before publishing waits for them.
const MOST_UNMARKED: usize = 512;
/// The longest pause of a relay that nobody tells of rows, as a multiple of the shortest.
const MOST_PATIENT: u32 = 16;
/// Between two statements that take rows off the outbox.
const MARKING: Duration = Duration::from_millis(100);
const LEASE: Duration = Duration::from_secs(10);
const RENEW_AFTER: Duration = Duration::from_secs(3);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Runs the role for one shard until `stop`, through every outage.
pub async fn run(
    context: Arc<Context>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(50);
    let again = Seldom::unsaid();
    let restarts = RESTARTS.counter(&[Role::Relay.as_str(), &shard.to_string()]);
    while !stop.is_cancelled() {
        let mut relay = Relay::new(Arc::clone(&context), shard);
        let ended = relay.publish(&stop).await;
        relay.settle_marks().await;
        match ended {
            Ok(()) => {
                relay.give_up_lease().await;
                break;
            }
            Err(Broken::Store(error @ StoreError::Identity { .. })) => {
                return Err(anyhow::Error::new(error).context("relay cannot go on"));
            }
            Err(error) => {
                restarts.increment(1);
                if let Some(left_out) = again.due() {
                    tracing::warn!(%shard, %error, left_out, "relay begins again");
                }
            }
        }
        if relay.published {
            pause = Duration::from_millis(50);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Rows that are being taken off the outbox.
type Marking = (Vec<u64>, JoinHandle<Result<(), StoreError>>);

/// What is counted of what is published.
struct Meter {
    records: Counter,
    batch: Histogram,
    seconds: Histogram,
}

impl Meter {
    fn new(shard: Shard) -> Self {
        let shard = shard.to_string();
        let of = [Role::Relay.as_str(), shard.as_str()];
        Self {
            records: OUTBOX_RECORDS.counter(&[&shard]),
            batch: BATCH.histogram(&of),
            seconds: STEP_SECONDS.histogram(&of),
        }
    }
}

struct Relay {
    context: Arc<Context>,
    shard: Shard,
    meter: Meter,
    /// Rows that are acknowledged and not yet seen to be off the outbox.
    acknowledged: BTreeSet<u64>,
    marking: Option<Marking>,
    marked: Option<Instant>,
    renewed: Option<Instant>,
    published: bool,
    /// How long it waits for ingress in this process before it looks unasked.
    pause: Duration,
    unasked: bool,
}

impl Relay {
    fn new(context: Arc<Context>, shard: Shard) -> Self {
        Self {
            context,
            shard,
            meter: Meter::new(shard),
            acknowledged: BTreeSet::new(),
            marking: None,
            marked: None,
            renewed: None,
            published: false,
            pause: Duration::ZERO,
            unasked: false,
        }
    }

    /// With one producer, until it breaks: its queue goes with it, and the next begins at the
    /// first row that is not marked.
    async fn publish(&mut self, stop: &CancellationToken) -> Result<(), Broken> {
        let producer = self.context.broker.producer().await?;
        loop {
            if stop.is_cancelled() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => continue,
                () = self.context.pauses.running(Role::Relay, self.shard) => {}
            }
            if !self.has_lease().await? {
                idle(stop, RENEW_AFTER).await;
                continue;
            }
            let store = &self.context.store;
            let rows = store.outbox_but(self.shard, &self.acknowledged, ROWS).await?;
            self.looked(!rows.is_empty());
            if rows.is_empty() {
                self.mark().await?;
                self.wait(stop).await;
                continue;
            }
            let all = rows.len() < ROWS as usize;
            let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
            crash::at(Role::Relay, Place::Read);
            self.send(&*producer, rows).await?;
            crash::at(Role::Relay, Place::Acknowledged);
            self.published = true;
            self.acknowledged.extend(ids);
            self.mark().await?;
            if all {
                self.wait(stop).await;
            }
        }
    }

    /// Whoever takes over need not wait until it runs out. All that was sent is marked.
    async fn give_up_lease(&self) {
        if self.renewed.is_some() {
            let holder = &self.context.policy.instance;
            // Where that fails it runs out.
            let _ = self.context.store.lease(self.shard, "relay", holder, Duration::ZERO).await;
        }
    }

    async fn has_lease(&mut self) -> Result<bool, StoreError> {
        if self.renewed.is_some_and(|at| at.elapsed() < RENEW_AFTER) {
            return Ok(true);
        }
        let holder = &self.context.policy.instance;
        let held = self.context.store.lease(self.shard, "relay", holder, LEASE).await?;
        self.renewed = held.then(Instant::now);
        Ok(held)
    }

    /// Until there may be more: told by ingress in this process, or after a few milliseconds.
    async fn wait(&mut self, stop: &CancellationToken) {
        let shortest = self.context.policy.outbox_poll;
        self.pause = self.pause.clamp(shortest, shortest * MOST_PATIENT);
        let unasked = Instant::now() + self.pause;
        let marking = self.marked.map(|at| at + MARKING).filter(|_| !self.acknowledged.is_empty());
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = self.context.wake.outbox_of(self.shard) => {}
            () = tokio::time::sleep_until(marking.unwrap_or(unasked).min(unasked)) => {
                self.unasked = marking.is_none_or(|at| unasked <= at);
            }
        }
    }

    /// Learns from a look that nobody asked for: where ingress is in other processes the next comes
    /// soon, where it is not each takes twice as long as the last.
    fn looked(&mut self, found: bool) {
        if std::mem::take(&mut self.unasked) {
            self.pause = if found { Duration::ZERO } else { self.pause * 2 };
        }
    }

    async fn send(&self, producer: &dyn Producer, rows: Vec<OutboxRow>) -> Result<(), Broken> {
        let mut records: Vec<Record> = Vec::new();
        for row in rows {
            match row.records {
                Ok(of_row) => records.extend(of_row),
                Err(text) => records.push(self.unreadable(row.id, &text, row.at)),
            }
        }
        let (count, began) = (records.len(), Instant::now());
        let traced = Publishing::begin(&self.context.traces, self.shard, &mut records);
        let sent = self.send_by_turn(producer, records).await;
        traced.end(sent.is_ok());
        sent?;
        self.meter.records.increment(count as u64);
        self.meter.batch.record(count as f64);
        self.meter.seconds.record(began.elapsed());
        Ok(())
    }

    async fn send_by_turn(
        &self,
        producer: &dyn Producer,
        records: Vec<Record>,
    ) -> Result<(), Broken> {
        for records in by_turn(records) {
            self.send_all(producer, records).await?;
        }
        Ok(())
    }

    async fn send_all(
        &self,
        producer: &dyn Producer,
        mut records: Vec<Record>,
    ) -> Result<(), Broken> {
        loop {
            match producer.send(records.clone()).await {
                Ok(()) => return Ok(()),
                Err(BrokerError::Refused { index, detail }) => {
                    let key = std::str::from_utf8(&records[index].key).ok();
                    let source = key.and_then(|key| key.parse::<AccountId>().ok());
                    let masked = source.map(|source| source.masked());
                    let headers = &records[index].headers;
                    let transfer = envelope::transfer_in(headers).map(tracing::field::display);
                    let trace = envelope::traceparent(headers).and_then(TraceContext::parse);
                    let trace_id = trace.map(|trace| tracing::field::display(trace.trace_id()));
                    tracing::error!(shard = %self.shard, masked, transfer, trace_id, detail, "the broker never takes this record: to the dead letters");
                    given_up(&self.context.traces, self.shard, &records[index]);
                    let at = records[index].timestamp;
                    let verdict = Verdict {
                        reason: DeadReason::TooLarge,
                        detail: &detail,
                        role: Role::Relay,
                        at,
                    };
                    records[index] = envelope::dead_letter_unsent(&records[index], &verdict);
                    dead_letter(Role::Relay, &self.shard.to_string(), verdict.reason);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn unreadable(&self, id: u64, text: &str, at: crate::domain::Timestamp) -> Record {
        tracing::error!(shard = %self.shard, row = id, "an outbox row cannot be read: to the dead letters");
        let record = Record {
            topic: Topic::of(EventType::Requested, self.shard),
            partition: Partition(0),
            key: format!("outbox-{id}").into(),
            value: text.to_owned().into(),
            headers: Headers::default(),
            timestamp: at,
        };
        let detail = "the outbox row cannot be read";
        let verdict = Verdict { reason: DeadReason::Malformed, detail, role: Role::Relay, at };
        dead_letter(Role::Relay, &self.shard.to_string(), verdict.reason);
        envelope::dead_letter_unsent(&record, &verdict)
    }

    /// Takes acknowledged rows off the outbox beside the publishing of the next ones.
    async fn mark(&mut self) -> Result<(), StoreError> {
        if let Some((ids, handle)) = self.marking.take() {
            if !handle.is_finished() && self.acknowledged.len() < MOST_UNMARKED {
                self.marking = Some((ids, handle));
                // Looked at again after as long.
                self.marked = Some(Instant::now());
                return Ok(());
            }
            handle.await.expect("marking does not panic")?;
            self.acknowledged.retain(|id| !ids.contains(id));
            crash::at(Role::Relay, Place::Marked);
        }
        let due = self.marked.is_none_or(|at| at.elapsed() >= MARKING);
        if !self.acknowledged.is_empty() && (due || self.acknowledged.len() >= MOST_UNMARKED) {
            self.marked = Some(Instant::now());
            let ids: Vec<u64> = self.acknowledged.iter().copied().collect();
            let (store, shard, marked) = (Arc::clone(&self.context.store), self.shard, ids.clone());
            self.marking =
                Some((ids, tokio::spawn(async move { store.outbox_sent(shard, &marked).await })));
        }
        Ok(())
    }

    /// Takes off what is acknowledged before it ends, so that the next relay does not publish it
    /// again. Rows that are off already may be taken off once more.
    async fn settle_marks(&mut self) {
        if let Some((_, handle)) = self.marking.take() {
            // Its rows are still among the acknowledged.
            let _ = handle.await;
        }
        let ids: Vec<u64> = std::mem::take(&mut self.acknowledged).into_iter().collect();
        if let Err(error) = self.context.store.outbox_sent(self.shard, &ids).await {
            tracing::warn!(shard = %self.shard, %error, "acknowledged rows stay on the outbox and are published again");
        }
    }
}

/// What was asked for, and once that is acknowledged what became of it. Topics keep no order among
/// each other: a call that fails may leave an end in the log whose request is not, and a shard that
/// lost both would be given the transfer back without the claim of who asked for it.
fn by_turn(records: Vec<Record>) -> impl Iterator<Item = Vec<Record>> {
    let requested = Family::Event(EventType::Requested);
    let (asked, ended): (Vec<Record>, Vec<Record>) =
        records.into_iter().partition(|record| record.topic.family == requested);
    [asked, ended].into_iter().filter(|turn| !turn.is_empty())
}

async fn idle(stop: &CancellationToken, duration: Duration) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tokio::time::sleep(duration) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use bytes::Bytes;

    fn record(kind: EventType, key: &str) -> Record {
        Record {
            topic: Topic::of(kind, Shard(0)),
            partition: Partition(0),
            key: key.to_owned().into(),
            value: Bytes::new(),
            headers: Headers::default(),
            timestamp: Timestamp::default(),
        }
    }

    /// Hazard 43: an end in the log has its request there.
    #[test]
    fn what_was_asked_for_is_published_before_what_became_of_it() {
        use EventType::{Cancelled, Requested};
        let turns = |kinds: &[(EventType, &str)]| {
            let records = kinds.iter().map(|(kind, key)| record(*kind, key)).collect();
            let keys = |turn: Vec<Record>| {
                let keys: Vec<_> = turn.into_iter().map(|one| one.key).collect();
                String::from_utf8(keys.concat()).unwrap()
            };
            by_turn(records).map(keys).collect::<Vec<_>>()
        };
        assert_eq!(turns(&[(Requested, "a"), (Requested, "b")]), ["ab"]);
        let mixed = [(Requested, "a"), (Cancelled, "b"), (Requested, "c"), (Cancelled, "d")];
        assert_eq!(turns(&mixed), ["ac", "bd"]);
        assert_eq!(turns(&[(Cancelled, "a")]), ["a"]);
        assert!(turns(&[]).is_empty());
    }
}
