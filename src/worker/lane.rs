//! One lane: the events that write to one shard, one transaction at a time.

use super::{Report, Step};
use crate::broker::envelope::{self, Verdict};
use crate::broker::{Delivered, Position, Producer, Record};
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{AccountId, DeadReason, Input, Outcome, Shard, Suspicion, TransferId};
use crate::quarantine::quarantine;
use crate::seldom::Seldom;
use crate::store::{Constraint, StoreError, Tx, Work, transact};
use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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

/// An event in a lane.
pub struct Entered {
    input: Box<Input>,
    delivered: Delivered,
    since: Instant,
}

impl Entered {
    /// Thousands wait at a time, and their records are kept for dead letters alone.
    pub fn new(input: Box<Input>, delivered: Delivered) -> Self {
        Self { input, delivered: envelope::for_dead_letter(delivered), since: Instant::now() }
    }
}

/// The way into a lane; its task ends when this is dropped.
pub struct Lane {
    entrance: mpsc::UnboundedSender<Entered>,
}

impl Lane {
    pub fn start(shared: LaneContext, shard: Shard) -> Self {
        let (entrance, inbox) = mpsc::unbounded_channel();
        tokio::spawn(
            LaneTask {
                shared,
                shard,
                inbox,
                waiting: VecDeque::new(),
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
    /// The shard let the last batch down. Where it is not the worker's own, the next one is tried
    /// once, without patience, so that what goes elsewhere does not run out of room behind it.
    away: bool,
    let_go: Seldom,
}

/// Events for one transaction, the records that they came as, and the places of further copies.
struct Batch {
    inputs: Arc<Vec<Input>>,
    delivered: Vec<Delivered>,
    copies: Vec<Position>,
}

impl Batch {
    fn positions(&self) -> Vec<Position> {
        let of_events = self.delivered.iter().map(|delivered| delivered.position);
        of_events.chain(self.copies.iter().copied()).collect()
    }
}

/// The next batch of at most `most` events. With `once` it holds each transfer once: further copies
/// of an event are left out, and another event of the same transfer, or one that says something
/// else of it, waits for the next batch.
fn take_batch(waiting: &mut VecDeque<Entered>, most: usize, once: bool) -> Batch {
    let mut places: HashMap<TransferId, usize> = HashMap::new();
    let mut inputs = Vec::<Input>::with_capacity(most.min(waiting.len()));
    let (mut delivered, mut copies) = (Vec::with_capacity(inputs.capacity()), Vec::new());
    while inputs.len() < most {
        let Some(next) = waiting.pop_front() else { break };
        let event = &next.input.event;
        let first = places.get(&event.terms.id).map(|place| &inputs[*place].event);
        match first {
            Some(first) if first.kind == event.kind && first.terms == event.terms => {
                copies.push(next.delivered.position);
            }
            Some(_) => {
                waiting.push_front(next);
                break;
            }
            None => {
                if once {
                    places.insert(event.terms.id, inputs.len());
                }
                inputs.push(*next.input);
                delivered.push(next.delivered);
            }
        }
    }
    Batch { inputs: Arc::new(inputs), delivered, copies }
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
        self.shared.step.most(self.shared.context.policy.batch)
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
        if let Ok(result) = tokio::time::timeout(bound, &mut applied).await {
            return self.conclude(batch, joined(self.shard, result)).await;
        }
        give_up.cancel();
        self.away = true;
        if let Some(left_out) = self.let_go.due() {
            tracing::warn!(role = %self.shared.step.role(), shard = %self.shard, transfers = batch.inputs.len(), left_out, "a shard does not answer in time; its transfers are let go and driven again later");
        }
        self.let_go(batch.positions());
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
        tokio::spawn(async move { apply_until(step, shard, inputs, isolated, give_up).await })
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

    fn let_go(&self, positions: Vec<Position>) {
        self.count("let_go", positions.len());
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
                self.let_go(batch.positions());
            }
        }
    }

    /// Some event of the batch runs into a row that breaks an invariant: each is applied alone,
    /// and the one that fails goes to the dead letters, its account into quarantine.
    async fn isolate(&self, batch: Batch, error: &StoreError) {
        tracing::error!(%error, transfers = batch.inputs.len(), "an invariant is violated; looking for the event");
        self.shared.report(Report::Done(batch.copies));
        for (input, delivered) in batch.inputs.iter().zip(batch.delivered) {
            let inputs = Arc::new(vec![input.clone()]);
            let alone = Batch { inputs, delivered: vec![delivered], copies: Vec::new() };
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
                Err(_) => self.let_go(position),
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
        let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
        for ((input, delivered), outcome) in batch.inputs.iter().zip(&batch.delivered).zip(outcomes)
        {
            let counted = match outcome {
                Outcome::Emit(event) => {
                    records.push(envelope::record(event, map));
                    event.kind.as_str()
                }
                Outcome::Done => "done",
                Outcome::LetGo(why) => {
                    tracing::info!(transfer = %input.event.terms.id, why, "let go");
                    "let_go"
                }
                Outcome::Dead { reason, detail } => {
                    tracing::error!(transfer = %input.event.terms.id, reason = reason.as_str(), detail, "to the dead letters");
                    let role = self.shared.step.role();
                    let verdict =
                        Verdict { reason: *reason, detail, role, at: delivered.timestamp };
                    records.push(envelope::dead_letter(delivered, &verdict));
                    "dead"
                }
            };
            *counts.entry(counted).or_default() += 1;
        }
        counts.into_iter().for_each(|(outcome, events)| self.count(outcome, events));
        records
    }

    fn count(&self, outcome: &'static str, events: usize) {
        let role = self.shared.step.role().as_str();
        let shard = self.shard.to_string();
        metrics::counter!("holdfast_events_total", "role" => role, "shard" => shard, "outcome" => outcome)
            .increment(events as u64);
    }
}

async fn apply_until(
    step: Arc<dyn Step>,
    shard: Shard,
    inputs: Arc<Vec<Input>>,
    isolated: bool,
    give_up: CancellationToken,
) -> Result<Vec<Outcome>, StoreError> {
    let role = step.role().as_str();
    metrics::histogram!("holdfast_step_batch_size", "role" => role).record(inputs.len() as f64);
    let mut pause = Duration::from_millis(20);
    let again = Seldom::unsaid();
    loop {
        let started = Instant::now();
        let result = match isolated {
            true => step.apply_alone(shard, Arc::clone(&inputs)).await,
            false => step.apply(shard, Arc::clone(&inputs)).await,
        };
        metrics::histogram!("holdfast_step_seconds", "role" => role).record(started.elapsed());
        let error = match result {
            Ok(outcomes) => return Ok(outcomes),
            Err(error) => error,
        };
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
    }
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
    use crate::broker::Topic;
    use crate::domain::testing::{input, terms};
    use crate::domain::{EventType, Partition, Terms};

    fn entered(kind: EventType, terms: &Terms, offset: i64) -> Entered {
        let input = Input { offset, ..input(kind, terms) };
        let topic = Topic::of(kind, Shard(0));
        let position = Position { topic, partition: Partition(0), offset };
        let timestamp = input.event.at;
        let (key, value, headers) = (Vec::new(), Vec::new(), Vec::new());
        Entered::new(Box::new(input), Delivered { position, key, value, headers, timestamp })
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        batch.inputs.iter().map(|input| input.offset).collect()
    }

    /// Hazard 11: of several copies of an event in one batch one is decided on; the others are
    /// done with it, so that their offsets are committed too.
    #[test]
    fn a_batch_holds_each_transfer_once() {
        let (one, two) = (terms(1, "a", "b", 50), terms(2, "a", "b", 50));
        let events = [(&one, 1), (&one, 2), (&two, 3), (&one, 4)];
        let requested = |(terms, offset)| entered(EventType::Requested, terms, offset);
        let mut waiting = events.map(requested).into();
        let batch = take_batch(&mut waiting, 10, true);
        assert_eq!(offsets(&batch), [1, 3]);
        assert_eq!(batch.copies.iter().map(|copy| copy.offset).collect::<Vec<_>>(), [2, 4]);
        let done: Vec<i64> = batch.positions().iter().map(|position| position.offset).collect();
        assert_eq!(done, [1, 3, 2, 4]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn another_event_of_a_transfer_waits_for_the_next_batch() {
        let (one, two) = (terms(1, "a", "b", 50), terms(2, "a", "b", 50));
        let mut waiting = VecDeque::from([
            entered(EventType::Credited, &one, 1),
            entered(EventType::Refused, &one, 1),
            entered(EventType::Credited, &two, 2),
        ]);
        assert_eq!(take_batch(&mut waiting, 10, true).inputs.len(), 1);
        assert_eq!(take_batch(&mut waiting, 10, true).inputs.len(), 2);
    }

    /// A forged event that comes first must not take the true one with it to the dead letters.
    #[test]
    fn an_event_with_other_terms_is_no_copy() {
        let (forged, real) = (terms(1, "a", "b", 51), terms(1, "a", "b", 50));
        let events = [(&forged, 1), (&real, 2), (&real, 3)];
        let requested = |(terms, offset)| entered(EventType::Requested, terms, offset);
        let mut waiting = events.map(requested).into();
        assert_eq!(offsets(&take_batch(&mut waiting, 10, true)), [1]);
        assert_eq!(offsets(&take_batch(&mut waiting, 10, true)), [2]);
    }

    #[test]
    fn a_batch_is_bounded_and_may_hold_all_events_of_a_transfer() {
        let one = terms(1, "a", "b", 50);
        let mut waiting = (1..6).map(|at| entered(EventType::Held, &one, at)).collect();
        assert_eq!(offsets(&take_batch(&mut waiting, 3, false)), [1, 2, 3]);
        assert_eq!(offsets(&take_batch(&mut waiting, 3, false)), [4, 5]);
    }
}
