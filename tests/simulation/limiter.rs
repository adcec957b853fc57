//! Somebody who sets, changes and removes velocity limits while money moves. What they do follows
//! from dice of their own, so that histories without limits are what they were before there were any.

use crate::clients::Accounts;
use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::world::pass;
use holdfast::domain::{AccountId, Limit, Period};
use holdfast::ingress::{Ingress, VelocityChange};
use holdfast::store::Actor;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub struct Limiter {
    pub fleet: Arc<Fleet>,
    pub accounts: Accounts,
    pub dice: Dice,
}

impl Limiter {
    pub async fn run(mut self) {
        let Accounts { external, customers, .. } = self.accounts.clone();
        let all: Vec<AccountId> = external.into_iter().chain(customers).collect();
        for id in &all {
            if self.dice.chance(5000) {
                let limits = self.limits();
                self.set(id, VelocityChange::Replace(limits)).await;
            }
        }
        for _ in 0..self.dice.below(5) {
            let pause = self.dice.millis(0, 4000);
            pass(pause).await;
            let id = self.dice.pick(&all).clone();
            let period = *self.dice.pick(&Period::ALL);
            let change = match self.dice.below(10) {
                0..6 => VelocityChange::Set(period, self.limit()),
                6..8 => VelocityChange::Remove(period),
                _ => VelocityChange::Replace(self.limits()),
            };
            self.set(&id, change).await;
        }
    }

    fn limits(&mut self) -> BTreeMap<Period, Limit> {
        let some: Vec<Period> =
            Period::ALL.into_iter().filter(|_| self.dice.chance(5000)).collect();
        some.into_iter().map(|period| (period, self.limit())).collect()
    }

    /// Low enough to be met by what a history moves.
    fn limit(&mut self) -> Limit {
        let (count, amount) = (1 + self.dice.below(6) as i64, 1 + self.dice.below(400) as i64);
        let (count, amount) = match self.dice.below(3) {
            0 => (Some(count), None),
            1 => (None, Some(amount)),
            _ => (Some(count), Some(amount)),
        };
        Limit::new(count, amount).expect("one of them is limited")
    }

    async fn set(&mut self, id: &AccountId, change: VelocityChange) {
        for _ in 0..4 {
            let doors: Vec<Ingress> =
                self.fleet.world.doors.lock().expect("no panic").values().cloned().collect();
            if !doors.is_empty() {
                let door = self.dice.pick(&doors).clone();
                let patience = self.dice.millis(500, 6000);
                let set = tokio::time::timeout(
                    patience,
                    door.set_velocity(id, &change, &Actor::itself()),
                )
                .await;
                let done = matches!(set, Ok(Ok(_)));
                self.fleet.world.say(|| format!("limits of {id}: {change:?}: {done}"));
                if done {
                    self.fleet.world.lock().counts.add("velocity limits set");
                    return;
                }
            }
            pass(Duration::from_millis(200)).await;
        }
    }
}
