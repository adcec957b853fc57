//! The audit log, quarantines, and dead letters that were dealt with.

use super::session::SimTx;
use super::{LockKey, SimStore};
use async_trait::async_trait;
use holdfast::domain::{AccountId, Partition, Shard, StuckTransfer, Timestamp, TransferId};
use holdfast::store::chain::{ChainHead, ChainOf, ChainPage, ChainedAct};
use holdfast::store::{
    Act, ActFilter, BalanceRow, Constraint, LetterMark, LoggedAct, Operations, OperationsTx,
    Quarantined, Store, StoreError, TransferRecord,
};
use std::collections::BTreeSet;

#[async_trait]
impl Operations for SimStore {
    async fn acts(
        &self,
        shard: Shard,
        filter: &ActFilter,
        before: (Timestamp, i64),
        limit: u32,
    ) -> Result<Vec<LoggedAct>, StoreError> {
        let wanted = |logged: &&LoggedAct| {
            (logged.at, logged.id) < before
                && filter.action.is_none_or(|action| logged.act.action == action.as_str())
                && filter.target.as_ref().is_none_or(|target| logged.act.target == *target)
        };
        self.read("acts", shard, |tables| {
            let mut found: Vec<LoggedAct> = tables.acts.iter().filter(wanted).cloned().collect();
            found.sort_by_key(|logged| std::cmp::Reverse((logged.at, logged.id)));
            found.truncate(limit as usize);
            found
        })
        .await
    }

    async fn chained_acts(
        &self,
        shard: Shard,
        after: i64,
        limit: u32,
    ) -> Result<ChainPage, StoreError> {
        let chain = ChainOf { cluster: self.identity().cluster, shard };
        self.read("chained acts", shard, |tables| {
            let mut link = chain.beginning(0);
            let mut rows = Vec::new();
            for logged in &tables.acts {
                let mut row = ChainedAct::of(logged.id, logged.at, &logged.act);
                link = row.after(&link);
                row.hash = Some(link.0.to_vec());
                rows.push(row);
            }
            let last = rows.last();
            let last_id = last.map_or(0, |last| last.id);
            let last_hash = last.and_then(|last| last.hash.clone());
            let head = Some(ChainHead { began_after: 0, last_id, last_hash });
            rows.retain(|row| row.id > after);
            rows.truncate(limit as usize);
            ChainPage { head, rows }
        })
        .await
    }

    async fn quarantines(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<Quarantined>, StoreError> {
        self.read("quarantines", shard, |tables| {
            let all = tables.quarantines.values();
            let page = all.filter(|at| after.is_none_or(|after| *after < at.account));
            page.take(limit as usize).cloned().collect()
        })
        .await
    }

    async fn quarantine_of(
        &self,
        shard: Shard,
        account: &AccountId,
    ) -> Result<Option<Quarantined>, StoreError> {
        self.read("quarantine of", shard, |tables| tables.quarantines.get(account).cloned()).await
    }

    async fn open_transfers(
        &self,
        shard: Shard,
        after: TransferId,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StuckTransfer>, StoreError> {
        let end = TransferId::first_at(until);
        self.read("open transfers", shard, |tables| {
            let listed =
                |id: &TransferId| *id > tables.marks.recent || tables.stuck.contains_key(id);
            let open = tables.transfers.iter().filter(|(id, record)| {
                **id > after && **id < end && listed(id) && !record.row.state.is_final()
            });
            let stuck = |(id, record): (&TransferId, &TransferRecord)| {
                let known = tables.stuck.get(id);
                let asked = record.row.requested_at;
                StuckTransfer {
                    row: record.row.clone(),
                    attempts: known.map_or(0, |known| known.attempts),
                    since: known.map_or(asked, |known| known.since),
                    due_at: known.map_or(asked, |known| known.next),
                }
            };
            open.map(stuck).take(limit as usize).collect()
        })
        .await
    }

    async fn letter_marks(
        &self,
        shard: Shard,
        partition: Partition,
        from: i64,
        to: i64,
    ) -> Result<Vec<LetterMark>, StoreError> {
        self.read("letter marks", shard, |tables| {
            let found = tables.letters.range((partition, from)..=(partition, to));
            found.map(|(_, mark)| mark.clone()).collect()
        })
        .await
    }
}

#[async_trait]
impl OperationsTx for SimTx {
    async fn record_acts(&mut self, acts: &[Act]) -> Result<(), StoreError> {
        self.statement("record acts").await?;
        if !acts.is_empty() {
            self.lock(LockKey::AuditChain).await?;
        }
        let committed = {
            let mut state = self.gate.world.lock();
            state.database(self.shard).tables.acts.len()
        };
        for act in acts {
            let id = (committed + self.staged.acts.len() + 1) as i64;
            self.staged.acts.push(LoggedAct { id, at: self.now, act: act.clone() });
        }
        self.answer("record acts", ()).await
    }

    async fn forget_quarantines(&mut self, ids: &BTreeSet<AccountId>) -> Result<u64, StoreError> {
        self.statement("forget quarantines").await?;
        let known = {
            let mut state = self.gate.world.lock();
            let known = &state.database(self.shard).tables.quarantines;
            ids.iter().filter(|id| known.contains_key(*id)).count()
        };
        self.staged.released.extend(ids.iter().cloned());
        self.answer("forget quarantines", known as u64).await
    }

    async fn mark_letters(&mut self, marks: &[LetterMark]) -> Result<(), StoreError> {
        self.statement("mark letters").await?;
        for mark in marks {
            let place = (mark.partition, mark.offset);
            self.lock(LockKey::Letter(place.0, place.1)).await?;
            let known = {
                let mut state = self.gate.world.lock();
                state.database(self.shard).tables.letters.contains_key(&place)
            };
            if known {
                return self.refuse_duplicate(Constraint::Other);
            }
            self.staged.letters.push(LetterMark { at: self.now, ..mark.clone() });
        }
        self.answer("mark letters", ()).await
    }

    async fn rebuild_projections(&mut self, ids: &BTreeSet<AccountId>) -> Result<u64, StoreError> {
        self.statement("rebuild projections").await?;
        let mut rebuilt = 0;
        for id in ids {
            if let Some(record) = self.account(id) {
                self.staged.rebuilt.push(BalanceRow { row: record.row, as_of: self.now });
                rebuilt += 1;
            }
        }
        self.answer("rebuild projections", rebuilt).await
    }
}
