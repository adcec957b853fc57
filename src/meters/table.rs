//! The one table of metrics. `docs/METRICS.md` is made of it.

#![allow(missing_docs, reason = "each says what it is in its help")]

use super::Values::{Codes, Currencies, Dependencies, Listed, Routes, Shards, Statuses, Version};
use super::{Kind, Label, Metric, Unit, Values};
use crate::domain::{EventType, Reason};
use crate::roles::Role;

/// Upper bounds in seconds: from one group commit to a hold's timeout.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0, 600.0,
];
/// Upper bounds in seconds of what callers wait for; 0.25, 1 and 5 are objectives.
const ENDS: &[f64] = &[
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 3600.0,
];
/// Upper bounds of rows or records of one batch.
const SIZES: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

const SHARD: Label = label("shard", Shards);
const CURRENCY: Label = label("currency", Currencies);
const STEP: Label = label("role", Listed(|| Role::STEPS.map(Role::as_str).to_vec()));
const ROLE: Label = label("role", Listed(|| Role::ALL.map(Role::as_str).to_vec()));
const STAGE: Label = label("stage", Listed(|| vec!["hold", "credit", "commit"]));
const STATE: Label = label("state", Listed(|| vec!["requested", "held"]));
const END: Label = label("outcome", Listed(|| vec!["committed", "rejected", "cancelled"]));
const REASON: Label = label("reason", Listed(reasons));
const OUTCOME: Label = label("outcome", Listed(outcomes));
const ERROR: Label = label("error", Listed(errors));
const LETTER: Label = label("reason", Listed(dead));
const ACTION: Label = label("action", Listed(actions));
const PASS: Label = label("pass", Listed(passes));
const WHAT: Label = label("what", Listed(findings));
const ROUTE: Label = label("route", Routes);
const METHOD: Label = label("method", Listed(methods));
const STATUS: Label = label("status", Statuses);
const WAITS: Label = label("waits", Listed(|| vec!["yes", "no"]));
const CODE: Label = label("code", Codes);
const WHY: Label = label("why", Listed(|| vec!["behind", "full", "waited"]));
const AWAITED: Label = label("what", Listed(|| vec!["handshake", "head", "answer", "idle"]));
const DEPENDENCY: Label = label("dependency", Dependencies);
const UNSEEN: Label = label("why", Listed(|| vec!["no_room", "not_sent", "refused"]));
const MODE: Label = label("mode", Listed(|| vec!["pause", "drain"]));
const FROM: Label = label("from", Listed(|| vec!["primary", "replica"]));
const TO: Label = label("to", Listed(|| vec!["closed", "half_open", "open"]));
const VERSION: Label = label("version", Version);

const fn label(name: &'static str, values: Values) -> Label {
    Label { name, values }
}

/// Of the ends; `none` is for what was committed.
fn reasons() -> Vec<&'static str> {
    ["none"].into_iter().chain(Reason::all().map(Reason::as_str)).collect()
}

/// The events that steps announce, and what else becomes of what they read.
fn outcomes() -> Vec<&'static str> {
    let announced = EventType::all().map(EventType::as_str);
    announced.chain(["done", "let_go", "dead", "stale", "paused"]).collect()
}

/// What can go wrong with a transaction.
fn errors() -> Vec<&'static str> {
    vec!["retry", "unavailable", "commit_unknown", "duplicate", "identity", "corrupt", "failed"]
}

pub fn dead() -> Vec<&'static str> {
    vec!["malformed", "foreign_cluster", "no_row", "contradiction", "too_large", "invariant"]
}

fn actions() -> Vec<&'static str> {
    let emitted = EventType::all().map(EventType::as_str);
    emitted.chain(["announce", "hold_timeout", "undeliverable"]).collect()
}

fn passes() -> Vec<&'static str> {
    vec!["recent", "recent_pivots", "accounts", "transfers", "pivots"]
}

/// What the drift check can find, in the words of `src/reconciler/compare.rs`.
pub fn findings() -> Vec<&'static str> {
    vec![
        "posted is not the sum of the entries",
        "held is not the sum of the held transfers",
        "the account's row breaks an invariant",
        "the projection differs at the same version",
        "an entry does not follow from the one before it",
        "a debit belongs to no transfer",
        "a pivot belongs to no transfer",
        "a transfer's debit entry does not fit its state",
        "a transfer's two entries differ",
        "committed at the source, not credited",
        "credited, but not paid for",
        "credited, but never held",
    ]
}

fn methods() -> Vec<&'static str> {
    vec!["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "OTHER"]
}

const fn metric(
    kind: Kind,
    unit: Unit,
    name: &'static str,
    labels: &'static [Label],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help, look: "" }
}

const fn counter(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    metric(Kind::Counter, Unit::Number, name, labels, help)
}

const fn gauge(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    metric(Kind::Gauge, Unit::Number, name, labels, help)
}

const fn sizes(name: &'static str, labels: &'static [Label], help: &'static str) -> Metric {
    metric(Kind::Histogram(SIZES), Unit::Number, name, labels, help)
}

const fn times(
    bounds: &'static [f64],
    name: &'static str,
    labels: &'static [Label],
    help: &'static str,
) -> Metric {
    metric(Kind::Histogram(bounds), Unit::Seconds, name, labels, help)
}

const fn seconds(metric: Metric) -> Metric {
    Metric { unit: Unit::Seconds, ..metric }
}

const fn money(metric: Metric) -> Metric {
    Metric { unit: Unit::MinorUnits, ..metric }
}

const fn look(look: &'static str, metric: Metric) -> Metric {
    Metric { look, ..metric }
}

/// Metrics of one subject, and its heading.
pub type Area = (&'static str, &'static [&'static Metric]);

macro_rules! table {
    ($($area:literal { $($name:ident = $metric:expr;)+ })+) => {
        $($(pub static $name: Metric = $metric;)+)+
        /// All of them, by subject.
        pub static AREAS: &[Area] = &[$(($area, &[$(&$name),+])),+];
    };
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    AREAS.iter().flat_map(|(_, metrics)| metrics.iter().copied())
}

table! {
    "Money" {
        ACCEPTED = counter("holdfast_transfers_accepted_total", &[SHARD, CURRENCY],
            "Transfers that were accepted, by their source's shard.");
        ACCEPTED_AMOUNT = money(counter("holdfast_accepted_minor_units_total", &[SHARD, CURRENCY],
            "Money of the transfers that were accepted."));
        HELD = counter("holdfast_transfers_held_total", &[SHARD, CURRENCY],
            "Transfers whose amount was held at the source.");
        HELD_AMOUNT = money(counter("holdfast_held_minor_units_total", &[SHARD, CURRENCY],
            "Money that was held at the source."));
        ENDED = look("`rejected` and `cancelled` are more than a few in a hundred",
            counter("holdfast_transfers_ended_total", &[SHARD, CURRENCY, END, REASON],
            "Transfers that ended, by how and why."));
        ENDED_AMOUNT = money(counter("holdfast_ended_minor_units_total",
            &[SHARD, CURRENCY, END, REASON],
            "Money of the transfers that ended, by how and why."));
        TRANSFER_SECONDS = look("more than one in a thousand takes over 5 s",
            times(ENDS, "holdfast_transfer_seconds", &[SHARD],
            "Time from the acceptance of a transfer to its end, by database time."));
        OPEN = gauge("holdfast_transfers_open", &[SHARD, CURRENCY, STATE],
            "Transfers that are not final now.");
        OPEN_AMOUNT = money(gauge("holdfast_open_minor_units", &[SHARD, CURRENCY, STATE],
            "Money of the transfers that are not final now; in state held it is held at the source."));
        OPEN_AGE = look("`held` is older than `HOLDFAST_HOLD_TIMEOUT`",
            seconds(gauge("holdfast_transfers_open_oldest_age_seconds", &[SHARD, CURRENCY, STATE],
            "Time since the oldest transfer that is not final was accepted.")));
        STUCK = look("at all, for some minutes",
            gauge("holdfast_transfers_stuck", &[SHARD, CURRENCY, STAGE],
            "Transfers accepted longer than HOLDFAST_SCAN_LAG ago that wait for a stage, of the 2000 oldest."));
        STUCK_AMOUNT = look("at all, for some minutes",
            money(gauge("holdfast_stuck_minor_units", &[SHARD, CURRENCY, STAGE],
            "Money of the transfers that are stuck.")));
    }
    "API" {
        HTTP_REQUESTS = look("503 by rate",
            counter("holdfast_http_requests_total", &[ROUTE, METHOD, STATUS],
            "Requests that were answered."));
        HTTP_SECONDS = look("p95 without waits is over 500 ms",
            times(SECONDS, "holdfast_http_request_seconds", &[ROUTE, METHOD, WAITS],
            "Time from a request's head to its answer; waits=yes are those that asked with Prefer to wait for an end."));
        HTTP_PROBLEMS = counter("holdfast_http_problems_total", &[CODE],
            "Answers that are problem documents, by their code.");
        OVERLOADED = look("at all: `behind` (outbox full, or a stage late), `full` (too many wait for a group commit), `waited` (3 s and more)",
            counter("holdfast_overloaded_total", &[SHARD, WHY],
            "Requests for transfers that were told overloaded."));
        CROWDED = look("at all",
            counter("holdfast_crowded_total", &[],
            "Requests refused because too many were under way in the process."));
        HTTP_CONNECTIONS = look("near `HOLDFAST_HTTP_MAX_CONNECTIONS`",
            gauge("holdfast_http_connections", &[], "Connections that are open."));
        HTTP_FULL = look("at all",
            counter("holdfast_http_connections_full_total", &[],
            "Times that a connection had to wait to be let in."));
        HTTP_TIMEOUTS = look("`handshake`, `head` and `answer` by rate are clients that are slow, on purpose or not; `idle` is everyday",
            counter("holdfast_http_timeouts_total", &[AWAITED],
            "Connections that were closed because something took too long."));
        TLS_REFUSED = look("by rate: a certificate that ran out, callers without one",
            counter("holdfast_tls_refused_total", &[], "TLS handshakes that failed."));
        GROUP_SIZE = sizes("holdfast_group_commit_size", &[SHARD],
            "Requests that shared a transaction; large is load, not trouble.");
        GROUP_SECONDS = look("over one: the database",
            times(SECONDS, "holdfast_group_commit_seconds", &[SHARD],
            "Time that a group commit took."));
    }
    "Pipeline" {
        EVENTS_READ = counter("holdfast_events_read_total", &[STEP, SHARD],
            "Events that a step read, by the shard whose topics they are from.");
        EVENTS = look("`dead` at all; `let_go` for long: a shard does not answer. Other outcomes are the events published, and `done` for what needed none",
            counter("holdfast_events_total", &[STEP, SHARD, OUTCOME],
            "Events that a step is done with, by the shard that it wrote to and what became of them."));
        STAGE_SECONDS = look("p95 is over some seconds",
            times(ENDS, "holdfast_stage_seconds", &[STEP, SHARD],
            "Time in a stage, from an event to the one that follows it, by database time."));
        BATCH = sizes("holdfast_step_batch_size", &[ROLE, SHARD],
            "Events of one batch of a step, or records that the relay published together.");
        STEP_SECONDS = look("over one: the database, or for the relay Kafka",
            times(SECONDS, "holdfast_step_seconds", &[ROLE, SHARD],
            "Time that a batch took to be applied or published, its failed attempts each."));
        STEP_ERRORS = look("for long",
            counter("holdfast_step_errors_total", &[STEP, SHARD, ERROR],
            "Batches that could not be applied, by why."));
        STEP_RETRIES = counter("holdfast_step_retries_total", &[STEP, SHARD],
            "Batches that were applied once more after an error that passes.");
        TRANSACTION_RETRIES = look("by rate: deadlocks, or locks that somebody else keeps",
            counter("holdfast_transaction_retries_total", &[SHARD, ERROR],
            "Transactions that were run again, by why: also where events come a second time."));
        TURN_DECISIONS = sizes("holdfast_turn_decisions", &[SHARD],
            "Batches of the roles of a process that shared a transaction; one where each role has a process.");
        RESTARTS = look("more than now and then: broker, or an event of a newer version",
            counter("holdfast_worker_restarts_total", &[ROLE, SHARD],
            "Times that a role began again from what was committed."));
        WAITING = look("at all: finish the upgrade",
            counter("holdfast_partitions_waiting_total", &[STEP, SHARD],
            "Partitions that wait because their next event is of a later release."));
        DEAD_LETTERS = look("at all",
            counter("holdfast_dead_letters_total", &[ROLE, SHARD, LETTER],
            "Records written to the dead letters."));
        LAG_RECORDS = look("grows",
            gauge("holdfast_consumer_lag_records", &[STEP, SHARD],
            "Records that a role's consumer group has yet to read."));
        LAG_SECONDS = look("over some seconds",
            seconds(gauge("holdfast_consumer_lag_seconds", &[STEP, SHARD],
            "Age of the oldest record that a role's consumer group has yet to read.")));
    }
    "Outbox" {
        OUTBOX_RECORDS = counter("holdfast_outbox_records_total", &[SHARD],
            "Records that the relay published: the rate of transfers.");
        OUTBOX_UNSENT = look("near `HOLDFAST_OUTBOX_LIMIT`",
            gauge("holdfast_outbox_unsent", &[SHARD],
            "Records in the outbox of a shard, which are unsent."));
        OUTBOX_AGE = look("over some seconds: relay or Kafka",
            seconds(gauge("holdfast_outbox_age_seconds", &[SHARD],
            "Age of the oldest record in the outbox of a shard.")));
    }
    "Reconciler" {
        RECONCILED = look("older than two minutes: nobody reconciles that shard",
            seconds(gauge("holdfast_reconciler_last_pass_timestamp_seconds", &[SHARD],
            "Unix time of the last round that went to its end, by the shard's clock.")));
        ACTIONS = look("`hold_timeout` and `undeliverable` are transfers that did not end as they should",
            counter("holdfast_reconciler_actions_total", &[SHARD, ACTION],
            "What was done about transfers that stood still."));
        DRIFT_ACCOUNTS = look("over zero",
            gauge("holdfast_drift_accounts", &[SHARD], "Accounts in quarantine."));
        DRIFT_AMOUNT = look("over zero",
            money(gauge("holdfast_drift_minor_units", &[SHARD, CURRENCY],
            "By how much the books of accounts in quarantine differ.")));
        DRIFT_FOUND = look("at all",
            counter("holdfast_drift_found_total", &[SHARD, WHAT],
            "Differences that the drift check found."));
        DRIFT_COMPARED = counter("holdfast_drift_compared_total", &[SHARD, PASS],
            "Accounts, transfers and pivots that the drift check looked at.");
        DRIFT_PASS = look("`recent` older than some minutes, or the others older than two of their intervals: no reconciler runs for that shard, or a shard it needs is down",
            seconds(gauge("holdfast_drift_last_pass_timestamp_seconds", &[SHARD, PASS],
            "Unix time at which a pass of the drift check last came to its end, by the shard's clock.")));
        REFRESHED = look("steadily growing: the projector is not keeping up",
            counter("holdfast_projection_refreshed_total", &[SHARD],
            "Projected balances that were copied from their accounts because they stayed behind."));
    }
    "Operators" {
        PAUSED = look("it is forgotten: `holdfast status` says what, since when and by whom",
            gauge("holdfast_paused_scopes", &[MODE],
            "Scopes that operators have paused or drained, the same in every process."));
        UNREADABLE_FIELDS = look("at all: `holdfast encryption status`",
            counter("holdfast_unreadable_fields_total", &[],
            "Answers without fields that are encrypted and could not be read."));
    }
    "Dependencies" {
        BREAKER = look("not 0",
            gauge("holdfast_breaker_state", &[DEPENDENCY],
            "Where a circuit breaker stands: 0 closed, 1 half-open (the probe is under way), 2 open."));
        BREAKER_MOVES = look("many: the dependency comes and goes",
            counter("holdfast_breaker_transitions_total", &[DEPENDENCY, TO],
            "Moves of a circuit breaker."));
        READS = look("`primary` where replicas are configured: they are behind, or away",
            counter("holdfast_reads_total", &[SHARD, FROM],
            "Reads of lists, histories and projected balances, by where they were read."));
        REPLICA_AGE = look("over `HOLDFAST_REPLICA_STALENESS`: the shard is read in its place",
            seconds(gauge("holdfast_replica_age_seconds", &[SHARD],
            "Since when a shard's replica is not known to have everything.")));
        CACHE_ERRORS = look("by rate: Redis",
            counter("holdfast_cache_errors_total", &[],
            "Balances that could not be written to Redis."));
        SPANS_DROPPED = look("at all: spans that nobody will see, for there was no room in the queue, or the collector is away or refuses them",
            counter("holdfast_trace_spans_dropped_total", &[UNSEEN],
            "Spans that were not taken by the collector, by why."));
        BUILD = gauge("holdfast_build_info", &[VERSION], "1, for the release that runs.");
    }
}
