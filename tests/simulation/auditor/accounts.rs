//! What may become of an account's row.

use super::{AccountSeen, Auditor, Moves};
use crate::store::Changes;
use holdfast::domain::{AccountId, AccountKind, AccountRow, AccountStatus, EntryRow, Shard, Side};

impl Auditor {
    /// Its versions, its status, and the chain of its entries in this commit.
    pub(super) fn account(
        &mut self,
        shard: Shard,
        before: Option<&AccountRow>,
        after: &AccountRow,
        changes: &Changes,
        moves: &Moves,
    ) -> Result<(), String> {
        let id = &after.id;
        let count = |of: &std::collections::BTreeMap<AccountId, u32>| {
            i64::from(of.get(id).copied().unwrap_or(0))
        };
        let (holds, credits) = (count(&moves.holds), count(&moves.credits));
        let moved = holds + credits + count(&moves.settled);
        let known = self.accounts.get(id).map(|known| (&known.row, known.shard));
        let Some(before) = before else {
            let new = after.posted == 0 && after.held == 0 && after.version == 1;
            if known.is_some() || !new {
                return Err(format!("account {id} was created as {after:?}"));
            }
            let seen = AccountSeen { shard, row: after.clone(), entries: 0, held: 0 };
            self.accounts.insert(id.clone(), seen);
            return Ok(());
        };
        if known != Some((before, shard)) {
            return Err(format!("account {id} was {known:?} and is overwritten as {before:?}"));
        }
        if after.quarantined {
            return Err(format!("account {id} was quarantined, and nothing broke an invariant"));
        }
        let steps = after.version - before.version;
        let other = i64::from(before.status != after.status)
            .max(i64::from(before.overdraft_limit != after.overdraft_limit))
            .max(i64::from(moves.limited.contains(id)));
        if steps != moved + other {
            return Err(format!(
                "invariant 2: account {id} went from version {} to {} in {moved} transfers",
                before.version, after.version
            ));
        }
        if holds + credits > 0 && after.status != AccountStatus::Active {
            return Err(format!("account {id} is {:?} and was held on or credited", after.status));
        }
        if before.status == AccountStatus::Closed && after.status != AccountStatus::Closed {
            return Err(format!("account {id} was opened again"));
        }
        if (&before.currency, before.kind) != (&after.currency, after.kind) {
            return Err(format!("account {id} became another"));
        }
        chain(before, after, changes)?;
        *self.posted.entry(after.currency).or_default() +=
            i128::from(after.posted) - i128::from(before.posted);
        if let Some(seen) = self.accounts.get_mut(id) {
            seen.row = after.clone();
        }
        let text = snapshot(after);
        let said = self.snapshots.entry((id.clone(), after.version)).or_insert(text);
        if *said != snapshot(after) {
            return Err(format!("an event said {said:?} of account {id}, which is {after:?}"));
        }
        Ok(())
    }

    /// Invariant 2.
    pub(super) fn sums(&self, id: &AccountId) -> Result<(), String> {
        let Some(seen) = self.accounts.get(id) else {
            return Err(format!("account {id} was moved and does not exist"));
        };
        let row = &seen.row;
        let free = row.posted - row.held + row.overdraft_limit;
        let sound = i128::from(row.posted) == seen.entries
            && i128::from(row.held) == seen.held
            && row.held >= 0
            && (row.kind == AccountKind::External || free >= 0)
            && (row.status != AccountStatus::Closed || (row.posted, row.held) == (0, 0));
        if sound {
            return Ok(());
        }
        Err(format!(
            "invariant 2: account {id} is {row:?}; its entries sum to {}, its holds to {}",
            seen.entries, seen.held
        ))
    }
}

/// Each entry has a version of its own within the commit, and the balance after it.
fn chain(before: &AccountRow, after: &AccountRow, changes: &Changes) -> Result<(), String> {
    let of_account = |entry: &&EntryRow| entry.account == after.id && entry.outcome.is_ok();
    let mut entries: Vec<&EntryRow> = changes.entries.iter().filter(of_account).collect();
    entries.sort_by_key(|entry| entry.outcome.map_or(0, |money| money.version));
    let (mut version, mut balance) = (before.version, before.posted);
    for entry in entries {
        let Ok(money) = entry.outcome else { continue };
        let amount = money.amount.minor();
        balance += if entry.side == Side::Debit { -amount } else { amount };
        let next = version < money.version && money.version <= after.version;
        if !next || balance != money.balance_after {
            return Err(format!("the entries of account {} are no chain: {entry:?}", after.id));
        }
        version = money.version;
    }
    if balance == after.posted {
        return Ok(());
    }
    Err(format!("posted of account {} does not follow from its entries", after.id))
}

fn snapshot(row: &AccountRow) -> super::Snapshot {
    let scale = super::events::scale(row.currency.as_str());
    let text = |minor| super::events::decimal(minor, scale);
    (text(row.posted), text(row.held), row.status.as_str().to_owned())
}
