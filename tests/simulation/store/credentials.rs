//! Keys and owners.

use super::SimStore;
use super::session::SimTx;
use async_trait::async_trait;
use holdfast::domain::{AccountId, Client, Shard};
use holdfast::store::{ApiKeyRow, Credentials, CredentialsTx, StoreError};
use std::collections::{BTreeMap, BTreeSet};

#[async_trait]
impl Credentials for SimStore {
    async fn api_key(&self, shard: Shard, _id: &str) -> Result<Option<ApiKeyRow>, StoreError> {
        self.read("api key", shard, |_| None).await
    }

    async fn api_keys(
        &self,
        shard: Shard,
        _after: &str,
        _limit: u32,
    ) -> Result<Vec<ApiKeyRow>, StoreError> {
        self.read("api keys", shard, |_| Vec::new()).await
    }

    async fn owners(
        &self,
        shard: Shard,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, Option<Client>>, StoreError> {
        self.read("owners", shard, |tables| {
            let owner = |id: &AccountId| Some((id.clone(), tables.accounts.get(id)?.owner.clone()));
            ids.iter().filter_map(owner).collect()
        })
        .await
    }
}

#[async_trait]
impl CredentialsTx for SimTx {
    async fn put_api_key(&mut self, _row: &ApiKeyRow) -> Result<bool, StoreError> {
        unreachable!("no process of the simulation knows keys")
    }
}
