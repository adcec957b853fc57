//! When nothing moves any more: everything accepted is over, and the tables are what their commits
//! made them, to the last row.

use super::{Auditor, PivotSeen};
use crate::store::Tables;
use holdfast::domain::{AccountRow, Shard, Side, State, TransferId};

impl Auditor {
    /// What is still to come, or that nothing is.
    pub fn open(&self) -> Option<String> {
        let open = self.transfers.iter().find(|(_, seen)| !is_final(seen.state));
        if let Some((id, seen)) = open {
            return Some(format!("invariant 6: {id} is {:?}", seen.state));
        }
        let unsaid = self.transfers.iter().find(|(_, seen)| !seen.announced);
        unsaid.map(|(id, seen)| format!("{id} is {:?}, which was never announced", seen.state))
    }

    /// The tables of all shards against the model.
    pub fn ended(&self, tables: &[&Tables]) -> Result<(), String> {
        if let Some(open) = self.open() {
            return Err(open);
        }
        let (mut transfers, mut accounts, mut pivots) = (0, 0, 0);
        for (shard, tables) in (0..).map(Shard).zip(tables) {
            transfers += tables.transfers.len();
            accounts += tables.accounts.len();
            pivots += tables.entries.keys().filter(|(_, side)| *side == Side::Credit).count();
            self.same_transfers(shard, tables)?;
            self.same_accounts(shard, tables)?;
            self.same_velocity(tables)?;
        }
        let counts = (self.transfers.len(), self.accounts.len(), self.pivots.len());
        if (transfers, accounts, pivots) != counts {
            return Err(format!(
                "invariant 4: rows are {transfers}, {accounts}, {pivots} and were {counts:?}"
            ));
        }
        self.paid()
    }

    fn same_transfers(&self, shard: Shard, tables: &Tables) -> Result<(), String> {
        for (id, stored) in &tables.transfers {
            let seen = self.transfers.get(id).filter(|seen| seen.shard == shard);
            if seen.is_none_or(|seen| seen.state != stored.row.state) {
                return Err(format!("invariant 4: {id} is {:?} and was {seen:?}", stored.row));
            }
            let claimed = tables.claims.get(&stored.claim).map(|claim| claim.transfer);
            if claimed != Some(*id) {
                return Err(format!("invariant 5: the claim of {id} names {claimed:?}"));
            }
        }
        for ((id, side), entry) in &tables.entries {
            let known = match (side, entry.outcome) {
                (Side::Debit, _) => self.transfers.get(id).is_some_and(|seen| seen.debited),
                (Side::Credit, Ok(_)) => self.pivot(*id) == Some(PivotSeen::Credited),
                (Side::Credit, Err(reason)) => self.pivot(*id) == Some(PivotSeen::Refused(reason)),
            };
            if !known {
                return Err(format!("invariant 4: an entry of {id} changed to {entry:?}"));
            }
        }
        Ok(())
    }

    fn same_accounts(&self, shard: Shard, tables: &Tables) -> Result<(), String> {
        for (id, stored) in &tables.accounts {
            let seen = self.accounts.get(id).filter(|seen| seen.shard == shard);
            if seen.is_none_or(|seen| seen.row != stored.row) {
                return Err(format!("account {id} is {:?} and was {seen:?}", stored.row));
            }
            let expected = AccountRow { quarantined: false, ..stored.row.clone() };
            let projected = tables.balances.get(id).map(|known| &known.row);
            if projected != Some(&expected) {
                return Err(format!(
                    "the projection of {id} is {projected:?} and its row {expected:?}"
                ));
            }
            let own = tables.entries.values().filter(|entry| entry.account == *id);
            let sum: i64 = own
                .filter_map(|entry| {
                    let amount = entry.outcome.ok()?.amount.minor();
                    Some(if entry.side == Side::Debit { -amount } else { amount })
                })
                .sum();
            if (sum, 0) != (stored.row.posted, stored.row.held) {
                return Err(format!("invariant 2: account {id}: entries {sum}, {:?}", stored.row));
            }
        }
        Ok(())
    }

    /// Invariant 3: both entries, or neither.
    fn paid(&self) -> Result<(), String> {
        for (id, seen) in &self.transfers {
            let credited = self.pivot(*id) == Some(PivotSeen::Credited);
            let committed = seen.state == State::Committed;
            if (seen.debited, credited) != (committed, committed) {
                return Err(format!(
                    "invariant 3: {id} is {:?}, debited {}, credited {credited}",
                    seen.state, seen.debited
                ));
            }
        }
        Ok(())
    }

    fn pivot(&self, id: TransferId) -> Option<PivotSeen> {
        self.pivots.get(&id).map(|(pivot, _)| *pivot)
    }
}

pub fn is_final(state: State) -> bool {
    matches!(state, State::Committed | State::Rejected | State::Cancelled)
}
