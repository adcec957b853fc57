//! The port's methods outside transactions that decide about money.

use super::driver::{Arg, Driver, unavailable};
use super::row::Row;
use super::{SqlStore, bound_at, decode, id_arg, outbox, statements, transfer_batch};
use crate::domain::{
    AccountId, Client, EntryRow, IdempotencyKey, Shard, Timestamp, TransferId, Velocity,
};
use crate::routing::ShardMap;
use crate::store::transact::again;
use crate::store::{
    AccountFilter, AccountRecord, BalanceRow, Identity, Mark, OutboxRow, Standing, Store,
    StoreError, StuckTransfer, TransferFilter, TransferRecord, Tx,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::time::Duration;

/// After every valid account id.
const LAST_ACCOUNT: &str = "~";

/// By how much the time in an id may differ from the time of acceptance stored with it: ingress
/// rolls back where it is more.
const ID_TOLERANCE: Duration = Duration::from_secs(11);

#[async_trait]
impl<D: Driver> Store for SqlStore<D> {
    fn map(&self) -> &ShardMap {
        &self.map
    }

    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn address(&self, shard: Shard) -> String {
        self.driver.address(shard).to_owned()
    }

    async fn begin(&self, shard: Shard) -> Result<Box<dyn Tx>, StoreError> {
        Ok(Box::new(self.write(shard).await?))
    }

    async fn ping(&self, shard: Shard) -> Result<(), StoreError> {
        let rows = self.read(shard, self.texts().read_only, &[]).await?;
        match decode::first(rows, Row::flag)? {
            Some(true) => Err(unavailable(&*self.driver, shard, "the server is read-only")),
            Some(false) | None => Ok(()),
        }
    }

    async fn now(&self, shard: Shard) -> Result<Timestamp, StoreError> {
        let rows = self.read(shard, self.texts().now, &[]).await?;
        Ok(D::time(decode::first(rows, Row::opt_int)?.flatten()))
    }

    async fn account(
        &self,
        shard: Shard,
        id: &AccountId,
    ) -> Result<Option<AccountRecord>, StoreError> {
        let rows = self.read(shard, statements::ACCOUNT, &[id.as_str().into()]).await?;
        Ok(self.open_accounts(shard, decode::all(rows, decode::account_record)?).await?.pop())
    }

    async fn velocity(&self, shard: Shard, id: &AccountId) -> Result<Velocity, StoreError> {
        let rows = self.read(shard, statements::VELOCITY, &[id.as_str().into()]).await?;
        let mut velocity = Velocity::NONE;
        for (_, period, allowance) in decode::all(rows, decode::allowance)? {
            velocity.insert(period, allowance);
        }
        Ok(velocity)
    }

    async fn accounts(
        &self,
        shard: Shard,
        filter: &AccountFilter,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<AccountRecord>, StoreError> {
        let prefix = filter.prefix.as_deref().unwrap_or("");
        if !prefix.is_ascii() {
            return Ok(Vec::new());
        }
        let currency = filter.currency.as_ref().map_or("", |currency| currency.as_str());
        let status = filter.status.map_or(0, |status| status.code());
        let mut args = vec![
            after.map_or("", AccountId::as_str).into(),
            prefix.into(),
            Arg::Text(format!("{prefix}{LAST_ACCOUNT}")),
            currency.into(),
            currency.into(),
            status.into(),
            status.into(),
            i64::from(limit).into(),
        ];
        let text = match &filter.owner {
            None => statements::ACCOUNTS,
            Some(owner) => {
                args.insert(0, owner.as_str().into());
                statements::OWNED_ACCOUNTS
            }
        };
        let rows = self.read(shard, text, &args).await?;
        self.open_accounts(shard, decode::all(rows, decode::account_record)?).await
    }

    async fn balance(
        &self,
        shard: Shard,
        id: &AccountId,
    ) -> Result<Option<BalanceRow>, StoreError> {
        let rows = self.read(shard, statements::BALANCE, &[id.as_str().into()]).await?;
        decode::first(rows, decode::balance)
    }

    async fn project_balances(&self, shard: Shard, rows: &[BalanceRow]) -> Result<(), StoreError> {
        again(|_| self.project(shard, rows)).await
    }

    async fn refresh_balances(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<(Vec<BalanceRow>, Option<AccountId>), StoreError> {
        again(|_| self.refresh(shard, after, limit)).await
    }

    async fn entries(
        &self,
        shard: Shard,
        account: &AccountId,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let before = before_version.unwrap_or(i64::MAX);
        let args = [account.as_str().into(), before.into(), i64::from(limit).into()];
        decode::all(self.read(shard, self.texts().entries, &args).await?, decode::entry)
    }

    async fn transfer_records(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<TransferRecord>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let batch = transfer_batch::<D>(ids.iter().copied());
        let rows = self.read(shard, self.texts().transfer_records, &[batch]).await?;
        self.open_transfers_read(shard, decode::all(rows, decode::transfer_record)?).await
    }

    async fn outgoing(
        &self,
        shard: Shard,
        source: &AccountId,
        filter: &TransferFilter,
        before: Option<TransferId>,
        limit: u32,
    ) -> Result<Vec<TransferRecord>, StoreError> {
        let (from, to) = times(filter);
        let state = filter.state.map_or(0, |state| state.code());
        let reference = filter.reference.as_deref();
        let args = [
            source.as_str().into(),
            id_arg(before.unwrap_or(TransferId::from_bytes([0xff; 16]))),
            bound_at(from.minus(ID_TOLERANCE)),
            bound_at(to.plus(ID_TOLERANCE)),
            from.into(),
            to.into(),
            state.into(),
            state.into(),
            i64::from(reference.is_some()).into(),
            reference.unwrap_or("").into(),
            self.mark_of(shard, source, reference).await?,
            i64::from(limit).into(),
        ];
        let rows = self.read(shard, self.texts().outgoing, &args).await?;
        self.open_transfers_read(shard, decode::all(rows, decode::transfer_record)?).await
    }

    async fn incoming(
        &self,
        shard: Shard,
        destination: &AccountId,
        filter: &TransferFilter,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let (from, to) = times(filter);
        let args = [
            destination.as_str().into(),
            before_version.unwrap_or(i64::MAX).into(),
            bound_at(from),
            bound_at(to),
            i64::from(limit).into(),
        ];
        decode::all(self.read(shard, self.texts().incoming, &args).await?, decode::entry)
    }

    async fn claimed_transfer(
        &self,
        shard: Shard,
        client: &Client,
        source: &AccountId,
        key: &IdempotencyKey,
    ) -> Result<Option<TransferId>, StoreError> {
        let args = [source.as_str().into(), client.as_str().into(), key.as_str().into()];
        let rows = self.read(shard, statements::CLAIMED_TRANSFER, &args).await?;
        decode::first(rows, Row::transfer)
    }

    async fn entries_of(
        &self,
        shard: Shard,
        ids: &[TransferId],
    ) -> Result<Vec<EntryRow>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let batch = transfer_batch::<D>(ids.iter().copied());
        let rows = self.read(shard, self.texts().entries_of, &[batch]).await?;
        decode::all(rows, decode::entry)
    }

    async fn outbox(
        &self,
        shard: Shard,
        after: u64,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let args = [after.into(), i64::from(limit).into()];
        let rows = self.read(shard, statements::OUTBOX, &args).await?;
        decode::all(rows, outbox::decode)
    }

    async fn outbox_but(
        &self,
        shard: Shard,
        known: &BTreeSet<u64>,
        limit: u32,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        let known = known.iter().fold(String::from(","), |list, id| list + &id.to_string() + ",");
        let args = [Arg::Text(known), i64::from(limit).into()];
        let rows = self.read(shard, self.texts().outbox_but, &args).await?;
        decode::all(rows, outbox::decode)
    }

    async fn outbox_sent(&self, shard: Shard, ids: &[u64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        again(|_| self.delete_outbox(shard, ids)).await
    }

    async fn outbox_depth(&self, shard: Shard) -> Result<(u64, Option<Timestamp>), StoreError> {
        let rows = self.read(shard, statements::OUTBOX_DEPTH, &[]).await?;
        let depth = decode::first(rows, |row| Ok((row.number()?, row.opt_time()?)))?;
        Ok(depth.unwrap_or((0, None)))
    }

    async fn lease(
        &self,
        shard: Shard,
        name: &str,
        holder: &str,
        ttl: Duration,
    ) -> Result<bool, StoreError> {
        again(|_| self.take_lease(shard, name, holder, ttl)).await
    }

    async fn scan_unfinished(
        &self,
        shard: Shard,
        mark: Mark,
        until: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        again(|_| self.scan(shard, mark, until, limit)).await
    }

    async fn stuck(&self, shard: Shard, limit: u32) -> Result<Vec<StuckTransfer>, StoreError> {
        again(|_| self.due(shard, limit)).await
    }

    async fn stuck_seen(
        &self,
        shard: Shard,
        seen: &[(TransferId, u32, Timestamp)],
    ) -> Result<(), StoreError> {
        again(|_| self.note_stuck(shard, seen)).await
    }

    async fn stuck_over(&self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        again(|_| self.unlist(shard, ids)).await
    }

    async fn standing(&self, shard: Shard) -> Result<Vec<Standing>, StoreError> {
        self.unfinished(shard).await
    }

    async fn expire_claims(
        &self,
        shard: Shard,
        before: Timestamp,
        limit: u32,
    ) -> Result<u32, StoreError> {
        again(|_| self.delete_claims(shard, before, limit)).await
    }
}

/// The filter's bounds, or those of time.
fn times(filter: &TransferFilter) -> (Timestamp, Timestamp) {
    let end = Timestamp::from_micros(i64::MAX);
    (filter.from.unwrap_or_default(), filter.to.unwrap_or(end))
}
