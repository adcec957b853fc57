//! Reads of accounts, balances and ledgers.

use super::{Ingress, Listed, Refusal};
use crate::domain::AccountId;
use crate::store::{AccountFilter, AccountRecord, BalanceRow, EntryRow};
use futures::future::try_join_all;

/// A balance and when it was so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Row and time.
    pub balance: BalanceRow,
}

impl Ingress {
    /// One account, from its shard.
    pub async fn account(&self, id: &AccountId) -> Result<AccountRecord, Refusal> {
        let shard = self.context.store.map().shard_of(id);
        let found = self.context.store.account(shard, id).await?;
        found.ok_or_else(|| Refusal::AccountNotFound(id.clone()))
    }

    /// Accounts of all shards in id order, after `after`, at most `limit`; as of a moment ago where
    /// they are read from replicas.
    pub async fn accounts(
        &self,
        filter: &AccountFilter,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Listed<AccountRecord>, Refusal> {
        let shards = self.context.store.map().all_shards();
        let from = &self.context.reads;
        let reads = shards.map(|shard| from.accounts(shard, filter, after, limit + 1));
        let mut accounts: Vec<AccountRecord> =
            try_join_all(reads).await?.into_iter().flatten().collect();
        accounts.sort_unstable_by(|left, right| left.row.id.cmp(&right.row.id));
        Ok(Listed::of(accounts, limit))
    }

    /// The balance: strong from the account's shard; else from Redis, the projection, the shard,
    /// whichever has it first.
    pub async fn balance(&self, id: &AccountId, strong: bool) -> Result<Balance, Refusal> {
        if !strong && let Some(balance) = self.projected_balance(id).await? {
            return Ok(Balance { balance });
        }
        let shard = self.context.store.map().shard_of(id);
        // Read before the row: the balance is no older than the time it is given.
        let as_of = self.context.store.now(shard).await?;
        let row = self.account(id).await?.row;
        Ok(Balance { balance: BalanceRow { row, as_of } })
    }

    async fn projected_balance(&self, id: &AccountId) -> Result<Option<BalanceRow>, Refusal> {
        if let Some(balance) = self.cached_balance(id).await {
            return Ok(Some(balance));
        }
        let shard = self.context.store.map().shard_of(id);
        Ok(self.context.reads.balance(shard, id).await?)
    }

    async fn cached_balance(&self, id: &AccountId) -> Option<BalanceRow> {
        let cache = self.context.cache.as_ref()?;
        match cache.get(id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%error, "Redis does not answer; the balance is read elsewhere");
                None
            }
        }
    }

    /// Ledger entries of an account, newest first, below `before_version`, at most `limit`; as of a
    /// moment ago where they are read from a replica.
    pub async fn entries(
        &self,
        id: &AccountId,
        before_version: Option<i64>,
        limit: u32,
    ) -> Result<Listed<EntryRow>, Refusal> {
        let shard = self.context.store.map().shard_of(id);
        let rows = self.context.reads.entries(shard, id, before_version, limit + 1).await?;
        if rows.is_empty() {
            self.account(id).await?;
        }
        Ok(Listed::of(rows, limit))
    }
}
