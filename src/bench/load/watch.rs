//! Beside the thread that sends: looks at everything before, every second, and after.

use super::Instruments;
use super::generator::{Orders, send};
use super::record::{Record, Seen};
use crate::bench::cost::{HOLDFAST, Spent};
use crate::bench::metrics::{Finals, Scraper};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(1);
/// While the ends of what was accepted are waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// No end in this time, and nobody waits for more: they are counted somewhere else.
const NO_MORE: Duration = Duration::from_secs(10);

/// At a moment of the run.
#[derive(Clone, Debug)]
pub struct Tick {
    /// When.
    pub at: Instant,
    /// Which ends there were; none where nobody says.
    pub finals: Option<Finals>,
    /// Resident bytes of Holdfast.
    pub resident: Option<u64>,
    /// Processor time up to then.
    pub spent: Spent,
}

/// What was seen.
pub struct Watched {
    /// Before anything was sent.
    pub first: Tick,
    /// When it began to count, every second after that, and when the sending ended.
    pub ticks: Vec<Tick>,
    /// When everything accepted had ended, or nobody waited any more.
    pub last: Tick,
    /// Whether everything had.
    pub drained: bool,
    /// At the first of the ticks, and at the end.
    pub spent: (Spent, Spent),
}

impl Watched {
    /// When it began to count.
    pub fn began(&self) -> &Tick {
        self.ticks.first().unwrap_or(&self.first)
    }

    /// When the sending ended.
    pub fn ended(&self) -> &Tick {
        self.ticks.last().unwrap_or(&self.first)
    }
}

pub struct Watch<'a> {
    instruments: &'a Instruments,
    drain: Duration,
}

impl<'a> Watch<'a> {
    pub fn new(instruments: &'a Instruments, drain: Duration) -> Self {
        Self { instruments, drain }
    }

    /// Lets the orders be carried out.
    pub async fn run(
        &self,
        orders: Orders,
        stop: &CancellationToken,
        told: &dyn Fn(&str),
    ) -> anyhow::Result<(Record, Watched)> {
        let first = self.tick().await;
        let (seen, began) = (Arc::new(Seen::default()), Instant::now());
        let (counts, ends) = (began + orders.warmup, began + orders.warmup + orders.duration);
        let mut sender = {
            let (seen, stop) = (Arc::clone(&seen), stop.clone());
            tokio::task::spawn_blocking(move || send(orders, began, &seen, &stop))
        };
        told("warming up");
        self.wait_until(counts, &mut sender, &seen, stop).await;
        let spent = self.instruments.measured.look().await?;
        let ticks = self.watch((counts, ends), &mut sender, &seen, stop, told).await;
        told("waiting for the ends of what was accepted");
        let (last, drained) = self.drain(&first, &seen).await;
        let spent = (spent, self.instruments.measured.look().await?);
        told("waiting for the ends of what was followed");
        let record = sender.await??;
        Ok((record, Watched { first, ticks, last, drained, spent }))
    }

    /// Earlier where the sending ends by itself or is stopped.
    async fn wait_until(
        &self,
        until: Instant,
        sender: &mut JoinHandle<anyhow::Result<Record>>,
        seen: &Seen,
        stop: &CancellationToken,
    ) {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = seen.over.cancelled() => {}
            () = tokio::time::sleep_until(until) => {}
            () = ended(sender) => {}
        }
    }

    async fn watch(
        &self,
        (counts, ends): (Instant, Instant),
        sender: &mut JoinHandle<anyhow::Result<Record>>,
        seen: &Seen,
        stop: &CancellationToken,
        told: &dyn Fn(&str),
    ) -> Vec<Tick> {
        let mut ticks = vec![self.tick().await];
        let mut next = counts;
        let over = |sender: &JoinHandle<_>| {
            stop.is_cancelled() || seen.over.is_cancelled() || sender.is_finished()
        };
        while next < ends && !over(sender) {
            next = (next + EVERY).min(ends);
            self.wait_until(next, sender, seen, stop).await;
            ticks.push(self.tick().await);
            told(&progress(&ticks, seen, counts));
        }
        ticks
    }

    async fn tick(&self) -> Tick {
        let Instruments { scraper, measured, .. } = self.instruments;
        let finals = finals(scraper).await;
        Tick {
            at: Instant::now(),
            finals,
            resident: measured.processes.resident(HOLDFAST),
            spent: measured.glance(),
        }
    }

    /// Until as many have ended as were accepted.
    async fn drain(&self, first: &Tick, seen: &Seen) -> (Tick, bool) {
        let deadline = Instant::now() + self.drain;
        let mut moved = (Instant::now(), 0);
        loop {
            let tick = self.tick().await;
            let (Some(before), Some(now)) = (&first.finals, &tick.finals) else {
                return (tick, false);
            };
            let ended = now.since(before).total();
            if seen.over.is_cancelled() && ended >= seen.accepted.load(Ordering::Relaxed) {
                return (tick, true);
            }
            if ended > moved.1 {
                moved = (Instant::now(), ended);
            }
            if Instant::now() >= deadline || moved.0.elapsed() > NO_MORE {
                return (tick, false);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

async fn finals(scraper: &Scraper) -> Option<Finals> {
    match scraper.finals().await {
        Ok(finals) => Some(finals),
        Err(error) => {
            tracing::debug!(%error, "the ends were not counted");
            None
        }
    }
}

/// A sender that ends before its time has failed.
async fn ended(sender: &mut JoinHandle<anyhow::Result<Record>>) {
    while !sender.is_finished() {
        tokio::time::sleep(EVERY).await;
    }
}

fn progress(ticks: &[Tick], seen: &Seen, counts: Instant) -> String {
    let now = Instant::now();
    let mut words = format!(
        "{:.0} s, {} accepted, {} refused",
        now.saturating_duration_since(counts).as_secs_f64(),
        seen.accepted.load(Ordering::Relaxed),
        seen.refused.load(Ordering::Relaxed),
    );
    if let [.., before, last] = ticks
        && let (Some(earlier), Some(finals)) = (&before.finals, &last.finals)
    {
        let seconds = last.at.duration_since(before.at).as_secs_f64().max(f64::EPSILON);
        let rate = finals.since(earlier).total() as f64 / seconds;
        words.push_str(&format!(", {rate:.0}/s ended"));
    }
    words
}
