//! Latencies, as HDR histograms: in microseconds, three significant digits, up to ten minutes.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// Latencies.
#[derive(Clone)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are valid"))
    }
}

impl Latency {
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds all of another's.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// Quantiles.
    pub fn row(&self) -> LatencyRow {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        LatencyRow {
            count: self.0.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.0.max() as f64 / 1000.0,
        }
    }
}

/// Quantiles in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LatencyRow {
    /// How many there are.
    pub count: u64,
    /// Half were as fast.
    pub p50_ms: f64,
    /// 90 % were.
    pub p90_ms: f64,
    /// 99 % were.
    pub p99_ms: f64,
    /// 99.9 % were.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl LatencyRow {
    /// The line over those of [`LatencyRow::line`].
    pub fn heading() -> String {
        format!(
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "latency, ms", "count", "p50", "p90", "p99", "p99.9", "max"
        )
    }

    /// One line, for a person.
    pub fn line(&self, name: &str) -> String {
        format!(
            "{name:<16} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
            self.count, self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms
        )
    }
}
