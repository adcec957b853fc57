//! What sending a file yields.

use crate::bench::latency::{Latency, LatencyRow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What was sent, what came of it, and how long it took.
#[derive(Default)]
pub struct ReplayReport {
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
    /// From when a batch was sent until it was answered.
    pub accept: Latency,
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
}

impl ReplayReport {
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
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self.printed()).expect("numbers and strings only")
    }

    /// As a table for a person.
    pub fn table(&self) -> String {
        let printed = self.printed();
        let counts = |counts: &BTreeMap<String, u64>| {
            let all: Vec<_> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        format!(
            "sent      {}\naccepted  {} ({:.1}/s)\nfinal     {} ({:.1}/s)\nrefused   {}\n\n{}\n{}\n",
            printed.sent,
            printed.accepted,
            printed.accepted_per_second,
            counts(printed.finals),
            printed.final_per_second,
            counts(printed.refused),
            LatencyRow::heading(),
            printed.accept.line("batch accepted"),
        )
    }
}
