//! What the drift check reads and remembers.

use super::audit::{entry_faults, sums};
use super::{SimStore, Tables};
use async_trait::async_trait;
use holdfast::domain::{AccountId, Shard, State, TransferId};
use holdfast::store::{AccountSums, Drift, EntryFault, Pass, Progress, StoreError};

fn of(tables: &Tables, ids: &[AccountId]) -> Vec<AccountSums> {
    ids.iter().filter_map(|id| Some(sums(tables, &tables.accounts.get(id)?.row))).collect()
}

/// The balance after the newest entry, and what is held of those on the list or before the mark.
fn glance(tables: &Tables, sums: AccountSums) -> AccountSums {
    let id = &sums.row.id;
    let own = tables.entries.values().filter(|entry| entry.account == *id);
    let newest = own.filter_map(|entry| entry.outcome.ok()).max_by_key(|money| money.version);
    let open = tables.transfers.values().filter(|record| {
        let transfer = record.row.terms.id;
        let listed = transfer > tables.marks.recent || tables.stuck.contains_key(&transfer);
        listed && record.row.state == State::Held && record.row.terms.source == *id
    });
    AccountSums {
        entries: newest.map_or(0, |money| i128::from(money.balance_after)),
        held: open.map(|record| i128::from(record.row.terms.amount.minor())).sum(),
        ..sums
    }
}

#[async_trait]
impl Drift for SimStore {
    async fn account_page(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountSums>, StoreError> {
        self.read("account page", shard, |tables| {
            let ids = tables.accounts.keys().filter(|id| after.is_none_or(|after| after < *id));
            let page: Vec<AccountId> = ids.take(limit as usize).cloned().collect();
            of(tables, &page)
        })
        .await
    }

    async fn account_sums_of(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<AccountSums>, StoreError> {
        self.read("account sums of", shard, |tables| of(tables, ids)).await
    }

    async fn account_glances(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<AccountSums>, StoreError> {
        self.read("account glances", shard, |tables| {
            of(tables, ids).into_iter().map(|sums| glance(tables, sums)).collect()
        })
        .await
    }

    async fn entry_faults_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<EntryFault>, StoreError> {
        self.read("entry faults of", shard, |tables| {
            let mut faults = entry_faults(tables);
            faults.retain(|fault| ids.contains(&fault.transfer));
            faults
        })
        .await
    }

    async fn chain_faults_of(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<Vec<EntryFault>, StoreError> {
        self.read("chain faults of", shard, |tables| {
            let mut faults = entry_faults(tables);
            faults.retain(|fault| ids.contains(&fault.account));
            faults
        })
        .await
    }

    async fn drift_progress(
        &self,
        shard: Shard,
        pass: Pass,
    ) -> Result<Option<Progress>, StoreError> {
        self.read("drift progress", shard, |tables| tables.drift.get(&pass).cloned()).await
    }

    async fn move_drift(
        &self,
        shard: Shard,
        pass: Pass,
        from: Option<&Progress>,
        to: &Progress,
        watch: &[TransferId],
    ) -> Result<bool, StoreError> {
        self.write("move drift", shard, |tables, _| {
            let fits = tables.drift.get(&pass) == from;
            if fits {
                tables.drift.insert(pass, to.clone());
                tables.watched.extend(watch);
            }
            fits
        })
        .await
    }

    async fn drift_watched(
        &self,
        shard: Shard,
        after: TransferId,
        limit: u32,
    ) -> Result<Vec<TransferId>, StoreError> {
        self.read("drift watched", shard, |tables| {
            let ids = tables.watched.iter().filter(|id| **id > after);
            ids.take(limit as usize).copied().collect()
        })
        .await
    }

    async fn drift_seen(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        self.write("drift seen", shard, |tables, _| {
            for id in ids {
                tables.watched.remove(id);
            }
        })
        .await
    }
}
