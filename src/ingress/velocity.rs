//! Velocity limits of an account: what they are, and changing them.
//!
//! A change is one transaction under the lock of the account's row, as every change of settings is,
//! so that no hold is decided by half of it. It may be made twice with the same result.

use super::accounts::checked;
use super::{Ingress, Refusal};
use crate::domain::{
    AccountId, AccountRow, AccountStatus, Allowance, Currency, Limit, Period, Timestamp, Velocity,
    format_minor,
};
use crate::store::{AccountSettings, Action, Actor, BalanceRow, StoreError, Tx, Work, expect_rows};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is done to the velocity limits of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VelocityChange {
    /// These and no others.
    Replace(BTreeMap<Period, Limit>),
    /// One of them, the others staying.
    Set(Period, Limit),
    /// None for this period, the others staying.
    Remove(Period),
}

/// The velocity limits of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VelocityView {
    /// The account's currency.
    pub currency: Currency,
    /// The shortest period first, each with what is used of it in the window that is open now.
    pub limits: Vec<(Period, Allowance)>,
}

impl VelocityView {
    fn of(currency: Currency, velocity: &Velocity, now: Timestamp) -> Self {
        let open = |(period, kept): (Period, Allowance)| {
            (period, Allowance { used: kept.used.at(period, now), ..kept })
        };
        Self { currency, limits: velocity.iter().map(open).collect() }
    }
}

impl Ingress {
    /// The velocity limits of an account, from its shard.
    pub async fn velocity(&self, id: &AccountId) -> Result<VelocityView, Refusal> {
        let store = &self.context.store;
        let shard = store.map().shard_of(id);
        let currency = self.account(id).await?.row.currency;
        let velocity = store.velocity(shard, id).await?;
        let now = store.now(shard).await?;
        Ok(VelocityView::of(currency, &velocity, now))
    }

    /// Changes the velocity limits of an account. A period that had a limit keeps what is used of it
    /// in the window that is open; a new limit counts from now on. A repeat changes nothing.
    pub async fn set_velocity(
        &self,
        id: &AccountId,
        change: &VelocityChange,
        by: &Actor,
    ) -> Result<VelocityView, Refusal> {
        let shard = self.context.store.map().shard_of(id);
        let Settled { row, now, changed } =
            self.settle(shard, &Settle { id, change, by }).await??;
        let view = VelocityView::of(row.currency, &row.velocity, now);
        if changed {
            self.cache_balance(BalanceRow { row, as_of: now });
        }
        Ok(view)
    }
}

struct Settle<'a> {
    id: &'a AccountId,
    change: &'a VelocityChange,
    by: &'a Actor,
}

struct Settled {
    row: AccountRow,
    now: Timestamp,
    changed: bool,
}

#[async_trait]
impl Work for Settle<'_> {
    type Output = Result<Settled, Refusal>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let locked = tx.lock_accounts(&[self.id.clone()].into()).await?.remove(self.id);
        let Some(before) = locked else {
            return Ok(Err(Refusal::AccountNotFound(self.id.clone())));
        };
        checked(tx.shard(), &before)?;
        if before.status == AccountStatus::Closed {
            return Ok(Err(Refusal::AccountClosed(self.id.clone())));
        }
        let now = tx.now();
        let velocity = before.velocity.limited_to(&wanted(&before.velocity, self.change));
        if velocity == before.velocity {
            return Ok(Ok(Settled { row: before, now, changed: false }));
        }
        let (was, is) = (standing(&before.velocity, &before), standing(&velocity, &before));
        let act = self.by.act(Action::ChangeLimit, self.id, &was, &is);
        let version_before = before.version;
        let row = AccountRow { velocity, version: version_before + 1, ..before };
        let settings = AccountSettings { row, version_before, metadata: None, owner: None };
        expect_rows(tx.shard(), "account settings", 1, tx.write_settings(&settings).await?)?;
        tx.set_velocity(self.id, &settings.row.velocity).await?;
        tx.record_acts(&[act]).await?;
        Ok(Ok(Settled { row: settings.row, now, changed: true }))
    }
}

/// What the audit log has of limits.
fn standing(velocity: &Velocity, account: &AccountRow) -> Value {
    let limit = |(period, allowance): (Period, Allowance)| {
        let amount = allowance.limit.max_amount();
        json!({
            "period": period, "max_count": allowance.limit.max_count(),
            "max_amount": amount.map(|minor| format_minor(minor, account.currency)),
        })
    };
    velocity.iter().map(limit).collect()
}

/// The limits that a change leads to.
fn wanted(velocity: &Velocity, change: &VelocityChange) -> BTreeMap<Period, Limit> {
    let mut limits = velocity.limits();
    match change {
        VelocityChange::Replace(with) => with.clone_into(&mut limits),
        VelocityChange::Set(period, limit) => drop(limits.insert(*period, *limit)),
        VelocityChange::Remove(period) => drop(limits.remove(period)),
    }
    limits
}
