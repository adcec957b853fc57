//! Keys that callers show, and who owns which account.

use super::StoreError;
use crate::domain::{AccountId, Client, Shard, Timestamp};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};

/// An API key as a shard has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its public part.
    pub id: String,
    /// What it is for; up to 128 characters.
    pub name: String,
    /// Who it stands for.
    pub principal: Client,
    /// Names of roles, comma-separated.
    pub roles: String,
    /// Names of the scopes that it is limited to, comma-separated.
    pub scopes: Option<String>,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// Rises with every change, from 1.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was ended.
    pub revoked_at: Option<Timestamp>,
}

/// Reads of who is who.
#[async_trait]
pub trait Credentials {
    /// One key.
    async fn api_key(&self, shard: Shard, id: &str) -> Result<Option<ApiKeyRow>, StoreError>;

    /// Keys in id order, after `after`.
    async fn api_keys(
        &self,
        shard: Shard,
        after: &str,
        limit: u32,
    ) -> Result<Vec<ApiKeyRow>, StoreError>;

    /// The owners of accounts of the shard; those that do not exist are left out.
    async fn owners(
        &self,
        shard: Shard,
        ids: &BTreeSet<AccountId>,
    ) -> Result<BTreeMap<AccountId, Option<Client>>, StoreError>;
}

/// Writes of who is who, within a transaction.
#[async_trait]
pub trait CredentialsTx {
    /// Writes a key where there is none with its id, or one of a lower revision; whether it did.
    async fn put_api_key(&mut self, row: &ApiKeyRow) -> Result<bool, StoreError>;
}
