//! The thread that sends: a fixed number of connections, each with one request at a time.
//!
//! In an open loop requests are due at a steady rate, whatever the answers do; one that finds no
//! connection free waits, and its latency counts from when it was due. In a closed loop each
//! connection sends the next as soon as the last is answered.

use super::follow::Follower;
use super::mix::Pairs;
use super::record::{Record, Seen};
use super::requests::{Composer, Moved, Names, accepted_items, code, refused_items};
use super::{BATCH, SINGLE};
use crate::bench::wire::{Target, Wire};
use bytes::Bytes;
use http::StatusCode;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Before a request that was not taken is sent once more, and how often it is.
const BEFORE_RETRY: Duration = Duration::from_millis(100);
const MOST_RETRIES: u32 = 50;
/// How long what was due before the end is still sent.
const GRACE: Duration = Duration::from_secs(1);
/// How long answers and ends are waited for once nothing more is sent.
const PATIENCE: Duration = Duration::from_secs(45);

/// How fast requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many transfers a second are due: an open loop.
    Rate(f64),
    /// As many as are answered: a closed loop.
    Max,
}

/// What to send.
#[derive(Clone)]
pub struct Orders {
    /// Where to.
    pub target: Target,
    /// How fast.
    pub pace: Pace,
    /// Transfers a request; 1 is the single call.
    pub batch: usize,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// For how long before it counts, and for how long it does.
    pub warmup: Duration,
    /// For how long it counts.
    pub duration: Duration,
    /// How many accepted transfers end it before that, the warm-up's not among them.
    pub transfers: Option<u64>,
    /// Between whom.
    pub pairs: Pairs,
    /// What they are called.
    pub names: Names,
    /// The share of the transfers that are followed to their end.
    pub sample: f64,
    /// Whether what was not taken is sent again.
    pub retry: bool,
}

/// Sends until it is over or `stop`; blocks the thread.
pub fn send(
    orders: Orders,
    began: Instant,
    seen: &Arc<Seen>,
    stop: &CancellationToken,
) -> anyhow::Result<Record> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let run = Generator::run(orders, began, Arc::clone(seen), stop.child_token());
    Ok(local.block_on(&runtime, run))
}

struct Generator {
    orders: Orders,
    ends: Instant,
    /// Asked for from outside, or because there were enough.
    stop: CancellationToken,
    seen: Arc<Seen>,
    record: Rc<RefCell<Record>>,
    due: RefCell<VecDeque<Instant>>,
    /// A permit for each that is due.
    waiting: Semaphore,
    composer: RefCell<Composer>,
    rng: RefCell<SmallRng>,
    number: Cell<u64>,
    follower: Follower,
}

/// A request.
struct Composed {
    body: Bytes,
    transfers: u64,
    /// How many of them leave their shard, as far as that is known.
    crossed: u64,
    /// Where the transfers that are to be followed stand in it.
    followed: Vec<Range<usize>>,
}

/// What became of a request.
enum Ended {
    Accepted,
    Items { accepted: u64, body: Vec<u8> },
    Refused(String),
}

impl Generator {
    async fn run(
        orders: Orders,
        began: Instant,
        seen: Arc<Seen>,
        stop: CancellationToken,
    ) -> Record {
        let measured = began + orders.warmup;
        let generator = Rc::new(Self::new(orders, measured, seen, stop));
        let mut callers = JoinSet::new();
        for _ in 0..generator.orders.connections {
            callers.spawn_local(Rc::clone(&generator).caller());
        }
        tokio::select! {
            biased;
            Some(Err(broken)) = callers.join_next() => resume_unwind(broken.into_panic()),
            () = generator.schedule(began) => {}
        }
        generator.send_what_is_due().await;
        generator.waiting.close();
        let unsent = generator.due.take().len() * generator.orders.batch;
        generator.record.borrow_mut().unsent = unsent as u64;
        // What is not answered by then is in nobody's figures; the report says how many were sent.
        let deadline = Instant::now() + PATIENCE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, callers.join_next()).await {
            if let Err(broken) = ended {
                resume_unwind(broken.into_panic());
            }
        }
        generator.seen.over.cancel();
        let _ = tokio::time::timeout_at(deadline, generator.follower.settle()).await;
        let nothing = Record::new(measured, Duration::ZERO);
        generator.record.replace(nothing)
    }

    /// What is sent from `measured` on counts.
    fn new(orders: Orders, measured: Instant, seen: Arc<Seen>, stop: CancellationToken) -> Self {
        let record = Rc::new(RefCell::new(Record::new(measured, orders.duration)));
        Self {
            ends: measured + orders.duration,
            stop,
            seen,
            follower: Follower::new(&orders.target, orders.sample, &record),
            record,
            due: RefCell::default(),
            waiting: Semaphore::new(0),
            composer: RefCell::new(Composer::new(orders.names.clone())),
            rng: RefCell::new(SmallRng::seed_from_u64(crate::random::bits())),
            number: Cell::new(0),
            orders,
        }
    }

    /// Until it is over. In an open loop, says what is due.
    async fn schedule(&self, began: Instant) {
        let rate = match self.orders.pace {
            Pace::Rate(rate) => rate / self.orders.batch as f64,
            Pace::Max => 0.0,
        };
        let mut count = 0_u64;
        loop {
            let next = if rate > 0.0 {
                began + Duration::from_secs_f64(count as f64 / rate)
            } else {
                self.ends
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep_until(next.min(self.ends)) => {}
            }
            if next >= self.ends {
                return;
            }
            let now = Instant::now();
            let mut permits = 0;
            let mut due = self.due.borrow_mut();
            while let next = began + Duration::from_secs_f64(count as f64 / rate)
                && next <= now
                && next < self.ends
            {
                due.push_back(next);
                count += 1;
                permits += 1;
            }
            drop(due);
            self.waiting.add_permits(permits);
        }
    }

    /// What was due at the very end is still sent, for a moment: only who is really behind is said
    /// to have left something.
    async fn send_what_is_due(&self) {
        let deadline = Instant::now() + GRACE;
        while !self.due.borrow().is_empty() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn caller(self: Rc<Self>) {
        let mut wire = Wire::new(&self.orders.target);
        while let Some(due) = self.next().await {
            let composed = self.compose();
            self.record.borrow_mut().sends(due, composed.transfers, composed.crossed);
            self.exchange(&mut wire, composed, due).await;
        }
    }

    /// When the next request was due; none when nothing more is sent.
    async fn next(&self) -> Option<Instant> {
        if self.orders.pace == Pace::Max {
            let now = Instant::now();
            return (now < self.ends && !self.stop.is_cancelled()).then_some(now);
        }
        self.waiting.acquire().await.ok()?.forget();
        self.due.borrow_mut().pop_front()
    }

    fn compose(&self) -> Composed {
        let mut rng = self.rng.borrow_mut();
        let mut crossed = 0;
        let mut transfer = || {
            let (source, destination) = self.orders.pairs.next(&mut *rng);
            crossed += u64::from(self.orders.pairs.crosses((source, destination)) == Some(true));
            let number = self.number.replace(self.number.get() + 1);
            Moved { number, source, destination, amount: rng.random_range(1..=9) }
        };
        let mut composer = self.composer.borrow_mut();
        let batch = self.orders.batch;
        let (body, places) = if batch == 1 {
            let body = composer.single(transfer());
            let whole = 0..body.len();
            (body, vec![whole])
        } else {
            composer.batch((0..batch).map(|_| transfer()))
        };
        let chosen = self.follower.choose(batch, &mut *rng);
        let followed = chosen.map(|index| places[index].clone()).collect();
        Composed { body, transfers: batch as u64, crossed, followed }
    }

    async fn exchange(&self, wire: &mut Wire, composed: Composed, due: Instant) {
        for attempt in 0.. {
            let ended = self.post(wire, &composed).await;
            let Ended::Refused(code) = &ended else {
                return self.count(composed, due, ended);
            };
            let again = self.orders.retry && attempt < MOST_RETRIES && may_be_retried(code);
            if !again || self.stop.is_cancelled() {
                return self.count(composed, due, ended);
            }
            self.record.borrow_mut().retried += 1;
            tokio::time::sleep(BEFORE_RETRY).await;
        }
    }

    async fn post(&self, wire: &mut Wire, composed: &Composed) -> Ended {
        let batch = self.orders.batch > 1;
        let path = if batch { BATCH } else { SINGLE };
        match wire.post(path, composed.body.clone(), None, batch).await {
            Err(error) => {
                tracing::debug!(%error, "a request was not answered");
                Ended::Refused("no_answer".to_owned())
            }
            Ok(answer) if answer.status == StatusCode::OK && batch => {
                let accepted = accepted_items(answer.body) as u64;
                let all = accepted == composed.transfers;
                let body = if all { Vec::new() } else { answer.body.to_vec() };
                Ended::Items { accepted, body }
            }
            Ok(answer) if answer.status.is_success() => Ended::Accepted,
            Ok(answer) => Ended::Refused(code(answer.status.as_u16(), answer.body)),
        }
    }

    fn count(&self, composed: Composed, due: Instant, ended: Ended) {
        let accepted = self.note(composed.transfers, due, ended);
        // Of a batch that was taken in part nobody knows here which items were.
        if accepted == composed.transfers {
            for place in composed.followed {
                self.follower.follow(composed.body.slice(place), due);
            }
        }
    }

    /// Puts down what became of a request with so many transfers, and returns how many were accepted.
    fn note(&self, transfers: u64, due: Instant, ended: Ended) -> u64 {
        let mut record = self.record.borrow_mut();
        let accepted = match ended {
            Ended::Accepted => transfers,
            Ended::Items { accepted, body } => {
                if accepted < transfers {
                    for (code, count) in refused_items(&body) {
                        record.refuses(due, &code, count, &self.seen);
                    }
                }
                accepted
            }
            Ended::Refused(code) => {
                record.refuses(due, &code, transfers, &self.seen);
                0
            }
        };
        if accepted > 0 {
            record.accepts(due, accepted, &self.seen);
        }
        if self.orders.transfers.is_some_and(|enough| record.counted >= enough) {
            self.stop.cancel();
        }
        accepted
    }
}

fn may_be_retried(code: &str) -> bool {
    matches!(
        code,
        "no_answer"
            | "overloaded"
            | "paused"
            | "shard_unavailable"
            | "outcome_unknown"
            | "rate_limited"
    )
}

#[cfg(test)]
mod tests {
    use super::super::mix::Mix;
    use super::*;

    /// Where the pipeline is far behind, more ends are waited for than are followed at once.
    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_followed_is_counted() {
        let orders = Orders {
            target: Target::new("http://127.0.0.1:1").unwrap(),
            pace: Pace::Max,
            batch: 3000,
            connections: 1,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            transfers: None,
            pairs: Pairs::new(Mix::Uniform, 10, 1.0, 0.1, None),
            names: Names { accounts: "a".into(), keys: "k".into(), currency: "USD".into() },
            sample: 1.0,
            retry: false,
        };
        let (now, stop) = (Instant::now(), CancellationToken::new());
        let count = async {
            let generator = Generator::new(orders, now, Arc::default(), stop);
            let body = Bytes::from_static(b"{}");
            let followed = vec![0..2; 3000];
            let composed = Composed { body, transfers: 3000, crossed: 0, followed };
            generator.count(composed, now, Ended::Items { accepted: 3000, body: Vec::new() });
            let record = generator.record.borrow();
            assert_eq!((record.accepted, record.not_followed), (3000, 1000));
        };
        LocalSet::new().run_until(count).await;
    }
}
