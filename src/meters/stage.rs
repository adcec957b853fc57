//! What a step counts and measures of the events that write to one shard: handles that are kept, and
//! added to once a batch.

use super::table::{
    BATCH, DEAD_LETTERS, EVENTS, EVENTS_READ, STAGE_SECONDS, STEP_ERRORS, STEP_RETRIES,
    STEP_SECONDS, dead,
};
use crate::domain::{DeadReason, EventType, Shard};
use crate::roles::Role;
use metrics::{Counter, Histogram};
use std::time::Duration;

/// The meters of one step and one shard that it writes to.
pub struct StageMeter {
    role: Role,
    shard: String,
    batch: Histogram,
    applied: Histogram,
    stage: Histogram,
    retries: Counter,
    outcomes: Vec<(&'static str, Counter)>,
}

impl StageMeter {
    /// Of a step that writes to this shard. What it usually makes of events is there from the
    /// beginning, so that the first one that is let go is an increase.
    pub fn new(role: Role, shard: Shard) -> Self {
        use EventType::{Cancelled, Committed, Credited, Held, Refused, Rejected};
        let shard = shard.to_string();
        let of = [role.as_str(), shard.as_str()];
        let announces: &[EventType] = match role {
            Role::Hold => &[Held, Committed, Rejected, Cancelled],
            Role::Credit => &[Credited, Refused],
            Role::Commit => &[Committed, Rejected, Cancelled],
            Role::Ingress | Role::Relay | Role::Projector | Role::Reconciler => &[],
        };
        let announces = announces.iter().map(|kind| kind.as_str());
        for reason in dead() {
            DEAD_LETTERS.counter(&[of[0], of[1], reason]).increment(0);
        }
        let counted = announces.chain(["done", "let_go", "dead", "stale", "paused"]);
        Self {
            batch: BATCH.histogram(&of),
            applied: STEP_SECONDS.histogram(&of),
            stage: STAGE_SECONDS.histogram(&of),
            retries: STEP_RETRIES.counter(&of),
            outcomes: counted.map(|what| (what, EVENTS.counter(&[of[0], of[1], what]))).collect(),
            role,
            shard,
        }
    }

    /// Events of which the same became.
    pub fn outcome(&self, outcome: &'static str, events: usize) {
        let known = self.outcomes.iter().find(|(name, _)| *name == outcome);
        let counter = known.map(|(_, counter)| counter.clone());
        let of = || EVENTS.counter(&[self.role.as_str(), &self.shard, outcome]);
        counter.unwrap_or_else(of).increment(events as u64);
    }

    /// A batch begins.
    pub fn batch(&self, events: usize) {
        self.batch.record(events as f64);
    }

    /// It was tried to apply a batch.
    pub fn tried(&self, took: Duration) {
        self.applied.record(took);
    }

    /// That failed; `kind` is one of the store's.
    pub fn failed(&self, kind: &'static str) {
        STEP_ERRORS.counter(&[self.role.as_str(), &self.shard, kind]).increment(1);
    }

    /// It is tried again.
    pub fn again(&self) {
        self.retries.increment(1);
    }

    /// An event has gone through the stage in so long.
    pub fn through(&self, took: Duration) {
        self.stage.record(took);
    }

    /// An event is written to the dead letters.
    pub fn dead(&self, reason: DeadReason) {
        dead_letter(self.role, &self.shard, reason);
    }
}

/// The meters of a step and the shard whose topics it reads.
pub struct IntakeMeter {
    read: Counter,
    stage: StageMeter,
}

impl IntakeMeter {
    /// Nothing is read yet.
    pub fn new(role: Role, shard: Shard) -> Self {
        let read = EVENTS_READ.counter(&[role.as_str(), &shard.to_string()]);
        Self { read, stage: StageMeter::new(role, shard) }
    }

    /// So many records were read.
    pub fn read(&self, records: usize) {
        self.read.increment(records as u64);
    }

    /// One of them is of an older generation.
    pub fn stale(&self) {
        self.stage.outcome("stale", 1);
    }

    /// One of them is not to be acted on yet, because an operator has paused what it is about.
    pub fn paused(&self) {
        self.stage.outcome("paused", 1);
    }

    /// One of them goes to the dead letters at once.
    pub fn dead(&self, reason: DeadReason) {
        self.stage.outcome("dead", 1);
        self.stage.dead(reason);
    }
}

/// A record of a shard is written to the dead letters.
pub fn dead_letter(role: Role, shard: &str, reason: DeadReason) {
    DEAD_LETTERS.counter(&[role.as_str(), shard, reason.as_str()]).increment(1);
}
