//! Decisions about accounts of a shard.

use super::Decision;
use super::queue::{Queues, Serve};
use super::shared::Shared;
use crate::domain::{Outcome, Shard, TransferId};
use crate::meters::table::TURN_DECISIONS;
use crate::meters::{Histogram, Money};
use crate::store::{Store, StoreError, transact};
use async_trait::async_trait;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A shard rests so long after a transaction, and so long for each event of it, but no longer than
/// the transaction took.
const REST: Duration = Duration::from_millis(3);
const REST_AN_EVENT: Duration = Duration::from_micros(250);
/// Events from which on a transaction takes no further decision, and behind which the next one need
/// not be waited for: at first, and between these where one took too long.
const FULL: usize = 2000;
const LEAST_FULL: usize = 250;
/// Longer than this it is not to take, for there are others who wait for an answer of the shard.
const LONGEST: Duration = Duration::from_millis(1500);

/// Decisions of all steps of a process.
pub struct Turns(Queues<Deciding>);

impl Turns {
    /// For the shards of a store; what becomes of money is counted.
    pub fn new(store: Arc<dyn Store>, money: Arc<Money>) -> Self {
        Self::of(store, money, true)
    }

    /// The same for a yardstick: what waits for nothing but the database.
    pub fn without_rest(store: Arc<dyn Store>) -> Self {
        let money = Arc::new(Money::new(store.map().shards()));
        Self::of(store, money, false)
    }

    fn of(store: Arc<dyn Store>, money: Arc<Money>, rests: bool) -> Self {
        let shards = store.map().shards();
        let full = (0..shards).map(|_| AtomicUsize::new(FULL)).collect();
        let sizes = store.map().all_shards();
        let sizes = sizes.map(|shard| TURN_DECISIONS.histogram(&[&shard.to_string()])).collect();
        Self(Queues::new(Deciding { store, money, sizes, rests, full }, shards))
    }

    /// Events that fill a turn of a shard.
    pub fn full(&self, shard: Shard) -> usize {
        self.0.serve().full(shard)
    }

    /// When the shard last answered.
    pub fn answered(&self, shard: Shard) -> Option<Instant> {
        self.0.answered(shard)
    }

    /// Until a decision that is brought now is part of the next transaction.
    pub async fn free(&self, shard: Shard) {
        self.0.free(shard).await;
    }

    /// Makes a decision in the shard's next transaction; what it yields is committed.
    pub async fn take(&self, shard: Shard, decision: Arc<dyn Decision>) -> Answer {
        let (answer, answered) = oneshot::channel();
        self.0.ask(shard, Asked { decision, answer });
        answered.await.unwrap_or_else(|_| {
            let detail = "the process is ending".to_owned();
            Err(StoreError::Retry { shard, detail })
        })
    }
}

struct Asked {
    decision: Arc<dyn Decision>,
    answer: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<Outcome>, StoreError>;

struct Deciding {
    store: Arc<dyn Store>,
    money: Arc<Money>,
    sizes: Vec<Histogram>,
    rests: bool,
    full: Vec<AtomicUsize>,
}

#[async_trait]
impl Serve for Deciding {
    type Asked = Asked;

    fn next(&self, shard: Shard, waiting: &mut VecDeque<Asked>) -> (Vec<Asked>, usize) {
        next(waiting, self.full(shard))
    }

    async fn serve(&self, shard: Shard, turn: Vec<Asked>) -> bool {
        let (decisions, answers): (Vec<_>, Vec<_>) =
            turn.into_iter().map(|asked| (asked.decision, asked.answer)).unzip();
        self.sizes[usize::from(shard.0)].record(decisions.len() as f64);
        let results = match self.decide(shard, decisions.clone()).await {
            Ok(outcomes) => outcomes.into_iter().map(Ok).collect(),
            Err(error) if decisions.len() > 1 && may_concern_one(&error) => {
                self.one_by_one(shard, decisions).await
            }
            Err(error) => vec![Err(error); decisions.len()],
        };
        let mut answered = false;
        for (answer, result) in answers.into_iter().zip(results) {
            answered |= result.as_ref().err().is_none_or(may_concern_one);
            // Who asked may have begun again; what was decided stands, and is found.
            let _ = answer.send(result);
        }
        answered
    }

    fn rest(&self, shard: Shard, events: usize, took: Duration) -> Duration {
        let full = self.full(shard);
        self.full[usize::from(shard.0)].store(fuller(full, events, took), Ordering::Relaxed);
        if events >= full || !self.rests {
            return Duration::ZERO;
        }
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        (REST + REST_AN_EVENT.saturating_mul(events)).min(took)
    }
}

/// A transaction holds each transfer once: another decision about one of them waits.
fn next(waiting: &mut VecDeque<Asked>, full: usize) -> (Vec<Asked>, usize) {
    let mut transfers: HashSet<TransferId> = HashSet::new();
    let (mut turn, mut later) = (Vec::new(), VecDeque::new());
    while transfers.len() < full {
        let Some(asked) = waiting.pop_front() else { break };
        let ids = asked.decision.transfers();
        if ids.iter().any(|id| transfers.contains(id)) {
            later.push_back(asked);
        } else {
            transfers.extend(ids);
            turn.push(asked);
        }
    }
    later.append(waiting);
    *waiting = later;
    (turn, transfers.len())
}

/// What fills the next turn, after one of so many events that took so long.
fn fuller(full: usize, events: usize, took: Duration) -> usize {
    if took > LONGEST {
        (events.min(full) / 2).max(LEAST_FULL)
    } else if events >= full && took < LONGEST / 3 {
        (full * 2).min(FULL)
    } else {
        full
    }
}

impl Deciding {
    fn full(&self, shard: Shard) -> usize {
        self.full[usize::from(shard.0)].load(Ordering::Relaxed)
    }

    /// Whoever runs into something is not to take the others with it.
    async fn one_by_one(&self, shard: Shard, decisions: Vec<Arc<dyn Decision>>) -> Vec<Answer> {
        let mut answers = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let outcomes = self.decide(shard, vec![decision]).await;
            answers.push(outcomes.map(|mut of_one| of_one.pop().unwrap_or_default()));
        }
        answers
    }

    /// A decision that panics has met a broken invariant.
    async fn decide(
        &self,
        shard: Shard,
        decisions: Vec<Arc<dyn Decision>>,
    ) -> Result<Vec<Vec<Outcome>>, StoreError> {
        let store = Arc::clone(&self.store);
        let money = Arc::clone(&self.money);
        let work = tokio::spawn(async move {
            let work = Shared { decisions: &decisions, identity: store.identity() };
            let (outcomes, moved) = transact(&*store, shard, &work).await?;
            money.count(shard, &moved);
            Ok(outcomes)
        });
        work.await.unwrap_or_else(|error| {
            let detail = format!("a decision ended in a panic: {error}");
            Err(StoreError::Corrupt { shard, detail })
        })
    }
}

/// Whether an error may come from one of several decisions, so that the others are to be made
/// without it. The others say that the shard is away, or not what it was taken for.
fn may_concern_one(error: &StoreError) -> bool {
    match error {
        StoreError::Retry { .. }
        | StoreError::Duplicate { .. }
        | StoreError::Corrupt { .. }
        | StoreError::Failed { .. } => true,
        StoreError::Unavailable { .. }
        | StoreError::CommitUnknown { .. }
        | StoreError::Identity { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credit::Credits;
    use crate::domain::EventType;
    use crate::domain::testing::{HOLD_TIMEOUT, input, terms};
    use crate::hold::Holds;

    fn asked(kind: EventType, numbers: &[u32]) -> Asked {
        let batch = numbers.iter().map(|number| input(kind, &terms(*number, "a", "b", 1)));
        let batch = Arc::new(batch.collect::<Vec<_>>());
        let decision: Arc<dyn Decision> = match kind {
            EventType::Requested => Arc::new(Holds { batch, timeout: HOLD_TIMEOUT, map: None }),
            _ => Arc::new(Credits { batch }),
        };
        Asked { decision, answer: oneshot::channel().0 }
    }

    fn ids(turn: &[Asked]) -> Vec<Vec<TransferId>> {
        turn.iter().map(|asked| asked.decision.transfers()).collect()
    }

    /// Hazard 11, over all steps: what is said of one transfer by two of them is decided one after
    /// the other, and those who wait keep their order.
    #[test]
    fn a_turn_holds_each_transfer_once() {
        use EventType::{Held, Requested};
        let mut waiting: VecDeque<Asked> = [
            asked(Requested, &[1, 2]),
            asked(Held, &[2, 3]),
            asked(Held, &[4]),
            asked(Requested, &[3, 5]),
        ]
        .into();
        let all = ids(waiting.make_contiguous());
        let (turn, events) = next(&mut waiting, FULL);
        assert_eq!(ids(&turn), [all[0].clone(), all[2].clone(), all[3].clone()]);
        assert_eq!(events, 5);
        let (turn, events) = next(&mut waiting, FULL);
        assert_eq!((ids(&turn), events), (vec![all[1].clone()], 2));
        assert!(waiting.is_empty());
    }

    /// What takes too long is halved, and doubled again where there is more to do and time for it.
    #[test]
    fn a_turn_is_only_as_long_as_others_can_wait() {
        let (long, short) = (Duration::from_secs(3), Duration::from_millis(100));
        assert_eq!(fuller(2000, 2300, long), 1000);
        assert_eq!(fuller(1000, 100, long), LEAST_FULL);
        assert_eq!(fuller(LEAST_FULL, 1, long), LEAST_FULL);
        assert_eq!(fuller(1000, 1000, short), 2000);
        assert_eq!(fuller(2000, 2000, short), 2000);
        assert_eq!(fuller(1000, 999, short), 1000, "more would not be taken");
        assert_eq!(fuller(1000, 1000, LONGEST), 1000);
    }

    #[test]
    fn a_full_turn_takes_no_more() {
        let numbers: Vec<u32> = (0..3000).collect();
        let mut waiting: VecDeque<Asked> =
            numbers.chunks(1000).map(|numbers| asked(EventType::Held, numbers)).collect();
        assert_eq!(next(&mut waiting, FULL).1, FULL);
        assert_eq!(next(&mut waiting, FULL).1, 1000);
    }
}
