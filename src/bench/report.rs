//! What a run yields.

use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Latencies in microseconds, three significant digits, up to ten minutes.
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

    fn row(&self) -> LatencyRow {
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
#[derive(Clone, Debug, Serialize)]
pub struct LatencyRow {
    count: u64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// What was sent, what came of it, and how long it took.
#[derive(Default)]
pub struct Report {
    /// Transfers sent.
    pub sent: u64,
    /// Transfers accepted (202, or 200 of a repeat).
    pub accepted: u64,
    /// Transfers seen final, by status.
    pub finals: BTreeMap<String, u64>,
    /// Requests or items that were not accepted, by code.
    pub refused: BTreeMap<String, u64>,
    /// From the first request to the last accept.
    pub accepting: Duration,
    /// From the first request until the last was seen final.
    pub finishing: Duration,
    /// From when a request was due until it was accepted.
    pub accept: Latency,
    /// From when a request was due until its caller could see it final.
    pub complete: Latency,
}

#[derive(Serialize)]
struct Printed<'a> {
    sent: u64,
    accepted: u64,
    finals: &'a BTreeMap<String, u64>,
    refused: &'a BTreeMap<String, u64>,
    accepted_per_second: f64,
    final_per_second: f64,
    accept: LatencyRow,
    accept_to_final: LatencyRow,
}

impl Report {
    /// Counts a refusal.
    pub fn refuse(&mut self, code: &str) {
        *self.refused.entry(code.to_owned()).or_default() += 1;
    }

    /// Counts an end.
    pub fn end(&mut self, status: &str) {
        *self.finals.entry(status.to_owned()).or_default() += 1;
    }

    fn printed(&self) -> Printed<'_> {
        let rate = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(f64::EPSILON);
        Printed {
            sent: self.sent,
            accepted: self.accepted,
            finals: &self.finals,
            refused: &self.refused,
            accepted_per_second: rate(self.accepted, self.accepting),
            final_per_second: rate(self.finals.values().sum(), self.finishing),
            accept: self.accept.row(),
            accept_to_final: self.complete.row(),
        }
    }

    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(&self.printed()).expect("numbers and strings only")
    }

    /// As a table for a person.
    pub fn table(&self) -> String {
        let printed = self.printed();
        let counts = |counts: &BTreeMap<String, u64>| {
            let all: Vec<_> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        let latency = |name: &str, row: &LatencyRow| {
            format!(
                "{name:<16} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}\n",
                row.count, row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms, row.max_ms
            )
        };
        let head = format!(
            "sent      {}\naccepted  {} ({:.1}/s)\nfinal     {} ({:.1}/s)\nrefused   {}\n\n{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            printed.sent,
            printed.accepted,
            printed.accepted_per_second,
            counts(printed.finals),
            printed.final_per_second,
            counts(printed.refused),
            "latency, ms",
            "count",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max"
        );
        head + &latency("accept", &printed.accept)
            + &latency("accept to final", &printed.accept_to_final)
    }
}
