//! Reads for the audit. The snapshot is one read-only transaction, so that entries and balances,
//! holds and held are of one moment.

use super::driver::Driver;
use super::link::Link;
use super::row::Row;
use super::{SqlStore, decode, id_arg, statements, transfer_batch};
use crate::domain::{AccountId, AccountRow, EntryRow, Shard, Timestamp, TransferId};
use crate::store::{
    AccountSums, Audit, AuditSnapshot, CreditFact, EntryFault, SourceFact, StoreError,
};
use async_trait::async_trait;

#[async_trait]
impl<D: Driver> Audit for SqlStore<D> {
    async fn audit_snapshot(&self, shard: Shard) -> Result<AuditSnapshot, StoreError> {
        let mut link = self.reader(shard).await?;
        link.be_patient();
        let begun = link.begin(self.texts().begin_snapshot).await?;
        let told = decode::first(begun, Row::opt_int)?.flatten();
        let snapshot = read_snapshot(&mut link, D::time(told)).await?;
        link.commit().await?;
        Ok(snapshot)
    }

    async fn source_facts(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<SourceFact>, StoreError> {
        let args = [id_arg(after), id_arg(before), i64::from(limit).into()];
        let rows = self.read_patiently(shard, statements::SOURCE_FACTS, &args).await?;
        decode::all(rows, decode::source_fact)
    }

    async fn source_facts_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<SourceFact>, StoreError> {
        let batch = transfer_batch::<D>(ids.iter().copied());
        let rows = self.read_patiently(shard, self.texts().source_facts_of, &[batch]).await?;
        decode::all(rows, decode::source_fact)
    }

    async fn credit_facts(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<CreditFact>, StoreError> {
        let args = [id_arg(after), id_arg(before), i64::from(limit).into()];
        credit_facts(self.read_patiently(shard, statements::CREDIT_FACTS, &args).await?)
    }

    async fn credit_facts_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<CreditFact>, StoreError> {
        let batch = transfer_batch::<D>(ids.iter().copied());
        credit_facts(self.read_patiently(shard, self.texts().pivots, &[batch]).await?)
    }

    async fn debits_without_transfer(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<TransferId>, StoreError> {
        let args = [id_arg(after), id_arg(before), i64::from(limit).into()];
        let rows = self.read_patiently(shard, statements::DEBITS_WITHOUT_TRANSFER, &args).await?;
        decode::all(rows, Row::transfer)
    }

    async fn decision_rows(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRow>, StoreError> {
        let args = [after.map_or("", AccountId::as_str).into(), i64::from(limit).into()];
        let rows = self.read_patiently(shard, statements::DECISION_ROWS, &args).await?;
        decode::all(rows, decode::account)
    }
}

async fn read_snapshot<D: Driver>(
    link: &mut Link<D>,
    at: Timestamp,
) -> Result<AuditSnapshot, StoreError> {
    let texts = D::STATEMENTS;
    let totals = link.fetch(texts.audit_posted, &[]).await?;
    let totals = decode::all(totals, |row| Ok((row.parse()?, row.number::<u64>()?, row.sum()?)))?;
    let entries = link.fetch(statements::AUDIT_ENTRY_COUNT, &[]).await?;
    let faulty_accounts = link.fetch(texts.audit_accounts, &[]).await?;
    let faulty_entries = link.fetch(texts.audit_entries, &[]).await?;
    Ok(AuditSnapshot {
        at,
        accounts: totals.iter().map(|(_, accounts, _)| accounts).sum(),
        entries: decode::first(entries, Row::number)?.unwrap_or(0),
        posted: totals.into_iter().map(|(currency, _, posted)| (currency, posted)).collect(),
        faulty_accounts: decode::all(faulty_accounts, account_sums)?,
        faulty_entries: decode::all(faulty_entries, entry_fault)?,
    })
}

fn credit_facts(rows: Vec<Row>) -> Result<Vec<CreditFact>, StoreError> {
    let fact = |entry: &EntryRow| {
        let pivot = entry.pivot()?;
        Some(CreditFact {
            transfer: pivot.transfer,
            source: pivot.source,
            destination: pivot.destination,
            currency: entry.currency,
            amount: pivot.amount,
            decision: pivot.decision,
        })
    };
    Ok(decode::all(rows, decode::entry)?.iter().filter_map(fact).collect())
}

pub(super) fn account_sums(row: &mut Row) -> Result<AccountSums, StoreError> {
    let (account, entries, held) = (decode::account(row)?, row.sum()?, row.sum()?);
    Ok(AccountSums { row: account, entries, held, projected: projected(row)? })
}

/// Posted, held and version of a projection, if there is one.
pub(super) fn projected(row: &mut Row) -> Result<Option<(i64, i64, i64)>, StoreError> {
    Ok(match (row.opt_int()?, row.opt_int()?, row.opt_int()?) {
        (Some(posted), Some(held), Some(version)) => Some((posted, held, version)),
        _ => None,
    })
}

pub(super) fn entry_fault(row: &mut Row) -> Result<EntryFault, StoreError> {
    let (account, version, transfer) = (row.parse()?, row.int()?, row.transfer()?);
    let (balance_after, before, change) = (row.int()?, row.int()?, row.int()?);
    let expected = i128::from(before) + i128::from(change);
    Ok(EntryFault { account, version, transfer, balance_after, expected })
}
