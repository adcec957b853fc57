//! How much of a transfer is taken back (hazard 38).

use super::world::{SHARD, World, name};
use async_trait::async_trait;
use futures::future::join_all;
use holdfast::domain::{Timestamp, TransferId};
use holdfast::store::{StoreError, Tx, Work, transact};
use std::collections::BTreeSet;

fn original(number: i64) -> TransferId {
    TransferId::first_at(Timestamp::from_micros(number * 1_000_000))
}

async fn reversed(world: &World, ids: &[TransferId]) -> Vec<i64> {
    let mut tx = world.begin().await;
    let ids: BTreeSet<TransferId> = ids.iter().copied().collect();
    tx.lock_reversed(&ids).await.unwrap().into_values().collect()
}

pub async fn what_is_reversed_is_raised_and_lowered(world: World) {
    let (one, other) = (original(1), original(2));
    let mut tx = world.begin().await;
    let locked = tx.lock_reversed(&[other, one].into()).await.unwrap();
    assert_eq!(locked, [(one, 0), (other, 0)].into());
    assert_eq!(tx.add_reversed(&[(one, 70), (other, 5)].into()).await.unwrap(), 2);
    tx.commit().await.unwrap();
    assert_eq!(reversed(&world, &[one, other]).await, [70, 5]);
    let mut tx = world.begin().await;
    assert_eq!(tx.add_reversed(&[(one, -70)].into()).await.unwrap(), 1);
    assert_eq!(tx.add_reversed(&[(original(3), 1)].into()).await.unwrap(), 0, "no row");
    assert!(tx.lock_reversed(&BTreeSet::new()).await.unwrap().is_empty());
    tx.commit().await.unwrap();
    assert_eq!(reversed(&world, &[one, other]).await, [0, 5]);
}

pub async fn what_is_reversed_is_never_below_zero(world: World) {
    let one = original(1);
    let mut tx = world.begin().await;
    tx.lock_reversed(&[one].into()).await.unwrap();
    assert_eq!(name(&tx.add_reversed(&[(one, -1)].into()).await.unwrap_err()), "corrupt");
    drop(tx);
    assert_eq!(reversed(&world, &[one]).await, [0]);
}

/// Takes back 40 of 100, if as much is left.
struct TakeBack;

#[async_trait]
impl Work for TakeBack {
    type Output = bool;

    async fn run(&self, tx: &mut dyn Tx, _: u32) -> Result<bool, StoreError> {
        let one = original(1);
        let taken = tx.lock_reversed(&[one].into()).await?[&one];
        if taken + 40 > 100 {
            return Ok(false);
        }
        tx.add_reversed(&[(one, 40)].into()).await?;
        Ok(true)
    }
}

pub async fn reversals_at_once_never_take_back_too_much(world: World) {
    let takers = (0..5).map(|_| transact(&*world.store, SHARD, &TakeBack));
    let taken: Vec<bool> = join_all(takers).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 2);
    assert_eq!(reversed(&world, &[original(1)]).await, [80]);
}
