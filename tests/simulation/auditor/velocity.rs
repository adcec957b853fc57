//! In no window more than the limit is held, what is used is written with every hold, and nothing
//! is refused that was within it.

use super::{Auditor, Moves};
use crate::store::{Changes, Tables};
use holdfast::domain::{AccountId, Period, Reason, State, TransferRow, Velocity};
use holdfast::store::TransferRecord;
use std::collections::{BTreeMap, BTreeSet};

/// A limit, and what was held in its window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    most: (Option<i64>, Option<i64>),
    window: i64,
    count: i64,
    amount: i64,
}

pub type Limits = BTreeMap<Period, Spent>;

fn length(period: Period) -> i64 {
    match period {
        Period::Minute => 60_000_000,
        Period::Hour => 3_600_000_000,
        Period::Day => 86_400_000_000,
    }
}

impl Spent {
    /// With one hold more, at this time: windows follow one another and never open again.
    fn and(&self, period: Period, amount: i64, at: i64) -> Self {
        let window = at - at.rem_euclid(length(period));
        let fresh = window > self.window;
        let (count, sum) = if fresh { (0, 0) } else { (self.count, self.amount) };
        let window = if fresh { window } else { self.window };
        Self { most: self.most, window, count: count + 1, amount: sum + amount }
    }

    fn is_over(&self) -> bool {
        let (count, amount) = self.most;
        count.is_some_and(|most| self.count > most) || amount.is_some_and(|most| self.amount > most)
    }
}

fn stored(velocity: &Velocity) -> Limits {
    let spent = velocity.iter().map(|(period, kept)| {
        let (limit, used) = (kept.limit, kept.used);
        let most = (limit.max_count(), limit.max_amount());
        let (window, count, amount) = (used.window.micros(), used.count, used.amount);
        (period, Spent { most, window, count, amount })
    });
    spent.collect()
}

impl Auditor {
    /// What this commit held and refused, against the limits; whose limits it changed.
    pub(super) fn spent(&mut self, changes: &Changes, moves: &mut Moves) -> Result<(), String> {
        let decided: Vec<&TransferRow> =
            changes.transfers.iter().filter_map(decided_by_hold).collect();
        let mut holders = BTreeSet::new();
        for row in decided.iter().filter(|row| row.held_at.is_some()) {
            holders.insert(row.terms.source.clone());
            self.spend(row)?;
        }
        for row in decided {
            if row.reason == Some(Reason::VelocityLimitExceeded) && row.held_at.is_none() {
                self.refused_rightly(row)?;
            }
        }
        for (id, velocity) in &changes.velocity {
            holders.remove(id);
            if self.written(id, &stored(velocity))? {
                moves.limited.insert(id.clone());
            }
        }
        match holders.into_iter().find(|id| self.velocity.contains_key(id)) {
            Some(id) => Err(format!("a hold of {id} was not counted against its limits")),
            None => Ok(()),
        }
    }

    fn spend(&mut self, row: &TransferRow) -> Result<(), String> {
        let Some(limits) = self.velocity.get_mut(&row.terms.source) else { return Ok(()) };
        let at = row.held_at.map_or(0, |at| at.micros());
        for (period, spent) in limits {
            *spent = spent.and(*period, row.terms.amount.minor(), at);
            if spent.is_over() {
                let (id, source) = (row.terms.id, &row.terms.source);
                return Err(format!("invariant 9: {id} takes {source} over: {spent:?}"));
            }
        }
        Ok(())
    }

    /// As all holds of the commit left it: what is over then is at least as full as when it was
    /// decided.
    fn refused_rightly(&self, row: &TransferRow) -> Result<(), String> {
        let at = row.completed_at.map_or(0, |at| at.micros());
        let limits = self.velocity.get(&row.terms.source);
        let over = limits
            .into_iter()
            .flatten()
            .any(|(period, spent)| spent.and(*period, row.terms.amount.minor(), at).is_over());
        if over {
            return Ok(());
        }
        Err(format!("{} is refused, and {} is within its limits", row.terms.id, row.terms.source))
    }

    /// Whether the limits are others now; what is used must be what was held.
    fn written(&mut self, id: &AccountId, stored: &Limits) -> Result<bool, String> {
        let known = self.velocity.remove(id).unwrap_or_default();
        let mut changed = known.len() != stored.len();
        for (period, now) in stored {
            let expected = known.get(period).cloned();
            changed |= expected.as_ref().is_none_or(|known| known.most != now.most);
            let expected = Spent { most: now.most, ..expected.unwrap_or_default() };
            if expected != *now {
                return Err(format!("invariant 9: {id} has used {expected:?}, stored is {now:?}"));
            }
        }
        if !stored.is_empty() {
            self.velocity.insert(id.clone(), stored.clone());
        }
        Ok(changed)
    }

    /// After a recovery, and from the beginning: the limits are what the rows say.
    pub fn learn_velocity(&mut self, tables: &Tables) {
        let limited = tables.velocity.iter().filter(|(_, velocity)| !velocity.is_none());
        self.velocity.extend(limited.map(|(id, velocity)| (id.clone(), stored(velocity))));
    }

    /// In the end the tables say what was held.
    pub(super) fn same_velocity(&self, tables: &Tables) -> Result<(), String> {
        for id in tables.accounts.keys() {
            let now = tables.velocity.get(id).map(stored).unwrap_or_default();
            let known = self.velocity.get(id).cloned().unwrap_or_default();
            if now != known {
                return Err(format!("invariant 9: {id} has used {known:?}, stored is {now:?}"));
            }
        }
        Ok(())
    }
}

/// The row of a transfer that this commit took on from REQUESTED.
fn decided_by_hold(
    (before, after): &(Option<TransferRecord>, TransferRecord),
) -> Option<&TransferRow> {
    let before = before.as_ref()?;
    (before.row.state == State::Requested && after.row.state != State::Requested)
        .then_some(&after.row)
}
