//! Circuit breakers: a dependency that does not answer is left alone, and asked now and then by one
//! probe until it does. Everybody else is told at once instead of waiting for another timeout.
//!
//! ```text
//!            three failures in a row            a pause that doubles, and some more
//!   closed ───────────────────────────▶ open ────────────────────────────────────▶ half-open
//!      ▲                                 ▲                probe failed                │ │
//!      │                                 └────────────────────────────────────────────┘ │
//!      └──────────────────────────────── probe answered ────────────────────────────────┘
//! ```
//!
//! No request is ever the probe: it is a task of the breaker's own, on a connection of its own. A
//! failure is silence (no connection, no answer in time, a connection that broke); whatever the
//! dependency itself answers, errors included, shows that it is there.
//!
//! Written here because no crate fits: `failsafe` and `recloser` let every call through once they
//! are half-open, `tower-resilience-circuitbreaker` wraps single calls of a service, where a
//! connection is taken once and used for many statements, and all of them read a clock that tests
//! cannot set.

use crate::meters::table::{BREAKER, BREAKER_MOVES};
use crate::random;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Failures in a row that open a breaker.
const FAILURES: u32 = 3;
/// How long before the first probe; doubles with each that fails. Up to half as much is added, so
/// that processes do not probe together.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A dependency that fails again so soon after it came back is not given short pauses anew.
const RELAPSE: Duration = Duration::from_secs(30);
/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(3);
/// Characters that are kept of what a dependency said last.
const WORDS: usize = 200;

/// Where a breaker stands; the numbers are those of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything passes.
    Closed = 0,
    /// The probe is under way; nothing else passes.
    HalfOpen = 1,
    /// Nothing passes.
    Open = 2,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Why nothing passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// How long the breaker has been open.
    pub lasts: Duration,
    /// What the dependency, or the silence, said last.
    pub why: String,
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "breaker open since {:.1} s: {}", self.lasts.as_secs_f64(), self.why)
    }
}

/// The state machine, without clock and tasks.
#[derive(Debug)]
struct Circuit {
    state: State,
    /// When the dependency was last known to be there: it answered, or the circuit closed.
    alive: Instant,
    closed_at: Option<Instant>,
    failures: u32,
    opened_at: Instant,
    pause: Duration,
    why: String,
}

impl Circuit {
    fn new(now: Instant) -> Self {
        Self {
            state: State::Closed,
            alive: now,
            closed_at: None,
            failures: 0,
            opened_at: now,
            pause: FIRST_PAUSE,
            why: String::new(),
        }
    }

    fn answered(&mut self, now: Instant) {
        if self.state == State::Closed {
            self.alive = now;
            self.failures = 0;
        }
    }

    /// An attempt that began at `began` failed; whether that opened the circuit. One that began
    /// before something else was answered says nothing: the dependency was there meanwhile.
    fn failed(&mut self, began: Instant, now: Instant, why: &str) -> bool {
        if self.state != State::Closed || began < self.alive {
            return false;
        }
        self.failures += 1;
        if self.failures < FAILURES {
            return false;
        }
        let relapsed = self.closed_at.is_some_and(|at| now.duration_since(at) < RELAPSE);
        self.pause = if relapsed { self.longer() } else { FIRST_PAUSE };
        self.opened_at = now;
        self.state = State::Open;
        self.because(why);
        true
    }

    fn half_open(&mut self) {
        assert_eq!(self.state, State::Open, "one probe at a time");
        self.state = State::HalfOpen;
    }

    fn probed(&mut self, now: Instant, answer: Result<(), String>) {
        assert_eq!(self.state, State::HalfOpen, "a probe ends once");
        match answer {
            Ok(()) => {
                self.state = State::Closed;
                (self.alive, self.closed_at, self.failures) = (now, Some(now), 0);
            }
            Err(why) => {
                self.state = State::Open;
                self.pause = self.longer();
                self.because(&why);
            }
        }
    }

    fn longer(&self) -> Duration {
        (self.pause * 2).min(LONGEST_PAUSE)
    }

    fn because(&mut self, why: &str) {
        self.why = why.chars().take(WORDS).collect();
    }

    fn outage(&self, now: Instant) -> Option<Outage> {
        let open = self.state != State::Closed;
        open.then(|| Outage { lasts: now.duration_since(self.opened_at), why: self.why.clone() })
    }
}

type Probe = Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The breaker of one dependency, for one process.
pub struct Breaker {
    dependency: String,
    circuit: Mutex<Circuit>,
    probe: Probe,
}

impl Breaker {
    /// Closed. `probe` asks the dependency something small over a connection of its own; it may be
    /// dropped when it takes too long.
    pub fn new(
        dependency: impl Into<String>,
        probe: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let breaker = Self {
            dependency: dependency.into(),
            circuit: Mutex::new(Circuit::new(Instant::now())),
            probe: Box::new(probe),
        };
        breaker.measure(State::Closed);
        Arc::new(breaker)
    }

    /// Whether to ask the dependency now: when the attempt begins, or why there is to be none.
    pub fn enter(&self) -> Result<Instant, Outage> {
        let now = Instant::now();
        match self.lock().outage(now) {
            None => Ok(now),
            Some(outage) => Err(outage),
        }
    }

    /// The dependency answered, if only with an error.
    pub fn answered(&self) {
        self.lock().answered(Instant::now());
    }

    /// An attempt that began at `began` got no answer.
    pub fn failed(self: &Arc<Self>, began: Instant, why: &dyn fmt::Display) {
        let why = why.to_string();
        if self.lock().failed(began, Instant::now(), &why) {
            tracing::warn!(dependency = self.dependency, why, "does not answer: its breaker opens");
            self.moved(State::Open);
            tokio::spawn(probe_until_answered(Arc::downgrade(self)));
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.lock().state
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().expect("nothing panics while it holds the circuit")
    }

    /// How long until the next probe.
    fn pause(&self) -> Duration {
        let pause = self.lock().pause;
        pause + random::up_to(pause / 2)
    }

    fn begin_probe(&self) -> BoxFuture<'static, Result<(), String>> {
        self.lock().half_open();
        self.moved(State::HalfOpen);
        (self.probe)()
    }

    /// Whether it is closed now.
    fn end_probe(&self, answer: Result<(), String>) -> bool {
        let now = Instant::now();
        let (state, lasted) = {
            let mut circuit = self.lock();
            circuit.probed(now, answer);
            (circuit.state, now.duration_since(circuit.opened_at))
        };
        self.moved(state);
        let closed = state == State::Closed;
        if closed {
            tracing::info!(dependency = self.dependency, ?lasted, "answers: its breaker closes");
        }
        closed
    }

    fn moved(&self, to: State) {
        self.measure(to);
        BREAKER_MOVES.counter(&[&self.dependency, to.as_str()]).increment(1);
    }

    fn measure(&self, state: State) {
        BREAKER.gauge(&[&self.dependency]).set(f64::from(state as u8));
    }
}

/// Probes until an answer comes, or nobody has the breaker any more.
async fn probe_until_answered(breaker: Weak<Breaker>) {
    loop {
        let Some(pause) = breaker.upgrade().map(|breaker| breaker.pause()) else { return };
        tokio::time::sleep(pause).await;
        let Some(probe) = breaker.upgrade().map(|breaker| breaker.begin_probe()) else { return };
        let answer = tokio::time::timeout(PROBE, probe).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {PROBE:?}")));
        if breaker.upgrade().is_none_or(|breaker| breaker.end_probe(answer)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
