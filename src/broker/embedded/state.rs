//! What the embedded log knows in memory: topics, groups, where records lie, and the newest records
//! themselves, so that a reader that keeps up never touches a file.

use super::TopicPartition;
use super::frame::{Entry, Malformed, begin, put_entry};
use super::membership::{MemberId, Membership};
use super::segment::{ColdRead, Index, Segment};
use crate::broker::{PartitionLag, Position, Topic};
use crate::domain::Partition;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::Notify;

/// Memory for the newest records, over all topics.
const HOT_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
struct PartitionState {
    /// One past the last offset.
    end: i64,
    /// The newest records, each with its place in the frame that holds it.
    hot: VecDeque<HotRecord>,
}

/// A record in memory: a frame and the position in it.
pub(super) type HotRecord = (Bytes, u32);

#[derive(Debug)]
struct TopicState {
    partitions: Vec<PartitionState>,
    listeners: BTreeMap<MemberId, Arc<Notify>>,
}

/// A group: what it has committed, and its members in this process.
#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// Topics that it reads; retention waits for it there.
    topics: BTreeSet<Topic>,
    committed: BTreeMap<TopicPartition, i64>,
    /// Partitions whose committed offset is not in the journal yet.
    unwritten: BTreeSet<TopicPartition>,
    pub members: Membership,
}

/// Where records can be had.
pub(super) enum Found {
    /// There are none yet.
    Nothing,
    /// In memory.
    Hot(Vec<HotRecord>),
    /// In a file.
    Cold(ColdRead),
}

/// The frame that was written last, as it enters the memory.
pub(super) struct Written {
    pub frame: Bytes,
    /// Where the frame begins in the segment that is written to.
    pub at: u32,
    /// The records, each with its position in the frame, in order.
    pub records: Vec<(TopicPartition, u32)>,
    /// Everything else.
    pub entries: Vec<Entry>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    topics: BTreeMap<Topic, TopicState>,
    groups: BTreeMap<String, GroupState>,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Arc<Segment>>,
    /// Of the last segment.
    index: Index,
    /// Frames in memory, oldest first, with the partitions that have records in them.
    hot: VecDeque<(Bytes, BTreeSet<TopicPartition>)>,
    hot_bytes: usize,
}

impl State {
    /// The state that these segments hold, with the last one's good length and sequence number;
    /// a torn end of the last one is left out.
    pub(super) fn load(
        segments: Vec<Arc<Segment>>,
    ) -> Result<(Self, super::segment::Walked), super::segment::JournalError> {
        let mut state = Self::default();
        let last = segments.last().expect("the caller has at least one segment").clone();
        state.segments = segments.into();
        let walked = last.walk(true, |position, entry| {
            last.index_entry(&mut state.index, position, &entry)?;
            state.replay(entry)
        })?;
        Ok((state, walked))
    }

    fn replay(&mut self, entry: Entry) -> Result<(), Malformed> {
        match entry {
            Entry::Record { place, offset } => {
                let partition = self.partition_mut(place).ok_or(Malformed)?;
                if partition.end != offset {
                    return Err(Malformed);
                }
                partition.end += 1;
            }
            Entry::End { place, offset } => {
                self.partition_mut(place).ok_or(Malformed)?.end = offset;
            }
            Entry::Topic { topic, partitions } => self.add_topic(topic, partitions),
            Entry::Group { group, topic } => {
                self.groups.entry(group).or_default().topics.insert(topic);
            }
            Entry::Committed { group, place, offset } => {
                self.groups.entry(group).or_default().committed.insert(place, offset);
            }
        }
        Ok(())
    }

    fn add_topic(&mut self, topic: Topic, partitions: u32) {
        self.topics.entry(topic).or_insert_with(|| TopicState {
            partitions: (0..partitions).map(|_| PartitionState::default()).collect(),
            listeners: BTreeMap::new(),
        });
    }

    fn partition(&self, (topic, partition): TopicPartition) -> Option<&PartitionState> {
        self.topics.get(&topic)?.partitions.get(partition.0 as usize)
    }

    fn partition_mut(&mut self, (topic, partition): TopicPartition) -> Option<&mut PartitionState> {
        self.topics.get_mut(&topic)?.partitions.get_mut(partition.0 as usize)
    }

    /// Number of partitions, if the topic exists.
    pub(super) fn partitions(&self, topic: Topic) -> Option<u32> {
        self.topics.get(&topic).map(|state| state.partitions.len() as u32)
    }

    /// The partitions of a topic; none where it does not exist.
    pub(super) fn places(&self, topic: Topic) -> impl Iterator<Item = TopicPartition> {
        (0..self.partitions(topic).unwrap_or(0)).map(move |number| (topic, Partition(number)))
    }

    /// One past the last offset, if the partition exists.
    pub(super) fn end(&self, place: TopicPartition) -> Option<i64> {
        self.partition(place).map(|partition| partition.end)
    }

    /// The first offset that still exists.
    pub(super) fn start(&self, place: TopicPartition) -> i64 {
        self.segments.front().map_or(0, |segment| segment.first(place))
    }

    /// Takes in what was written and synced, and wakes who waits for it.
    pub(super) fn publish(&mut self, written: Written) {
        for entry in written.entries {
            self.replay(entry).expect("entries other than records are always taken");
        }
        let mut touched = BTreeSet::new();
        for (place, position) in written.records {
            let partition = self.partition_mut(place).expect("send checked that it exists");
            partition.end += 1;
            partition.hot.push_back((written.frame.clone(), position));
            self.index.push(place, written.at + position);
            touched.insert(place);
        }
        if touched.is_empty() {
            return;
        }
        let topics: BTreeSet<Topic> = touched.iter().map(|(topic, _)| *topic).collect();
        for topic in topics {
            self.topics[&topic].listeners.values().for_each(|listener| listener.notify_one());
        }
        self.hot_bytes += written.frame.len();
        self.hot.push_back((written.frame, touched));
        while self.hot_bytes > HOT_BYTES {
            self.cool();
        }
    }

    /// Lets the oldest frame in memory go.
    fn cool(&mut self) {
        let Some((frame, touched)) = self.hot.pop_front() else { return };
        self.hot_bytes -= frame.len();
        for place in touched {
            let hot = &mut self.partition_mut(place).expect("topics are never removed").hot;
            while hot.front().is_some_and(|(oldest, _)| oldest.as_ptr() == frame.as_ptr()) {
                hot.pop_front();
            }
        }
    }

    /// Records from `from` on (or from the first that exists), at most `max`.
    pub(super) fn find(&self, place: TopicPartition, from: i64, max: usize) -> Found {
        let from = from.max(self.start(place));
        let Some(partition) = self.partition(place).filter(|partition| from < partition.end) else {
            return Found::Nothing;
        };
        let hot_start = partition.end - partition.hot.len() as i64;
        if let Ok(skip) = usize::try_from(from - hot_start) {
            return Found::Hot(partition.hot.iter().skip(skip).take(max).cloned().collect());
        }
        let later = self.segments.partition_point(|segment| segment.first(place) <= from);
        let segment = self.segments[later - 1].clone();
        let positions = (later == self.segments.len()).then(|| {
            let skip = (from - segment.first(place)) as usize;
            self.index.slice(place, skip, max).to_vec()
        });
        Found::Cold(ColdRead { segment, place, from, max, positions })
    }

    /// Where the group stands in a topic, for each partition.
    pub(super) fn lag(&self, group: &str, topic: Topic) -> Vec<PartitionLag> {
        let committed = self.groups.get(group).map(|group| &group.committed);
        self.places(topic)
            .map(|place| PartitionLag {
                topic,
                partition: place.1,
                committed: committed.and_then(|committed| committed.get(&place)).copied(),
                start: self.start(place),
                end: self.end(place).unwrap_or(0),
            })
            .collect()
    }

    /// The group, if it has ever been registered.
    pub(super) fn group_mut(&mut self, group: &str) -> Option<&mut GroupState> {
        self.groups.get_mut(group)
    }

    /// Whether retention already waits for the group on this topic.
    pub(super) fn reads(&self, group: &str, topic: Topic) -> bool {
        self.groups.get(group).is_some_and(|group| group.topics.contains(&topic))
    }

    /// The next offset that the group reads.
    pub(super) fn committed(&self, group: &str, place: TopicPartition) -> i64 {
        let committed = self.groups.get(group).and_then(|group| group.committed.get(&place));
        committed.copied().unwrap_or(0).max(self.start(place))
    }

    /// Marks a member's positions as done; whether there is anything to write for it. Positions
    /// past the end, behind what is committed, or of partitions that it lost are ignored.
    pub(super) fn commit(&mut self, group: &str, member: MemberId, positions: &[Position]) -> bool {
        let mut changed = false;
        for position in positions {
            let place = (position.topic, position.partition);
            let exists = self.end(place).is_some_and(|end| position.offset <= end);
            let before = self.committed(group, place);
            let Some(state) = self.groups.get_mut(group) else { continue };
            if exists && position.offset > before && state.members.may_commit(member, place) {
                state.committed.insert(place, position.offset);
                state.unwritten.insert(place);
                changed = true;
            }
        }
        changed
    }

    /// Committed offsets that the journal does not have yet.
    pub(super) fn take_unwritten(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, group) in &mut self.groups {
            for place in std::mem::take(&mut group.unwritten) {
                let offset = group.committed[&place];
                entries.push(Entry::Committed { group: name.clone(), place, offset });
            }
        }
        entries
    }

    /// Wakes a member when something is written to one of the topics.
    pub(super) fn listen(&mut self, member: MemberId, topics: &[Topic], wake: &Arc<Notify>) {
        for topic in topics {
            let topic = self.topics.get_mut(topic).expect("the caller checked that it exists");
            topic.listeners.insert(member, wake.clone());
        }
    }

    /// Wakes the member no more.
    pub(super) fn unlisten(&mut self, member: MemberId) {
        self.topics.values_mut().for_each(|topic| {
            topic.listeners.remove(&member);
        });
    }

    /// The frame that a new segment begins with, not sealed yet: everything but the records.
    pub(super) fn opening(&self) -> Vec<u8> {
        let mut frame = begin(4096);
        for (topic, state) in &self.topics {
            let partitions = state.partitions.len() as u32;
            put_entry(&Entry::Topic { topic: *topic, partitions }, &mut frame);
            for (number, partition) in (0..).zip(&state.partitions) {
                let place = (*topic, Partition(number));
                put_entry(&Entry::End { place, offset: partition.end }, &mut frame);
            }
        }
        for (name, group) in &self.groups {
            for topic in &group.topics {
                put_entry(&Entry::Group { group: name.clone(), topic: *topic }, &mut frame);
            }
            for (place, offset) in &group.committed {
                let (group, place, offset) = (name.clone(), *place, *offset);
                put_entry(&Entry::Committed { group, place, offset }, &mut frame);
            }
        }
        frame
    }

    /// Goes on in a new segment.
    pub(super) fn roll(&mut self, next: Arc<Segment>) {
        let index = std::mem::take(&mut self.index);
        if let Some(sealed) = self.segments.back() {
            sealed.seal(index);
        }
        self.segments.push_back(next);
    }

    /// Takes the oldest segments out until at most `keep` sealed ones are left, but only those that
    /// every group that reads their topics has passed.
    pub(super) fn expire(&mut self, keep: usize) -> Vec<Arc<Segment>> {
        let mut expired = Vec::new();
        while self.segments.len() > keep + 1 && self.has_been_read(0) {
            expired.extend(self.segments.pop_front());
        }
        expired
    }

    fn has_been_read(&self, segment: usize) -> bool {
        let (segment, next) = (&self.segments[segment], &self.segments[segment + 1]);
        next.places().filter(|place| segment.first(*place) < next.first(*place)).all(|place| {
            let end = next.first(place);
            self.groups
                .values()
                .filter(|group| group.topics.contains(&place.0))
                .all(|group| group.committed.get(&place).is_some_and(|offset| *offset >= end))
        })
    }
}
