//! A simulated shard: tables in memory, row locks, transactions that are applied whole or not at
//! all, a clock that may jump. What a process can see of it is what it sees of the real adapters.

mod audit;
mod credentials;
mod drift;
mod locks;
mod operations;
mod pauses;
mod port;
mod proposals;
mod reads;
mod recovery;
mod replication;
mod sealing;
mod session;
mod tables;
mod tx;

pub use locks::{LockKey, Locks};
pub use port::SimStore;
pub use tables::{Changes, Staged, Tables};

use holdfast::domain::Generation;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Commits that a promotion may lose.
const REMEMBERED: usize = 12;

/// One shard's database.
#[derive(Default)]
pub struct Database {
    pub tables: Tables,
    pub locks: Locks,
    /// Writing transactions that are open, and whose they are; none once the session is detached
    /// from its process, by a COMMIT on its way.
    pub open: BTreeMap<u64, Option<usize>>,
    /// Told when locks are released.
    pub released: Arc<Notify>,
    pub down: bool,
    /// Microseconds that its clock is ahead of virtual time.
    pub clock_offset: i64,
    pub generation: Generation1,
    /// Whether former states are remembered, so that a promotion can lose commits.
    pub remembers: bool,
    past: VecDeque<Tables>,
}

/// A generation that begins at 1, as in a new cluster.
#[derive(Clone, Copy)]
pub struct Generation1(pub Generation);

impl Default for Generation1 {
    fn default() -> Self {
        Self(Generation(1))
    }
}

impl Database {
    /// Ends a session: its locks are free, and nothing of it will ever be written.
    pub fn end(&mut self, transaction: u64) {
        if self.open.remove(&transaction).is_some() {
            self.locks.release(transaction);
            self.released.notify_waiters();
        }
    }

    /// Ends the sessions of a process.
    pub fn disconnect(&mut self, process: usize) {
        let of_process = self.open.iter().filter(|(_, owner)| **owner == Some(process));
        let ids: Vec<u64> = of_process.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.end(id));
    }

    /// Ends all sessions.
    pub fn disconnect_all(&mut self) {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        ids.into_iter().for_each(|id| self.end(id));
    }

    /// Applies what a transaction has written, and says what changed.
    pub fn apply(&mut self, staged: Staged) -> Changes {
        if self.remembers {
            if self.past.len() == REMEMBERED {
                self.past.pop_front();
            }
            self.past.push_back(self.tables.clone());
        }
        self.tables.apply(staged)
    }

    /// Goes back by so many commits, as far as they are remembered; how many were lost.
    pub fn lose(&mut self, commits: usize) -> usize {
        let lost = commits.min(self.past.len());
        for _ in 0..lost {
            if let Some(before) = self.past.pop_back() {
                self.tables = before;
            }
        }
        self.past.clear();
        lost
    }
}
