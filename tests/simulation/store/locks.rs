//! Row locks, held until the end of a transaction, with the detection of deadlocks.

use holdfast::domain::{AccountId, ClaimKey, Partition, Side, TransferId};
use std::collections::BTreeMap;

/// A row, or the place where one would be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockKey {
    Account(AccountId),
    Transfer(TransferId),
    Entry(TransferId, Side),
    Claim(ClaimKey),
    Reversal(TransferId),
    Letter(Partition, i64),
    AuditChain,
}

#[derive(Default)]
pub struct Locks {
    holders: BTreeMap<LockKey, u64>,
    waits: BTreeMap<u64, LockKey>,
}

/// What came of asking for a lock.
pub enum Asked {
    /// It is the transaction's; new unless it was before.
    Granted { new: bool },
    /// Another has it; the transaction waits.
    Wait,
    /// Waiting would never end.
    Deadlock,
}

impl Locks {
    pub fn ask(&mut self, transaction: u64, key: &LockKey) -> Asked {
        match self.holders.get(key) {
            Some(holder) if *holder == transaction => Asked::Granted { new: false },
            None => {
                self.holders.insert(key.clone(), transaction);
                self.waits.remove(&transaction);
                Asked::Granted { new: true }
            }
            Some(holder) if self.waits_for(*holder, transaction) => {
                self.waits.remove(&transaction);
                Asked::Deadlock
            }
            Some(_) => {
                self.waits.insert(transaction, key.clone());
                Asked::Wait
            }
        }
    }

    /// Whether `one` waits for `other`, directly or through others.
    fn waits_for(&self, mut one: u64, other: u64) -> bool {
        while let Some(key) = self.waits.get(&one) {
            match self.holders.get(key) {
                Some(holder) if *holder == other => return true,
                Some(holder) => one = *holder,
                None => return false,
            }
        }
        false
    }

    /// Gives one lock back: of a row that did not match after all.
    pub fn give_back(&mut self, key: &LockKey) {
        self.holders.remove(key);
    }

    pub fn stop_waiting(&mut self, transaction: u64) {
        self.waits.remove(&transaction);
    }

    pub fn release(&mut self, transaction: u64) {
        self.waits.remove(&transaction);
        self.holders.retain(|_, holder| *holder != transaction);
    }
}
