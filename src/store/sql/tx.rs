//! Writing transactions.

use super::driver::{Arg, Driver, Hex};
use super::inserts::{account_columns, claim_columns, claim_key_columns, transfer_columns};
use super::late::{Late, script};
use super::link::Link;
use super::row::Row;
use super::sealing::Seals;
use super::{decode, operations, outbox, projection, stages, statements, transfer_batch, velocity};
use crate::broker::Record;
use crate::domain::{
    AccountChange, AccountId, AccountRow, Client, ClusterId, EntryRow, Pivot, Plan, Shard,
    StageWrite, Suspicion, Timestamp, TransferId, TransferRow, UsageChange, Velocity,
};
use crate::sealing::Sealer;
use crate::store::{
    AccountRecord, AccountSettings, BalanceRow, Claim, ClaimKey, NewTransfer, StoreError, Tx,
    expect_rows,
};
use async_trait::async_trait;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A writing transaction whose shard's identity was compared.
pub(super) struct SqlTx<D: Driver> {
    link: Link<D>,
    now: Timestamp,
    cluster: ClusterId,
    /// Sent before the next statement that is not one of them, or with the COMMIT.
    late: Vec<Late>,
    /// Where personal fields are encrypted.
    seals: Option<Arc<Seals>>,
}

impl<D: Driver> SqlTx<D> {
    pub fn new(
        link: Link<D>,
        now: Timestamp,
        cluster: ClusterId,
        seals: Option<Arc<Seals>>,
    ) -> Self {
        Self { link, now, cluster, late: Vec::new(), seals }
    }

    /// The shard.
    pub fn on(&self) -> Shard {
        self.link.shard()
    }

    /// The keys of personal fields, where these are encrypted.
    pub fn seals(&self) -> Option<&Seals> {
        self.seals.as_deref()
    }

    /// The cluster that the shard was seen to belong to.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Database time, read when it began.
    pub fn at(&self) -> Timestamp {
        self.now
    }

    /// The rows of one statement.
    pub async fn fetch(&mut self, sql: &'static str, args: &[Arg]) -> Result<Vec<Row>, StoreError> {
        self.send_late().await?;
        self.link.fetch(sql, args).await
    }

    /// How many rows one statement matched.
    pub async fn execute(&mut self, sql: &'static str, args: &[Arg]) -> Result<u64, StoreError> {
        self.send_late().await?;
        self.link.execute(sql, args).await
    }

    /// Commits.
    pub async fn finish(self) -> Result<(), StoreError> {
        match &D::TEXTS {
            Some(texts) if !self.late.is_empty() => {
                let (text, statements) = script(texts, self.late);
                self.link.commit_with(text, statements).await
            }
            _ => self.link.commit().await,
        }
    }

    /// A write that must change so many rows, sooner or later in this transaction: nobody needs its
    /// outcome before the COMMIT.
    async fn update_late(
        &mut self,
        what: &str,
        rows: usize,
        sql: &'static str,
        args: Vec<Arg>,
    ) -> Result<(), StoreError> {
        if D::TEXTS.is_some() {
            self.late.push(Late { sql, args, rows: Some(rows) });
            return Ok(());
        }
        let changed = self.link.execute(sql, &args).await?;
        expect_rows(self.link.shard(), what, rows, changed)
    }

    /// The same of a batch statement; nothing for an empty batch.
    async fn update_batch_late<R: Serialize + Send>(
        &mut self,
        what: &str,
        sql: &'static str,
        rows: Vec<R>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.update_late(what, rows.len(), sql, vec![D::rows(rows)]).await
    }

    /// An insert, sooner or later in this transaction.
    async fn insert_late(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<(), StoreError> {
        if D::TEXTS.is_some() {
            self.late.push(Late { sql, args, rows: None });
            return Ok(());
        }
        self.link.execute(sql, &args).await.map(drop)
    }

    /// The same of a batch statement; nothing for an empty batch.
    async fn insert_batch_late<R: Serialize + Send>(
        &mut self,
        sql: &'static str,
        rows: Vec<R>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        self.insert_late(sql, vec![D::values(rows)]).await
    }

    async fn send_late(&mut self) -> Result<(), StoreError> {
        match &D::TEXTS {
            Some(texts) if !self.late.is_empty() => {
                let (text, _) = script(texts, std::mem::take(&mut self.late));
                self.link.together(text).await
            }
            _ => Ok(()),
        }
    }

    /// The rows of a batch statement; none for an empty batch.
    pub async fn fetch_batch<R: Serialize + Send>(
        &mut self,
        sql: &'static str,
        rows: Vec<R>,
    ) -> Result<Vec<Row>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        self.fetch(sql, &[D::rows(rows)]).await
    }

    /// How many rows a batch statement matched; none for an empty batch.
    pub async fn execute_batch<R: Serialize + Send>(
        &mut self,
        sql: &'static str,
        rows: Vec<R>,
    ) -> Result<u64, StoreError> {
        if rows.is_empty() {
            return Ok(0);
        }
        self.execute(sql, &[D::rows(rows)]).await
    }

    /// Writes projected balances.
    pub async fn project(&mut self, rows: &[BalanceRow]) -> Result<(), StoreError> {
        let rows = projection::newest(rows);
        let batch = rows.into_values().map(projection::columns).collect();
        self.insert_batch_late(D::STATEMENTS.project_balances, batch).await
    }
}

#[async_trait]
impl<D: Driver> Tx for SqlTx<D> {
    fn shard(&self) -> Shard {
        self.link.shard()
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    async fn lock_accounts(
        &mut self,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRow>, StoreError> {
        let found = self.fetch_batch(D::STATEMENTS.lock_accounts, account_ids(ids)).await?;
        let (mut rows, mut limited) = (BTreeMap::new(), Vec::new());
        for (row, is_limited) in decode::all(found, decode::locked_account)? {
            limited.extend(is_limited.then(|| row.id.clone()));
            rows.insert(row.id.clone(), row);
        }
        self.read_velocity(&mut rows, &limited).await?;
        Ok(rows)
    }

    async fn write_accounts(&mut self, changes: &[AccountChange]) -> Result<u64, StoreError> {
        self.execute_batch(D::STATEMENTS.write_accounts, change_columns(changes)).await
    }

    async fn transfers(
        &mut self,
        ids: &[TransferId],
    ) -> Result<HashMap<TransferId, TransferRow>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let batch = transfer_batch::<D>(ids.iter().copied());
        let rows = self.fetch(D::STATEMENTS.lock_transfers, &[batch]).await?;
        decode::keyed(rows, decode::transfer, |row| row.terms.id)
    }

    async fn advance_transfers(&mut self, writes: &[StageWrite]) -> Result<u64, StoreError> {
        if writes.is_empty() {
            return Ok(0);
        }
        let batch = D::values(stages::columns(writes));
        self.execute(D::STATEMENTS.advance_transfers, &[batch]).await
    }

    async fn pivots(
        &mut self,
        ids: &[TransferId],
    ) -> Result<HashMap<TransferId, Pivot>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let batch = transfer_batch::<D>(ids.iter().copied());
        let rows = self.fetch(D::STATEMENTS.pivots, &[batch]).await?;
        let entries = decode::all(rows, decode::entry)?;
        Ok(entries.iter().filter_map(|entry| Some((entry.transfer, entry.pivot()?))).collect())
    }

    async fn insert_entries(&mut self, entries: &[EntryRow]) -> Result<(), StoreError> {
        self.insert_batch_late(D::STATEMENTS.insert_entries, entries_columns(entries)).await?;
        self.send_late().await
    }

    /// Transfers come first, because it is their count that is short when an event is delivered
    /// again.
    async fn write(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let texts = D::STATEMENTS;
        let transfers = plan.transfers.len();
        if transfers > 0 {
            let args = vec![D::values(stages::columns(&plan.transfers))];
            self.update_late("transfers", transfers, texts.advance_transfers, args).await?;
        }
        let accounts = change_columns(&plan.accounts);
        self.update_batch_late("accounts", texts.write_accounts, accounts).await?;
        let usage = velocity::usage_columns(&plan.usage);
        self.update_batch_late("velocity limits", texts.write_usage, usage).await?;
        let entries = entries_columns(&plan.entries);
        self.insert_batch_late(texts.insert_entries, entries).await?;
        let reversed = plan.reversed.iter().map(|(id, change)| (Hex::from(*id), *change)).collect();
        self.update_batch_late("reversals", texts.add_reversed, reversed).await
    }

    async fn claims(&mut self, keys: &[ClaimKey]) -> Result<HashMap<ClaimKey, Claim>, StoreError> {
        let keys: BTreeSet<&ClaimKey> = keys.iter().collect();
        let rows = keys.into_iter().map(claim_key_columns).collect();
        let rows = self.fetch_batch(D::STATEMENTS.claims, rows).await?;
        rows.into_iter().map(|mut row| decode::claim(&mut row)).collect()
    }

    async fn insert_transfers(&mut self, transfers: &[NewTransfer]) -> Result<(), StoreError> {
        self.must_be_sealed(transfers)?;
        let mut ordered: Vec<&NewTransfer> = transfers.iter().collect();
        ordered.sort_unstable_by(|one, other| one.claim.cmp(&other.claim));
        let claims = ordered.iter().copied().map(claim_columns).collect();
        self.insert_batch_late(D::STATEMENTS.insert_claims, claims).await?;
        ordered.sort_unstable_by_key(|transfer| transfer.terms.id);
        let rows = ordered.into_iter().map(transfer_columns).collect();
        self.insert_batch_late(D::STATEMENTS.insert_transfers, rows).await
    }

    async fn insert_outbox(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
        let args = vec![self.now.into(), Arg::Int(count), Arg::Bytes(outbox::encode(records))];
        self.insert_late(statements::INSERT_OUTBOX, args).await
    }

    async fn lock_reversed(
        &mut self,
        originals: &BTreeSet<TransferId>,
    ) -> Result<BTreeMap<TransferId, i64>, StoreError> {
        if originals.is_empty() {
            return Ok(BTreeMap::new());
        }
        let batch = [transfer_batch::<D>(originals.iter().copied())];
        self.execute(D::STATEMENTS.lock_reversals, &batch).await?;
        let rows = self.fetch(D::STATEMENTS.reversals, &batch).await?;
        rows.into_iter().map(|mut row| Ok((row.transfer()?, row.int()?))).collect()
    }

    async fn add_reversed(
        &mut self,
        changes: &BTreeMap<TransferId, i64>,
    ) -> Result<u64, StoreError> {
        let rows = changes.iter().map(|(id, change)| (Hex::from(*id), *change)).collect();
        self.execute_batch(D::STATEMENTS.add_reversed, rows).await
    }

    async fn quarantine(
        &mut self,
        accounts: &BTreeMap<AccountId, Suspicion>,
    ) -> Result<(), StoreError> {
        let ids = accounts.keys().map(|id| (id.as_str(),)).collect();
        self.execute_batch(D::STATEMENTS.quarantine, ids).await?;
        let since = self.now.micros();
        let reasons = accounts.iter().map(|(id, suspicion)| {
            let transfer = suspicion.transfer.map(Hex::from);
            (id.as_str(), since, operations::short(&suspicion.reason), suspicion.amount, transfer)
        });
        self.execute_batch(D::STATEMENTS.insert_quarantines, reasons.collect()).await?;
        Ok(())
    }

    async fn insert_accounts(&mut self, accounts: &[AccountRecord]) -> Result<u64, StoreError> {
        let at = self.now;
        let metadata = accounts.iter().map(|one| self.metadata(&one.row.id, &one.metadata));
        let metadata: Vec<_> = metadata.collect::<Result<_, _>>()?;
        let mut rows: Vec<_> = accounts
            .iter()
            .zip(&metadata)
            .map(|(account, metadata)| account_columns(account, metadata, at))
            .collect();
        rows.sort_unstable();
        let inserted = self.execute_batch(D::STATEMENTS.insert_accounts, rows).await?;
        let fresh = |account: &AccountRecord| AccountRow {
            posted: 0,
            held: 0,
            version: 1,
            ..account.row.clone()
        };
        let balances: Vec<BalanceRow> =
            accounts.iter().map(|account| BalanceRow { row: fresh(account), as_of: at }).collect();
        self.project(&balances).await?;
        Ok(inserted)
    }

    async fn account_records(
        &mut self,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, AccountRecord>, StoreError> {
        let rows = self.fetch_batch(D::STATEMENTS.account_records, account_ids(ids)).await?;
        let records = self.open_accounts(decode::all(rows, decode::account_record)?).await?;
        Ok(records.into_iter().map(|record| (record.row.id.clone(), record)).collect())
    }

    async fn write_settings(&mut self, settings: &AccountSettings) -> Result<u64, StoreError> {
        let row = &settings.row;
        let given = settings.metadata.as_deref();
        let metadata = given.map(|metadata| self.metadata(&row.id, metadata)).transpose()?;
        let (metadata, sealed) = metadata.unzip();
        let args = [
            row.status.code().into(),
            i64::from(row.quarantined).into(),
            row.overdraft_limit.into(),
            metadata.as_deref().into(),
            i64::from(given.is_some()).into(),
            sealed.flatten().map(|sealed| sealed.bytes().to_vec()).into(),
            settings.owner.as_ref().map(Client::as_str).into(),
            row.version.into(),
            row.id.as_str().into(),
            settings.version_before.into(),
        ];
        let written = self.execute(statements::WRITE_SETTINGS, &args).await?;
        if written > 0 {
            self.project(&[BalanceRow { row: row.clone(), as_of: self.now }]).await?;
        }
        Ok(written)
    }

    async fn write_usage(&mut self, changes: &[UsageChange]) -> Result<u64, StoreError> {
        let rows = velocity::usage_columns(changes);
        self.execute_batch(D::STATEMENTS.write_usage, rows).await
    }

    async fn set_velocity(
        &mut self,
        account: &AccountId,
        velocity: &Velocity,
    ) -> Result<(), StoreError> {
        self.replace_velocity(account, velocity).await
    }

    fn sealer(&self) -> Result<Option<Sealer>, StoreError> {
        self.seals().map(|seals| seals.sealer(self.on())).transpose()
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        self.finish().await
    }
}

pub(super) fn account_ids(ids: &BTreeSet<AccountId>) -> Vec<(&str,)> {
    ids.iter().map(|id| (id.as_str(),)).collect()
}

fn entry_columns(entry: &EntryRow) -> impl Serialize + '_ {
    let money = entry.outcome.ok();
    (
        Hex::from(entry.transfer),
        entry.side.code(),
        entry.account.as_str(),
        entry.counterparty.as_str(),
        entry.currency,
        money.map_or(0, |money| money.amount.minor()),
        money.map(|money| money.balance_after),
        money.map(|money| money.version),
        entry.outcome.err().map(|reason| reason.code()),
        entry.at.micros(),
        entry.cause.offset,
        entry.cause.attempt,
    )
}

fn entries_columns(entries: &[EntryRow]) -> Vec<impl Serialize + '_> {
    let mut entries: Vec<&EntryRow> = entries.iter().collect();
    entries.sort_unstable_by_key(|entry| (entry.transfer, entry.side));
    entries.into_iter().map(entry_columns).collect()
}

fn change_columns(changes: &[AccountChange]) -> Vec<impl Serialize + '_> {
    let mut changes: Vec<&AccountChange> = changes.iter().collect();
    changes.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    changes.into_iter().map(change).collect()
}

fn change(to: &AccountChange) -> (&str, i64, i64, i64, i64) {
    (to.id.as_str(), to.posted, to.held, to.version_before, to.version)
}
