//! What reads come to.

use super::{Beside, Kind, Outcome, Reads};
use crate::bench::cost::Cost;
use crate::bench::host::Host;
use crate::bench::latency::{Latency, LatencyRow};
use crate::bench::text::Lines;
use serde::Serialize;
use std::collections::BTreeMap;

/// All of it, the warm-up left out.
#[derive(Debug, Serialize)]
pub struct ReadsReport {
    /// What kind of report it is.
    pub kind: &'static str,
    /// The machine and the command.
    pub host: Host,
    /// Whose history was read.
    pub account: String,
    /// How many entries it had before.
    pub entries: u64,
    /// Of how many accounts the balances were.
    pub accounts: u32,
    /// Reads a second of each kind.
    pub rate: f64,
    /// Connections of each kind.
    pub connections: usize,
    /// In seconds.
    pub warmup_seconds: f64,
    /// In seconds.
    pub duration_seconds: f64,
    /// Transfers that had ended when it began, since the process at the address was started.
    pub ended_before: Option<u64>,
    /// Transfers a second that ended meanwhile: the load beside the reads.
    pub ended_per_second: Option<f64>,
    /// The share of the machine's processor time that was used meanwhile, by anybody; from 0 to 1.
    pub machine_busy: Option<f64>,
    /// How much later than due reads were sent. That is in their latencies, which count from when
    /// they were due.
    pub late: LatencyRow,
    /// By kind.
    pub reads: Vec<ReadRow>,
}

/// One kind of read.
#[derive(Debug, Serialize)]
pub struct ReadRow {
    /// Which.
    pub read: &'static str,
    /// What that is.
    pub what: &'static str,
    /// How many were asked for.
    pub asked: u64,
    /// How many of them were not answered in full, by status, or `short` or `no_answer`.
    pub failed: BTreeMap<String, u64>,
    /// Of those that were, from when a read was due to the last byte of its answer.
    pub latency: LatencyRow,
}

impl ReadsReport {
    pub(super) fn new(
        reads: &Reads,
        entries: u64,
        outcomes: &[(Kind, Outcome)],
        began: &Beside,
        ended: &Beside,
    ) -> Self {
        let seconds = ended.at.duration_since(began.at).as_secs_f64().max(f64::EPSILON);
        let finals = began.finals.as_ref().zip(ended.finals.as_ref());
        let mut late = Latency::default();
        outcomes.iter().for_each(|(_, outcome)| late.add(&outcome.late));
        let row = |(kind, outcome): &(Kind, Outcome)| ReadRow {
            read: kind.as_str(),
            what: kind.what(),
            asked: outcome.asked,
            failed: outcome.failed.clone(),
            latency: outcome.latency.row(),
        };
        Self {
            kind: "reads",
            host: Host::of_this(),
            account: reads.account.clone(),
            entries,
            accounts: reads.accounts,
            rate: reads.rate,
            connections: reads.connections,
            warmup_seconds: reads.warmup.as_secs_f64(),
            duration_seconds: reads.duration.as_secs_f64(),
            ended_before: began.finals.as_ref().map(crate::bench::metrics::Finals::total),
            ended_per_second: finals
                .map(|(before, after)| after.since(before).total() as f64 / seconds),
            machine_busy: Cost::between(&began.busy, &ended.busy, 1).machine_busy,
            late: late.row(),
            reads: outcomes.iter().map(row).collect(),
        }
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut lines = Lines::default();
        lines.field(
            "reads",
            format!(
                "open loop, {}/s of each kind, {} connections each, {} s after {} s of warm-up",
                self.rate, self.connections, self.duration_seconds, self.warmup_seconds
            ),
        );
        lines.field("account", format!("{} with {} entries", self.account, self.entries));
        let shown = |number: Option<f64>| number.map_or("?".to_owned(), |it| format!("{it:.0}"));
        let before = self.ended_before.map_or("?".to_owned(), |count| count.to_string());
        let beside = format!(
            "{} transfers ended a second, after {before} before; the machine was busy for {} % of \
             the time",
            shown(self.ended_per_second),
            shown(self.machine_busy.map(|share| share * 100.0)),
        );
        lines.field("beside", beside);
        lines.empty();
        lines.line(format!("{:<22} {:>9} {:>9} {}", "", "asked", "failed", ROW_HEADING));
        for row in &self.reads {
            let failed: u64 = row.failed.values().sum();
            let latency = quantiles(&row.latency);
            lines.line(format!("{:<22} {:>9} {failed:>9} {latency}", row.read, row.asked));
        }
        let (count, latency) = (self.late.count, quantiles(&self.late));
        lines.line(format!("{:<22} {count:>9} {:>9} {latency}", "sent later than due", ""));
        for row in self.reads.iter().filter(|row| !row.failed.is_empty()) {
            let failed: Vec<String> =
                row.failed.iter().map(|(code, count)| format!("{code} {count}")).collect();
            lines.line(format!("{} failed: {}", row.read, failed.join(", ")));
        }
        lines.text()
    }
}

const ROW_HEADING: &str = "   p50 ms    p90 ms    p99 ms  p99.9 ms    max ms";

fn quantiles(row: &LatencyRow) -> String {
    let all = [row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms, row.max_ms];
    all.map(|value| format!("{value:>9.2}")).join(" ")
}
