//! Account to slot to shard to partition, and the shard map that is laid out once with a
//! consistent-hash ring and from then on stored with every shard's identity.

use crate::domain::hex;
use crate::domain::{AccountId, Partition, SLOTS, Shard, Slot, TransferId};
use consistent_hash::{DefaultHash, Node, StaticHashRing};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use xxhash_rust::xxh64::xxh64;

/// Points that each shard has on the ring; more points, more even shares.
const POINTS_PER_SHARD: usize = 512;

/// `xxh64(account id, seed 0) % 4096`: pinned for all time by golden tests.
pub fn slot_of(account: &AccountId) -> Slot {
    let number = (xxh64(account.as_str().as_bytes(), 0) % u64::from(SLOTS)) as u16;
    Slot::new(number).expect("a remainder of SLOTS is below SLOTS")
}

/// Which shard owns each slot, how many partitions each topic has, and the map's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    version: u32,
    partitions: u32,
    shards: u16,
    owners: Arc<[Shard]>,
}

impl ShardMap {
    /// The first map of a cluster of `shards` shards (at least 1): every slot goes to the shard
    /// whose point on the ring follows it. Each shard owns at least one slot.
    pub fn lay_out(shards: u16, partitions: u32) -> Self {
        assert!(shards >= 1 && partitions >= 1, "a cluster has at least one shard and partition");
        let nodes = (0..shards).map(|shard| Node::new(u64::from(shard)).quantity(POINTS_PER_SHARD));
        let ring = StaticHashRing::new(DefaultHash, nodes);
        let owners = (0..u64::from(SLOTS))
            .map(|slot| {
                let owner = ring.calc_candidates(&slot).next().expect("the ring has a node");
                Shard(owner.key as u16)
            })
            .collect();
        Self { version: 1, partitions, shards, owners }
    }

    /// From what a store keeps: two bytes a slot, big-endian.
    pub fn from_stored(version: u32, partitions: u32, shards: u16, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != usize::from(SLOTS) * 2 || partitions == 0 {
            return None;
        }
        let owners: Arc<[Shard]> = bytes
            .chunks_exact(2)
            .map(|pair| Shard(u16::from_be_bytes([pair[0], pair[1]])))
            .collect();
        owners.iter().all(|owner| owner.0 < shards).then_some(Self {
            version,
            partitions,
            shards,
            owners,
        })
    }

    /// Two bytes a slot, big-endian, as a store keeps it.
    pub fn bytes(&self) -> Vec<u8> {
        self.owners.iter().flat_map(|owner| owner.0.to_be_bytes()).collect()
    }

    /// 16 hexadecimal digits that differ where any slot, the partition count or the version does.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.version.to_be_bytes());
        hash.update(self.partitions.to_be_bytes());
        hash.update(self.bytes());
        hex::encode(&hash.finalize()[..8])
    }

    /// Raised whenever slots move.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Partitions of every topic.
    pub fn partitions(&self) -> u32 {
        self.partitions
    }

    /// Number of shards.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// All shards, in order.
    pub fn all_shards(&self) -> impl Iterator<Item = Shard> + use<> {
        (0..self.shards).map(Shard)
    }

    /// The shard that owns a slot.
    pub fn shard_of_slot(&self, slot: Slot) -> Shard {
        self.owners[usize::from(slot.number())]
    }

    /// The shard that keeps what is recorded of a name that is no account: a key, a principal, an
    /// address.
    pub fn shard_of_name(&self, name: &str) -> Shard {
        let hash = xxh64(name.as_bytes(), 0);
        Shard(u16::try_from(hash % u64::from(self.shards())).expect("a shard's number"))
    }

    /// The shard that an account lives on.
    pub fn shard_of(&self, account: &AccountId) -> Shard {
        self.shard_of_slot(slot_of(account))
    }

    /// The shard of a transfer's source, from the id alone.
    pub fn shard_of_transfer(&self, id: TransferId) -> Shard {
        self.shard_of_slot(id.slot())
    }

    /// The partition that carries all events of a source's slot.
    pub fn partition_of_slot(&self, slot: Slot) -> Partition {
        Partition(u32::from(slot.number()) % self.partitions)
    }

    /// How many slots a shard owns.
    pub fn slots_of(&self, shard: Shard) -> usize {
        self.owners.iter().filter(|owner| **owner == shard).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn slots_are_pinned_for_all_time() {
        for (account, slot) in GOLDEN_SLOTS {
            assert_eq!(slot_of(&account.parse().unwrap()).number(), *slot, "{account}");
        }
    }

    #[test]
    fn rings_are_pinned_for_all_time() {
        for (shards, fingerprint) in GOLDEN_RINGS {
            assert_eq!(
                ShardMap::lay_out(*shards, 8).fingerprint(),
                *fingerprint,
                "{shards} shards"
            );
        }
    }

    #[test]
    fn every_shard_gets_a_fair_share() {
        for shards in [1_u16, 2, 3, 4, 8, 16] {
            let map = ShardMap::lay_out(shards, 8);
            let fair = usize::from(SLOTS / shards);
            for shard in map.all_shards() {
                let share = map.slots_of(shard);
                assert!(share > fair / 2 && share < fair * 2, "shard {shard} of {shards}: {share}");
            }
        }
    }

    #[test]
    fn adding_a_shard_moves_slots_only_to_it() {
        let (three, four) = (ShardMap::lay_out(3, 8), ShardMap::lay_out(4, 8));
        for number in 0..SLOTS {
            let slot = Slot::new(number).unwrap();
            let (before, after) = (three.shard_of_slot(slot), four.shard_of_slot(slot));
            assert!(before == after || after == Shard(3));
        }
    }

    proptest! {
        #[test]
        fn a_stored_map_reads_back(shards in 1_u16..20, partitions in 1_u32..64) {
            let map = ShardMap::lay_out(shards, partitions);
            let stored = ShardMap::from_stored(map.version(), partitions, shards, &map.bytes());
            prop_assert_eq!(stored, Some(map));
        }

        #[test]
        fn one_account_is_always_one_partition_of_one_shard(text in "[A-Za-z0-9]{1,64}") {
            let map = ShardMap::lay_out(4, 8);
            let account: AccountId = text.parse().unwrap();
            let slot = slot_of(&account);
            prop_assert!(map.shard_of(&account).0 < 4);
            prop_assert!(map.partition_of_slot(slot).0 < 8);
            prop_assert_eq!(map.shard_of(&account), map.shard_of_slot(slot));
        }
    }

    const GOLDEN_SLOTS: &[(&str, u16)] =
        &[("alice", 73), ("Alice", 1547), ("bob", 59), ("acct-000001", 667), ("world:USD", 316)];
    const GOLDEN_RINGS: &[(u16, &str)] = &[
        (1, "75a4087d527a555b"),
        (2, "6307f645ddf4a0ba"),
        (3, "09963f12d288138c"),
        (8, "f3406faac74e7f4a"),
    ];
}
