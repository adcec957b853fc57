//! The projection: decision rows copied to where balance queries read them.

use super::driver::{Arg, Driver};
use super::{SqlStore, decode, statements};
use crate::domain::{AccountId, AccountRow, Shard, Velocity};
use crate::store::{BalanceRow, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;

/// The newest row of each account, in id order.
pub(super) fn newest(rows: &[BalanceRow]) -> BTreeMap<&AccountId, &BalanceRow> {
    let mut newest: BTreeMap<&AccountId, &BalanceRow> = BTreeMap::new();
    for row in rows {
        let kept = newest.entry(&row.row.id).or_insert(row);
        if row.row.version >= kept.row.version {
            *kept = row;
        }
    }
    newest
}

pub(super) fn columns(balance: &BalanceRow) -> impl Serialize + '_ {
    let row = &balance.row;
    (
        row.id.as_str(),
        row.currency,
        row.kind.code(),
        row.status.code(),
        row.overdraft_limit,
        row.posted,
        row.held,
        row.version,
        balance.as_of.micros(),
    )
}

/// A decision row, and the projection that does not say the same.
struct Behind {
    row: AccountRow,
    /// The projection's version, where it is ahead.
    ahead: Option<i64>,
}

impl<D: Driver> SqlStore<D> {
    pub(super) async fn project(
        &self,
        shard: Shard,
        rows: &[BalanceRow],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut tx = self.write(shard).await?;
        tx.project(rows).await?;
        tx.finish().await
    }

    /// Reads one page without locks and writes what differs in the same transaction. A projection
    /// that has moved on in between is newer than what was read and stays.
    pub(super) async fn refresh(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<(Vec<BalanceRow>, Option<AccountId>), StoreError> {
        let mut tx = self.write(shard).await?;
        let args = [after.map_or("", AccountId::as_str).into(), i64::from(limit).into()];
        let rows = tx.fetch(statements::PROJECTIONS, &args).await?;
        let full = rows.len() == limit as usize;
        let mut last = None;
        let mut behind = Vec::new();
        for mut row in rows {
            let account = decode::account(&mut row)?;
            last = Some(account.id.clone());
            behind.extend(compare(account, &mut row)?);
        }
        for fault in behind.iter().filter(|fault| fault.ahead.is_some()) {
            let args = [fault.row.id.as_str().into(), Arg::from(fault.ahead)];
            tx.execute(statements::FORGET_BALANCE, &args).await?;
        }
        let as_of = tx.at();
        let copied: Vec<BalanceRow> =
            behind.into_iter().map(|fault| BalanceRow { row: fault.row, as_of }).collect();
        if !copied.is_empty() {
            tx.project(&copied).await?;
            tx.finish().await?;
        }
        Ok((copied, last.filter(|_| full)))
    }
}

fn compare(account: AccountRow, row: &mut super::Row) -> Result<Option<Behind>, StoreError> {
    let Some(id) = row.opt_text()? else {
        return Ok(Some(Behind { row: account, ahead: None }));
    };
    let projected = AccountRow {
        id: account.id.clone(),
        currency: row.parse()?,
        kind: row.coded(crate::domain::AccountKind::from_code)?,
        status: row.coded(crate::domain::AccountStatus::from_code)?,
        quarantined: {
            row.skip(1);
            account.quarantined
        },
        overdraft_limit: row.int()?,
        posted: row.int()?,
        held: row.int()?,
        version: row.int()?,
        velocity: Velocity::NONE,
    };
    debug_assert_eq!(id, account.id.as_str());
    let ahead = (projected.version > account.version).then_some(projected.version);
    Ok((projected != account).then_some(Behind { row: account, ahead }))
}
