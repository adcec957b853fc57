//! Who reads which partition of a group: evenly, with as few moves as possible, and never two
//! members at once. A partition that moves is drained by its old owner first, bounded in time.

use super::TopicPartition;
use crate::broker::DRAIN_BOUND;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A consumer, numbered within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId(pub u64);

#[derive(Debug)]
struct Member {
    subscribed: BTreeSet<TopicPartition>,
    wake: Arc<Notify>,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    member: MemberId,
    /// Tells one ownership from a later one of the same member.
    epoch: u64,
}

#[derive(Debug)]
struct Revocation {
    claim: Claim,
    deadline: Instant,
    told: bool,
}

/// The members of one group.
#[derive(Debug, Default)]
pub(super) struct Membership {
    members: BTreeMap<MemberId, Member>,
    owners: BTreeMap<TopicPartition, Claim>,
    revoking: BTreeMap<TopicPartition, Revocation>,
    epoch: u64,
}

impl Membership {
    /// Adds a member that subscribes to these partitions; `wake` is called on every change.
    pub(super) fn join(
        &mut self,
        member: MemberId,
        subscribed: BTreeSet<TopicPartition>,
        wake: Arc<Notify>,
        now: Instant,
    ) {
        self.members.insert(member, Member { subscribed, wake });
        self.rebalance(now);
    }

    /// Removes a member; what it had is free at once.
    pub(super) fn leave(&mut self, member: MemberId, now: Instant) {
        self.members.remove(&member);
        self.owners.retain(|_, claim| claim.member != member);
        self.revoking.retain(|_, revocation| revocation.claim.member != member);
        self.rebalance(now);
    }

    /// The partitions that this member reads, each with the epoch of its ownership.
    pub(super) fn owned(
        &self,
        member: MemberId,
    ) -> impl Iterator<Item = (TopicPartition, u64)> + '_ {
        self.owners
            .iter()
            .filter(move |(_, claim)| claim.member == member)
            .map(|(place, claim)| (*place, claim.epoch))
    }

    /// Whether the member's commits for this partition count: it reads it, or is draining it.
    pub(super) fn may_commit(&self, member: MemberId, place: TopicPartition) -> bool {
        let draining = self.revoking.get(&place).map(|revocation| revocation.claim);
        self.owners.get(&place).copied().or(draining).is_some_and(|claim| claim.member == member)
    }

    /// The partitions that this member has to drain and has not been told of yet.
    pub(super) fn take_revoked(&mut self, member: MemberId) -> Vec<(TopicPartition, u64)> {
        self.revoking
            .iter_mut()
            .filter(|(_, revocation)| revocation.claim.member == member && !revocation.told)
            .map(|(place, revocation)| {
                revocation.told = true;
                (*place, revocation.claim.epoch)
            })
            .collect()
    }

    /// The member has drained these; a late call about an ownership long gone changes nothing.
    pub(super) fn drained(&mut self, places: &[(TopicPartition, u64)], now: Instant) {
        for (place, epoch) in places {
            if self.revoking.get(place).is_some_and(|waiting| waiting.claim.epoch == *epoch) {
                self.revoking.remove(place);
            }
        }
        self.rebalance(now);
    }

    /// When the first revocation stops waiting for its drain.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.revoking.values().map(|revocation| revocation.deadline).min()
    }

    /// Takes partitions away from members that did not drain them in time.
    pub(super) fn expire(&mut self, now: Instant) {
        let before = self.revoking.len();
        self.revoking.retain(|_, revocation| revocation.deadline > now);
        if self.revoking.len() != before {
            self.rebalance(now);
        }
    }

    fn rebalance(&mut self, now: Instant) {
        let subscriptions =
            self.members.iter().map(|(id, member)| (*id, &member.subscribed)).collect();
        let current = self.owners.iter().map(|(place, claim)| (*place, claim.member)).collect();
        for (place, member) in balance(&subscriptions, current) {
            if self.revoking.contains_key(&place) {
                continue;
            }
            match self.owners.get(&place).copied() {
                Some(claim) if claim.member == member => {}
                Some(claim) => {
                    let deadline = now + DRAIN_BOUND;
                    self.owners.remove(&place);
                    self.revoking.insert(place, Revocation { claim, deadline, told: false });
                }
                None => {
                    self.epoch += 1;
                    self.owners.insert(place, Claim { member, epoch: self.epoch });
                }
            }
        }
        self.members.values().for_each(|member| member.wake.notify_one());
    }
}

/// The owner that each partition should have: it keeps the one it has, unless another subscriber
/// has at least two partitions fewer.
fn balance(
    subscriptions: &BTreeMap<MemberId, &BTreeSet<TopicPartition>>,
    current: BTreeMap<TopicPartition, MemberId>,
) -> BTreeMap<TopicPartition, MemberId> {
    let mut loads: BTreeMap<MemberId, usize> = subscriptions.keys().map(|id| (*id, 0)).collect();
    let mut owners = current;
    owners.retain(|place, member| {
        subscriptions.get(member).is_some_and(|places| places.contains(place))
    });
    owners.values().for_each(|member| *loads.entry(*member).or_default() += 1);
    let places: BTreeSet<TopicPartition> =
        subscriptions.values().flat_map(|places| places.iter().copied()).collect();
    loop {
        let mut moved = false;
        for place in &places {
            let lightest = subscriptions
                .iter()
                .filter(|(_, subscribed)| subscribed.contains(place))
                .map(|(member, _)| (loads[member], *member))
                .min();
            let Some((load, lightest)) = lightest else { continue };
            let owner = owners.get(place).copied();
            if owner.is_none_or(|owner| load + 1 < loads[&owner]) {
                owners.insert(*place, lightest);
                *loads.entry(lightest).or_default() += 1;
                if let Some(owner) = owner {
                    *loads.entry(owner).or_default() -= 1;
                }
                moved = true;
            }
        }
        if !moved {
            return owners;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Topic;
    use crate::domain::{EventType, Partition, Shard};
    use proptest::prelude::*;

    fn places(count: u32) -> BTreeSet<TopicPartition> {
        let topic = Topic::of(EventType::Held, Shard(0));
        (0..count).map(|partition| (topic, Partition(partition))).collect()
    }

    fn load(group: &Membership, member: u64) -> usize {
        group.owned(MemberId(member)).count()
    }

    fn drain(group: &mut Membership, member: u64, now: Instant) -> usize {
        let revoked = group.take_revoked(MemberId(member));
        group.drained(&revoked, now);
        revoked.len()
    }

    #[test]
    fn a_second_member_gets_its_half_only_after_the_first_has_drained_it() {
        let (mut group, now) = (Membership::default(), Instant::now());
        group.join(MemberId(1), places(8), Arc::default(), now);
        group.join(MemberId(2), places(8), Arc::default(), now);
        assert_eq!((load(&group, 1), load(&group, 2)), (4, 0));
        let revoked = group.take_revoked(MemberId(1));
        assert_eq!(revoked.len(), 4);
        assert!(group.may_commit(MemberId(1), revoked[0].0));
        assert!(group.take_revoked(MemberId(1)).is_empty(), "told once");
        group.drained(&revoked, now);
        assert_eq!((load(&group, 1), load(&group, 2)), (4, 4));
        assert!(!group.may_commit(MemberId(1), revoked[0].0));
    }

    #[test]
    fn a_member_that_does_not_drain_loses_its_partitions_at_the_bound() {
        let (mut group, now) = (Membership::default(), Instant::now());
        group.join(MemberId(1), places(2), Arc::default(), now);
        group.join(MemberId(2), places(2), Arc::default(), now);
        let late = group.take_revoked(MemberId(1));
        group.expire(now + DRAIN_BOUND / 2);
        assert_eq!(load(&group, 2), 0);
        assert_eq!(group.deadline(), Some(now + DRAIN_BOUND));
        group.expire(now + DRAIN_BOUND);
        assert_eq!((load(&group, 2), group.deadline()), (1, None));
        group.leave(MemberId(2), now);
        group.join(MemberId(3), places(2), Arc::default(), now);
        group.drained(&late, now);
        assert_eq!(load(&group, 3), 0, "a token of an earlier ownership frees nothing");
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_and_shares_differ_by_one(
            count in 1_u32..20, joins in proptest::collection::vec((1_u64..6, any::<bool>()), 1..12),
        ) {
            let (mut group, now) = (Membership::default(), Instant::now());
            let mut present = BTreeSet::new();
            for (member, joins) in joins {
                if joins && present.insert(member) {
                    group.join(MemberId(member), places(count), Arc::default(), now);
                } else if !joins && present.remove(&member) {
                    group.leave(MemberId(member), now);
                }
            }
            while present.iter().map(|member| drain(&mut group, *member, now)).sum::<usize>() > 0 {}
            let loads: Vec<usize> = present.iter().map(|member| load(&group, *member)).collect();
            if let (Some(least), Some(most)) = (loads.iter().min(), loads.iter().max()) {
                prop_assert!(most - least <= 1);
                prop_assert_eq!(loads.iter().sum::<usize>(), count as usize);
            }
        }
    }
}
