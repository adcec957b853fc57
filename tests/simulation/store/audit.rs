//! The audit port, for the product's own audit.

use super::{SimStore, Tables};
use async_trait::async_trait;
use holdfast::domain::{AccountId, AccountRow, EntryRow, Shard, Side, State, TransferId};
use holdfast::store::{
    AccountSums, Audit, AuditSnapshot, CreditFact, EntryFault, SourceFact, StoreError,
};
use std::collections::BTreeMap;

fn source_fact(tables: &Tables, id: TransferId) -> Option<SourceFact> {
    let row = &tables.transfers.get(&id)?.row;
    let debit = tables.entries.get(&(id, Side::Debit));
    let debit = debit.and_then(|entry| entry.outcome.ok()).map(|money| money.amount.minor());
    let completed_at = row.completed_at;
    Some(SourceFact { terms: row.terms.clone(), state: row.state, debit, completed_at })
}

fn credit_fact(entry: &EntryRow) -> Option<CreditFact> {
    let pivot = entry.pivot()?;
    Some(CreditFact {
        transfer: pivot.transfer,
        source: pivot.source,
        destination: pivot.destination,
        currency: entry.currency,
        amount: pivot.amount,
        decision: pivot.decision,
    })
}

pub fn sums(tables: &Tables, row: &AccountRow) -> AccountSums {
    let signed = |entry: &EntryRow| {
        let amount = entry.outcome.map_or(0, |money| i128::from(money.amount.minor()));
        if entry.side == Side::Debit { -amount } else { amount }
    };
    let own = tables.entries.values().filter(|entry| entry.account == row.id);
    let held = tables.transfers.values().filter(|transfer| {
        transfer.row.state == State::Held && transfer.row.terms.source == row.id
    });
    let projected = tables.balances.get(&row.id).map(|known| &known.row);
    AccountSums {
        row: row.clone(),
        entries: own.map(signed).sum(),
        held: held.map(|transfer| i128::from(transfer.row.terms.amount.minor())).sum(),
        projected: projected.map(|row| (row.posted, row.held, row.version)),
    }
}

/// As the SQL of the adapters selects them.
fn is_faulty(tables: &Tables, sums: &AccountSums) -> bool {
    let row = &sums.row;
    let quarantined = row.quarantined;
    let projected = tables.balances.get(&row.id);
    i128::from(row.posted) != sums.entries
        || i128::from(row.held) != sums.held
        || projected.is_none_or(|known| AccountRow { quarantined, ..known.row.clone() } != *row)
        || row.check().is_err()
}

pub fn entry_faults(tables: &Tables) -> Vec<EntryFault> {
    let mut chains: BTreeMap<(&AccountId, i64), &EntryRow> = BTreeMap::new();
    for entry in tables.entries.values() {
        if let Ok(money) = entry.outcome {
            chains.insert((&entry.account, money.version), entry);
        }
    }
    let mut faults = Vec::new();
    let mut last: Option<(&AccountId, i64)> = None;
    for ((account, version), entry) in chains {
        let Ok(money) = entry.outcome else { continue };
        let before = last.filter(|(of, _)| *of == account).map_or(0, |(_, balance)| balance);
        let amount = money.amount.minor();
        let signed = if entry.side == Side::Debit { -amount } else { amount };
        let expected = i128::from(before) + i128::from(signed);
        if expected != i128::from(money.balance_after) {
            let (account, transfer) = (account.clone(), entry.transfer);
            let balance_after = money.balance_after;
            faults.push(EntryFault { account, version, transfer, balance_after, expected });
        }
        last = Some((account, money.balance_after));
    }
    faults
}

#[async_trait]
impl Audit for SimStore {
    async fn audit_snapshot(&self, shard: Shard) -> Result<AuditSnapshot, StoreError> {
        let at = holdfast::store::Store::now(self, shard).await?;
        self.read("audit snapshot", shard, |tables| {
            let rows = || tables.accounts.values().map(|record| &record.row);
            let mut posted = BTreeMap::new();
            for row in rows() {
                *posted.entry(row.currency).or_default() += i128::from(row.posted);
            }
            let sums = rows().map(|row| sums(tables, row));
            AuditSnapshot {
                at,
                accounts: tables.accounts.len() as u64,
                entries: tables.versions.len() as u64,
                posted: posted.into_iter().collect(),
                faulty_accounts: sums.filter(|sums| is_faulty(tables, sums)).collect(),
                faulty_entries: entry_faults(tables),
            }
        })
        .await
    }

    async fn source_facts(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<SourceFact>, StoreError> {
        self.read("source facts", shard, |tables| {
            let ids = tables.transfers.keys().filter(|id| **id > after && **id < before);
            ids.filter_map(|id| source_fact(tables, *id)).take(limit as usize).collect()
        })
        .await
    }

    async fn source_facts_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<SourceFact>, StoreError> {
        self.read("source facts of", shard, |tables| {
            ids.iter().filter_map(|id| source_fact(tables, *id)).collect()
        })
        .await
    }

    async fn credit_facts(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<CreditFact>, StoreError> {
        self.read("credit facts", shard, |tables| {
            let entries = tables.entries.values();
            let wanted = entries.filter(|entry| entry.transfer > after && entry.transfer < before);
            wanted.filter_map(credit_fact).take(limit as usize).collect()
        })
        .await
    }

    async fn credit_facts_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<CreditFact>, StoreError> {
        self.read("credit facts of", shard, |tables| {
            let entries = ids.iter().filter_map(|id| tables.entries.get(&(*id, Side::Credit)));
            entries.filter_map(credit_fact).collect()
        })
        .await
    }

    async fn debits_without_transfer(
        &self,
        shard: Shard,
        after: TransferId,
        before: TransferId,
        limit: u32,
    ) -> Result<Vec<TransferId>, StoreError> {
        self.read("lone debits", shard, |tables| {
            let debits = tables.entries.keys().filter(|(_, side)| *side == Side::Debit);
            let ids = debits.map(|(id, _)| *id).filter(|id| *id > after && *id < before);
            ids.filter(|id| !tables.transfers.contains_key(id)).take(limit as usize).collect()
        })
        .await
    }

    async fn decision_rows(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRow>, StoreError> {
        self.read("decision rows", shard, |tables| {
            let rows = tables.accounts.values().map(|record| &record.row);
            let page = rows.filter(|row| after.is_none_or(|after| *after < row.id));
            page.take(limit as usize).cloned().collect()
        })
        .await
    }
}
