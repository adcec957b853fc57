//! Everything that a history consists of, in one place: databases, log, processes, clocks, dice.
//! One thread runs it; the lock is there because the ports are made for many.

use crate::auditor::Auditor;
use crate::book::Book;
use crate::broker::Log;
use crate::dice::Dice;
use crate::faults::{Counts, Faults, Rule};
use crate::store::Database;
use crate::trace::Trace;
use holdfast::domain::{ClusterId, Generation, Shard, Timestamp};
use holdfast::ingress::Ingress;
use holdfast::routing::ShardMap;
use holdfast::store::Identity;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Shards of every world.
pub const SHARDS: u16 = 2;
/// Database time when a history begins.
const BEGINNING: i64 = 1_700_000_000_000_000;

/// One incarnation of a process.
#[derive(Default)]
pub struct Life {
    /// It will never do anything again.
    pub dead: bool,
    /// It does nothing until then.
    pub stalled_until: Option<Instant>,
    /// Nothing goes wrong for it.
    pub spared: bool,
}

pub struct State {
    pub dice: Dice,
    pub faults: Faults,
    pub rules: Vec<Rule>,
    pub counts: Counts,
    pub databases: Vec<Database>,
    pub log: Log,
    pub lives: Vec<Life>,
    /// Processes that ended by a crash and are to be started again.
    pub crashed: Vec<usize>,
    pub auditor: Auditor,
    pub book: Book,
    pub trace: Trace,
    /// Port calls so far.
    pub calls: u64,
    /// The first thing that must not be.
    pub violation: Option<String>,
    next_number: u64,
}

impl State {
    /// A number that was not given before.
    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn database(&mut self, shard: Shard) -> &mut Database {
        &mut self.databases[usize::from(shard.0)]
    }
}

pub struct World {
    pub map: ShardMap,
    fingerprint: String,
    pub state: Mutex<State>,
    /// The ingress of each machine's process that lives now.
    pub doors: Mutex<BTreeMap<usize, Ingress>>,
    /// Told when a process crashes, and when an invariant is violated.
    pub crashes: Notify,
    pub violated: Notify,
    began: Instant,
}

impl World {
    /// An empty world; only inside of a runtime.
    pub fn new(seed: u64, partitions: u32, faults: Faults, readable: bool) -> Arc<Self> {
        let (map, fingerprint) = map_of(partitions);
        let state = State {
            dice: Dice::new(seed),
            faults,
            rules: Vec::new(),
            counts: Counts::default(),
            databases: (0..SHARDS).map(|_| Database::default()).collect(),
            log: Log::new(SHARDS, partitions),
            lives: Vec::new(),
            crashed: Vec::new(),
            auditor: Auditor::default(),
            book: Book::default(),
            trace: Trace::new(readable),
            calls: 0,
            violation: None,
            next_number: 0,
        };
        Arc::new(Self {
            map,
            fingerprint,
            state: Mutex::new(state),
            doors: Mutex::default(),
            crashes: Notify::new(),
            violated: Notify::new(),
            began: Instant::now(),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic of the simulation ends it")
    }

    /// Nobody comes in any more.
    pub fn close_doors(&self) {
        let doors = match self.doors.lock() {
            Ok(mut doors) => std::mem::take(&mut *doors),
            Err(poisoned) => std::mem::take(&mut *poisoned.into_inner()),
        };
        drop(doors);
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Database time of a shard.
    pub fn time(&self, database: &Database) -> Timestamp {
        let micros = i64::try_from(self.elapsed().as_micros()).expect("histories are short");
        Timestamp::from_micros(BEGINNING + micros + database.clock_offset)
    }

    pub fn identity(&self, generation: Generation) -> Identity {
        Identity {
            cluster: ClusterId(uuid::Uuid::from_u128(0xC0FFEE)),
            generation,
            map_version: self.map.version(),
            partitions: self.map.partitions(),
            map_fingerprint: self.fingerprint.clone(),
        }
    }

    /// Remembers the first thing that must not be, and ends the history.
    pub fn violate(&self, state: &mut State, what: String) {
        let at = self.elapsed();
        state.trace.say(at, || format!("VIOLATION: {what}"));
        if state.violation.is_none() {
            state.violation = Some(what);
            self.violated.notify_one();
        }
    }

    /// Puts what an auditor said into effect.
    pub fn judge(&self, state: &mut State, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.violate(state, what);
        }
    }

    pub fn say(&self, line: impl FnOnce() -> String) {
        let at = self.elapsed();
        self.lock().trace.say(at, line);
    }
}

/// Maps are laid out once for all histories: that takes longer than a history.
fn map_of(partitions: u32) -> (ShardMap, String) {
    static MAPS: OnceLock<Vec<(ShardMap, String)>> = OnceLock::new();
    let lay_out = |partitions| {
        let map = ShardMap::lay_out(SHARDS, partitions);
        let fingerprint = map.fingerprint();
        (map, fingerprint)
    };
    let maps = MAPS.get_or_init(|| (1..=2).map(lay_out).collect());
    maps[partitions as usize - 1].clone()
}

/// Lets virtual time pass.
pub async fn pass(time: Duration) {
    let deadline = Instant::now() + time;
    tokio::time::sleep_until(deadline).await;
}
