//! One lane: the events that write to one shard, one transaction at a time.

use super::batch::{Batch, Entered, take_batch};
use super::traced::{Spans, Stage};
use super::{Report, Step};
use crate::broker::envelope::{self, Encoder, Verdict};
use crate::broker::{Position, Producer, Record};
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{AccountId, DeadReason, Input, Outcome, Shard, Suspicion};
use crate::meters::StageMeter;
use crate::quarantine::quarantine;
use crate::seldom::Seldom;
use crate::store::{Constraint, StoreError, Tx, Work, transact};
use crate::trace::TraceContext;
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A shard may keep a batch waiting so many times as long while it answers others.
const PATIENCE: u32 = 5;
const AWAY: &str = "the shard does not answer";

/// What all lanes of a worker share.
#[derive(Clone)]
pub struct LaneContext {
    pub context: Arc<Context>,
    pub step: Arc<dyn Step>,
    pub own: Shard,
    pub producer: Arc<dyn Producer>,
    pub reports: mpsc::UnboundedSender<Report>,
}

impl LaneContext {
    /// Queues records now, in order, and reports the positions once all are acknowledged.
    pub fn announce(&self, records: Vec<Record>, positions: Vec<Position>) {
        if records.is_empty() {
            self.report(Report::Done(positions));
            return;
        }
        let acknowledged = self.producer.send(records);
        let (reports, role) = (self.reports.clone(), self.step.role());
        tokio::spawn(async move {
            let report = match acknowledged.await {
                Ok(()) => {
                    crash::at(role, Place::Announced);
                    Report::Done(positions)
                }
                Err(error) => Report::Producer(error),
            };
            // Nobody listens any more: the worker has begun again and reads these events anew.
            let _ = reports.send(report);
        });
    }

    fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }
}

/// The way into a lane; its task ends when this is dropped.
pub struct Lane {
    entrance: mpsc::UnboundedSender<Entered>,
}

impl Lane {
    pub fn start(shared: LaneContext, shard: Shard) -> Self {
        let (entrance, inbox) = mpsc::unbounded_channel();
        let meter = Arc::new(StageMeter::new(shared.step.role(), shard));
        tokio::spawn(
            LaneTask {
                shared,
                shard,
                inbox,
                waiting: VecDeque::new(),
                meter,
                away: false,
                let_go: Seldom::unsaid(),
            }
            .run(),
        );
        Self { entrance }
    }

    /// The queue needs no bound of its own: what the worker has in flight is bounded, over all
    /// lanes.
    pub fn enter(&self, entered: Entered) {
        // The task ends only after this sender is dropped.
        let _ = self.entrance.send(entered);
    }
}

struct LaneTask {
    shared: LaneContext,
    shard: Shard,
    inbox: mpsc::UnboundedReceiver<Entered>,
    waiting: VecDeque<Entered>,
    meter: Arc<StageMeter>,
    /// The shard let the last batch down. Where it is not the worker's own, the next one is tried
    /// once, without patience, so that what goes elsewhere does not run out of room behind it.
    away: bool,
    let_go: Seldom,
}

type Applied = JoinHandle<Result<Vec<Outcome>, StoreError>>;

impl LaneTask {
    async fn run(mut self) {
        while let Some(batch) = self.collect().await {
            self.process(batch).await;
        }
    }

    /// Waits for an event, and until it can be acted on, then takes what else is there. A shard that
    /// keeps it waiting is found to be away by applying the batch.
    async fn collect(&mut self) -> Option<Batch> {
        if self.waiting.is_empty() {
            self.waiting.push_back(self.inbox.recv().await?);
        }
        let ready = self.shared.step.ready(self.shard);
        if self.shared.step.lets_go(self.shard == self.shared.own) {
            let bound = self.shared.context.policy.foreign_shard_timeout;
            let _ = tokio::time::timeout(bound, ready).await;
        } else {
            ready.await;
        }
        while let Ok(entered) = self.inbox.try_recv() {
            self.waiting.push_back(entered);
        }
        let once = self.shared.step.one_event_a_transfer();
        let most = self.most();
        Some(take_batch(&mut self.waiting, most, once))
    }

    fn most(&self) -> usize {
        self.shared.step.most(self.shard, self.shared.context.policy.batch)
    }

    async fn process(&mut self, batch: Batch) {
        let give_up = CancellationToken::new();
        let own = self.shard == self.shared.own;
        let lets_go = self.shared.step.lets_go(own);
        if lets_go && self.away && !own {
            give_up.cancel();
        }
        let mut applied = self.apply(&batch.inputs, false, &give_up);
        if !lets_go {
            let result = applied.await;
            return self.conclude(batch, joined(self.shard, result)).await;
        }
        let bound = self.shared.context.policy.foreign_shard_timeout;
        let answered = || self.shared.step.answered(self.shard);
        if let Some(result) = patiently(&mut applied, bound, answered).await {
            return self.conclude(batch, joined(self.shard, result)).await;
        }
        give_up.cancel();
        self.away = true;
        if let Some(left_out) = self.let_go.due() {
            tracing::warn!(role = %self.shared.step.role(), shard = %self.shard, transfers = batch.inputs.len(), left_out, "a shard does not answer in time; its transfers are let go and driven again later");
        }
        self.let_go_all(&batch);
        self.outlast(batch, applied).await;
    }

    /// The database works on, undisturbed: a query is never dropped. Errors that pass are ridden
    /// out until `give_up`.
    fn apply(
        &self,
        inputs: &Arc<Vec<Input>>,
        isolated: bool,
        give_up: &CancellationToken,
    ) -> Applied {
        let inputs = Arc::clone(inputs);
        let (step, shard, give_up) = (Arc::clone(&self.shared.step), self.shard, give_up.clone());
        let meter = Arc::clone(&self.meter);
        tokio::spawn(
            async move { apply_until(step, shard, inputs, isolated, give_up, &meter).await },
        )
    }

    /// While the shard hangs, events that have waited long enough are let go; what the
    /// transaction yields in the end is still announced.
    async fn outlast(&mut self, batch: Batch, mut applied: Applied) {
        let bound = self.shared.context.policy.foreign_shard_timeout;
        let result = loop {
            let oldest = self.waiting.front().map(|entered| entered.since + bound);
            tokio::select! {
                biased;
                result = &mut applied => break joined(self.shard, result),
                () = tokio::time::sleep_until(oldest.unwrap_or_else(Instant::now)), if oldest.is_some() => {
                    let now = Instant::now();
                    let late = self.waiting.iter().take_while(|entered| entered.since + bound <= now).count();
                    self.waiting.iter().take(late).for_each(|entered| self.trace_let_go(entered));
                    let gone = self.waiting.drain(..late).map(|entered| entered.delivered.position).collect();
                    self.let_go(gone);
                }
                Some(entered) = self.inbox.recv() => self.waiting.push_back(entered),
            }
        };
        if let Ok(outcomes) = result {
            self.away = false;
            self.shared.announce(self.records(&batch, &outcomes), Vec::new());
        }
    }

    /// Whoever follows one of them sees that it ends here for now.
    fn let_go_all(&self, batch: &Batch) {
        let gone = Outcome::LetGo(AWAY);
        if let Some(mut spans) = Spans::of(&self.shared, self.shard, batch) {
            for index in 0..batch.inputs.len() {
                spans.event(index, &gone);
            }
            spans.end();
        }
        self.let_go(batch.positions());
    }

    fn trace_let_go(&self, entered: &Entered) {
        let stage = Stage {
            role: self.shared.step.role(),
            lane: self.shard,
            event: &entered.input.event,
            position: entered.delivered.position,
            taken: entered.since,
        };
        stage.span(&self.shared.context.traces, &Outcome::LetGo(AWAY), None);
    }

    fn let_go(&self, positions: Vec<Position>) {
        self.meter.outcome("let_go", positions.len());
        self.shared.report(Report::Done(positions));
    }

    async fn conclude(&mut self, batch: Batch, result: Result<Vec<Outcome>, StoreError>) {
        match result {
            Ok(outcomes) => {
                crash::at(self.shared.step.role(), Place::Applied);
                self.away = false;
                let records = self.records(&batch, &outcomes);
                self.shared.announce(records, batch.positions());
            }
            Err(error @ StoreError::Identity { .. }) => {
                self.shared.report(Report::Identity(error));
            }
            Err(error) if suspicious(&error) => self.isolate(batch, &error).await,
            Err(error) => {
                self.away = true;
                if let Some(left_out) = self.let_go.due() {
                    tracing::warn!(%error, left_out, "a batch is let go and driven again later");
                }
                self.let_go_all(&batch);
            }
        }
    }

    /// Some event of the batch runs into a row that breaks an invariant: each is applied alone,
    /// and the one that fails goes to the dead letters, its account into quarantine.
    async fn isolate(&self, batch: Batch, error: &StoreError) {
        tracing::error!(%error, transfers = batch.inputs.len(), "an invariant is violated; looking for the event");
        self.shared.report(Report::Done(batch.copies));
        let events = batch.inputs.iter().zip(batch.delivered).zip(batch.taken);
        for ((input, delivered), taken) in events {
            let alone = Batch {
                inputs: Arc::new(vec![input.clone()]),
                delivered: vec![delivered],
                taken: vec![taken],
                copies: Vec::new(),
                began: Instant::now(),
            };
            let applied = self.apply(&alone.inputs, true, &CancellationToken::new()).await;
            let result = joined(self.shard, applied);
            let outcomes = match result {
                Err(error) if suspicious(&error) => {
                    if let Some(account) = self.shared.step.account(&input.event) {
                        self.quarantine(account, &error).await;
                    }
                    let detail = error.to_string();
                    Ok(vec![Outcome::Dead { reason: DeadReason::Invariant, detail }])
                }
                other => other,
            };
            let position = alone.positions();
            match outcomes {
                Ok(outcomes) => self.shared.announce(self.records(&alone, &outcomes), position),
                Err(error @ StoreError::Identity { .. }) => {
                    self.shared.report(Report::Identity(error));
                }
                Err(_) => self.let_go_all(&alone),
            }
        }
    }

    async fn quarantine(&self, account: &AccountId, found: &StoreError) {
        let suspicion = Suspicion::of(found.to_string());
        let work = Quarantine(BTreeMap::from([(account.clone(), suspicion)]));
        if let Err(error) = transact(&*self.shared.context.store, self.shard, &work).await {
            tracing::error!(%error, "an account could not be quarantined");
        }
    }

    fn records(&self, batch: &Batch, outcomes: &[Outcome]) -> Vec<Record> {
        assert_eq!(batch.inputs.len(), outcomes.len(), "a step has one outcome for each event");
        let map = self.shared.context.store.map();
        let mut records = Vec::with_capacity(outcomes.len());
        let mut encoder = Encoder::of(outcomes.len());
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut spans = Spans::of(&self.shared, self.shard, batch);
        let events = batch.inputs.iter().zip(&batch.delivered).zip(outcomes);
        for (index, ((input, delivered), outcome)) in events.enumerate() {
            let trace = spans.as_mut().and_then(|spans| spans.event(index, outcome));
            let goes_on = |mut record: Record| {
                if let Some(trace) = trace {
                    envelope::set_traceparent(&mut record, &trace.to_string());
                }
                record
            };
            let counted = match outcome {
                Outcome::Emit(event) => {
                    records.push(goes_on(encoder.record(event, map)));
                    self.meter.through(event.at.since(delivered.timestamp));
                    event.kind.as_str()
                }
                Outcome::Done => "done",
                Outcome::LetGo(why) => {
                    let trace_id = TraceContext::of(&input.event).trace_id();
                    tracing::info!(transfer = %input.event.terms.id, %trace_id, why, "let go");
                    "let_go"
                }
                Outcome::Dead { reason, detail } => {
                    let trace_id = TraceContext::of(&input.event).trace_id();
                    tracing::error!(transfer = %input.event.terms.id, %trace_id, reason = reason.as_str(), detail, "to the dead letters");
                    let role = self.shared.step.role();
                    let verdict =
                        Verdict { reason: *reason, detail, role, at: delivered.timestamp };
                    let mut letter = envelope::dead_letter(delivered, &verdict);
                    if let Some(given) = &input.event.traceparent {
                        envelope::set_traceparent(&mut letter, given);
                    }
                    records.push(goes_on(letter));
                    self.meter.dead(*reason);
                    "dead"
                }
            };
            *counts.entry(counted).or_default() += 1;
        }
        if let Some(spans) = spans {
            spans.end();
        }
        counts.into_iter().for_each(|(outcome, events)| self.meter.outcome(outcome, events));
        records
    }
}

async fn apply_until(
    step: Arc<dyn Step>,
    shard: Shard,
    inputs: Arc<Vec<Input>>,
    isolated: bool,
    give_up: CancellationToken,
    meter: &StageMeter,
) -> Result<Vec<Outcome>, StoreError> {
    let role = step.role().as_str();
    meter.batch(inputs.len());
    let mut pause = Duration::from_millis(20);
    let again = Seldom::unsaid();
    loop {
        let started = Instant::now();
        let result = match isolated {
            true => step.apply_alone(shard, Arc::clone(&inputs)).await,
            false => step.apply(shard, Arc::clone(&inputs)).await,
        };
        meter.tried(started.elapsed());
        let error = match result {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) => error,
        };
        meter.failed(error.kind());
        let passes = !suspicious(&error) && !matches!(error, StoreError::Identity { .. });
        if !passes || give_up.is_cancelled() {
            return Err(error);
        }
        if let Some(left_out) = again.due() {
            tracing::warn!(role, %shard, %error, left_out, "a batch is applied again");
        }
        tokio::select! {
            biased;
            () = give_up.cancelled() => return Err(error),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
        meter.again();
    }
}

/// What comes of a batch, or nothing where its shard is away: where it has answered nobody for so
/// long. Busy with others is not away, but [`PATIENCE`] times as long is.
async fn patiently<T>(
    applied: &mut JoinHandle<T>,
    bound: Duration,
    answered: impl Fn() -> Option<Instant>,
) -> Option<Result<T, JoinError>> {
    let began = Instant::now();
    let mut until = began + bound;
    while Instant::now() < until {
        if let Ok(result) = tokio::time::timeout_at(until, &mut *applied).await {
            return Some(result);
        }
        until = (answered().unwrap_or(began) + bound).min(began + bound * PATIENCE);
    }
    None
}

/// Whether an error says that a row breaks an invariant, so that trying again cannot help.
fn suspicious(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt { .. }
            | StoreError::Duplicate {
                constraint: Constraint::EntryVersion | Constraint::Other,
                ..
            }
    )
}

/// A step that panicked has met a broken invariant: its batch is taken apart to find the event,
/// so that one bad account does not end the role.
fn joined(
    shard: Shard,
    result: Result<Result<Vec<Outcome>, StoreError>, JoinError>,
) -> Result<Vec<Outcome>, StoreError> {
    result.unwrap_or_else(|error| {
        let detail = format!("the step ended in a panic: {error}");
        Err(StoreError::Corrupt { shard, detail })
    })
}

struct Quarantine(BTreeMap<AccountId, Suspicion>);

#[async_trait]
impl Work for Quarantine {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        quarantine(tx, &self.0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(2);

    /// How long is waited for a batch that takes so many seconds, on a shard that last answered
    /// somebody then; and whether it was waited for to its end.
    async fn waited(takes: u64, answered: impl Fn() -> Option<Instant>) -> (u64, bool) {
        let began = Instant::now();
        let work = tokio::time::timeout(Duration::from_secs(takes), std::future::pending::<()>());
        let mut applied = tokio::spawn(work);
        let done = patiently(&mut applied, BOUND, answered).await;
        (began.elapsed().as_secs(), done.is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_is_busy_with_others_is_not_away() {
        let began = Instant::now();
        assert_eq!(waited(1, || None).await, (1, true));
        assert_eq!(waited(9, || None).await, (2, false), "it never answered");
        assert_eq!(waited(9, || Some(began)).await, (2, false), "it answered long ago");
        assert_eq!(waited(9, || Some(Instant::now())).await, (9, true));
        assert_eq!(waited(99, || Some(Instant::now())).await, (10, false), "nor for ever");
        let now = Instant::now();
        let last = now + Duration::from_secs(3);
        assert_eq!(waited(99, || Some(last.min(Instant::now()))).await, (5, false), "it stopped");
    }
}
