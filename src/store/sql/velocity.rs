//! Velocity limits and what is used of them; only accounts whose row says that they have some are
//! looked for.

use super::decode;
use super::driver::Driver;
use super::statements;
use super::tx::SqlTx;
use crate::domain::{AccountId, AccountRow, UsageChange, Velocity};
use crate::store::StoreError;
use serde::Serialize;
use std::collections::BTreeMap;

/// Rows of the changes, in the order of the table's key.
pub(super) fn usage_columns(changes: &[UsageChange]) -> Vec<impl Serialize + '_> {
    let mut changes: Vec<&UsageChange> = changes.iter().collect();
    changes.sort_unstable_by(|one, other| {
        (&one.account, one.period).cmp(&(&other.account, other.period))
    });
    changes.into_iter().map(usage).collect()
}

fn usage(change: &UsageChange) -> (&str, i64, i64, i64, i64) {
    let used = change.used;
    let period = change.period.code();
    (change.account.as_str(), period, used.window.micros(), used.count, used.amount)
}

impl<D: Driver> SqlTx<D> {
    /// Gives locked rows their limits.
    pub(super) async fn read_velocity(
        &mut self,
        rows: &mut BTreeMap<AccountId, AccountRow>,
        limited: &[AccountId],
    ) -> Result<(), StoreError> {
        let ids = limited.iter().map(|id| (id.as_str(),)).collect();
        let found = self.fetch_batch(D::STATEMENTS.velocity, ids).await?;
        for (id, period, allowance) in decode::all(found, decode::allowance)? {
            if let Some(row) = rows.get_mut(&id) {
                row.velocity.insert(period, allowance);
            }
        }
        Ok(())
    }

    /// Sets limits in the place of those that there are.
    pub(super) async fn replace_velocity(
        &mut self,
        account: &AccountId,
        velocity: &Velocity,
    ) -> Result<(), StoreError> {
        let id = account.as_str();
        let limited = i64::from(!velocity.is_none());
        self.execute(statements::SET_LIMITED, &[limited.into(), id.into()]).await?;
        self.execute(statements::FORGET_VELOCITY, &[id.into()]).await?;
        let rows = velocity.iter().map(|(period, kept)| {
            let (limit, used) = (kept.limit, kept.used);
            let most = (limit.max_count(), limit.max_amount());
            (id, period.code(), most.0, most.1, used.window.micros(), used.count, used.amount)
        });
        self.execute_batch(D::STATEMENTS.insert_velocity, rows.collect()).await?;
        Ok(())
    }
}
