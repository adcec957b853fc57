//! The one loop that hold, credit, commit and projector share: consume, apply, emit, commit the
//! offset, in this order, each for a whole batch.
//!
//! Events are sorted into lanes, one for each shard that is written to. A lane has one batch in
//! flight and takes for the next what has come meanwhile; the batches of all lanes of a process that
//! decide about accounts of one shard share its transaction (`src/turn/`). An offset is committed
//! once the event and all before it in its partition are done and what they emitted is
//! acknowledged, or were let go. Whatever breaks (consumer, producer,
//! a revoked partition that did not drain), the worker begins again from the committed offsets:
//! every step is idempotent.

mod batch;
mod intake;
mod lane;
mod traced;
mod tracker;

use crate::broker::{BrokerError, Consumer, Delivered, Group, Incoming, Position, Producer, Topic};
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{AccountId, Event, Input, Outcome, Partition, Shard};
use crate::meters::table::{RESTARTS, WAITING};
use crate::pauses::{Candidate, Paused};
use crate::roles::Role;
use crate::store::StoreError;
use async_trait::async_trait;
use batch::Entered;
use intake::{Intake, Read};
use lane::{Lane, LaneContext};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracker::Tracker;

/// Records in flight in one worker, as a multiple of its batch: enough for a batch in the
/// database, one being announced and one that waits.
const BATCHES_IN_FLIGHT: usize = 3;
/// How long a revoked partition or a stopping worker waits for what is in flight.
const DRAIN_BOUND: Duration = Duration::from_secs(8);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One step of the pipeline.
#[async_trait]
pub trait Step: Send + Sync + 'static {
    /// Whose step it is; names the consumer group.
    fn role(&self) -> Role;

    /// The topics it reads.
    fn topics(&self, shard: Shard) -> Vec<Topic>;

    /// The account whose row the step writes for this event; its shard is the event's lane, and
    /// it is the one to be quarantined when acting on the event violates an invariant. None where
    /// there is nothing to do.
    fn account<'e>(&self, event: &'e Event) -> Option<&'e AccountId>;

    /// Whether an event of a lane that is not the worker's own may be let go when that shard does
    /// not answer, and whether the same holds for the own shard.
    fn lets_go(&self, own_shard: bool) -> bool;

    /// Whether one batch must hold each transfer once.
    fn one_event_a_transfer(&self) -> bool {
        true
    }

    /// Events that one batch of a lane may hold, where the policy says `batch`.
    fn most(&self, lane: Shard, batch: usize) -> usize;

    /// Until a batch of this lane would be applied at once: what comes before that belongs to it.
    async fn ready(&self, lane: Shard);

    /// When the lane's shard last answered a batch, whoever's it was.
    fn answered(&self, lane: Shard) -> Option<Instant>;

    /// Applies a batch of one lane, each transfer once; one outcome for each input, in order.
    async fn apply(&self, lane: Shard, batch: Arc<Vec<Input>>) -> Result<Vec<Outcome>, StoreError>;

    /// Applies one event, of which it is to be found out whether it runs into a broken row: of
    /// accounts it changes none but that of [`Step::account`].
    async fn apply_alone(
        &self,
        lane: Shard,
        event: Arc<Vec<Input>>,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.apply(lane, event).await
    }
}

/// Runs a step for one shard until `stop`. Outages are ridden out; an error is for a person.
pub async fn run(
    context: Arc<Context>,
    step: Arc<dyn Step>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut pause = Duration::from_millis(100);
    let of = [step.role().as_str(), &shard.to_string()];
    let restarts = RESTARTS.counter(&of);
    WAITING.counter(&of).increment(0);
    while !stop.is_cancelled() {
        match incarnation(&context, &step, shard, &stop).await {
            Ok(()) => return Ok(()),
            Err(Broken::Resumed) => continue,
            Err(Broken::Identity(error)) => {
                return Err(anyhow::Error::new(error)
                    .context(format!("{} of shard {shard} cannot go on", step.role())));
            }
            Err(Broken::Restart { error, worked }) => {
                tracing::warn!(role = %step.role(), %shard, %error, "worker begins again");
                restarts.increment(1);
                if worked {
                    pause = Duration::from_millis(100);
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
    Ok(())
}

/// Why an incarnation of a worker ended before it was told to.
enum Broken {
    /// Begin again from what is committed.
    Restart { error: String, worked: bool },
    /// What was paused goes on: begin again from what is committed.
    Resumed,
    /// The database is not the shard it was taken for.
    Identity(StoreError),
}

impl Broken {
    fn restart(error: &BrokerError, worked: bool) -> Self {
        Self::Restart { error: error.to_string(), worked }
    }
}

/// What lanes report.
enum Report {
    /// These are done: acted on and announced, or let go.
    Done(Vec<Position>),
    /// A producer broke.
    Producer(BrokerError),
    /// A shard is not what it was taken for.
    Identity(StoreError),
}

async fn incarnation(
    context: &Arc<Context>,
    step: &Arc<dyn Step>,
    shard: Shard,
    stop: &CancellationToken,
) -> Result<(), Broken> {
    let group = Group { role: step.role().as_str(), shard };
    let topics = step.topics(shard);
    let opened = |error: BrokerError| Broken::restart(&error, false);
    let producer: Arc<dyn Producer> = context.broker.producer().await.map_err(opened)?.into();
    let consumer = context.broker.consumer(&group, &topics).await.map_err(opened)?;
    // Each record in flight is reported once, and what is in flight is bounded.
    let (reports, inbox) = mpsc::unbounded_channel();
    let mut worker = Worker {
        consumer,
        tracker: Tracker::default(),
        lanes: BTreeMap::new(),
        intake: Intake::new(context, step.role(), shard),
        lane_context: LaneContext {
            context: Arc::clone(context),
            step: Arc::clone(step),
            own: shard,
            producer,
            reports,
        },
        inbox,
        waiting: HashSet::new(),
        paused: Arc::default(),
        stopped: BTreeSet::new(),
        skipped: HashSet::new(),
        worked: false,
    };
    worker.consume(stop).await
}

struct Worker {
    consumer: Box<dyn Consumer>,
    tracker: Tracker,
    lanes: BTreeMap<Shard, Lane>,
    intake: Intake,
    lane_context: LaneContext,
    inbox: mpsc::UnboundedReceiver<Report>,
    /// Partitions whose next event is of a later release: for a member that was upgraded.
    waiting: HashSet<(Topic, Partition)>,
    /// What operators have stopped, and which partitions that are of this worker.
    paused: Arc<Paused>,
    stopped: BTreeSet<Partition>,
    /// Those of which records were left unread for it: read again when they go on.
    skipped: HashSet<(Topic, Partition)>,
    worked: bool,
}

impl Worker {
    async fn consume(&mut self, stop: &CancellationToken) -> Result<(), Broken> {
        let batch = self.lane_context.context.policy.batch;
        let bound = (batch * BATCHES_IN_FLIGHT)
            .max(self.lane_context.step.most(self.lane_context.own, batch) + batch);
        let mut pauses = self.lane_context.context.pauses.changes();
        self.learn(&pauses.borrow_and_update().clone());
        loop {
            let room = self.tracker.in_flight() < bound;
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.drain(|_, _| true).await,
                report = self.inbox.recv() => self.settle(report)?,
                Ok(()) = pauses.changed() => {
                    self.learn(&pauses.borrow_and_update().clone());
                    if self.goes_on() {
                        self.drain(|_, _| true).await?;
                        return Err(Broken::Resumed);
                    }
                }
                incoming = self.consumer.next(batch), if room => match incoming {
                    Ok(Incoming::Records(records)) => {
                        crash::at(self.lane_context.step.role(), Place::Read);
                        self.take(records);
                    }
                    Ok(Incoming::Revoked(partitions, token)) => {
                        self.drain(|topic, partition| partitions.contains(&(topic, partition))).await?;
                        self.tracker.forget(&partitions);
                        self.waiting.retain(|partition| !partitions.contains(partition));
                        self.skipped.retain(|partition| !partitions.contains(partition));
                        drop(token);
                    }
                    Err(error) => return Err(Broken::restart(&error, self.worked)),
                },
            }
        }
    }

    fn learn(&mut self, paused: &Arc<Paused>) {
        let (role, shard) = (self.lane_context.step.role(), self.lane_context.own);
        let partitions = self.lane_context.context.store.map().partitions();
        self.stopped = paused.stopped(role, shard, partitions);
        self.paused = Arc::clone(paused);
    }

    /// Whether records were left unread that are to be read now.
    fn goes_on(&self) -> bool {
        self.skipped.iter().any(|(_, partition)| !self.stopped.contains(partition))
    }

    /// Whether a transfer that was accepted is not to be held yet: the reconciler drives it on when
    /// it may be.
    fn holds_back(&self, event: &Event) -> bool {
        let client = event.request.as_ref().map(|request| &request.client);
        let (source, currency) = (&event.terms.source, event.terms.amount.currency());
        self.lane_context.step.role() == Role::Hold
            && self.paused.holds_back(&Candidate { source, currency, client })
    }

    /// Sorts records into lanes; those that no lane needs are done, or dead, at once. A partition
    /// that holds an event of a later release is read up to it and no further.
    fn take(&mut self, records: Vec<Delivered>) {
        let mut idle = Vec::new();
        self.intake.meter.read(records.len());
        for delivered in records {
            let position = delivered.position;
            if self.waiting.contains(&(position.topic, position.partition)) {
                continue;
            }
            if self.stopped.contains(&position.partition) {
                self.skipped.insert((position.topic, position.partition));
                continue;
            }
            let read = self.intake.read(delivered);
            if let Read::Newer(error) = read {
                self.wait_for_upgrade(position, &error);
                continue;
            }
            self.tracker.entered(position);
            match read {
                Read::Event(input, _) if self.holds_back(&input.event) => {
                    self.intake.meter.paused();
                    idle.push(position);
                }
                Read::Event(input, delivered) => {
                    let lane = self
                        .lane_context
                        .step
                        .account(&input.event)
                        .map(|account| self.lane_context.context.store.map().shard_of(account));
                    match lane {
                        Some(lane) => self.lane(lane).enter(Entered::new(input, delivered)),
                        None => idle.push(position),
                    }
                }
                Read::Stale => idle.push(position),
                Read::Dead(record) => self.lane_context.announce(vec![record], vec![position]),
                Read::Newer(_) => unreachable!("it was told apart above"),
            }
        }
        self.done(&idle);
    }

    fn wait_for_upgrade(&mut self, position: Position, error: &str) {
        let role = self.lane_context.step.role();
        tracing::error!(%role, topic = %position.topic, partition = %position.partition, offset = position.offset, error, "the partition waits");
        WAITING.counter(&[role.as_str(), &self.lane_context.own.to_string()]).increment(1);
        self.waiting.insert((position.topic, position.partition));
    }

    fn lane(&mut self, shard: Shard) -> &Lane {
        let context = &self.lane_context;
        self.lanes.entry(shard).or_insert_with(|| Lane::start(context.clone(), shard))
    }

    fn settle(&mut self, report: Option<Report>) -> Result<(), Broken> {
        match report.expect("this worker holds a sender itself") {
            Report::Done(positions) => {
                self.worked = true;
                self.done(&positions);
                Ok(())
            }
            Report::Producer(error) => Err(Broken::restart(&error, self.worked)),
            Report::Identity(error) => Err(Broken::Identity(error)),
        }
    }

    fn done(&mut self, positions: &[Position]) {
        let moved = self.tracker.done(positions);
        if !moved.is_empty() {
            self.consumer.commit(&moved);
            crash::at(self.lane_context.step.role(), Place::Offset);
        }
    }

    /// Waits for what is in flight in these partitions, bounded.
    async fn drain(&mut self, which: impl Fn(Topic, Partition) -> bool) -> Result<(), Broken> {
        let deadline = tokio::time::Instant::now() + DRAIN_BOUND;
        while self.tracker.in_flight_of(&which) > 0 {
            match tokio::time::timeout_at(deadline, self.inbox.recv()).await {
                Ok(report) => self.settle(report)?,
                Err(_) => {
                    tracing::warn!(role = %self.lane_context.step.role(), "gave up waiting for events in flight; they will be read again");
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
