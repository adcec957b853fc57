//! What a shard says it is, and opening a store: all shards must be of one cluster, in order.

use super::driver::Driver;
use super::link::Link;
use super::row::Row;
use super::{Arg, SqlStore, statements};
use crate::domain::{ClusterId, Generation, Shard};
use crate::routing::ShardMap;
use crate::store::{Identity, StoreError};
use futures::future::join_all;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use uuid::Uuid;

/// A shard's identity row.
pub(super) struct Found {
    pub identity: Identity,
    /// Which shard it says it is.
    pub shard: Shard,
}

pub(super) fn decode(row: &mut Row) -> Result<Found, StoreError> {
    let cluster = ClusterId(Uuid::from_bytes(row.array()?));
    let shard = Shard(row.number()?);
    let identity = Identity {
        cluster,
        map_version: row.number()?,
        partitions: row.number()?,
        generation: Generation(row.number()?),
        map_fingerprint: row.text()?,
    };
    Ok(Found { identity, shard })
}

/// The table is there and empty.
pub(super) fn missing(shard: Shard, address: &str) -> StoreError {
    let detail = format!("{address} is not a shard of any cluster yet: run `holdfast migrate`");
    StoreError::Identity { shard, detail }
}

/// Whether a database is the shard that it is taken for; if not, what to do about it.
pub(super) fn compare(
    expected: &Identity,
    shard: Shard,
    address: &str,
    found: &Found,
) -> Result<(), StoreError> {
    let identity = &found.identity;
    let detail = if identity.cluster != expected.cluster {
        format!(
            "{address} belongs to cluster {}, not to {}: correct the addresses of the shards",
            identity.cluster, expected.cluster
        )
    } else if found.shard != shard {
        format!(
            "{address} is shard {}, not shard {shard}: put the addresses of the shards into the \
             order that they were migrated in",
            found.shard
        )
    } else if identity.generation != expected.generation {
        format!(
            "{address} is in generation {}, this process in {}: a promotion that may have lost \
             commits was recovered from; start this process again",
            identity.generation.0, expected.generation.0
        )
    } else if identity != expected {
        format!(
            "{address} has shard map version {} with {} partitions ({}), this process version {} \
             with {} ({}): start this process again so that it reads the map",
            identity.map_version,
            identity.partitions,
            identity.map_fingerprint,
            expected.map_version,
            expected.partitions,
            expected.map_fingerprint
        )
    } else {
        return Ok(());
    };
    Err(StoreError::Identity { shard, detail })
}

/// Whether every shard has to answer when a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// All of them, for commands that need them all.
    AllShards,
    /// One is enough: a process that serves starts while a shard is down, whose identity is then
    /// compared when it answers.
    AnyShard,
    /// All of them, in whichever generation each is: for recovery, which may have been interrupted
    /// while it raised them. Nothing can be written to one of another generation than the first's.
    AnyGeneration,
}

impl<D: Driver> SqlStore<D> {
    /// Reads and compares the identity of every shard that answers.
    pub async fn open_with(driver: D, opening: Opening) -> Result<Self, StoreError> {
        let driver = Arc::new(driver);
        let answers = join_all((0..driver.shards()).map(|shard| read(&driver, Shard(shard)))).await;
        let mut first: Option<(Identity, ShardMap)> = None;
        let mut silent = None;
        let mut verified = Vec::new();
        for (shard, answer) in (0..).map(Shard).zip(answers) {
            let (found, map) = match answer {
                Err(error @ StoreError::Unavailable { .. }) if opening == Opening::AnyShard => {
                    silent = Some(error);
                    verified.push(AtomicBool::new(false));
                    continue;
                }
                answer => answer?,
            };
            let (first, _) = first.get_or_insert_with(|| (found.identity.clone(), map));
            let mut expected = first.clone();
            if opening == Opening::AnyGeneration {
                expected.generation = found.identity.generation;
            }
            compare(&expected, shard, driver.address(shard), &found)?;
            verified.push(AtomicBool::new(true));
        }
        let Some((identity, map)) = first else {
            return Err(silent.unwrap_or_else(none_configured));
        };
        if usize::from(map.shards()) != verified.len() {
            return Err(other_count(&map, verified.len()));
        }
        Ok(Self { driver, map, identity, verified, seals: None })
    }
}

fn none_configured() -> StoreError {
    StoreError::Failed { shard: Shard(0), detail: "no shard is configured".to_owned() }
}

fn other_count(map: &ShardMap, configured: usize) -> StoreError {
    let detail = format!(
        "the cluster has {} shards and {configured} are configured: configure all of them",
        map.shards()
    );
    StoreError::Identity { shard: Shard(0), detail }
}

/// One shard's identity, and the map that it stores for it.
async fn read<D: Driver>(driver: &Arc<D>, shard: Shard) -> Result<(Found, ShardMap), StoreError> {
    let mut link = Link::reader(driver, shard).await?;
    let rows = link.fetch(statements::IDENTITY, &[]).await?;
    let mut row = rows.into_iter().next().ok_or_else(|| missing(shard, driver.address(shard)))?;
    let found = decode(&mut row)?;
    let version = Arg::Int(i64::from(found.identity.map_version));
    let rows = link.fetch(statements::MAP, &[version]).await?;
    let stored = match rows.into_iter().next() {
        Some(mut row) => map(&mut row, &found.identity)?,
        None => None,
    };
    let whole = stored.filter(|map| map.fingerprint() == found.identity.map_fingerprint);
    let map = whole.ok_or_else(|| StoreError::Corrupt {
        shard,
        detail: format!(
            "{} stores no shard map that fits its fingerprint {}",
            driver.address(shard),
            found.identity.map_fingerprint
        ),
    })?;
    Ok((found, map))
}

fn map(row: &mut Row, identity: &Identity) -> Result<Option<ShardMap>, StoreError> {
    let (shards, owners) = (row.number()?, row.bytes()?);
    Ok(ShardMap::from_stored(identity.map_version, identity.partitions, shards, &owners))
}
