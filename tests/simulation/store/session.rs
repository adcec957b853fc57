//! A session with a shard's database: what its statements have in common, its locks, its end.

use super::locks::Asked;
use super::{LockKey, Staged};
use crate::gate::{Gate, Trouble};
use crate::world::pass;
use holdfast::domain::{
    AccountId, AccountRow, EntryRow, Shard, Side, StageWrite, State, Timestamp, TransferId,
    Velocity,
};
use holdfast::store::{AccountRecord, BalanceRow, Constraint, StoreError, TransferRecord};
use std::time::Duration;

/// As in the real adapter's sessions.
const LOCK_WAIT: Duration = Duration::from_secs(5);

pub struct SimTx {
    pub gate: Gate,
    pub shard: Shard,
    pub id: u64,
    pub now: Timestamp,
    pub staged: Staged,
    /// A statement failed: nothing may follow but a ROLLBACK.
    pub failed: bool,
}

pub fn unanswered(shard: Shard) -> StoreError {
    let address = format!("shard-{shard}.simulated:3306/ledger");
    StoreError::Unavailable { shard, address, detail: "no answer".to_owned() }
}

pub fn retry(shard: Shard, detail: &str) -> StoreError {
    StoreError::Retry { shard, detail: detail.to_owned() }
}

pub fn unconfirmed(shard: Shard) -> StoreError {
    StoreError::CommitUnknown { shard, detail: "no answer".to_owned() }
}

pub fn error_of(trouble: Trouble, shard: Shard) -> StoreError {
    match trouble {
        Trouble::Unanswered => unanswered(shard),
        Trouble::GivenUp => retry(shard, "deadlock found"),
        Trouble::Unconfirmed { .. } => unconfirmed(shard),
    }
}

pub fn duplicate(shard: Shard, constraint: Constraint) -> StoreError {
    StoreError::Duplicate { shard, constraint, detail: "duplicate entry".to_owned() }
}

impl SimTx {
    pub fn fail<T>(&mut self, error: StoreError) -> Result<T, StoreError> {
        self.failed = true;
        self.end();
        Err(error)
    }

    pub fn refuse_duplicate<T>(&mut self, constraint: Constraint) -> Result<T, StoreError> {
        self.fail(duplicate(self.shard, constraint))
    }

    fn end(&self) {
        self.gate.world.lock().database(self.shard).end(self.id);
    }

    /// Whether the server still knows this transaction.
    pub fn alive(&self) -> bool {
        let mut state = self.gate.world.lock();
        let database = state.database(self.shard);
        !database.down && database.open.contains_key(&self.id)
    }

    pub async fn statement(&mut self, call: &'static str) -> Result<(), StoreError> {
        if self.failed {
            return Err(retry(self.shard, "a statement of this transaction failed before"));
        }
        if let Err(trouble) = self.gate.enter(call, Some(self.shard)).await {
            return self.fail(error_of(trouble, self.shard));
        }
        if !self.alive() {
            return self.fail(unanswered(self.shard));
        }
        Ok(())
    }

    pub async fn answer<T>(&mut self, call: &'static str, value: T) -> Result<T, StoreError> {
        match self.gate.leave(call, Some(self.shard)).await {
            Ok(()) => Ok(value),
            Err(trouble) => self.fail(error_of(trouble, self.shard)),
        }
    }

    /// Locks a row; whether it was not this transaction's before.
    pub async fn lock(&mut self, key: LockKey) -> Result<bool, StoreError> {
        let mut deadline = None;
        loop {
            let released = {
                let mut state = self.gate.world.lock();
                let database = state.database(self.shard);
                if database.down || !database.open.contains_key(&self.id) {
                    drop(state);
                    return self.fail(unanswered(self.shard));
                }
                match database.locks.ask(self.id, &key) {
                    Asked::Granted { new } => return Ok(new),
                    Asked::Deadlock => {
                        state.counts.add("deadlock");
                        drop(state);
                        return self.fail(retry(self.shard, "deadlock found"));
                    }
                    Asked::Wait => {
                        let released = database.released.clone();
                        state.counts.add("lock wait");
                        released
                    }
                }
            };
            let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + LOCK_WAIT);
            // Nothing runs between the look above and this: the wake-up cannot be missed.
            if tokio::time::timeout_at(deadline, released.notified()).await.is_err() {
                let mut state = self.gate.world.lock();
                state.counts.add("lock wait timeout");
                state.database(self.shard).locks.stop_waiting(self.id);
                drop(state);
                return self.fail(retry(self.shard, "lock wait timeout exceeded"));
            }
        }
    }

    pub fn give_back(&self, key: &LockKey) {
        self.gate.world.lock().database(self.shard).locks.give_back(key);
    }

    /// A row as this transaction sees it.
    pub fn account(&self, id: &AccountId) -> Option<AccountRecord> {
        self.staged.accounts.get(id).cloned().or_else(|| {
            self.gate.world.lock().database(self.shard).tables.accounts.get(id).cloned()
        })
    }

    /// Its velocity limits.
    pub fn velocity(&self, id: &AccountId) -> Velocity {
        self.staged.velocity.get(id).cloned().unwrap_or_else(|| {
            let mut state = self.gate.world.lock();
            state.database(self.shard).tables.velocity.get(id).cloned().unwrap_or_default()
        })
    }

    pub fn transfer(&self, id: TransferId) -> Option<TransferRecord> {
        self.staged.transfers.get(&id).cloned().or_else(|| {
            self.gate.world.lock().database(self.shard).tables.transfers.get(&id).cloned()
        })
    }

    pub fn reversed(&self, id: TransferId) -> Option<i64> {
        self.staged.reversals.get(&id).copied().or_else(|| {
            self.gate.world.lock().database(self.shard).tables.reversals.get(&id).copied()
        })
    }

    pub fn entry(&self, transfer: TransferId, side: Side) -> Option<EntryRow> {
        let own = |entry: &&EntryRow| (entry.transfer, entry.side) == (transfer, side);
        self.staged.entries.iter().find(own).cloned().or_else(|| {
            let mut state = self.gate.world.lock();
            state.database(self.shard).tables.entries.get(&(transfer, side)).cloned()
        })
    }

    pub fn has_version(&self, account: &AccountId, version: i64) -> bool {
        let own = |entry: &EntryRow| {
            entry.account == *account && entry.outcome.is_ok_and(|money| money.version == version)
        };
        if self.staged.entries.iter().any(own) {
            return true;
        }
        let mut state = self.gate.world.lock();
        state.database(self.shard).tables.versions.contains(&(account.clone(), version))
    }

    pub fn project(&mut self, row: AccountRow) {
        self.staged.balances.push(BalanceRow { row, as_of: self.now });
    }

    /// One state change, where the row is as expected.
    pub async fn advance(&mut self, write: &StageWrite) -> Result<bool, StoreError> {
        let key = LockKey::Transfer(write.terms.id);
        let new = self.lock(key.clone()).await?;
        let row = self.transfer(write.terms.id).filter(|record| {
            let (terms, expected) = (&record.row.terms, &write.terms);
            record.row.state == write.from
                && terms.source == expected.source
                && terms.amount == expected.amount
        });
        let Some(mut record) = row else {
            if new {
                self.give_back(&key);
            }
            return Ok(false);
        };
        record.row.state = write.to;
        if write.to == State::Held || write.passes_hold() {
            record.row.held_at = Some(write.at);
            record.row.hold_deadline = write.hold_deadline;
            record.hold_cause = write.cause;
        }
        if write.to != State::Held {
            record.row.reason = write.reason;
            record.row.completed_at = Some(write.at);
            record.final_cause = write.cause;
            if write.from == State::Requested && write.to == State::Rejected {
                record.hold_cause = write.cause;
            }
        }
        self.staged.transfers.insert(write.terms.id, record);
        Ok(true)
    }
}

impl Drop for SimTx {
    fn drop(&mut self) {
        self.end();
    }
}

impl SimTx {
    pub fn apply(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        let mut state = self.gate.world.lock();
        self.gate.world.apply(&mut state, self.shard, self.gate.process, staged);
        state.database(self.shard).end(self.id);
    }

    /// The COMMIT is on its way when its connection breaks: the server goes on with it, or rolls
    /// it back, a while after the process has given it up. Its locks stay until then.
    pub fn conclude_later(mut self: Box<Self>, applied: bool, after: Duration) {
        {
            let mut state = self.gate.world.lock();
            state.counts.add("COMMIT that happens later");
            if let Some(owner) = state.database(self.shard).open.get_mut(&self.id) {
                *owner = None;
            }
        }
        tokio::spawn(async move {
            pass(after).await;
            if applied && self.alive() {
                self.apply();
            }
        });
    }
}
