//! Keys and owners.

use super::driver::{Arg, Driver};
use super::row::Row;
use super::tx::{SqlTx, account_ids};
use super::{SqlStore, decode, statements};
use crate::domain::{AccountId, Client, Shard};
use crate::store::{ApiKeyRow, Credentials, CredentialsTx, StoreError};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};

#[async_trait]
impl<D: Driver> Credentials for SqlStore<D> {
    async fn api_key(&self, shard: Shard, id: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        decode::first(self.read(shard, statements::API_KEY, &[id.into()]).await?, api_key)
    }

    async fn api_keys(
        &self,
        shard: Shard,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ApiKeyRow>, StoreError> {
        let args = [after.into(), i64::from(limit).into()];
        decode::all(self.read(shard, statements::API_KEYS, &args).await?, api_key)
    }

    async fn owners(
        &self,
        shard: Shard,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, Option<Client>>, StoreError> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let batch = D::rows(account_ids(ids));
        let rows = self.read(shard, self.texts().owners, &[batch]).await?;
        let pair = |row: &mut Row| Ok((row.parse()?, owner(row)?));
        Ok(decode::all(rows, pair)?.into_iter().collect())
    }
}

#[async_trait]
impl<D: Driver> CredentialsTx for SqlTx<D> {
    async fn put_api_key(&mut self, row: &ApiKeyRow) -> Result<bool, StoreError> {
        let args = [
            row.name.as_str().into(),
            row.principal.as_str().into(),
            row.roles.as_str().into(),
            row.scopes.as_deref().into(),
            Arg::Bytes(row.hash.to_vec()),
            row.revision.into(),
            row.created_at.into(),
            row.expires_at.map(|at| at.micros()).into(),
            row.revoked_at.map(|at| at.micros()).into(),
            row.id.as_str().into(),
        ];
        let known = self.fetch(statements::API_KEY_REVISION, &[row.id.as_str().into()]).await?;
        match decode::first(known, Row::int)? {
            Some(revision) if revision >= row.revision => return Ok(false),
            Some(_) => self.execute(statements::UPDATE_API_KEY, &args).await?,
            None => self.execute(statements::INSERT_API_KEY, &args).await?,
        };
        Ok(true)
    }
}

/// An empty name is no owner.
pub(super) fn owner(row: &mut Row) -> Result<Option<Client>, StoreError> {
    let name = row.text()?;
    if name.is_empty() {
        return Ok(None);
    }
    name.parse().map(Some).map_err(|_| row.corrupt("an owner that is no client's name"))
}

fn api_key(row: &mut Row) -> Result<ApiKeyRow, StoreError> {
    Ok(ApiKeyRow {
        id: row.text()?,
        name: row.text()?,
        principal: row.parse()?,
        roles: row.text()?,
        scopes: row.opt_text()?,
        hash: row.array()?,
        revision: row.int()?,
        created_at: row.time()?,
        expires_at: row.opt_time()?,
        revoked_at: row.opt_time()?,
    })
}
