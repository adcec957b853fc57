//! Which faults a history has and how often, what was injected, and faults placed by a script.

use crate::dice::Dice;
use holdfast::domain::Shard;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where a gate stands in a port call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing has happened yet.
    Before,
    /// It has happened and is not answered yet.
    After,
}

/// Chances at each gate, in ten thousand.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub yields: u32,
    pub pauses: u32,
    pub long_pauses: u32,
    pub unanswered: u32,
    pub given_up: u32,
    pub unconfirmed: u32,
    pub crash: u32,
    pub stall: u32,
    pub produce: u32,
    /// Processes that may still crash or stall.
    pub lives_to_take: u32,
    /// Nothing goes wrong any more: what is left must end by itself.
    pub over: bool,
}

impl Faults {
    /// Each kind is there or not, and often or seldom: a history in which everything fails a
    /// little finds less than many that each fail in their own way.
    pub fn draw(dice: &mut Dice) -> Self {
        let mut of = |choices: &[u32]| *dice.pick(choices);
        Self {
            yields: of(&[0, 1000, 4000]),
            pauses: of(&[0, 300, 1500]),
            long_pauses: of(&[0, 0, 10, 60]),
            unanswered: of(&[0, 0, 30, 200]),
            given_up: of(&[0, 0, 50, 400]),
            unconfirmed: of(&[0, 300, 1500]),
            crash: of(&[0, 5, 30]),
            stall: of(&[0, 5, 20]),
            produce: of(&[0, 200, 1000]),
            lives_to_take: of(&[1, 2, 4]),
            over: false,
        }
    }

    /// Nothing but what a script places.
    pub fn none() -> Self {
        Self::default()
    }
}

/// What a script does at a gate.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    Crash,
    /// It stands still; its open transactions and its partitions are lost to it meanwhile.
    Stall(Duration),
    Pause(Duration),
    Unanswered,
    /// A COMMIT that nobody confirms; whether it happens, and how much later.
    Unconfirmed {
        applied: bool,
        after: Duration,
    },
}

/// A fault placed by a script: at the first matching gate after `skip` others.
#[derive(Clone, Debug)]
pub struct Rule {
    pub process: Option<usize>,
    pub call: &'static str,
    pub side: Side,
    pub shard: Option<Shard>,
    pub skip: u32,
    pub act: Act,
}

/// How often each kind of thing happened.
#[derive(Clone, Debug, Default)]
pub struct Counts(pub BTreeMap<&'static str, u64>);

impl Counts {
    pub fn add(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add_many(&mut self, what: &'static str, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    pub fn merge(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}
