//! The store port of one process, over the shards of the world.

use super::session::SimTx;
use super::tables::Stuck;
use super::{Staged, Tables};
use crate::gate::Gate;
use async_trait::async_trait;
use holdfast::domain::{
    AccountId, ClaimKey, Client, EntryRow, IdempotencyKey, Shard, Side, StuckTransfer, Timestamp,
    TransferId, Velocity,
};
use holdfast::routing::ShardMap;
use holdfast::store::{
    AccountFilter, AccountRecord, BalanceRow, Identity, Mark, OutboxRow, Standing, Store,
    StoreError, TransferFilter, TransferRecord, Tx,
};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub struct SimStore {
    pub gate: Gate,
    pub identity: Identity,
    pub verified: Vec<AtomicBool>,
    /// Opened by what is to raise the generation.
    pub any_generation: bool,
}

impl SimStore {
    /// Opens all shards, as they are now.
    pub fn open(gate: Gate) -> Self {
        let world = gate.world.clone();
        let generation = world.lock().databases[0].generation.0;
        let identity = world.identity(generation);
        let verified = world.map.all_shards().map(|_| AtomicBool::new(false)).collect();
        Self { gate, identity, verified, any_generation: false }
    }

    /// Opens all shards, whichever generation they are in.
    pub fn of_any_generation(gate: Gate) -> Self {
        Self { any_generation: true, ..Self::open(gate) }
    }
}

fn limited<T>(rows: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    rows.take(limit as usize).collect()
}

fn within(at: Timestamp, filter: &TransferFilter) -> bool {
    filter.from.is_none_or(|from| from <= at) && filter.to.is_none_or(|to| at < to)
}

#[async_trait]
impl Store for SimStore {
    fn map(&self) -> &ShardMap {
        &self.gate.world.map
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn address(&self, shard: Shard) -> String {
        format!("shard-{shard}.simulated:3306/ledger")
    }

    async fn begin(&self, shard: Shard) -> Result<Box<dyn Tx>, StoreError> {
        self.enter("begin", shard).await?;
        let transaction = {
            let mut state = self.gate.world.lock();
            self.compare(&mut state, shard)?;
            let id = state.number();
            let database = state.database(shard);
            database.open.insert(id, Some(self.gate.process));
            let now = self.gate.world.time(database);
            let (gate, staged) = (self.gate.clone(), Staged::default());
            SimTx { gate, shard, id, now, staged, failed: false }
        };
        Ok(Box::new(transaction))
    }

    async fn ping(&self, shard: Shard) -> Result<(), StoreError> {
        self.read("ping", shard, |_| ()).await
    }

    async fn now(&self, shard: Shard) -> Result<Timestamp, StoreError> {
        self.read("now", shard, |_| ()).await?;
        let mut state = self.gate.world.lock();
        Ok(self.gate.world.time(state.database(shard)))
    }

    async fn account(
        &self,
        shard: Shard,
        id: &AccountId,
    ) -> Result<Option<AccountRecord>, StoreError> {
        self.read("account", shard, |tables| tables.accounts.get(id).cloned()).await
    }

    async fn velocity(&self, shard: Shard, id: &AccountId) -> Result<Velocity, StoreError> {
        let find = |tables: &Tables| tables.velocity.get(id).cloned().unwrap_or_default();
        self.read("velocity", shard, find).await
    }

    async fn accounts(
        &self,
        shard: Shard,
        filter: &AccountFilter,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRecord>, StoreError> {
        let wanted = |record: &&AccountRecord| {
            let row = &record.row;
            after.is_none_or(|after| *after < row.id)
                && filter.prefix.as_ref().is_none_or(|prefix| row.id.as_str().starts_with(prefix))
                && filter.currency.is_none_or(|currency| row.currency == currency)
                && filter.status.is_none_or(|status| row.status == status)
                && filter.owner.as_ref().is_none_or(|owner| record.owner.as_ref() == Some(owner))
        };
        self.read("accounts", shard, |tables| {
            limited(tables.accounts.values().filter(wanted).cloned(), limit)
        })
        .await
    }

    async fn balance(
        &self,
        shard: Shard,
        id: &AccountId,
    ) -> Result<Option<BalanceRow>, StoreError> {
        self.read("balance", shard, |tables| tables.balances.get(id).cloned()).await
    }

    async fn project_balances(&self, shard: Shard, rows: &[BalanceRow]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.write("project balances", shard, |tables, _| {
            rows.iter().cloned().for_each(|row| tables.project(row));
        })
        .await
    }

    async fn refresh_balances(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<(Vec<BalanceRow>, Option<AccountId>), StoreError> {
        let first: Vec<AccountRecord> = self
            .read("read projections", shard, |tables| {
                let of_page =
                    |record: &&AccountRecord| after.is_none_or(|after| *after < record.row.id);
                limited(tables.accounts.values().filter(of_page).cloned(), limit)
            })
            .await?;
        let last = first.last().map(|record| record.row.id.clone());
        let next = last.filter(|_| first.len() == limit as usize);
        let (copied, _) = self
            .write("refresh balances", shard, |tables, now| {
                let mut copied = Vec::new();
                for AccountRecord { row, .. } in first {
                    let known = tables.balances.get(&row.id);
                    let same = known.is_some_and(|known| {
                        let quarantined = row.quarantined;
                        holdfast::domain::AccountRow { quarantined, ..known.row.clone() } == row
                    });
                    let ahead = |known: &BalanceRow| {
                        let stored = tables.accounts.get(&row.id);
                        stored.is_some_and(|stored| stored.row.version < known.row.version)
                    };
                    if same {
                        continue;
                    }
                    if known.is_some_and(ahead) {
                        tables.balances.remove(&row.id);
                    }
                    let balance = BalanceRow { row, as_of: now };
                    tables.project(balance.clone());
                    copied.push(balance);
                }
                (copied, ())
            })
            .await?;
        Ok((copied, next))
    }

    async fn entries(
        &self,
        shard: Shard,
        account: &AccountId,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        self.read("entries", shard, |tables| {
            newest_entries(tables, account, before_version, limit, |_| true)
        })
        .await
    }

    async fn transfer_records(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<TransferRecord>, StoreError> {
        self.read("transfer records", shard, |tables| {
            let sorted: std::collections::BTreeSet<&TransferId> = ids.iter().collect();
            sorted.into_iter().filter_map(|id| tables.transfers.get(id).cloned()).collect()
        })
        .await
    }

    async fn outgoing(
        &self,
        shard: Shard,
        source: &AccountId,
        filter: &TransferFilter,
        before: Option<TransferId>,
        limit: u32,
    ) -> Result<Vec<TransferRecord>, StoreError> {
        let wanted = |record: &&TransferRecord| {
            record.row.terms.source == *source
                && before.is_none_or(|before| record.row.terms.id < before)
                && filter.state.is_none_or(|state| record.row.state == state)
                && filter
                    .reference
                    .as_ref()
                    .is_none_or(|text| record.reference.as_ref() == Some(text))
                && within(record.row.requested_at, filter)
        };
        self.read("outgoing", shard, |tables| {
            limited(tables.transfers.values().rev().filter(wanted).cloned(), limit)
        })
        .await
    }

    async fn incoming(
        &self,
        shard: Shard,
        destination: &AccountId,
        filter: &TransferFilter,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let wanted = |entry: &EntryRow| {
            entry.side == Side::Credit && within(entry.transfer.minted_at(), filter)
        };
        self.read("incoming", shard, |tables| {
            newest_entries(tables, destination, before_version, limit, wanted)
        })
        .await
    }

    async fn claimed_transfer(
        &self,
        shard: Shard,
        client: &Client,
        source: &AccountId,
        key: &IdempotencyKey,
    ) -> Result<Option<TransferId>, StoreError> {
        let key = ClaimKey { source: source.clone(), client: client.clone(), key: key.clone() };
        self.read("claimed transfer", shard, |tables| {
            tables.claims.get(&key).map(|claim| claim.transfer)
        })
        .await
    }

    async fn entries_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<EntryRow>, StoreError> {
        self.read("entries of", shard, |tables| {
            let sides = |id: &TransferId| [(*id, Side::Debit), (*id, Side::Credit)];
            let keys = ids.iter().flat_map(sides);
            keys.filter_map(|key| tables.entries.get(&key).cloned()).collect()
        })
        .await
    }

    async fn outbox(
        &self,
        shard: Shard,
        after: u64,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read("outbox", shard, |tables| {
            limited(tables.outbox.range(after + 1..).map(|(_, row)| row.clone()), limit)
        })
        .await
    }

    async fn outbox_but(
        &self,
        shard: Shard,
        known: &BTreeSet<u64>,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read("outbox", shard, |tables| {
            let new = tables.outbox.iter().filter(|(id, _)| !known.contains(id));
            limited(new.map(|(_, row)| row.clone()), limit)
        })
        .await
    }

    async fn outbox_sent(&self, shard: Shard, ids: &[u64]) -> Result<(), StoreError> {
        self.write("outbox sent", shard, |tables, _| {
            ids.iter().for_each(|id| drop(tables.outbox.remove(id)));
        })
        .await
    }

    async fn outbox_depth(&self, shard: Shard) -> Result<(u64, Option<Timestamp>), StoreError> {
        self.read("outbox depth", shard, |tables| {
            let records = |row: &OutboxRow| row.records.as_ref().map_or(0, Vec::len) as u64;
            let oldest = tables.outbox.values().map(|row| row.at).min();
            (tables.outbox.values().map(records).sum(), oldest)
        })
        .await
    }

    async fn lease(
        &self,
        shard: Shard,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        self.write("lease", shard, |tables, now| {
            let held = tables.leases.get(name);
            let free = held.is_none_or(|(by, until)| by == holder || *until <= now);
            if free {
                tables.leases.insert(name.to_owned(), (holder.to_owned(), now.plus(ttl)));
            }
            free
        })
        .await
    }

    async fn scan_unfinished(
        &self,
        shard: Shard,
        mark: Mark,
        until: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        self.write("scan", shard, |tables, now| scan(tables, mark, until, limit, now)).await
    }

    async fn stuck(&self, shard: Shard, limit: u32) -> Result<Vec<StuckTransfer>, StoreError> {
        self.write("stuck", shard, |tables, now| {
            let transfers = &tables.transfers;
            let over = |id: &TransferId, stuck: &Stuck| {
                let quiet = stuck.attempts == 0;
                transfers.get(id).is_none_or(|at| at.row.state.is_final() && quiet)
            };
            tables.stuck.retain(|id, stuck| stuck.next > now || !over(id, stuck));
            let due = tables.stuck.iter().filter(|(_, stuck)| stuck.next <= now);
            let stuck = due.map(|(id, stuck)| StuckTransfer {
                row: transfers[id].row.clone(),
                attempts: stuck.attempts,
                since: stuck.since,
                due_at: stuck.next,
            });
            limited(stuck, limit)
        })
        .await
    }

    async fn stuck_seen(
        &self,
        shard: Shard,
        seen: &[(TransferId, u32, Timestamp)],
    ) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        self.write("stuck seen", shard, |tables, _| {
            for (id, attempts, next) in seen {
                if let Some(stuck) = tables.stuck.get_mut(id) {
                    (stuck.attempts, stuck.next) = (stuck.attempts.max(*attempts), *next);
                }
            }
        })
        .await
    }

    async fn stuck_over(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.write("stuck over", shard, |tables, _| {
            tables.stuck.retain(|id, _| !ids.contains(id));
        })
        .await
    }

    async fn standing(&self, shard: Shard) -> Result<Vec<Standing>, StoreError> {
        self.read("standing", shard, |_| Vec::new()).await
    }

    async fn expire_claims(
        &self,
        shard: Shard,
        before: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        self.write("expire claims", shard, |tables, _| {
            let bound = TransferId::first_at(before);
            let old = tables.transfers.range(tables.marks.claims..bound);
            let old = old.filter(|(id, _)| **id > tables.marks.claims);
            let old: Vec<_> = limited(old.map(|(id, at)| (*id, at.claim.clone())), limit);
            for (id, claim) in &old {
                if tables.claims.get(claim).is_some_and(|found| found.transfer == *id) {
                    tables.claims.remove(claim);
                }
                tables.marks.claims = *id;
            }
            old.len() as u32
        })
        .await
    }
}

fn newest_entries(
    tables: &Tables,
    account: &AccountId,
    before: Option<i64>,
    limit: u32,
    wanted: impl Fn(&EntryRow) -> bool,
) -> Vec<EntryRow> {
    let version = |entry: &EntryRow| entry.outcome.ok().map(|money| money.version);
    let mut found: Vec<EntryRow> = tables
        .entries
        .values()
        .filter(|entry| entry.account == *account && wanted(entry))
        .filter(|entry| version(entry).is_some_and(|at| before.is_none_or(|before| at < before)))
        .cloned()
        .collect();
    found.sort_by_key(|entry| std::cmp::Reverse(version(entry)));
    found.truncate(limit as usize);
    found
}

/// Puts what is not final on the list, from the mark on, and moves the mark.
fn scan(tables: &mut Tables, mark: Mark, until: Timestamp, limit: u32, now: Timestamp) -> u32 {
    let from = match mark {
        Mark::Recent => tables.marks.recent,
        Mark::Sweep => tables.marks.sweep,
    };
    let bound = TransferId::first_at(until);
    let ahead = tables.transfers.iter().filter(|(id, _)| **id > from && **id < bound);
    let seen: Vec<(TransferId, bool)> =
        limited(ahead.map(|(id, at)| (*id, at.row.state.is_final())), limit);
    for (id, _) in seen.iter().filter(|(_, over)| !over) {
        let new = Stuck { attempts: 0, since: now, next: now };
        tables.stuck.entry(*id).or_insert(new);
    }
    let last = seen.last().map_or(from, |(id, _)| *id);
    match mark {
        Mark::Recent => tables.marks.recent = last,
        Mark::Sweep if seen.len() < limit as usize => {
            tables.marks.sweep = TransferId::from_bytes([0; 16]);
        }
        Mark::Sweep => tables.marks.sweep = last,
    }
    seen.len() as u32
}
