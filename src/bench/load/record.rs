//! What a run yields while it goes on: counts and latencies, in all and by window, so that one can
//! see whether anything grows.

use crate::bench::latency::Latency;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a window is.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What is seen of a run from outside of its thread.
#[derive(Debug, Default)]
pub struct Seen {
    /// Transfers accepted, the warm-up's included.
    pub accepted: AtomicU64,
    /// Transfers that were not, the warm-up's included.
    pub refused: AtomicU64,
    /// Cancelled when nothing more will be accepted.
    pub over: CancellationToken,
}

/// A stretch of the run; everything counts in the one in which it was due.
#[derive(Default)]
pub struct Window {
    /// Transfers accepted.
    pub accepted: u64,
    /// From when a request was due until it was accepted.
    pub accept: Latency,
    /// From when a request was due until its transfer's end was seen, of the followed ones.
    pub complete: Latency,
}

/// All of a run. The warm-up is counted and left out of the rest.
pub struct Record {
    began: Instant,
    /// There are no more windows than this: the last takes what is due later.
    pub most_windows: usize,
    /// By number, up to the last in which something was accepted.
    pub windows: Vec<Window>,
    /// Transfers accepted, the warm-up's included.
    pub accepted: u64,
    /// Transfers accepted after it.
    pub counted: u64,
    /// Transfers sent after the warm-up.
    pub sent: u64,
    /// Transfers sent after the warm-up that were not accepted, by code.
    pub refused: BTreeMap<String, u64>,
    /// Requests that were sent once more.
    pub retried: u64,
    /// How much later than due requests were sent, after the warm-up.
    pub late: Latency,
    /// Transfers due and never sent.
    pub unsent: u64,
    /// Transfers that were followed to their end.
    pub followed: u64,
    /// Transfers that should have been, while too many were.
    pub not_followed: u64,
    /// Transfers that left their source's shard, where that is known.
    pub crossed: u64,
}

impl Record {
    /// `began` is the end of the warm-up.
    pub fn new(began: Instant, duration: Duration) -> Self {
        let windows = duration.as_secs_f64() / WINDOW.as_secs_f64();
        Self {
            began,
            most_windows: windows.ceil().max(1.0) as usize,
            windows: Vec::new(),
            accepted: 0,
            counted: 0,
            sent: 0,
            refused: BTreeMap::new(),
            retried: 0,
            late: Latency::default(),
            unsent: 0,
            followed: 0,
            not_followed: 0,
            crossed: 0,
        }
    }

    /// Whether what was due then counts.
    fn counts(&self, due: Instant) -> bool {
        due >= self.began
    }

    fn window(&mut self, due: Instant) -> Option<&mut Window> {
        let since = due.checked_duration_since(self.began)?;
        let number = (since.as_secs_f64() / WINDOW.as_secs_f64()) as usize;
        let number = number.min(self.most_windows - 1);
        if self.windows.len() <= number {
            self.windows.resize_with(number + 1, Window::default);
        }
        self.windows.get_mut(number)
    }

    /// A request with so many transfers is sent now, so many of which leave their shard.
    pub fn sends(&mut self, due: Instant, transfers: u64, crossed: u64) {
        if self.counts(due) {
            self.sent += transfers;
            self.crossed += crossed;
            self.late.record(due.elapsed());
        }
    }

    /// So many transfers of one request were accepted now.
    pub fn accepts(&mut self, due: Instant, transfers: u64, seen: &Seen) {
        self.accepted += transfers;
        seen.accepted.fetch_add(transfers, Ordering::Relaxed);
        let latency = due.elapsed();
        if let Some(window) = self.window(due) {
            window.accepted += transfers;
            window.accept.record(latency);
            self.counted += transfers;
        }
    }

    /// So many were not.
    pub fn refuses(&mut self, due: Instant, code: &str, transfers: u64, seen: &Seen) {
        seen.refused.fetch_add(transfers, Ordering::Relaxed);
        if self.counts(due) {
            *self.refused.entry(code.to_owned()).or_default() += transfers;
        }
    }

    /// The end of a followed transfer is seen now.
    pub fn completes(&mut self, due: Instant) {
        let latency = due.elapsed();
        if let Some(window) = self.window(due) {
            window.complete.record(latency);
            self.followed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn latency_counts_from_when_a_request_was_due_and_in_the_window_of_that_moment() {
        let began = Instant::now();
        let (mut record, seen) = (Record::new(began, WINDOW * 3), Seen::default());
        let due = began + WINDOW / 2;
        tokio::time::advance(WINDOW * 2).await;
        record.sends(due, 1, 0);
        record.accepts(due, 1, &seen);
        record.completes(due);
        let counts = |record: &Record| {
            record.windows.iter().map(|window| window.accepted).collect::<Vec<_>>()
        };
        assert_eq!(counts(&record), [1]);
        assert!(record.windows[0].accept.row().p50_ms >= 14_900.0, "the wait before it counts");
        assert!(record.late.row().p50_ms >= 14_900.0);
        record.accepts(began + WINDOW * 9, 2, &seen);
        assert_eq!(counts(&record), [1, 0, 2], "the last window takes what is due late");
    }

    #[tokio::test(start_paused = true)]
    async fn the_warm_up_is_counted_and_left_out_of_the_rest() {
        let due = Instant::now();
        let (mut record, seen) = (Record::new(due + WINDOW, WINDOW), Seen::default());
        record.sends(due, 5, 0);
        record.accepts(due, 3, &seen);
        record.refuses(due, "overloaded", 2, &seen);
        record.completes(due);
        assert_eq!((record.accepted, record.sent, record.followed), (3, 0, 0));
        assert!(record.refused.is_empty() && record.windows.is_empty() && record.counted == 0);
        assert_eq!(seen.refused.load(Ordering::Relaxed), 2);
    }
}
