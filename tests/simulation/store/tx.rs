//! A writing transaction: reads committed rows and its own, locks what it changes, and is applied
//! whole at its COMMIT, now, later, or never.

use super::LockKey;
use super::session::{SimTx, retry, unconfirmed};
use crate::gate::Trouble;
use async_trait::async_trait;
use holdfast::broker::Record;
use holdfast::domain::{
    AccountChange, AccountId, AccountRow, Allowance, EntryRow, Pivot, Plan, Shard, Side,
    StageWrite, State, Suspicion, Timestamp, TransferId, TransferRow, UsageChange, Velocity,
};
use holdfast::sealing::Sealer;
use holdfast::store::{
    AccountRecord, AccountSettings, Claim, ClaimKey, Constraint, NewTransfer, OutboxRow,
    Quarantined, StoreError, TransferRecord, Tx, expect_rows,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[async_trait]
impl Tx for SimTx {
    fn shard(&self) -> Shard {
        self.shard
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    async fn lock_accounts(
        &mut self,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRow>, StoreError> {
        self.statement("lock accounts").await?;
        let mut rows = BTreeMap::new();
        for id in ids {
            let key = LockKey::Account(id.clone());
            let new = self.lock(key.clone()).await?;
            match self.account(id) {
                Some(record) => drop(rows.insert(id.clone(), record.row)),
                None if new => self.give_back(&key),
                None => {}
            }
        }
        let mut rows = self.answer("lock accounts", rows).await?;
        if rows.keys().any(|id| !self.velocity(id).is_none()) {
            self.statement("velocity").await?;
            for (id, row) in &mut rows {
                row.velocity = self.velocity(id);
            }
            rows = self.answer("velocity", rows).await?;
        }
        Ok(rows)
    }

    async fn write_accounts(&mut self, changes: &[AccountChange]) -> Result<u64, StoreError> {
        self.statement("write accounts").await?;
        let mut changed = 0;
        let sorted: BTreeMap<&AccountId, &AccountChange> =
            changes.iter().map(|change| (&change.id, change)).collect();
        for (id, change) in sorted {
            self.lock(LockKey::Account(id.clone())).await?;
            if let Some(mut record) = self.account(id)
                && record.row.version == change.version_before
            {
                record.row.posted = change.posted;
                record.row.held = change.held;
                record.row.version = change.version;
                self.staged.accounts.insert(id.clone(), record);
                changed += 1;
            }
        }
        self.answer("write accounts", changed).await
    }

    async fn transfers(
        &mut self,
        ids: &[TransferId],
    ) -> Result<HashMap<TransferId, TransferRow>, StoreError> {
        self.statement("lock transfers").await?;
        let mut rows = HashMap::new();
        for id in ids.iter().copied().collect::<BTreeSet<_>>() {
            let key = LockKey::Transfer(id);
            let new = self.lock(key.clone()).await?;
            match self.transfer(id) {
                Some(record) => drop(rows.insert(id, record.row)),
                None if new => self.give_back(&key),
                None => {}
            }
        }
        self.answer("lock transfers", rows).await
    }

    async fn advance_transfers(&mut self, writes: &[StageWrite]) -> Result<u64, StoreError> {
        self.statement("advance transfers").await?;
        // One statement for writes that have these in common, each in id order.
        let group = |write: &&StageWrite| {
            let reason = write.reason.map(|reason| reason.code());
            (write.from.code(), write.to.code(), reason, write.at, write.terms.id)
        };
        let mut sorted: Vec<&StageWrite> = writes.iter().collect();
        sorted.sort_by_key(group);
        let mut advanced = 0;
        for write in sorted {
            advanced += u64::from(self.advance(write).await?);
        }
        self.answer("advance transfers", advanced).await
    }

    async fn pivots(
        &mut self,
        ids: &[TransferId],
    ) -> Result<HashMap<TransferId, Pivot>, StoreError> {
        self.statement("pivots").await?;
        let entries = ids.iter().filter_map(|id| self.entry(*id, Side::Credit));
        let pivots = entries.filter_map(|entry| Some((entry.transfer, entry.pivot()?))).collect();
        self.answer("pivots", pivots).await
    }

    async fn insert_entries(&mut self, entries: &[EntryRow]) -> Result<(), StoreError> {
        self.statement("insert entries").await?;
        let mut sorted: Vec<&EntryRow> = entries.iter().collect();
        sorted.sort_by_key(|entry| (entry.transfer, entry.side));
        for entry in sorted {
            self.lock(LockKey::Entry(entry.transfer, entry.side)).await?;
            if self.entry(entry.transfer, entry.side).is_some() {
                return self.refuse_duplicate(Constraint::Entry);
            }
            if let Ok(money) = entry.outcome
                && self.has_version(&entry.account, money.version)
            {
                return self.refuse_duplicate(Constraint::EntryVersion);
            }
            self.staged.entries.push(entry.clone());
        }
        self.answer("insert entries", ()).await
    }

    async fn write(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let shard = self.shard;
        if !plan.transfers.is_empty() {
            let changed = self.advance_transfers(&plan.transfers).await?;
            expect_rows(shard, "transfers", plan.transfers.len(), changed)?;
        }
        if !plan.accounts.is_empty() {
            let changed = self.write_accounts(&plan.accounts).await?;
            expect_rows(shard, "accounts", plan.accounts.len(), changed)?;
        }
        if !plan.usage.is_empty() {
            let changed = self.write_usage(&plan.usage).await?;
            expect_rows(shard, "velocity limits", plan.usage.len(), changed)?;
        }
        if !plan.entries.is_empty() {
            self.insert_entries(&plan.entries).await?;
        }
        if !plan.reversed.is_empty() {
            let changed = self.add_reversed(&plan.reversed).await?;
            expect_rows(shard, "reversals", plan.reversed.len(), changed)?;
        }
        Ok(())
    }

    async fn claims(&mut self, keys: &[ClaimKey]) -> Result<HashMap<ClaimKey, Claim>, StoreError> {
        self.statement("claims").await?;
        let found = {
            let mut state = self.gate.world.lock();
            let claims = &state.database(self.shard).tables.claims;
            keys.iter().filter_map(|key| Some((key.clone(), claims.get(key)?.clone()))).collect()
        };
        self.answer("claims", found).await
    }

    async fn insert_transfers(&mut self, transfers: &[NewTransfer]) -> Result<(), StoreError> {
        self.statement("insert transfers").await?;
        let mut sorted: Vec<&NewTransfer> = transfers.iter().collect();
        sorted.sort_by(|one, other| one.claim.cmp(&other.claim));
        for transfer in &sorted {
            self.lock(LockKey::Claim(transfer.claim.clone())).await?;
            let exists = {
                let mut state = self.gate.world.lock();
                state.database(self.shard).tables.claims.contains_key(&transfer.claim)
            };
            if exists || self.staged.claims.iter().any(|(key, _)| *key == transfer.claim) {
                return self.refuse_duplicate(Constraint::Claim);
            }
            let claim = Claim {
                transfer: transfer.terms.id,
                fingerprint: transfer.fingerprint,
                fingerprint_version: transfer.fingerprint_version,
            };
            self.staged.claims.push((transfer.claim.clone(), claim));
        }
        sorted.sort_by_key(|transfer| transfer.terms.id);
        for transfer in sorted {
            self.lock(LockKey::Transfer(transfer.terms.id)).await?;
            if self.transfer(transfer.terms.id).is_some() {
                return self.refuse_duplicate(Constraint::Transfer);
            }
            self.staged.transfers.insert(transfer.terms.id, requested(transfer));
        }
        self.answer("insert transfers", ()).await
    }

    async fn insert_outbox(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.statement("insert outbox").await?;
        if !records.is_empty() {
            // Numbers are given at the insert, not at the COMMIT.
            let id = self.gate.world.lock().number();
            let row = OutboxRow { id, at: self.now, records: Ok(records.to_vec()) };
            self.staged.outbox.push(row);
        }
        self.answer("insert outbox", ()).await
    }

    async fn lock_reversed(
        &mut self,
        originals: &BTreeSet<TransferId>,
    ) -> Result<BTreeMap<TransferId, i64>, StoreError> {
        self.statement("lock reversals").await?;
        let mut reversed = BTreeMap::new();
        for id in originals {
            self.lock(LockKey::Reversal(*id)).await?;
            let so_far = self.reversed(*id).unwrap_or(0);
            self.staged.reversals.insert(*id, so_far);
            reversed.insert(*id, so_far);
        }
        self.answer("lock reversals", reversed).await
    }

    async fn add_reversed(
        &mut self,
        changes: &BTreeMap<TransferId, i64>,
    ) -> Result<u64, StoreError> {
        self.statement("add reversals").await?;
        let mut changed = 0;
        for (id, change) in changes {
            self.lock(LockKey::Reversal(*id)).await?;
            let Some(before) = self.reversed(*id) else { continue };
            if before + change < 0 {
                let detail = "check constraint is violated".to_owned();
                return self.fail(StoreError::Corrupt { shard: self.shard, detail });
            }
            self.staged.reversals.insert(*id, before + change);
            changed += 1;
        }
        self.answer("add reversals", changed).await
    }

    async fn quarantine(
        &mut self,
        accounts: &BTreeMap<AccountId, Suspicion>,
    ) -> Result<(), StoreError> {
        self.statement("quarantine").await?;
        for (id, suspicion) in accounts {
            self.lock(LockKey::Account(id.clone())).await?;
            if let Some(mut record) = self.account(id)
                && !record.row.quarantined
            {
                self.staged.quarantined.push(Quarantined {
                    account: id.clone(),
                    currency: record.row.currency,
                    since: self.now,
                    suspicion: suspicion.clone(),
                });
                record.row.quarantined = true;
                record.row.version += 1;
                self.staged.accounts.insert(id.clone(), record);
            }
        }
        self.answer("quarantine", ()).await
    }

    async fn insert_accounts(&mut self, accounts: &[AccountRecord]) -> Result<u64, StoreError> {
        self.statement("insert accounts").await?;
        let sorted: BTreeMap<&AccountId, &AccountRecord> =
            accounts.iter().map(|account| (&account.row.id, account)).collect();
        for (id, account) in sorted {
            self.lock(LockKey::Account(id.clone())).await?;
            if self.account(id).is_some() {
                return self.refuse_duplicate(Constraint::Account);
            }
            let row = AccountRow { posted: 0, held: 0, version: 1, ..account.row.clone() };
            let record = AccountRecord { row, created_at: self.now, ..account.clone() };
            self.project(record.row.clone());
            self.staged.accounts.insert(id.clone(), record);
        }
        self.answer("insert accounts", accounts.len() as u64).await
    }

    async fn account_records(
        &mut self,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRecord>, StoreError> {
        self.statement("account records").await?;
        let found = ids.iter().filter_map(|id| Some((id.clone(), self.account(id)?))).collect();
        self.answer("account records", found).await
    }

    async fn write_settings(&mut self, settings: &AccountSettings) -> Result<u64, StoreError> {
        self.statement("write settings").await?;
        let id = &settings.row.id;
        self.lock(LockKey::Account(id.clone())).await?;
        let record = self.account(id).filter(|at| at.row.version == settings.version_before);
        let Some(mut record) = record else { return self.answer("write settings", 0).await };
        record.row.status = settings.row.status;
        record.row.quarantined = settings.row.quarantined;
        record.row.overdraft_limit = settings.row.overdraft_limit;
        record.row.version = settings.row.version;
        record.metadata = settings.metadata.clone().unwrap_or(record.metadata);
        record.owner = settings.owner.clone().or(record.owner);
        self.staged.accounts.insert(id.clone(), record);
        self.project(settings.row.clone());
        self.answer("write settings", 1).await
    }

    async fn write_usage(&mut self, changes: &[UsageChange]) -> Result<u64, StoreError> {
        self.statement("write usage").await?;
        let mut changed = 0;
        for change in changes {
            let mut velocity = self.velocity(&change.account);
            let kept = velocity.iter().find(|(period, _)| *period == change.period);
            if let Some((period, kept)) = kept {
                velocity.insert(period, Allowance { used: change.used, ..kept });
                self.staged.velocity.insert(change.account.clone(), velocity);
                changed += 1;
            }
        }
        self.answer("write usage", changed).await
    }

    fn sealer(&self) -> Result<Option<Sealer>, StoreError> {
        Ok(None)
    }

    async fn set_velocity(
        &mut self,
        account: &AccountId,
        velocity: &Velocity,
    ) -> Result<(), StoreError> {
        self.statement("set velocity").await?;
        self.staged.velocity.insert(account.clone(), velocity.clone());
        self.answer("set velocity", ()).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), StoreError> {
        if self.failed {
            return Err(retry(self.shard, "a statement of this transaction failed before"));
        }
        match self.gate.enter("commit", Some(self.shard)).await {
            Ok(()) => {
                if !self.alive() {
                    return Err(unconfirmed(self.shard));
                }
                self.apply();
                match self.gate.leave("commit", Some(self.shard)).await {
                    Ok(()) => Ok(()),
                    Err(_) => Err(unconfirmed(self.shard)),
                }
            }
            Err(Trouble::GivenUp) => Err(retry(self.shard, "rolled back by the group")),
            Err(Trouble::Unanswered) => Err(unconfirmed(self.shard)),
            Err(Trouble::Unconfirmed { applied, after }) => {
                let shard = self.shard;
                if after.is_zero() {
                    if applied && self.alive() {
                        self.apply();
                    }
                } else {
                    self.conclude_later(applied, after);
                }
                Err(unconfirmed(shard))
            }
        }
    }
}

fn requested(transfer: &NewTransfer) -> TransferRecord {
    TransferRecord {
        row: TransferRow {
            terms: transfer.terms.clone(),
            state: State::Requested,
            reason: None,
            requested_at: transfer.at,
            held_at: None,
            hold_deadline: None,
            completed_at: None,
        },
        claim: transfer.claim.clone(),
        description: transfer.description.clone(),
        reference: transfer.reference.clone(),
        metadata: transfer.metadata.clone(),
        sealed: transfer.sealed.clone(),
        hold_cause: holdfast::domain::Cause::default(),
        final_cause: holdfast::domain::Cause::default(),
    }
}
