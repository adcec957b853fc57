//! Velocity limits of an account: what they are, and changing them.
//!
//! A change is one transaction under the lock of the account's row, as every change of settings is,
//! so that no hold is decided by half of it. It may be made twice with the same result.

use super::accounts::checked;
use super::{Ingress, Refusal};
use crate::domain::{
    AccountId, AccountRow, AccountStatus, Allowance, Currency, Limit, Period, Timestamp, Velocity,
    told_limits,
};
use crate::store::{AccountSettings, Action, Actor, BalanceRow, StoreError, Tx, Work, expect_rows};
use async_trait::async_trait;
use serde_json::json;
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
        let settled = velocity_within(tx, self.id, self.change, self.by).await?;
        let now = tx.now();
        Ok(settled.map(|(row, changed)| Settled { row, now, changed }))
    }
}

/// The account with the limits that a change leads to, and whether they are other ones, in a
/// transaction that may do more.
pub async fn velocity_within(
    tx: &mut dyn Tx,
    id: &AccountId,
    change: &VelocityChange,
    by: &Actor,
) -> Result<Result<(AccountRow, bool), Refusal>, StoreError> {
    let Some(before) = tx.lock_accounts(&[id.clone()].into()).await?.remove(id) else {
        return Ok(Err(Refusal::AccountNotFound(id.clone())));
    };
    checked(tx.shard(), &before)?;
    if before.status == AccountStatus::Closed {
        return Ok(Err(Refusal::AccountClosed(id.clone())));
    }
    let velocity = before.velocity.limited_to(&wanted(&before.velocity, change));
    if velocity == before.velocity {
        return Ok(Ok((before, false)));
    }
    let told =
        |velocity: &Velocity| json!({ "limits": told_limits(&velocity.limits(), before.currency) });
    let act = by.act(Action::ChangeLimit, id, &told(&before.velocity), &told(&velocity));
    let version_before = before.version;
    let row = AccountRow { velocity, version: version_before + 1, ..before };
    let settings = AccountSettings { row, version_before, metadata: None, owner: None };
    expect_rows(tx.shard(), "account settings", 1, tx.write_settings(&settings).await?)?;
    tx.set_velocity(id, &settings.row.velocity).await?;
    tx.record_acts(&[act]).await?;
    Ok(Ok((settings.row, true)))
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
