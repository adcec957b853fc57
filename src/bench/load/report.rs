//! What a run comes to.

use super::record::{Record, WINDOW, Window};
use super::watch::{Tick, Watched};
use super::{Instruments, Load, Pace};
use crate::bench::cost::{Cost, GENERATOR, HOLDFAST, OTHER};
use crate::bench::host::Host;
use crate::bench::latency::{Latency, LatencyRow};
use crate::bench::mysql::ServerFacts;
use crate::bench::text::Lines;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// All of it. Counts and rates leave the warm-up out, but for what is said to include it.
#[derive(Debug, Serialize)]
pub struct LoadReport {
    /// What kind of report it is.
    pub kind: &'static str,
    /// The machine and the command.
    pub host: Host,
    /// The databases, each once; empty where no configuration names them.
    pub servers: Vec<ServerFacts>,
    /// Whether what was committed is on disk, on every server; none where they are not known.
    pub durable: Option<bool>,
    /// What was asked for.
    pub load: Asked,
    /// Transfers sent.
    pub sent: u64,
    /// Transfers accepted.
    pub accepted: u64,
    /// Transfers that ended, by how, from the first to the last, the warm-up's included.
    pub finals: BTreeMap<&'static str, u64>,
    /// Transfers that were not accepted, by code.
    pub refused: BTreeMap<String, u64>,
    /// Requests that were sent once more.
    pub retried: u64,
    /// Transfers accepted a second.
    pub accepted_per_second: f64,
    /// Transfers committed a second while they were sent.
    pub committed_per_second: Option<f64>,
    /// Until the last of them was.
    pub committed_per_second_to_the_end: Option<f64>,
    /// From the end of the sending until everything accepted had ended.
    pub drain_seconds: Option<f64>,
    /// Transfers accepted that nobody saw end, the warm-up's included.
    pub not_ended: Option<u64>,
    /// From when a request was due until it was accepted; in a closed loop from when it was sent.
    pub accept: LatencyRow,
    /// Until the transfer's caller could see its end, of the followed ones.
    pub accept_to_final: LatencyRow,
    /// Transfers that were to be followed, while too many were.
    pub not_followed: u64,
    /// Whether the generator kept up.
    pub behind: Behind,
    /// The share of the transfers that left their shard, where it is known.
    pub cross_shard_share: Option<f64>,
    /// The run in pieces.
    pub windows: Vec<WindowRow>,
    /// From the end of the warm-up to the end, for each transfer committed meanwhile.
    #[serde(flatten)]
    pub cost: Cost,
    /// Resident bytes of Holdfast, where it runs here.
    pub memory: Option<Memory>,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub struct Asked {
    /// `open`: requests are due at a steady rate; `closed`: each connection sends the next one when
    /// the last is answered.
    #[serde(rename = "loop")]
    pub kind: &'static str,
    /// Transfers a second, in an open loop.
    pub rate: Option<f64>,
    /// Transfers a request.
    pub batch: usize,
    /// Connections.
    pub connections: usize,
    /// In seconds.
    pub warmup_seconds: f64,
    /// In seconds; none where only a number of transfers ended it.
    pub duration_seconds: Option<f64>,
    /// How many accepted transfers were to end it.
    pub transfers: Option<u64>,
    /// Between how many accounts.
    pub accounts: u32,
    /// How transfers are spread over them.
    pub mix: &'static str,
    /// Zipf's exponent, with that mix.
    pub skew: Option<f64>,
    /// The share of the hot account, with those mixes.
    pub hot_share: Option<f64>,
    /// The share that was to leave its shard.
    pub cross_shard: Option<f64>,
    /// Shards, where they are known.
    pub shards: Option<u16>,
    /// The share that was to be followed to the end.
    pub sample: f64,
    /// Whether what was not taken was sent again.
    pub retry: bool,
}

/// How the generator did. Its own lateness is in the latencies, which count from when a request was
/// due.
#[derive(Debug, Serialize)]
pub struct Behind {
    /// How much later than due requests were sent.
    pub late: LatencyRow,
    /// Transfers due and never sent, because no connection was free for them.
    pub unsent: u64,
    /// Whether everything due was sent.
    pub kept_the_rate: bool,
}

/// Ten seconds of the run.
#[derive(Debug, Serialize)]
pub struct WindowRow {
    /// From here, in seconds.
    pub from: f64,
    /// To here.
    pub to: f64,
    /// Transfers accepted a second, of those due meanwhile.
    pub accepted_per_second: f64,
    /// Transfers committed a second meanwhile.
    pub committed_per_second: Option<f64>,
    /// Latency of acceptance.
    pub accept: LatencyRow,
    /// Latency to the end.
    pub accept_to_final: LatencyRow,
    /// Microseconds of processor time for each transfer committed meanwhile, by process.
    pub cpu_us: BTreeMap<String, f64>,
    /// Most resident bytes of Holdfast meanwhile, once a second.
    pub resident: Option<u64>,
}

impl WindowRow {
    /// Microseconds a transfer of all that serves it: the generator, and what else the machine was
    /// busy with, left out.
    fn served_us(&self) -> Option<f64> {
        let serves = |name: &str| name != GENERATOR && name != OTHER;
        let each = self.cpu_us.iter().filter(|(name, _)| serves(name)).map(|(_, us)| *us);
        each.reduce(|one, two| one + two)
    }
}

/// Resident bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// When it began to count.
    pub start: u64,
    /// Most of all that was seen, once a second.
    pub most: u64,
    /// At the end.
    pub end: u64,
}

impl Asked {
    fn of(load: &Load, instruments: &Instruments) -> Self {
        use super::Mix;
        let hot = matches!(load.mix, Mix::HotSource | Mix::HotDestination);
        Self {
            kind: if load.is_open() { "open" } else { "closed" },
            rate: match load.pace {
                Pace::Rate(rate) => Some(rate),
                Pace::Max => None,
            },
            batch: load.batch,
            connections: load.connections,
            warmup_seconds: load.warmup.as_secs_f64(),
            duration_seconds: load.duration.map(|duration| duration.as_secs_f64()),
            transfers: load.transfers,
            accounts: load.accounts,
            mix: load.mix.as_str(),
            skew: (load.mix == Mix::Zipf).then_some(load.skew),
            hot_share: hot.then_some(load.hot_share),
            cross_shard: load.cross_shard,
            shards: instruments.map.as_ref().map(crate::routing::ShardMap::shards),
            sample: load.sample,
            retry: load.retry,
        }
    }
}

/// Ends of one kind between two moments, where both are known.
fn ended(from: &Tick, to: &Tick, status: &str) -> Option<u64> {
    Some(to.finals.as_ref()?.since(from.finals.as_ref()?).of(status))
}

fn seconds(from: &Tick, to: &Tick) -> f64 {
    to.at.saturating_duration_since(from.at).as_secs_f64().max(f64::EPSILON)
}

fn committed_per_second(from: &Tick, to: &Tick) -> Option<f64> {
    Some(ended(from, to, "committed")? as f64 / seconds(from, to))
}

impl LoadReport {
    pub(super) fn new(
        load: &Load,
        instruments: &Instruments,
        servers: Vec<ServerFacts>,
        record: &Record,
        watched: &Watched,
    ) -> Self {
        let (began, sent) = (watched.began(), watched.ended());
        let (mut accept, mut complete) = (Latency::default(), Latency::default());
        for window in &record.windows {
            accept.add(&window.accept);
            complete.add(&window.complete);
        }
        let accepted = record.counted;
        let finals = watched.last.finals.as_ref().zip(watched.first.finals.as_ref());
        let finals = finals.map(|(last, first)| last.since(first));
        let not_ended = finals.as_ref().map(|ends| record.accepted.saturating_sub(ends.total()));
        let committed = ended(began, &watched.last, "committed").filter(|count| *count > 0);
        let (before, after) = &watched.spent;
        let length = seconds(began, sent);
        Self {
            kind: "load",
            host: Host::of_this(),
            durable: (!servers.is_empty()).then(|| servers.iter().all(ServerFacts::durable)),
            servers,
            load: Asked::of(load, instruments),
            sent: record.sent,
            accepted,
            finals: finals.map(|ends| ends.0).unwrap_or_default(),
            refused: record.refused.clone(),
            retried: record.retried,
            accepted_per_second: accepted as f64 / length,
            committed_per_second: committed_per_second(began, sent),
            committed_per_second_to_the_end: committed_per_second(began, &watched.last),
            drain_seconds: watched
                .drained
                .then(|| watched.last.at.saturating_duration_since(sent.at).as_secs_f64()),
            not_ended,
            accept: accept.row(),
            accept_to_final: complete.row(),
            not_followed: record.not_followed,
            behind: Behind {
                late: record.late.row(),
                unsent: record.unsent,
                kept_the_rate: record.unsent == 0,
            },
            cross_shard_share: instruments
                .map
                .as_ref()
                .map(|_| record.crossed as f64 / record.sent.max(1) as f64),
            windows: windows(record, watched, length),
            cost: Cost::between(before, after, committed.unwrap_or(record.accepted)),
            memory: memory(watched),
        }
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut lines = Lines::default();
        if !self.servers.is_empty() {
            lines.servers(&self.servers);
        }
        lines.field("load", self.load.words());
        self.counts(&mut lines);
        lines.empty();
        lines.line(LatencyRow::heading());
        lines.line(self.accept.line("accept"));
        lines.line(self.accept_to_final.line("accept to final"));
        if self.windows.len() > 1 {
            lines.empty();
            self.window_lines(&mut lines);
        }
        lines.empty();
        lines.cost(&self.cost);
        if let Some(memory) = &self.memory {
            let mebibytes = |bytes: u64| bytes / (1024 * 1024);
            lines.line(format!(
                "{HOLDFAST} resident: {} MiB at the start, {} at most, {} at the end",
                mebibytes(memory.start),
                mebibytes(memory.most),
                mebibytes(memory.end)
            ));
        }
        lines.text()
    }

    fn counts(&self, lines: &mut Lines) {
        let late = &self.behind.late;
        let mut behind = format!(
            "sent later than due: p50 {:.2} ms, p99 {:.2} ms, at most {:.1} ms",
            late.p50_ms, late.p99_ms, late.max_ms
        );
        if !self.behind.kept_the_rate {
            behind = format!("{} transfers were due and never sent; {behind}", self.behind.unsent);
        }
        lines.field("sent", self.sent.to_string());
        lines.field("behind", behind);
        lines.field("accepted", format!("{} ({:.1}/s)", self.accepted, self.accepted_per_second));
        let rate = |rate: Option<f64>| rate.map_or("?".to_owned(), |rate| format!("{rate:.1}"));
        let drained = match (self.drain_seconds, self.not_ended) {
            (Some(seconds), _) => format!("all of it {seconds:.1} s later"),
            (None, Some(left)) => format!("{left} not ended when the wait was over"),
            (None, None) => "ends are not known: name the processes with --metrics".to_owned(),
        };
        lines.field(
            "committed",
            format!(
                "{}/s while it was sent, {}/s to the end; {drained}",
                rate(self.committed_per_second),
                rate(self.committed_per_second_to_the_end),
            ),
        );
        let ends = self.finals.iter().map(|(status, count)| (status.to_string(), *count));
        lines.field("ended", counts(ends));
        lines.field("refused", counts(self.refused.iter().map(|(code, n)| (code.clone(), *n))));
        if self.load.retry {
            lines.field("retried", self.retried.to_string());
        }
    }

    fn window_lines(&self, lines: &mut Lines) {
        lines.line(format!(
            "{:<16} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "window, s",
            "accept/s",
            "commit/s",
            "p50 ms",
            "p99 ms",
            "end p50",
            "end p99",
            "followed",
            "us",
            "MiB"
        ));
        let shown = |number: Option<f64>| number.map_or("?".to_owned(), |it| format!("{it:.0}"));
        for window in &self.windows {
            let (accept, end) = (&window.accept, &window.accept_to_final);
            lines.line(format!(
                "{:<16} {:>9.0} {:>9} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9} {:>9} {:>9}",
                format!("{:.0} to {:.0}", window.from, window.to),
                window.accepted_per_second,
                shown(window.committed_per_second),
                accept.p50_ms,
                accept.p99_ms,
                end.p50_ms,
                end.p99_ms,
                end.count,
                shown(window.served_us()),
                shown(window.resident.map(|bytes| bytes as f64 / f64::from(1 << 20))),
            ));
        }
    }
}

impl Asked {
    fn words(&self) -> String {
        let mut words = match self.rate {
            Some(rate) => format!("open loop, {rate} transfers/s"),
            None => "closed loop: a request's latency counts from when it was sent, and what \
                would have waited before that is not in it"
                .to_owned(),
        };
        let requests = match self.batch {
            1 => "single requests".to_owned(),
            batch => format!("{batch} a request"),
        };
        words.push_str(&format!(
            "; {requests}, {} connections, {} after {} s of warm-up; {} over {} accounts",
            self.connections,
            self.length(),
            self.warmup_seconds,
            self.mix,
            self.accounts
        ));
        let of = [
            self.skew.map(|skew| format!("skew {skew}")),
            self.hot_share.map(|share| format!("hot share {share}")),
            self.cross_shard.map(|share| format!("{share} across shards")),
            self.shards.map(|shards| format!("{shards} shards")),
        ];
        for detail in of.into_iter().flatten() {
            words.push_str(&format!(", {detail}"));
        }
        words
    }

    fn length(&self) -> String {
        let transfers = self.transfers.map(|transfers| format!("{transfers} transfers"));
        let seconds = self.duration_seconds.map(|seconds| format!("{seconds} s"));
        match (transfers, seconds) {
            (Some(transfers), Some(seconds)) => format!("{transfers} or {seconds}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "no end".to_owned(),
        }
    }
}

fn counts(all: impl Iterator<Item = (String, u64)>) -> String {
    let all: Vec<String> = all.map(|(name, count)| format!("{name} {count}")).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn windows(record: &Record, watched: &Watched, length: f64) -> Vec<WindowRow> {
    let began = watched.began().at;
    let tick_at = |from: f64| {
        let at = began + Duration::from_secs_f64(from);
        let distance = |tick: &Tick| {
            let late = tick.at.saturating_duration_since(at);
            late.max(at.saturating_duration_since(tick.at))
        };
        (0..watched.ticks.len()).min_by_key(|number| distance(&watched.ticks[*number]))
    };
    let nothing = Window::default();
    let row = |number: usize| {
        let window = record.windows.get(number).unwrap_or(&nothing);
        let from = WINDOW.as_secs_f64() * number as f64;
        let to = (from + WINDOW.as_secs_f64()).min(length.round().max(from + 1.0));
        let ticks = tick_at(from).zip(tick_at(to)).filter(|(from, to)| from < to);
        let ticks = ticks.map_or(&[][..], |(from, to)| &watched.ticks[from..=to]);
        WindowRow {
            from,
            to,
            accepted_per_second: window.accepted as f64 / (to - from),
            committed_per_second: ends(ticks).and_then(|(from, to)| committed_per_second(from, to)),
            accept: window.accept.row(),
            accept_to_final: window.complete.row(),
            cpu_us: ends(ticks).map(|(from, to)| cpu_us(from, to)).unwrap_or_default(),
            resident: ticks.iter().filter_map(|tick| tick.resident).max(),
        }
    };
    (0..number_of_windows(record, length)).map(row).collect()
}

/// Those that began before the sending ended.
fn number_of_windows(record: &Record, length: f64) -> usize {
    ((length / WINDOW.as_secs_f64()).ceil() as usize).min(record.most_windows)
}

fn ends(ticks: &[Tick]) -> Option<(&Tick, &Tick)> {
    ticks.first().zip(ticks.last())
}

fn cpu_us(from: &Tick, to: &Tick) -> BTreeMap<String, f64> {
    let Some(committed) = ended(from, to, "committed").filter(|count| *count > 0) else {
        return BTreeMap::new();
    };
    let shares = Cost::between(&from.spent, &to.spent, committed).cpu_us_per_transfer;
    shares.into_iter().map(|(name, share)| (name, share.total)).collect()
}

fn memory(watched: &Watched) -> Option<Memory> {
    let all = watched.ticks.iter().chain([&watched.last]);
    Some(Memory {
        start: watched.began().resident?,
        most: all.filter_map(|tick| tick.resident).max()?,
        end: watched.last.resident?,
    })
}
