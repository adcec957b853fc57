//! The life of API keys: made, listed, replaced, revoked. Every shard has every key, so that any
//! one that answers is enough to know a caller by; what ends a key counts from the first shard on
//! that has heard of it.

use super::key::{ApiKey, KeyId, Minted};
use super::scope::{Role, Scopes};
use crate::domain::{Client, Shard, Timestamp};
use crate::store::{Action, Actor, ApiKeyRow, Store, StoreError, Tx, Work, transact_repeatable};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Keys that are read from a shard at once.
const PAGE: u32 = 500;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct KeyRequest {
    /// What it is for, for people.
    pub name: String,
    /// Who it stands for.
    pub principal: Client,
    /// What that is.
    pub roles: Vec<Role>,
    /// What the key is limited to.
    pub scopes: Option<Scopes>,
    /// When it ends by itself.
    pub expires_in: Option<Duration>,
}

/// Why something was not done with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A shard that must know does not answer. What was written stays; the same again completes it.
    #[error("{0}; repeat it once all shards answer: a key is changed on every shard")]
    Store(#[from] StoreError),
    /// No such key.
    #[error("there is no key {0}; `holdfast key list` has those there are")]
    Unknown(KeyId),
    /// A key that has ended is not replaced.
    #[error("key {0} has ended; make a new one")]
    Ended(KeyId),
}

/// Makes a key. It is nowhere in full but in what this returns.
pub async fn create(
    store: &dyn Store,
    request: &KeyRequest,
    actor: &Actor,
) -> Result<(ApiKey, Minted), KeyError> {
    let minted = Minted::new();
    let now = store.now(home(store, &minted.id)).await?;
    let roles: Vec<&str> = request.roles.iter().map(|role| role.as_str()).collect();
    let row = ApiKeyRow {
        id: minted.id.to_string(),
        name: request.name.clone(),
        principal: request.principal.clone(),
        roles: roles.join(","),
        scopes: request.scopes.map(|scopes| scopes.to_string()),
        hash: minted.hash,
        revision: 1,
        created_at: now,
        expires_at: request.expires_in.map(|end| now.plus(end)),
        revoked_at: None,
    };
    write(store, &row, Action::CreateKey, &Value::Null, actor).await?;
    Ok((ApiKey { row }, minted))
}

/// One key, as far as shards answer; an error where none does, or one that does not answer might
/// have it.
pub async fn find(store: &dyn Store, id: &KeyId) -> Result<Option<ApiKey>, StoreError> {
    let shards = store.map().all_shards();
    let answers = join_all(shards.map(|shard| store.api_key(shard, id.as_str()))).await;
    let (mut rows, mut silent) = (Vec::new(), None);
    for answer in answers {
        match answer {
            Ok(row) => rows.extend(row),
            Err(error) => silent = Some(error),
        }
    }
    match (ApiKey::merged(rows), silent) {
        (Some(key), _) => Ok(Some(key)),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

/// All keys, by id, as far as shards answer.
pub async fn list(store: &dyn Store) -> Result<Vec<ApiKey>, StoreError> {
    let answers = join_all(store.map().all_shards().map(|shard| all_of(store, shard))).await;
    let mut rows = BTreeMap::<String, Vec<ApiKeyRow>>::new();
    let mut silent = None;
    for answer in answers {
        match answer {
            Ok(found) => found.into_iter().for_each(|row| {
                rows.entry(row.id.clone()).or_default().push(row);
            }),
            Err(error) => silent = Some(error),
        }
    }
    match silent {
        Some(error) if rows.is_empty() => Err(error),
        _ => Ok(rows.into_values().filter_map(ApiKey::merged).collect()),
    }
}

async fn all_of(store: &dyn Store, shard: Shard) -> Result<Vec<ApiKeyRow>, StoreError> {
    let mut rows: Vec<ApiKeyRow> = Vec::new();
    loop {
        let after = rows.last().map_or("", |row| row.id.as_str()).to_owned();
        let page = store.api_keys(shard, &after, PAGE).await?;
        let end = page.len() < PAGE as usize;
        rows.extend(page);
        if end {
            return Ok(rows);
        }
    }
}

/// Makes another key of the same principal that may do the same, and lets the old one end after
/// `overlap`. The new key is made first: whatever happens, one of them holds.
pub async fn rotate(
    store: &dyn Store,
    id: &KeyId,
    overlap: Duration,
    actor: &Actor,
) -> Result<(ApiKey, Minted), KeyError> {
    let old = find(store, id).await?.ok_or_else(|| KeyError::Unknown(id.clone()))?;
    let now = store.now(home(store, id)).await?;
    if matches!(old.status(now), "expired" | "revoked") {
        return Err(KeyError::Ended(id.clone()));
    }
    let request = KeyRequest {
        name: old.row.name.clone(),
        principal: old.row.principal.clone(),
        roles: old.roles(),
        scopes: old.scopes(),
        expires_in: None,
    };
    let made = create(store, &request, actor).await?;
    let end = now.plus(overlap);
    let end = old.row.expires_at.map_or(end, |before| before.min(end));
    let row =
        ApiKeyRow { expires_at: Some(end), revision: old.row.revision + 1, ..old.row.clone() };
    write(store, &row, Action::RotateKey, &shown(&old.row), actor).await?;
    Ok(made)
}

/// Ends a key for good. A repeat changes nothing, and brings it to shards that had not heard of it.
pub async fn revoke(store: &dyn Store, id: &KeyId, actor: &Actor) -> Result<ApiKey, KeyError> {
    let key = find(store, id).await?.ok_or_else(|| KeyError::Unknown(id.clone()))?;
    let now = store.now(home(store, id)).await?;
    let row = ApiKeyRow {
        revoked_at: key.row.revoked_at.or(Some(now)),
        revision: key.row.revision + 1,
        ..key.row.clone()
    };
    write(store, &row, Action::RevokeKey, &shown(&key.row), actor).await?;
    Ok(ApiKey { row })
}

/// Where a key's acts are recorded.
fn home(store: &dyn Store, id: &KeyId) -> Shard {
    store.map().shard_of_name(id.as_str())
}

/// What the audit log has of a key: all but its secret.
fn shown(row: &ApiKeyRow) -> Value {
    json!({
        "principal": row.principal, "name": row.name, "roles": row.roles, "scopes": row.scopes,
        "expires_at": row.expires_at, "revoked_at": row.revoked_at,
    })
}

/// Writes a row on every shard, those that do not answer last to be told of: at its home with the
/// act.
async fn write(
    store: &dyn Store,
    row: &ApiKeyRow,
    action: Action,
    before: &Value,
    actor: &Actor,
) -> Result<(), StoreError> {
    let id: KeyId = row.id.parse().expect("it was minted or read");
    let home = home(store, &id);
    let mut failed = None;
    for shard in store.map().all_shards() {
        let act = (shard == home).then(|| actor.act(action, &row.id, before, &shown(row)));
        let work = Put { row, act };
        failed = transact_repeatable(store, shard, &work).await.err().or(failed);
    }
    failed.map_or(Ok(()), Err)
}

struct Put<'a> {
    row: &'a ApiKeyRow,
    act: Option<crate::store::Act>,
}

#[async_trait]
impl Work for Put<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        if tx.put_api_key(self.row).await?
            && let Some(act) = &self.act
        {
            tx.record_acts(std::slice::from_ref(act)).await?;
        }
        Ok(())
    }
}

/// The time by which keys end: the process's clock, for a credential is no money.
pub(super) fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
