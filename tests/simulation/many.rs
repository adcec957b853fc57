//! Many histories, each from a seed of its own, and what came of them.

use crate::faults::Counts;
use crate::history;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Histories of an ordinary test run: a minute at most of an unoptimised build.
const ORDINARY: u64 = 300;

/// What must have happened in any run of that length: a fault that never comes tests nothing.
const KINDS: [&str; 36] = [
    "COMMIT that happens later",
    "audit",
    "broker down",
    "burst",
    "cancel accepted",
    "cancelled",
    "clock jumps ahead",
    "clock jumps back",
    "close",
    "committed",
    "crash after",
    "crash before",
    "failed delivery",
    "freeze",
    "key used again",
    "limit",
    "lock wait",
    "lock wait timeout",
    "long pause",
    "offsets reset",
    "operator's retry",
    "pause",
    "process replaced",
    "promotion",
    "rebalance",
    "rejected",
    "reversal accepted",
    "shard down",
    "shard down for long",
    "stall",
    "topic replayed",
    "transaction given up",
    "transactions lost to a stall",
    "unanswered call",
    "unconfirmed COMMIT",
    "zombie",
];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.replace('_', "").parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Runs one history readably and fails with it.
fn show(seed: u64) -> ! {
    let outcome = history::run(seed, true);
    for line in &outcome.lines {
        println!("{line}");
    }
    let what = outcome.violation.unwrap_or_else(|| "it went well this time".to_owned());
    panic!(
        "history {seed}: {what}\nrepeat it with \
         HOLDFAST_SIMULATION_SEED={seed} cargo test --test simulation"
    );
}

/// Whatever fails, however often: no invariant is broken, everything accepted comes to its end, and
/// what callers were told is true.
#[test]
fn no_history_breaks_an_invariant() {
    if let Some(seed) = number("HOLDFAST_SIMULATION_SEED") {
        let outcome = history::run(seed, true);
        outcome.lines.iter().for_each(|line| println!("{line}"));
        println!("trace {:016x}, {:?}", outcome.hash, outcome.counts.0);
        assert_eq!(outcome.violation, None, "history {seed}");
        return;
    }
    let histories = number("HOLDFAST_SIMULATION_HISTORIES").unwrap_or(ORDINARY);
    let first = number("HOLDFAST_SIMULATION_FIRST_SEED").unwrap_or(1);
    let threads = number("HOLDFAST_SIMULATION_THREADS")
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from) as u64);
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let (counts, failed) = (Mutex::new(Counts::default()), Mutex::new(None));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Counts::default();
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + histories {
                        break;
                    }
                    let outcome = history::run(seed, false);
                    own.add("histories");
                    own.merge(&outcome.counts);
                    if outcome.violation.is_some() {
                        stop.store(true, Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap();
                        *failed = Some(failed.map_or(seed, |before: u64| before.min(seed)));
                    }
                }
                counts.lock().unwrap().merge(&own);
            });
        }
    });
    let counts = counts.into_inner().unwrap();
    let (ran, seconds) = (counts.of("histories"), begun.elapsed().as_secs_f64());
    println!("{ran} histories from seed {first} in {seconds:.1} s: {:.0}/s", ran as f64 / seconds);
    counts.0.iter().for_each(|(what, count)| println!("{count:>12} {what}"));
    if ran >= ORDINARY {
        let missing: Vec<&str> = KINDS.into_iter().filter(|kind| counts.of(kind) == 0).collect();
        assert!(missing.is_empty(), "nothing of this happened: {missing:?}");
    }
    if let Some(seed) = failed.into_inner().unwrap() {
        println!("history {} of this run is the first that failed", seed - first + 1);
        show(seed);
    }
}

/// The same seed is the same history, down to the last call.
#[test]
fn a_seed_repeats_its_history() {
    for seed in 1..20 {
        let (one, other) = (history::run(seed, false), history::run(seed, true));
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert_eq!(one.counts.0, other.counts.0, "seed {seed}");
    }
}
