//! The audit logs of all shards as one list.

use crate::domain::{Shard, Timestamp};
use crate::ingress::Ingress;
use crate::store::{ActFilter, LoggedAct, NEWEST, StoreError};
use futures::future::join_all;
use std::cmp::{Ordering, Reverse};

/// A place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActPosition {
    /// When the act was written.
    pub at: Timestamp,
    /// On which shard.
    pub shard: Shard,
    /// Its number there.
    pub id: i64,
}

/// A part of the list.
#[derive(Debug)]
pub struct Acts {
    /// Newest first; of one moment, lower shards first.
    pub acts: Vec<(Shard, LoggedAct)>,
    /// Where it ends, if more follow.
    pub end: Option<ActPosition>,
    /// What the shards said whose acts are missing.
    pub missing: Vec<StoreError>,
}

impl Ingress {
    /// Acts of all shards that answer, after a place in the list, at most `limit`.
    pub async fn acts(&self, filter: &ActFilter, after: Option<ActPosition>, limit: u32) -> Acts {
        let store = &self.context.store;
        let shards: Vec<Shard> = store.map().all_shards().collect();
        let reads = shards.iter().map(|shard| {
            let before = after.map_or(NEWEST, |place| before(place, *shard));
            store.acts(*shard, filter, before, limit + 1)
        });
        let (mut acts, mut missing) = (Vec::new(), Vec::new());
        for (shard, answer) in shards.iter().zip(join_all(reads).await) {
            match answer {
                Ok(found) => acts.extend(found.into_iter().map(|act| (*shard, act))),
                Err(error) => missing.push(error),
            }
        }
        acts.sort_by_key(|(shard, act)| (Reverse(act.at), *shard, Reverse(act.id)));
        let more = acts.len() > limit as usize;
        acts.truncate(limit as usize);
        let place = |(shard, act): &(Shard, LoggedAct)| ActPosition {
            at: act.at,
            shard: *shard,
            id: act.id,
        };
        let end = acts.last().map(place).filter(|_| more);
        Acts { acts, end, missing }
    }
}

/// Where the rest of one shard's log begins.
fn before(place: ActPosition, shard: Shard) -> (Timestamp, i64) {
    let id = match shard.cmp(&place.shard) {
        Ordering::Less => 0,
        Ordering::Equal => place.id,
        Ordering::Greater => i64::MAX,
    };
    (place.at, id)
}
