//! Which offsets may be committed: the end of each partition's prefix of records that are done.

use crate::broker::{Position, Topic};
use crate::domain::Partition;
use std::collections::{BTreeMap, HashMap};

/// Records in flight, by partition, in the order of their offsets.
#[derive(Default)]
pub struct Tracker {
    partitions: HashMap<(Topic, Partition), BTreeMap<i64, bool>>,
    in_flight: usize,
}

impl Tracker {
    /// A record was taken from the consumer. One that was read before begins anew.
    pub fn entered(&mut self, position: Position) {
        let offsets = self.partitions.entry((position.topic, position.partition)).or_default();
        if offsets.insert(position.offset, false) != Some(false) {
            self.in_flight += 1;
        }
    }

    /// Records are done; returns where the prefixes of their partitions end now, where that moved.
    pub fn done(&mut self, positions: &[Position]) -> Vec<Position> {
        let mut touched = Vec::new();
        for position in positions {
            let key = (position.topic, position.partition);
            let Some(done) =
                self.partitions.get_mut(&key).and_then(|offsets| offsets.get_mut(&position.offset))
            else {
                continue;
            };
            if !*done {
                *done = true;
                self.in_flight -= 1;
                if !touched.contains(&key) {
                    touched.push(key);
                }
            }
        }
        touched.into_iter().filter_map(|key| self.advance(key)).collect()
    }

    fn advance(&mut self, (topic, partition): (Topic, Partition)) -> Option<Position> {
        let offsets = self.partitions.get_mut(&(topic, partition))?;
        let mut next = None;
        while let Some(first) = offsets.first_entry() {
            if !*first.get() {
                break;
            }
            next = Some(*first.key() + 1);
            first.remove();
        }
        next.map(|offset| Position { topic, partition, offset })
    }

    /// Records not done, of all partitions.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Records not done, of some partitions.
    pub fn in_flight_of(&self, which: impl Fn(Topic, Partition) -> bool) -> usize {
        self.partitions
            .iter()
            .filter(|((topic, partition), _)| which(*topic, *partition))
            .map(|(_, offsets)| offsets.values().filter(|done| !**done).count())
            .sum()
    }

    /// Partitions that another member has now: what is still in flight there is its own.
    pub fn forget(&mut self, partitions: &[(Topic, Partition)]) {
        for key in partitions {
            if let Some(offsets) = self.partitions.remove(key) {
                self.in_flight -= offsets.values().filter(|done| !**done).count();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventType, Shard};
    use proptest::prelude::*;

    fn at(partition: u32, offset: i64) -> Position {
        Position {
            topic: Topic::of(EventType::Held, Shard(0)),
            partition: Partition(partition),
            offset,
        }
    }

    #[test]
    fn only_the_prefix_that_is_done_is_committed() {
        let mut tracker = Tracker::default();
        (5..9).for_each(|offset| tracker.entered(at(0, offset)));
        assert_eq!(tracker.done(&[at(0, 6), at(0, 7)]), []);
        assert_eq!(tracker.done(&[at(0, 5)]), [at(0, 8)]);
        assert_eq!(tracker.in_flight(), 1);
        assert_eq!(tracker.done(&[at(0, 5)]), [], "a second report changes nothing");
    }

    #[test]
    fn a_forgotten_partition_is_not_committed() {
        let mut tracker = Tracker::default();
        tracker.entered(at(0, 1));
        tracker.entered(at(1, 1));
        tracker.forget(&[(at(0, 1).topic, Partition(0))]);
        assert_eq!(tracker.in_flight(), 1);
        assert_eq!(tracker.done(&[at(0, 1)]), []);
        assert_eq!(tracker.done(&[at(1, 1)]), [at(1, 2)]);
    }

    proptest! {
        #[test]
        fn what_is_committed_never_passes_what_is_open(order in Just((0_i64..40).collect::<Vec<_>>()).prop_shuffle()) {
            let mut tracker = Tracker::default();
            (0..40).for_each(|offset| tracker.entered(at(0, offset)));
            let mut open: std::collections::BTreeSet<i64> = (0..40).collect();
            let mut committed = 0;
            for offset in order {
                open.remove(&offset);
                if let Some(position) = tracker.done(&[at(0, offset)]).first() {
                    prop_assert!(position.offset > committed);
                    committed = position.offset;
                }
                prop_assert_eq!(open.first().copied().unwrap_or(40), committed);
                prop_assert_eq!(tracker.in_flight(), open.len());
            }
        }
    }
}
