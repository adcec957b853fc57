//! Sealing and opening of personal fields, and the keys for it: read, made, and given anew.
//!
//! Keys are read when something is to be sealed or opened and never for anything else: a step that
//! moves money does not depend on them.

mod rows;
mod seals;

pub(super) use rows::proposal_description;
pub(super) use seals::Seals;

use super::driver::Driver;
use super::row::Row;
use super::tx::SqlTx;
use super::{SqlStore, decode, statements};
use crate::crash::{self, Place};
use crate::domain::Shard;
use crate::sealing::{DataKey, KeyFault, LookupKey, MasterKeys, Purpose, Wrapped};
use crate::store::transact::again;
use crate::store::{Action, Actor, DataKeyRow, OperationsTx, Sealing, StoreError, expect_rows};
use async_trait::async_trait;
use seals::{GRANT, Need, Stored};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How often keys are looked at again because another process was faster.
const ROUNDS: u32 = 4;

fn stored(row: &mut Row) -> Result<Stored, StoreError> {
    Ok(Stored {
        id: row.number()?,
        purpose: row.coded(Purpose::from_code)?,
        wrapped: Wrapped { by: row.text()?, bytes: row.bytes()? },
        sealed: row.int()?,
        created_at: row.time()?,
    })
}

impl<D: Driver> SqlStore<D> {
    /// The same store with personal fields encrypted at rest, where there are keys.
    #[must_use]
    pub fn with_encryption(mut self, masters: Option<Arc<MasterKeys>>) -> Self {
        let (cluster, shards) = (self.identity.cluster, self.verified.len());
        self.seals = masters.map(|masters| Arc::new(Seals::new(masters, cluster, shards)));
        self
    }

    /// Reads the keys of a shard, makes those that lack, and takes a grant where it is needed. A
    /// fault is told where something is to be sealed.
    pub(super) async fn prepare_seals(&self, seals: &Seals, shard: Shard) {
        let prepared = again(|_| self.prepare_once(seals, shard)).await;
        if let Err(error) = prepared {
            seals.want(shard);
            tracing::debug!(%error, "data_keys were not prepared");
        }
    }

    async fn prepare_once(&self, seals: &Seals, shard: Shard) -> Result<(), StoreError> {
        for _ in 0..ROUNDS {
            let mut tx = self.begin_writing(shard).await?;
            let keys = tx.stored_keys().await?;
            seals.absorb(shard, &keys);
            match seals.choose(shard, &keys, tx.at()) {
                Need::Nothing => return Ok(()),
                Need::Grant(id) => {
                    let args = [GRANT.into(), i64::from(id).into()];
                    let granted = tx.execute(statements::GRANT_ROWS, &args).await?;
                    expect_rows(shard, "data keys", 1, granted)?;
                    tx.finish().await?;
                    seals.grant(shard, id, GRANT);
                    return Ok(());
                }
                Need::Keys(purposes) => {
                    let before = told(&keys);
                    let keys = match tx.make_keys(seals, &keys, purposes).await {
                        // Another process was faster: its keys are as good.
                        Err(StoreError::Duplicate { .. }) => continue,
                        made => made?,
                    };
                    let itself = Actor::itself();
                    tx.keys_changed(Action::MakeDataKey, &itself, &before, &keys).await?;
                    tx.finish().await?;
                }
            }
        }
        let detail = "other processes are making data keys".to_owned();
        Err(StoreError::Retry { shard, detail })
    }

    /// Reads the keys of a shard, to open with them.
    async fn read_keys(&self, seals: &Seals, shard: Shard) -> Result<(), StoreError> {
        let rows = self.read(shard, statements::DATA_KEYS, &[]).await?;
        seals.absorb(shard, &decode::all(rows, stored)?);
        Ok(())
    }

    async fn rotate(
        &self,
        shard: Shard,
        older_than: Duration,
        actor: &Actor,
    ) -> Result<Option<u32>, StoreError> {
        let seals = self.configured(shard)?;
        let mut tx = self.begin_writing(shard).await?;
        let keys = tx.stored_keys().await?;
        let newest = keys.iter().rfind(|key| key.purpose == Purpose::Fields);
        if newest.is_some_and(|newest| newest.created_at.plus(older_than) > tx.at()) {
            return Ok(None);
        }
        let before = told(&keys);
        let purposes: &[_] = if keys.iter().any(|key| key.purpose == Purpose::Lookup) {
            &[Purpose::Fields]
        } else {
            &[Purpose::Lookup, Purpose::Fields]
        };
        let keys = match tx.make_keys(&seals, &keys, purposes).await {
            Err(StoreError::Duplicate { detail, .. }) => {
                return Err(StoreError::Retry { shard, detail });
            }
            made => made?,
        };
        tx.keys_changed(Action::RotateDataKey, actor, &before, &keys).await?;
        tx.finish().await?;
        crash::in_transaction(Place::Committed);
        Ok(keys.last().map(|key| key.id))
    }

    async fn rewrap(&self, shard: Shard, actor: &Actor) -> Result<u32, StoreError> {
        let seals = self.configured(shard)?;
        let mut tx = self.begin_writing(shard).await?;
        let mut keys = tx.stored_keys().await?;
        let (before, mut count) = (told(&keys), 0);
        for key in &mut keys {
            let place = seals.place(shard);
            let anew = seals.masters.rewrap(place, key.id, key.purpose, &key.wrapped);
            let anew = anew.map_err(|fault| failed(shard, key.id, &fault))?;
            let Some(anew) = anew else { continue };
            let args = [
                anew.by.as_str().into(),
                anew.bytes.clone().into(),
                i64::from(key.id).into(),
                key.wrapped.by.as_str().into(),
                key.wrapped.bytes.clone().into(),
            ];
            let written = tx.execute(statements::REWRAP_DATA_KEY, &args).await?;
            expect_rows(shard, "data keys", 1, written)?;
            key.wrapped = anew;
            count += 1;
        }
        if count > 0 {
            tx.keys_changed(Action::RewrapDataKeys, actor, &before, &keys).await?;
            tx.finish().await?;
            crash::in_transaction(Place::Committed);
        }
        Ok(count)
    }

    fn configured(&self, shard: Shard) -> Result<Arc<Seals>, StoreError> {
        let detail = "HOLDFAST_ENCRYPTION_KEYS is not set".to_owned();
        self.seals.clone().ok_or(StoreError::Failed { shard, detail })
    }
}

fn failed(shard: Shard, id: u32, fault: &KeyFault) -> StoreError {
    StoreError::Failed { shard, detail: format!("data key {id}: {fault}") }
}

/// How the audit log has the keys of a shard.
fn told(keys: &[Stored]) -> Value {
    let key = |key: &Stored| json!({ "id": key.id, "wrapped_by": key.wrapped.by });
    keys.iter().map(key).collect()
}

impl<D: Driver> SqlTx<D> {
    async fn stored_keys(&mut self) -> Result<Vec<Stored>, StoreError> {
        decode::all(self.fetch(statements::DATA_KEYS, &[]).await?, stored)
    }

    /// New keys behind those that are there; all of them. Who is faster takes the id.
    async fn make_keys(
        &mut self,
        seals: &Seals,
        keys: &[Stored],
        purposes: &[Purpose],
    ) -> Result<Vec<Stored>, StoreError> {
        let (shard, now) = (self.on(), self.at());
        let mut keys = keys.to_vec();
        for purpose in purposes {
            let id = keys.last().map_or(1, |last| last.id + 1);
            let wrapped = seals.masters.make(seals.place(shard), id, *purpose);
            let args = [
                i64::from(id).into(),
                purpose.code().into(),
                wrapped.by.as_str().into(),
                wrapped.bytes.clone().into(),
                now.into(),
            ];
            self.execute(statements::INSERT_DATA_KEY, &args).await?;
            keys.push(Stored { id, purpose: *purpose, wrapped, sealed: 0, created_at: now });
        }
        Ok(keys)
    }

    async fn keys_changed(
        &mut self,
        action: Action,
        actor: &Actor,
        before: &Value,
        keys: &[Stored],
    ) -> Result<(), StoreError> {
        let target = format!("data-keys/{}", self.on());
        let act = actor.act(action, &target, before, &told(keys));
        self.record_acts(&[act]).await
    }
}

#[async_trait]
impl<D: Driver> Sealing for SqlStore<D> {
    async fn data_keys(&self, shard: Shard) -> Result<Vec<DataKeyRow>, StoreError> {
        let rows = self.read(shard, statements::DATA_KEYS, &[]).await?;
        let keys = decode::all(rows, stored)?;
        let fault = |key: &Stored| {
            let Some(seals) = &self.seals else {
                return Some(KeyFault::NotConfigured(key.wrapped.by.clone()));
            };
            let (masters, place) = (&seals.masters, seals.place(shard));
            match key.purpose {
                Purpose::Fields => DataKey::open(masters, place, key.id, &key.wrapped).err(),
                Purpose::Lookup => LookupKey::open(masters, place, key.id, &key.wrapped).err(),
            }
        };
        let shown = |key: Stored| DataKeyRow {
            fault: fault(&key),
            id: key.id,
            purpose: key.purpose,
            wrapped_by: key.wrapped.by,
            sealed: key.sealed,
            created_at: key.created_at,
        };
        Ok(keys.into_iter().map(shown).collect())
    }

    async fn rotate_data_key(
        &self,
        shard: Shard,
        older_than: Duration,
        actor: &Actor,
    ) -> Result<Option<u32>, StoreError> {
        again(|_| self.rotate(shard, older_than, actor)).await
    }

    async fn rewrap_data_keys(&self, shard: Shard, actor: &Actor) -> Result<u32, StoreError> {
        again(|_| self.rewrap(shard, actor)).await
    }
}
