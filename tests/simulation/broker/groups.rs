//! Consumer groups: who reads which partition, and how far the group has come. A partition that
//! moves is drained by its old owner first, bounded in time; never do two members own it.

use super::Place;
use crate::dice::Dice;
use holdfast::broker::DRAIN_BOUND;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::Instant;

pub struct Member {
    pub process: usize,
    pub subscribed: BTreeSet<Place>,
}

/// An ownership: the member, and a number that tells it from a later one of the same member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub member: u64,
    pub epoch: u64,
}

struct Revocation {
    claim: Claim,
    told: bool,
    deadline: Instant,
}

#[derive(Default)]
pub struct GroupState {
    pub members: BTreeMap<u64, Member>,
    owners: BTreeMap<Place, Claim>,
    revoking: BTreeMap<Place, Revocation>,
    pub committed: BTreeMap<Place, i64>,
    epoch: u64,
    pub wake: Arc<Notify>,
}

impl GroupState {
    pub fn reads(&self, place: Place) -> bool {
        self.members.values().any(|member| member.subscribed.contains(&place))
    }

    pub fn join(&mut self, id: u64, member: Member, dice: &mut Dice) {
        self.members.insert(id, member);
        self.rebalance(dice);
    }

    pub fn leave(&mut self, id: u64, dice: &mut Dice) {
        if self.members.remove(&id).is_some() {
            self.owners.retain(|_, claim| claim.member != id);
            self.revoking.retain(|_, revocation| revocation.claim.member != id);
            self.rebalance(dice);
        }
    }

    /// Members of this process are out; their partitions are free until the next rebalance.
    pub fn expel(&mut self, process: usize, dice: &mut Dice) {
        let of = self.members.iter().filter(|(_, member)| member.process == process);
        let ids: Vec<u64> = of.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.leave(id, dice));
    }

    /// Gives every partition an owner anew: mostly the one it has.
    pub fn rebalance(&mut self, dice: &mut Dice) {
        let places: BTreeSet<Place> =
            self.members.values().flat_map(|member| member.subscribed.iter().copied()).collect();
        for place in places {
            if self.revoking.contains_key(&place) {
                continue;
            }
            let able: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, member)| member.subscribed.contains(&place))
                .map(|(id, _)| *id)
                .collect();
            let owner = self.owners.get(&place).copied();
            if owner.is_some() && (able.len() == 1 || dice.chance(5000)) {
                continue;
            }
            let next = *dice.pick(&able);
            match owner {
                Some(claim) if claim.member == next => {}
                Some(claim) => {
                    let deadline = Instant::now() + DRAIN_BOUND;
                    self.owners.remove(&place);
                    self.revoking.insert(place, Revocation { claim, told: false, deadline });
                }
                None => {
                    self.epoch += 1;
                    self.owners.insert(place, Claim { member: next, epoch: self.epoch });
                }
            }
        }
        self.wake.notify_waiters();
    }

    pub fn owned(&self, member: u64) -> Vec<(Place, u64)> {
        let own = self.owners.iter().filter(|(_, claim)| claim.member == member);
        own.map(|(place, claim)| (*place, claim.epoch)).collect()
    }

    /// Partitions that this member has to drain and was not told of.
    pub fn take_revoked(&mut self, member: u64) -> Vec<(Place, u64)> {
        let mut revoked = Vec::new();
        for (place, revocation) in &mut self.revoking {
            if revocation.claim.member == member && !revocation.told {
                revocation.told = true;
                revoked.push((*place, revocation.claim.epoch));
            }
        }
        revoked
    }

    /// The member has drained these.
    pub fn drained(&mut self, places: &[(Place, u64)], dice: &mut Dice) {
        for (place, epoch) in places {
            if self.revoking.get(place).is_some_and(|waiting| waiting.claim.epoch == *epoch) {
                self.revoking.remove(place);
            }
        }
        self.rebalance(dice);
    }

    /// When the first revocation stops waiting for its drain.
    pub fn deadline(&self) -> Option<Instant> {
        self.revoking.values().map(|revocation| revocation.deadline).min()
    }

    pub fn expire(&mut self, dice: &mut Dice) {
        let (before, now) = (self.revoking.len(), Instant::now());
        self.revoking.retain(|_, revocation| revocation.deadline > now);
        if self.revoking.len() != before {
            self.rebalance(dice);
        }
    }

    /// The ownership in which a member has a partition, or is draining it.
    pub fn claim(&self, member: u64, place: Place) -> Option<Claim> {
        let draining = self.revoking.get(&place).map(|revocation| revocation.claim);
        let claim = self.owners.get(&place).copied().or(draining);
        claim.filter(|claim| claim.member == member)
    }

    /// The ownership in which a member is draining a partition.
    pub fn draining(&self, member: u64, place: Place) -> Option<Claim> {
        let draining = self.revoking.get(&place).map(|revocation| revocation.claim);
        draining.filter(|claim| claim.member == member)
    }

    /// Commits an offset that was marked in this ownership, if it still stands.
    pub fn commit(&mut self, claim: Claim, place: Place, offset: i64) {
        if self.claim(claim.member, place) == Some(claim) {
            self.committed.insert(place, offset);
        }
    }

    /// The group begins anew at the first record of everything.
    pub fn reset(&mut self, dice: &mut Dice) {
        self.committed.clear();
        for claim in self.owners.values_mut() {
            self.epoch += 1;
            claim.epoch = self.epoch;
        }
        self.rebalance(dice);
    }
}
