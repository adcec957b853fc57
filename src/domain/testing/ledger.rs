//! The plainest ledger there is: one account at a time, one transfer at a time, in numbers that
//! cannot overflow. It knows no batches, no events and no retries.

use super::{NOW, Rows};
use crate::domain::{
    AccountChange, AccountId, AccountKind, AccountRow, AccountSnapshot, AccountStatus, Period,
    Reason, Terms, Timestamp, UsageChange, Used,
};
use std::collections::HashMap;

/// 2^62, the bound of every balance.
const BOUND: i128 = 4_611_686_018_427_387_904;

/// Accounts as they are after the transfers that were applied so far.
#[derive(Clone, Debug)]
pub struct Ledger {
    accounts: HashMap<AccountId, Account>,
}

#[derive(Clone, Debug)]
struct Account {
    settings: AccountRow,
    posted: i128,
    held: i128,
    version: i64,
    /// What it was allowed to hold since the ledger was opened.
    holds: Vec<i128>,
}

impl Ledger {
    /// A ledger with these accounts.
    pub fn of(rows: &Rows) -> Self {
        let account = |row: &AccountRow| Account {
            settings: row.clone(),
            posted: row.posted.into(),
            held: row.held.into(),
            version: row.version,
            holds: Vec::new(),
        };
        Self { accounts: rows.iter().map(|(id, row)| (id.clone(), account(row))).collect() }
    }

    /// Sets the amount aside at the source and returns the account as events carry it, or says why
    /// not.
    pub fn hold(&mut self, terms: &Terms) -> Result<AccountSnapshot, Reason> {
        let source = self.accounts.get_mut(&terms.source).ok_or(Reason::SourceNotFound)?;
        let amount = i128::from(terms.amount.minor());
        let left = source.posted - source.held - amount;
        let settings = &source.settings;
        let customer = settings.kind == AccountKind::Customer;
        first_that_applies(&[
            (settings.status == AccountStatus::Closed, Reason::SourceClosed),
            (settings.status == AccountStatus::Frozen, Reason::SourceFrozen),
            (settings.quarantined, Reason::AccountQuarantined),
            (settings.currency != terms.amount.currency(), Reason::CurrencyMismatch),
            (source.is_over_a_limit(amount), Reason::VelocityLimitExceeded),
            (customer && left < -i128::from(settings.overdraft_limit), Reason::InsufficientFunds),
            (left < -BOUND, Reason::BalanceLimit),
        ])?;
        source.holds.push(amount);
        Ok(source.change(0, amount))
    }

    /// Adds the amount to the destination, or says why not.
    pub fn credit(&mut self, terms: &Terms) -> Result<AccountSnapshot, Reason> {
        let destination =
            self.accounts.get_mut(&terms.destination).ok_or(Reason::DestinationNotFound)?;
        let amount = i128::from(terms.amount.minor());
        let settings = &destination.settings;
        first_that_applies(&[
            (settings.status == AccountStatus::Closed, Reason::DestinationClosed),
            (settings.status == AccountStatus::Frozen, Reason::DestinationFrozen),
            (settings.currency != terms.amount.currency(), Reason::CurrencyMismatch),
            (destination.posted + amount > BOUND, Reason::BalanceLimit),
        ])?;
        Ok(destination.change(amount, 0))
    }

    /// Takes a held amount away from the source.
    pub fn debit(&mut self, terms: &Terms) -> AccountSnapshot {
        let amount = i128::from(terms.amount.minor());
        self.accounts.get_mut(&terms.source).unwrap().change(-amount, -amount)
    }

    /// Gives a held amount back to the source.
    pub fn release(&mut self, terms: &Terms) -> AccountSnapshot {
        let amount = i128::from(terms.amount.minor());
        self.accounts.get_mut(&terms.source).unwrap().change(0, -amount)
    }

    /// The account as events carry it, if there is one.
    pub fn account(&self, id: &AccountId) -> Option<AccountSnapshot> {
        self.accounts.get(id).map(Account::snapshot)
    }

    /// What has become of the accounts, in id order; those that nothing happened to are left out.
    pub fn changes_since(&self, before: &Rows) -> Vec<AccountChange> {
        let change = |old: &AccountRow| {
            let new = self.accounts[&old.id].snapshot();
            AccountChange {
                id: old.id.clone(),
                posted: new.posted,
                held: new.held,
                version_before: old.version,
                version: new.version,
            }
        };
        before
            .values()
            .map(change)
            .filter(|change| change.version != change.version_before)
            .collect()
    }
}

impl Ledger {
    /// What is used of limits now, in order; those of accounts that held nothing are left out.
    pub fn usage_since(&self, before: &Rows) -> Vec<UsageChange> {
        let held = before.values().filter(|row| !self.accounts[&row.id].holds.is_empty());
        held.flat_map(|row| {
            self.accounts[&row.id].used().into_iter().map(|(period, window, count, amount)| {
                let amount = i64::try_from(amount).unwrap();
                let used = Used { window, count: i64::try_from(count).unwrap(), amount };
                UsageChange { account: row.id.clone(), period, used }
            })
        })
        .collect()
    }
}

impl Account {
    /// Of each limit: the window, and what was held in it, by the time of these tests.
    fn used(&self) -> Vec<(Period, Timestamp, usize, i128)> {
        let limits = self.settings.velocity.iter();
        limits
            .map(|(period, kept)| {
                let length = match period {
                    Period::Minute => 60,
                    Period::Hour => 60 * 60,
                    Period::Day => 24 * 60 * 60,
                } * 1_000_000;
                let now = Timestamp::from_micros(NOW.micros() / length * length);
                let over = kept.used.window < now;
                let before = if over { (0, 0) } else { (kept.used.count, kept.used.amount) };
                let count = usize::try_from(before.0).unwrap() + self.holds.len();
                let amount = i128::from(before.1) + self.holds.iter().sum::<i128>();
                (period, kept.used.window.max(now), count, amount)
            })
            .collect()
    }

    fn is_over_a_limit(&self, amount: i128) -> bool {
        let limits = self.settings.velocity.iter().map(|(_, kept)| kept.limit);
        limits.zip(self.used()).any(|(limit, (_, _, count, sum))| {
            let most = limit.max_count().map(|most| usize::try_from(most).unwrap());
            most.is_some_and(|most| count + 1 > most)
                || limit.max_amount().is_some_and(|most| sum + amount > i128::from(most))
        })
    }

    fn change(&mut self, posted: i128, held: i128) -> AccountSnapshot {
        self.posted += posted;
        self.held += held;
        self.version += 1;
        self.assert_invariants();
        self.snapshot()
    }

    /// What must hold for every account at every version.
    fn assert_invariants(&self) {
        let free = self.posted - self.held;
        assert!(self.held >= 0, "{self:?}");
        assert!((-BOUND..=BOUND).contains(&self.posted), "{self:?}");
        assert!((-BOUND..=BOUND).contains(&free), "{self:?}");
        let limit = i128::from(self.settings.overdraft_limit);
        assert!(self.settings.kind == AccountKind::External || free >= -limit, "{self:?}");
    }

    fn snapshot(&self) -> AccountSnapshot {
        AccountSnapshot {
            id: self.settings.id.clone(),
            currency: self.settings.currency,
            kind: self.settings.kind,
            status: self.settings.status,
            overdraft_limit: self.settings.overdraft_limit,
            posted: i64::try_from(self.posted).unwrap(),
            held: i64::try_from(self.held).unwrap(),
            version: self.version,
        }
    }
}

fn first_that_applies(refusals: &[(bool, Reason)]) -> Result<(), Reason> {
    match refusals.iter().find(|(applies, _)| *applies) {
        Some((_, reason)) => Err(*reason),
        None => Ok(()),
    }
}
