//! Accounts of a shard that has lost commits: rows that were lost are made again from events, and
//! versions are raised above all that was seen of them.
//!
//! A row that went back has a lower version than what Redis, readers of events and callers have
//! seen, and would lose against them for ever. With a version above theirs it wins everywhere by
//! the ordinary rule, newer or equal.

use super::RecoverError;
use super::report::{Finding, Report};
use crate::context::Context;
use crate::domain::{
    AccountKind, AccountRow, AccountSnapshot, AccountStatus, Shard, Velocity, format_minor,
};
use crate::store::{
    AccountRecord, AccountSettings, BalanceRow, StoreError, Tx, Work, expect_rows, transact,
};
use async_trait::async_trait;
use std::collections::BTreeMap;

const PAGE: u32 = 1000;

/// What was lost of an account and is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Created,
    /// The version alone.
    Raised,
    /// Status or limit as they were.
    Settings {
        status: AccountStatus,
        limit: i64,
    },
}

/// Makes the rows again that events tell of, and raises those that went back.
pub(super) async fn restore(
    context: &Context,
    snapshots: &[AccountSnapshot],
    report: &mut Report,
) -> Result<(), RecoverError> {
    let mut by_shard: BTreeMap<Shard, Vec<&AccountSnapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        by_shard.entry(context.store.map().shard_of(&snapshot.id)).or_default().push(snapshot);
    }
    for (shard, snapshots) in by_shard {
        for page in snapshots.chunks(PAGE as usize) {
            let changes = transact(&*context.store, shard, &Restore { snapshots: page }).await?;
            report.accounts += changes.len() as u64;
            let findings = changes.iter().filter_map(|(row, change)| finding(shard, row, change));
            report.findings.extend(findings);
        }
    }
    Ok(())
}

struct Restore<'a> {
    snapshots: &'a [&'a AccountSnapshot],
}

#[async_trait]
impl Work for Restore<'_> {
    type Output = Vec<(AccountRow, Change)>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let ids = self.snapshots.iter().map(|snapshot| snapshot.id.clone()).collect();
        let rows = tx.lock_accounts(&ids).await?;
        let mut changes = Vec::new();
        for snapshot in self.snapshots {
            let (before, created) = match rows.get(&snapshot.id) {
                Some(row) if row.version >= snapshot.version => continue,
                Some(row) => (row.clone(), false),
                None => (create(tx, snapshot).await?, true),
            };
            let row = restored(&before, snapshot);
            let change = if created {
                Change::Created
            } else if (before.status, before.overdraft_limit) == (row.status, row.overdraft_limit) {
                Change::Raised
            } else {
                Change::Settings { status: row.status, limit: row.overdraft_limit }
            };
            write(tx, &row, before.version).await?;
            changes.push((row, change));
        }
        Ok(changes)
    }
}

/// Without money: credits and holds are written again one by one.
async fn create(tx: &mut dyn Tx, snapshot: &AccountSnapshot) -> Result<AccountRow, StoreError> {
    let row = AccountRow {
        id: snapshot.id.clone(),
        currency: snapshot.currency,
        kind: snapshot.kind,
        status: AccountStatus::Active,
        quarantined: false,
        overdraft_limit: snapshot.overdraft_limit,
        posted: 0,
        held: 0,
        version: 1,
        velocity: Velocity::NONE,
    };
    let (metadata, created_at) = ("{}".to_owned(), tx.now());
    let record = AccountRecord { row: row.clone(), metadata, created_at, owner: None };
    expect_rows(tx.shard(), "accounts", 1, tx.insert_accounts(&[record]).await?)?;
    Ok(row)
}

/// The settings that an event showed, and a version above its own. What was closed is frozen: it
/// may get money again, and can be closed once it is empty.
fn restored(before: &AccountRow, snapshot: &AccountSnapshot) -> AccountRow {
    let status = match snapshot.status {
        AccountStatus::Closed if before.status != AccountStatus::Closed => AccountStatus::Frozen,
        status @ (AccountStatus::Active | AccountStatus::Frozen | AccountStatus::Closed) => status,
    };
    let used = match before.kind {
        AccountKind::Customer => before.held.saturating_sub(before.posted).max(0),
        AccountKind::External => 0,
    };
    AccountRow {
        status,
        overdraft_limit: snapshot.overdraft_limit.max(used),
        version: snapshot.version.saturating_add(1),
        ..before.clone()
    }
}

async fn write(tx: &mut dyn Tx, row: &AccountRow, version_before: i64) -> Result<(), StoreError> {
    if let Err(detail) = row.check() {
        return Err(StoreError::Corrupt { shard: tx.shard(), detail });
    }
    let settings =
        AccountSettings { row: row.clone(), version_before, metadata: None, owner: None };
    expect_rows(tx.shard(), "accounts", 1, tx.write_settings(&settings).await?)
}

fn finding(shard: Shard, row: &AccountRow, change: &Change) -> Option<Finding> {
    let (what, amount) = match change {
        Change::Raised => return None,
        Change::Created => (
            "an account was lost and made again from an event, without its metadata and velocity limits",
            format!("limit {}", format_minor(row.overdraft_limit, row.currency)),
        ),
        Change::Settings { status, limit } => (
            "status or limit of an account were lost and are as the last event showed them",
            format!("{}, limit {}", status.as_str(), format_minor(*limit, row.currency)),
        ),
    };
    Some(Finding {
        what,
        place: format!("shard {shard}, account {}", row.id),
        amount: format!("{amount} {}", row.currency),
        repair: "done; see that it is as it should be",
    })
}

/// Writes the projections of a shard again. What Redis has seen of a row that went back raises it.
pub(super) async fn project(
    context: &Context,
    shard: Shard,
    report: &mut Report,
) -> Result<(), RecoverError> {
    let mut after = None;
    loop {
        let mut ahead = Vec::new();
        let rows = context.store.decision_rows(shard, after.as_ref(), PAGE).await?;
        let cached = cached(context, &rows, report).await;
        for (row, cached) in rows.iter().zip(&cached) {
            if let Some(cached) = cached.as_ref().filter(|cached| cached.row.version > row.version)
            {
                ahead.push((row.id.clone(), cached.row.version));
            }
        }
        if !ahead.is_empty() {
            transact(&*context.store, shard, &Raise { ahead: &ahead }).await?;
            report.accounts += ahead.len() as u64;
        }
        let rows = context.store.decision_rows(shard, after.as_ref(), PAGE).await?;
        let (copied, next) = context.store.refresh_balances(shard, after.as_ref(), PAGE).await?;
        report.projections += copied.len() as u64;
        let as_of = context.store.now(shard).await?;
        let stale = rows.into_iter().zip(cached).filter_map(|(row, cached)| {
            (cached?.row.version <= row.version).then_some(BalanceRow { row, as_of })
        });
        let stale: Vec<BalanceRow> = stale.collect();
        if let Some(cache) = &context.cache
            && cache.set_newer(&stale).await.is_err()
        {
            redis_is_silent(report);
        }
        let Some(next) = next else { return Ok(()) };
        after = Some(next);
    }
}

/// What Redis has of these accounts; nothing where it does not answer.
async fn cached(
    context: &Context,
    rows: &[AccountRow],
    report: &mut Report,
) -> Vec<Option<BalanceRow>> {
    let ids: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
    if let Some(cache) = &context.cache {
        match cache.get_many(&ids).await {
            Ok(cached) => return cached,
            Err(_) => redis_is_silent(report),
        }
    }
    vec![None; rows.len()]
}

fn redis_is_silent(report: &mut Report) {
    const WHAT: &str = "Redis does not answer: it may show balances from before the promotion";
    if report.findings.iter().all(|finding| finding.what != WHAT) {
        report.findings.push(Finding {
            what: WHAT,
            place: "Redis".to_owned(),
            amount: String::new(),
            repair: "its entries expire within a minute",
        });
    }
}

struct Raise<'a> {
    ahead: &'a [(crate::domain::AccountId, i64)],
}

#[async_trait]
impl Work for Raise<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        let ids = self.ahead.iter().map(|(id, _)| id.clone()).collect();
        let rows = tx.lock_accounts(&ids).await?;
        for (id, seen) in self.ahead {
            if let Some(row) = rows.get(id).filter(|row| row.version < *seen) {
                let raised = AccountRow { version: seen.saturating_add(1), ..row.clone() };
                write(tx, &raised, row.version).await?;
            }
        }
        Ok(())
    }
}
