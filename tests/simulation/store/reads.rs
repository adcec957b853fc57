//! What every call outside of the port's transactions has in common: gates, identity, one look at
//! the tables. A write is a transaction of one statement.

use super::session::{error_of, unanswered};
use super::{Changes, SimStore, Staged, Tables};
use crate::gate::Trouble;
use crate::world::{State, World};
use holdfast::domain::{Shard, Timestamp};
use holdfast::store::StoreError;
use std::sync::atomic::Ordering;

impl SimStore {
    /// One statement that reads.
    pub async fn read<T>(
        &self,
        call: &'static str,
        shard: Shard,
        look: impl FnOnce(&Tables) -> T,
    ) -> Result<T, StoreError> {
        let answer = self.look(call, shard, look).await;
        if let Err(StoreError::Unavailable { .. }) = answer {
            self.verified[usize::from(shard.0)].store(false, Ordering::Relaxed);
        }
        answer
    }

    async fn look<T>(
        &self,
        call: &'static str,
        shard: Shard,
        look: impl FnOnce(&Tables) -> T,
    ) -> Result<T, StoreError> {
        self.enter(call, shard).await?;
        let value = {
            let mut state = self.gate.world.lock();
            if !self.verified[usize::from(shard.0)].load(Ordering::Relaxed) {
                self.compare(&mut state, shard)?;
            }
            look(&state.database(shard).tables)
        };
        self.leave(call, shard).await?;
        Ok(value)
    }

    /// One statement that writes, with its COMMIT.
    pub async fn write<T>(
        &self,
        call: &'static str,
        shard: Shard,
        change: impl FnOnce(&mut Tables, Timestamp) -> T,
    ) -> Result<T, StoreError> {
        self.enter(call, shard).await?;
        let value = {
            let mut state = self.gate.world.lock();
            self.compare(&mut state, shard)?;
            let now = self.gate.world.time(state.database(shard));
            // What a promotion may lose is counted in commits of money; these go with them.
            change(&mut state.database(shard).tables, now)
        };
        match self.gate.leave(call, Some(shard)).await {
            Ok(()) => Ok(value),
            Err(_) => Err(StoreError::CommitUnknown { shard, detail: "no answer".to_owned() }),
        }
    }

    pub async fn enter(&self, call: &'static str, shard: Shard) -> Result<(), StoreError> {
        match self.gate.enter(call, Some(shard)).await {
            Err(Trouble::Unconfirmed { .. }) => Err(unanswered(shard)),
            Err(trouble) => Err(error_of(trouble, shard)),
            Ok(()) if self.gate.world.lock().database(shard).down => Err(unanswered(shard)),
            Ok(()) => Ok(()),
        }
    }

    async fn leave(&self, call: &'static str, shard: Shard) -> Result<(), StoreError> {
        match self.gate.leave(call, Some(shard)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(unanswered(shard)),
        }
    }

    /// Whether the shard is of the generation that this process was started in.
    pub fn compare(&self, state: &mut State, shard: Shard) -> Result<(), StoreError> {
        let found = state.database(shard).generation.0;
        if self.any_generation || found == self.identity.generation {
            self.verified[usize::from(shard.0)].store(true, Ordering::Relaxed);
            return Ok(());
        }
        let ours = self.identity.generation.0;
        let detail = format!("it is in generation {}, this process in {ours}", found.0);
        Err(StoreError::Identity { shard, detail })
    }
}

impl World {
    /// Commits what a transaction has written, and has it audited.
    pub fn apply(&self, state: &mut State, shard: Shard, process: usize, staged: Staged) {
        let number = state.number();
        let changes = Changes { number, ..state.database(shard).apply(staged) };
        state.trace.mix(changes.transfers.len() as u64 ^ ((changes.entries.len() as u64) << 16));
        for (_, transfer) in &changes.transfers {
            state.trace.mix_text(transfer.row.state.as_str());
            state.trace.mix(transfer.row.terms.id.bytes()[15].into());
        }
        let at = self.elapsed();
        for (_, row) in &changes.accounts {
            state.trace.mix(row.version as u64);
            state.trace.say(at, || {
                let (posted, held) = (row.posted, row.held);
                format!(
                    "process {process}: shard {shard}: account {} posted {posted} held {held} \
                     version {} {}",
                    row.id,
                    row.version,
                    row.status.as_str()
                )
            });
        }
        for (_, transfer) in &changes.transfers {
            state.trace.say(at, || {
                let (row, terms) = (&transfer.row, &transfer.row.terms);
                format!(
                    "process {process}: shard {shard}: transfer {} {} to {} of {} is {} {}",
                    terms.id,
                    terms.source,
                    terms.destination,
                    terms.amount,
                    row.state.as_str(),
                    row.reason.map_or("", |reason| reason.as_str())
                )
            });
        }
        for entry in &changes.entries {
            state.trace.say(at, || {
                let outcome = match entry.outcome {
                    Ok(money) => format!("{} version {}", money.amount, money.version),
                    Err(reason) => format!("REFUSED {}", reason.as_str()),
                };
                let (side, transfer) = (entry.side.as_str(), entry.transfer);
                let account = &entry.account;
                format!(
                    "process {process}: shard {shard}: {side} of {transfer} on {account}: {outcome}"
                )
            });
        }
        let verdict = state.auditor.committed(shard, &changes);
        self.judge(state, verdict);
    }
}
