//! The tables of a shard, what a transaction has written and not yet committed, and what changed.

use holdfast::domain::{
    AccountId, AccountRow, Claim, ClaimKey, EntryRow, Partition, Side, Timestamp, TransferId,
    Velocity,
};
use holdfast::store::{
    AccountRecord, BalanceRow, LetterMark, LoggedAct, OutboxRow, Pass, Progress, Quarantined,
    TransferRecord,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A transfer on the reconciler's list.
#[derive(Clone, Debug)]
pub struct Stuck {
    pub attempts: u32,
    pub since: Timestamp,
    pub next: Timestamp,
}

/// Where the reconciler's scans and the deletion of claims stand.
#[derive(Clone, Debug)]
pub struct Marks {
    pub recent: TransferId,
    pub sweep: TransferId,
    pub claims: TransferId,
}

impl Default for Marks {
    fn default() -> Self {
        let first = TransferId::from_bytes([0; 16]);
        Self { recent: first, sweep: first, claims: first }
    }
}

#[derive(Clone, Default)]
pub struct Tables {
    pub accounts: BTreeMap<AccountId, AccountRecord>,
    /// Of the accounts that have limits.
    pub velocity: BTreeMap<AccountId, Velocity>,
    pub balances: BTreeMap<AccountId, BalanceRow>,
    pub transfers: BTreeMap<TransferId, TransferRecord>,
    pub entries: BTreeMap<(TransferId, Side), EntryRow>,
    pub versions: BTreeSet<(AccountId, i64)>,
    pub claims: BTreeMap<ClaimKey, Claim>,
    pub reversals: BTreeMap<TransferId, i64>,
    pub outbox: BTreeMap<u64, OutboxRow>,
    pub leases: BTreeMap<String, (String, Timestamp)>,
    pub marks: Marks,
    pub stuck: BTreeMap<TransferId, Stuck>,
    pub acts: Vec<LoggedAct>,
    pub quarantines: BTreeMap<AccountId, Quarantined>,
    pub letters: BTreeMap<(Partition, i64), LetterMark>,
    pub drift: HashMap<Pass, Progress>,
    pub watched: BTreeSet<TransferId>,
}

/// What a transaction has written so far.
#[derive(Default)]
pub struct Staged {
    pub accounts: BTreeMap<AccountId, AccountRecord>,
    pub velocity: BTreeMap<AccountId, Velocity>,
    pub transfers: BTreeMap<TransferId, TransferRecord>,
    pub entries: Vec<EntryRow>,
    pub claims: Vec<(ClaimKey, Claim)>,
    pub reversals: BTreeMap<TransferId, i64>,
    pub outbox: Vec<OutboxRow>,
    pub balances: Vec<BalanceRow>,
    pub acts: Vec<LoggedAct>,
    pub quarantined: Vec<Quarantined>,
    pub released: Vec<AccountId>,
    pub letters: Vec<LetterMark>,
    /// Projections that are replaced whatever they say.
    pub rebuilt: Vec<BalanceRow>,
}

/// What a commit changed: rows before and after.
#[derive(Default)]
pub struct Changes {
    pub accounts: Vec<(Option<AccountRow>, AccountRow)>,
    /// As it is after.
    pub velocity: Vec<(AccountId, Velocity)>,
    pub transfers: Vec<(Option<TransferRecord>, TransferRecord)>,
    pub entries: Vec<EntryRow>,
    pub claims: Vec<(ClaimKey, Claim)>,
    pub reversals: Vec<(TransferId, i64)>,
    pub outbox: Vec<OutboxRow>,
    /// Where this commit stands among all numbers that were given: outbox rows have theirs.
    pub number: u64,
}

impl Tables {
    /// A newer or equal version wins.
    pub fn project(&mut self, row: BalanceRow) {
        let known = self.balances.get(&row.row.id).map(|known| known.row.version);
        if known.is_none_or(|version| version <= row.row.version) {
            let projected = AccountRow { quarantined: false, velocity: Velocity::NONE, ..row.row };
            let row = BalanceRow { row: projected, ..row };
            self.balances.insert(row.row.id.clone(), row);
        }
    }

    pub fn apply(&mut self, staged: Staged) -> Changes {
        let mut changes = Changes { outbox: staged.outbox.clone(), ..Changes::default() };
        for (id, record) in staged.accounts {
            let before = self.accounts.insert(id, record.clone());
            changes.accounts.push((before.map(|before| before.row), record.row));
        }
        for (id, velocity) in staged.velocity {
            changes.velocity.push((id.clone(), velocity.clone()));
            self.velocity.insert(id, velocity);
        }
        for (id, record) in staged.transfers {
            let before = self.transfers.insert(id, record.clone());
            changes.transfers.push((before, record));
        }
        for entry in staged.entries {
            if let Ok(money) = entry.outcome {
                self.versions.insert((entry.account.clone(), money.version));
            }
            self.entries.insert((entry.transfer, entry.side), entry.clone());
            changes.entries.push(entry);
        }
        for (key, claim) in staged.claims {
            self.claims.insert(key.clone(), claim.clone());
            changes.claims.push((key, claim));
        }
        for (original, reversed) in staged.reversals {
            self.reversals.insert(original, reversed);
            changes.reversals.push((original, reversed));
        }
        for row in staged.outbox {
            self.outbox.insert(row.id, row);
        }
        for row in staged.balances {
            self.project(row);
        }
        for row in staged.rebuilt {
            self.balances.remove(&row.row.id);
            self.project(row);
        }
        self.acts.extend(staged.acts);
        for quarantine in staged.quarantined {
            self.quarantines.entry(quarantine.account.clone()).or_insert(quarantine);
        }
        for account in staged.released {
            self.quarantines.remove(&account);
        }
        for mark in staged.letters {
            self.letters.insert((mark.partition, mark.offset), mark);
        }
        changes
    }
}
