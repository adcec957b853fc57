//! Group commit: requests that arrive while a transaction runs share the next one. So do those that
//! arrive in as much time again, within a bound; whoever finds nothing under way does not wait.

use super::decide::{Asked, Decided, Keyed, Verdict, decide, same};
use super::pressure::Pressure;
use super::queue::{Answer, Entrance, Queue, Waiting, queue, refused};
use super::request::{Refusal, Submitted};
use super::traced::Accepting;
use crate::broker::Record;
use crate::broker::envelope::Encoder;
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{
    Cause, EventType, RequestDetails, Shard, State, TransferId, TransferRow, format_minor,
};
use crate::meters::table::{GROUP_SECONDS, GROUP_SIZE};
use crate::meters::{Histogram, Tally};
use crate::pauses::Candidate;
use crate::random;
use crate::roles::Role;
use crate::sealing::{Sealer, seal};
use crate::seldom::Seldom;
use crate::store::{NewTransfer, StoreError, TransferRecord, Tx, Work, transact};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A transaction open for longer is given up before its COMMIT is sent. What goes with the COMMIT may
/// wait for locks, 5 s a statement: together its ids stay far younger than the minute by which the
/// reconciler's scan stays behind.
const LONGEST: Duration = Duration::from_secs(10);
/// Between two group commits, at most.
const LONGEST_REST: Duration = Duration::from_millis(3);
/// How often a batch is run again to find out what became of an unconfirmed COMMIT.
const LOOKS_AFTER_UNKNOWN: u32 = 2;

/// Starts the task that commits a shard's requests, and returns the way to it; the task ends when
/// that is dropped.
pub(super) fn start(context: Arc<Context>, shard: Shard, pressure: Arc<Pressure>) -> Entrance {
    let (entrance, queue) = queue(shard);
    let size = GROUP_SIZE.histogram(&[&shard.to_string()]);
    let seconds = GROUP_SECONDS.histogram(&[&shard.to_string()]);
    tokio::spawn(Lane { context, shard, pressure, repeats: false, size, seconds }.run(queue));
    entrance
}

struct Lane {
    context: Arc<Context>,
    shard: Shard,
    pressure: Arc<Pressure>,
    /// Whether the last group commit met claims that were there already. The next is then likely
    /// to meet some too.
    repeats: bool,
    size: Histogram,
    seconds: Histogram,
}

impl Lane {
    async fn run(mut self, mut queue: Queue) {
        while let Some(mut batch) = queue.collect().await {
            let traced = Accepting::begin(&self.context.traces, self.shard, &mut batch);
            let (asked, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(Waiting::taken).unzip();
            self.size.record(asked.len() as f64);
            let began = Instant::now();
            let results = tokio::select! {
                biased;
                results = self.commit(asked) => results,
                never = queue.refuse_late() => match never {},
            };
            if let Some(traced) = traced {
                traced.end(&results);
            }
            for (answer, result) in answers.into_iter().zip(results) {
                // The caller may have gone; what was accepted stays accepted.
                let _ = answer.send(result);
            }
            self.seconds.record(began.elapsed());
            let rest = began.elapsed().min(LONGEST_REST);
            tokio::select! {
                biased;
                () = tokio::time::sleep(rest) => {}
                never = queue.refuse_late() => match never {},
            }
        }
    }

    async fn commit(&mut self, asked: Vec<Asked>) -> Vec<Answer> {
        let closed = self.pressure.is_high(self.shard);
        let reversals = asked.iter().any(|asked| asked.request.reverses.is_some());
        let paused = self.paused(&asked);
        let look_first = self.repeats || closed || reversals || !paused.is_empty();
        let mut work = Intake { context: &self.context, asked: &asked, look_first, closed, paused };
        let mut result = transact(&*self.context.store, self.shard, &work).await;
        let mut unknown = false;
        for _ in 0..LOOKS_AFTER_UNKNOWN {
            if !matches!(result, Err(StoreError::CommitUnknown { .. })) {
                break;
            }
            // The claims tell: whichever of the two transactions is first, the other finds them.
            (unknown, work.look_first) = (true, true);
            result = transact(&*self.context.store, self.shard, &work).await;
        }
        match result {
            Ok(taken) => {
                self.repeats = taken.new < asked.len();
                if taken.new > 0 {
                    crash::at(Role::Ingress, Place::Accepted);
                    self.context.money.count(self.shard, &taken.accepted());
                    self.pressure.accepted(self.shard, taken.new);
                    self.context.wake.outbox_written(self.shard);
                }
                let answers = self.answers(taken).await;
                if unknown { answers.into_iter().map(doubted).collect() } else { answers }
            }
            Err(error) => {
                let refusal = if unknown { Refusal::OutcomeUnknown } else { Refusal::from(error) };
                vec![Err(refusal); asked.len()]
            }
        }
    }

    /// Answers in order; what earlier requests made is read as it stands now.
    async fn answers(&self, taken: Taken) -> Vec<Answer> {
        let mut answers: Vec<Answer> = Vec::with_capacity(taken.verdicts.len());
        let found = self.replayed(&taken).await;
        for verdict in &taken.verdicts {
            answers.push(match verdict {
                Decision::New(transfer) => Ok(Submitted { transfer: transfer.clone(), replayed: false }),
                Decision::Replay(id) => match &found {
                    Ok(found) => match found.get(id) {
                        Some(transfer) => Ok(Submitted { transfer: transfer.clone(), replayed: true }),
                        None => {
                            tracing::error!(transfer = %id, "a claim names a transfer that has no row");
                            Err(Refusal::Internal)
                        }
                    },
                    // Accepted it is: only what became of it cannot be read now.
                    Err(error) => {
                        tracing::warn!(%error, transfer = %id, "a transfer that was accepted cannot be read");
                        Err(Refusal::OutcomeUnknown)
                    }
                },
                Decision::RepeatOf(first) => match &answers[*first] {
                    Ok(submitted) => Ok(Submitted { replayed: true, ..submitted.clone() }),
                    Err(refusal) => Err(refusal.clone()),
                },
                Decision::Refused(refusal) => Err(refusal.clone()),
            });
        }
        answers
    }

    /// By their places, the requests that nothing new is accepted for now, and what stops them.
    fn paused(&self, asked: &[Asked]) -> BTreeMap<usize, String> {
        let (paused, map) = (self.context.pauses.now(), self.context.store.map());
        if paused.is_empty() {
            return BTreeMap::new();
        }
        let stopped = |(index, asked): (usize, &Asked)| {
            let request = &asked.request;
            let candidate = Candidate {
                source: &request.source,
                currency: request.amount.currency(),
                client: Some(&request.client),
            };
            paused.refuses(&candidate, map).map(|scope| (index, scope.to_string()))
        };
        asked.iter().enumerate().filter_map(stopped).collect()
    }

    async fn replayed(
        &self,
        taken: &Taken,
    ) -> Result<HashMap<TransferId, TransferRecord>, StoreError> {
        let ids: BTreeSet<TransferId> = taken
            .verdicts
            .iter()
            .filter_map(|verdict| match verdict {
                Decision::Replay(id) => Some(*id),
                Decision::New(_) | Decision::RepeatOf(_) | Decision::Refused(_) => None,
            })
            .collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<_> = ids.into_iter().collect();
        let records = self.context.store.transfer_records(self.shard, &ids).await?;
        Ok(records.into_iter().map(|record| (record.row.terms.id, record)).collect())
    }
}

/// While a COMMIT may still be on its way, nothing can be said not to have been accepted.
fn doubted(answer: Answer) -> Answer {
    match answer {
        Err(Refusal::Overloaded | Refusal::Paused(_)) => Err(Refusal::OutcomeUnknown),
        decided => decided,
    }
}

/// One group commit: claims, transfers and the outbox record in one transaction.
struct Intake<'a> {
    context: &'a Context,
    asked: &'a [Asked],
    /// Claims are looked up before anything is written. Without it all are taken for new, and where
    /// one is not, its insert fails and the transaction is run again with it.
    look_first: bool,
    /// Nothing new is accepted; repeats are answered all the same.
    closed: bool,
    /// What stops those that would be new, by their places.
    paused: BTreeMap<usize, String>,
}

/// What a committed group commit answers with.
struct Taken {
    verdicts: Vec<Decision>,
    /// Transfers that were written.
    new: usize,
}

impl Taken {
    fn accepted(&self) -> Tally {
        let new = self.verdicts.iter().filter_map(|verdict| match verdict {
            Decision::New(transfer) => Some(&transfer.row.terms),
            Decision::Replay(_) | Decision::RepeatOf(_) | Decision::Refused(_) => None,
        });
        Tally::accepted(new)
    }
}

#[allow(clippy::large_enum_variant, reason = "nearly all are new: a box would be one a transfer")]
enum Decision {
    New(TransferRecord),
    Replay(TransferId),
    RepeatOf(usize),
    Refused(Refusal),
}

#[async_trait]
impl Work for Intake<'_> {
    type Output = Taken;

    async fn run(&self, tx: &mut dyn Tx, attempt: u32) -> Result<Taken, StoreError> {
        let began = Instant::now();
        let keys: BTreeSet<_> = self.asked.iter().map(Asked::claim).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let look = self.look_first || attempt > 0;
        let mut claims = if look { tx.claims(&keys).await? } else { HashMap::new() };
        let sealing = self.sealing(tx)?;
        if self.closed && claims.len() < keys.len() {
            return Ok(self.repeats_only(tx.shard(), &claims, &sealing));
        }
        let originals: BTreeSet<TransferId> = self
            .asked
            .iter()
            .filter(|asked| !claims.contains_key(&asked.claim()))
            .filter_map(|asked| asked.request.reverses.map(|original| original.id))
            .collect();
        let reversed = if originals.is_empty() {
            BTreeMap::new()
        } else {
            let reversed = tx.lock_reversed(&originals).await?;
            // Who had the lock may have been the same request, whose answer was lost.
            claims = tx.claims(&keys).await?;
            reversed
        };
        let keyed = |asked: &Asked| sealing.keyed(asked);
        let mut decided = decide(
            self.asked,
            &claims,
            &reversed,
            |index| self.paused.contains_key(&index),
            tx.now(),
            &keyed,
            random::bits,
        );
        sealing.seal(&mut decided.transfers);
        self.write(tx, &decided).await?;
        if began.elapsed() > LONGEST {
            let detail = "the transaction was open for too long".to_owned();
            return Err(StoreError::Retry { shard: tx.shard(), detail });
        }
        Ok(self.taken(&decided))
    }
}

impl Intake<'_> {
    /// A key that is not there concerns those requests only that need it.
    fn sealing(&self, tx: &dyn Tx) -> Result<Sealing, StoreError> {
        if !self.asked.iter().any(|asked| asked.request.is_personal()) {
            return Ok(Sealing::Off);
        }
        match tx.sealer() {
            Ok(None) => Ok(Sealing::Off),
            Ok(Some(sealer)) => Ok(Sealing::With(sealer)),
            Err(error @ StoreError::Failed { .. }) => {
                static UNSEALED: Seldom = Seldom::unsaid();
                if let Some(left_out) = UNSEALED.due() {
                    tracing::error!(%error, left_out, "personal fields cannot be encrypted");
                }
                Ok(Sealing::NoKey)
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, tx: &mut dyn Tx, decided: &Decided) -> Result<(), StoreError> {
        if decided.transfers.is_empty() {
            return Ok(());
        }
        if !decided.reversed.is_empty() {
            let changed = tx.add_reversed(&decided.reversed).await?;
            crate::store::expect_rows(tx.shard(), "reversals", decided.reversed.len(), changed)?;
        }
        tx.insert_transfers(&decided.transfers).await?;
        tx.insert_outbox(&self.records(decided)).await
    }

    /// The events of the new transfers, in order, with the traces of their requests.
    fn records(&self, decided: &Decided) -> Vec<Record> {
        let asked = self.asked.iter().zip(&decided.verdicts);
        let new = asked.filter(|(_, verdict)| matches!(verdict, Verdict::New(_)));
        let traces = new.map(|(asked, _)| asked.request.traceparent.clone());
        let identity = self.context.store.identity();
        let map = self.context.store.map();
        let mut encoder = Encoder::of(decided.transfers.len());
        decided
            .transfers
            .iter()
            .zip(traces)
            .map(|(transfer, traceparent)| {
                let mut event =
                    identity.stamp(transfer.at).event(EventType::Requested, &transfer.terms);
                event.request = Some(RequestDetails::of(transfer));
                event.traceparent = traceparent;
                encoder.record(&event, map)
            })
            .collect()
    }

    fn taken(&self, decided: &Decided) -> Taken {
        let verdicts = self
            .asked
            .iter()
            .zip(&decided.verdicts)
            .enumerate()
            .map(|(index, (asked, verdict))| match verdict {
                Verdict::New(index) => Decision::New(requested(&decided.transfers[*index])),
                Verdict::Replay(id) => Decision::Replay(*id),
                Verdict::RepeatOf(first) => Decision::RepeatOf(*first),
                Verdict::KeyReused => Decision::Refused(Refusal::KeyReused),
                Verdict::Exceeds(left) => Decision::Refused(exceeds(asked, *left)),
                Verdict::Paused => Decision::Refused(Refusal::Paused(self.paused[&index].clone())),
                Verdict::NoKey => Decision::Refused(no_key()),
            })
            .collect();
        Taken { verdicts, new: decided.transfers.len() }
    }

    fn repeats_only(
        &self,
        shard: Shard,
        claims: &HashMap<crate::store::ClaimKey, crate::store::Claim>,
        sealing: &Sealing,
    ) -> Taken {
        let verdict = |asked: &Asked| match claims.get(&asked.claim()) {
            None => Decision::Refused(refused(shard, "behind")),
            Some(claim) => match same(claim, asked, sealing.keyed(asked)) {
                Some(true) => Decision::Replay(claim.transfer),
                Some(false) => Decision::Refused(Refusal::KeyReused),
                None => Decision::Refused(no_key()),
            },
        };
        Taken { verdicts: self.asked.iter().map(verdict).collect(), new: 0 }
    }
}

/// How the personal fields of a group are kept.
enum Sealing {
    /// As they came, or there are none.
    Off,
    /// Encrypted.
    With(Sealer),
    /// They must be encrypted and cannot be.
    NoKey,
}

impl Sealing {
    fn keyed(&self, asked: &Asked) -> Keyed {
        match self {
            _ if !asked.request.is_personal() => Keyed::Plain,
            Self::Off => Keyed::Plain,
            Self::With(sealer) => Keyed::Under(sealer.fingerprint(&asked.fingerprint)),
            Self::NoKey => Keyed::NoKey,
        }
    }

    fn seal(&self, transfers: &mut [NewTransfer]) {
        let Self::With(sealer) = self else { return };
        for transfer in transfers.iter_mut().filter(|transfer| transfer.is_personal()) {
            seal(sealer, transfer);
        }
    }
}

/// Nothing was accepted; the key has to be configured before anybody asks again.
fn no_key() -> Refusal {
    static UNSEALED: Seldom = Seldom::unsaid();
    if let Some(left_out) = UNSEALED.due() {
        tracing::error!(
            left_out,
            "a request needs a data_key that is not there: see `holdfast encryption status`"
        );
    }
    Refusal::Internal
}

fn exceeds(asked: &Asked, left: i64) -> Refusal {
    let original = asked.request.reverses.expect("only reversals exceed their original");
    Refusal::ReversalExceedsOriginal {
        original: original.id,
        left: format_minor(left, original.amount.currency()),
    }
}

/// The record of a transfer as it was just inserted.
fn requested(transfer: &NewTransfer) -> TransferRecord {
    TransferRecord {
        row: TransferRow {
            terms: transfer.terms.clone(),
            state: State::Requested,
            reason: None,
            requested_at: transfer.at,
            held_at: None,
            hold_deadline: None,
            completed_at: None,
        },
        claim: transfer.claim.clone(),
        description: transfer.description.clone(),
        reference: transfer.reference.clone(),
        metadata: transfer.metadata.clone(),
        sealed: transfer.sealed.clone(),
        hold_cause: Cause::default(),
        final_cause: Cause::default(),
    }
}
