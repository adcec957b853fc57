//! The journal's bytes. A frame is one group commit: a header with length, sequence number and
//! CRC32, then entries. Frames are written whole and synced before the next one begins, so at most
//! the last frame of a journal can be torn; a bad frame with a good one behind it is corruption.
//!
//! Integers are little-endian. A record carries a CRC32 of its own, because a reader that catches
//! up takes single records out of a frame.

use super::TopicPartition;
use crate::broker::{Delivered, Family, Headers, Position, Record, Topic};
use crate::domain::{EventType, Partition, Shard, Timestamp};
use bytes::Bytes;
use std::ops::Range;

/// Magic (4), payload length (4), sequence (8), CRC32 (4) of length, sequence and payload.
pub(super) const HEADER: usize = 20;
/// The first byte is never one of UTF-8, so no value that people write looks like a frame.
const MAGIC: [u8; 4] = [0xF5, b'h', b'f', 1];

/// Tag (1), length of the rest (4), offset (8), CRC32 (4) of what follows.
const RECORD_HEAD: usize = 17;
const OFFSET_AT: usize = 5;

const TAG_RECORD: u8 = 1;
const TAG_TOPIC: u8 = 2;
const TAG_END: u8 = 3;
const TAG_GROUP: u8 = 4;
const TAG_COMMITTED: u8 = 5;

/// What a frame is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A record; its bytes are read with [`decode_record`].
    Record { place: TopicPartition, offset: i64 },
    /// A topic exists with this many partitions.
    Topic { topic: Topic, partitions: u32 },
    /// In a segment's first frame: the offset that the partition's next record gets.
    End { place: TopicPartition, offset: i64 },
    /// A group reads a topic, so retention waits for it.
    Group { group: String, topic: Topic },
    /// The next offset that the group will read.
    Committed { group: String, place: TopicPartition, offset: i64 },
}

/// Bytes that are not what this release writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A frame that was read and checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// One more than that of the frame before it, across segments.
    pub sequence: u64,
    /// Where its entries lie.
    pub payload: Range<usize>,
}

/// A buffer that entries are appended to, until [`seal`] makes a frame of it.
pub(super) fn begin(capacity: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER + capacity);
    frame.resize(HEADER, 0);
    frame
}

/// Writes the header of a frame that [`begin`] began.
pub(super) fn seal(frame: &mut [u8], sequence: u64) {
    let length = u32::try_from(frame.len() - HEADER).expect("a group commit is far below 4 GiB");
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..16].copy_from_slice(&sequence.to_le_bytes());
    let crc = frame_crc(frame);
    frame[16..20].copy_from_slice(&crc.to_le_bytes());
}

fn frame_crc(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[4..16]);
    hasher.update(&frame[HEADER..]);
    hasher.finalize()
}

/// The payload's length that a header announces, before anything is checked.
pub(super) fn announced_length(header: &[u8; HEADER]) -> Option<usize> {
    (header[..4] == MAGIC).then(|| u32_at(header, 4) as usize)
}

/// The frame at `at`, if there is a whole and undamaged one.
pub(super) fn read_frame(bytes: &[u8], at: usize) -> Option<Frame> {
    let rest = bytes.get(at..)?;
    let header = rest.first_chunk::<HEADER>()?;
    let end = HEADER.checked_add(announced_length(header)?)?;
    let frame = rest.get(..end)?;
    (frame_crc(frame) == u32_at(header, 16)).then(|| Frame {
        sequence: u64::from_le_bytes(header[8..16].try_into().expect("8 bytes")),
        payload: at + HEADER..at + end,
    })
}

/// Whether an undamaged frame with a sequence number over `sequence` begins after `at`: then the
/// bad bytes at `at` are not the torn end of the journal.
pub(super) fn has_frame_after(bytes: &[u8], at: usize, sequence: u64) -> bool {
    (at + 1..bytes.len())
        .filter(|start| bytes[*start] == MAGIC[0])
        .filter_map(|start| read_frame(bytes, start))
        .any(|frame| frame.sequence > sequence)
}

/// Appends a record whose offset is not known yet; [`set_offset`] fills it in.
pub(super) fn put_record(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(TAG_RECORD);
    out.extend_from_slice(&[0; RECORD_HEAD - 1]);
    put_place((record.topic, record.partition), out);
    out.extend_from_slice(&record.timestamp.micros().to_le_bytes());
    put_bytes(&record.key, out);
    put_bytes(&record.value, out);
    put_length(record.headers.len(), out);
    out.extend_from_slice(record.headers.packed());
    let length = u32::try_from(out.len() - start - OFFSET_AT).expect("records are bounded");
    let crc = crc32fast::hash(&out[start + RECORD_HEAD..]);
    out[start + 1..start + OFFSET_AT].copy_from_slice(&length.to_le_bytes());
    out[start + 13..start + RECORD_HEAD].copy_from_slice(&crc.to_le_bytes());
}

/// Fills in the offset of the record that begins at `at`.
pub(super) fn set_offset(bytes: &mut [u8], at: usize, offset: i64) {
    bytes[at + OFFSET_AT..at + 13].copy_from_slice(&offset.to_le_bytes());
}

/// The length of the whole record that begins with these bytes.
pub(super) fn record_length(head: &[u8; OFFSET_AT]) -> Result<usize, Malformed> {
    if head[0] == TAG_RECORD { Ok(OFFSET_AT + u32_at(head, 1) as usize) } else { Err(Malformed) }
}

/// Reads the record that begins at `at` and checks its CRC; it is a part of `whole`.
pub(super) fn decode_record(whole: &Bytes, at: usize) -> Result<Delivered, Malformed> {
    let bytes = whole.get(at..).ok_or(Malformed)?;
    let length = record_length(bytes.first_chunk().ok_or(Malformed)?)?;
    let bytes = bytes.get(..length).filter(|bytes| bytes.len() >= RECORD_HEAD).ok_or(Malformed)?;
    if crc32fast::hash(&bytes[RECORD_HEAD..]) != u32_at(bytes, 13) {
        return Err(Malformed);
    }
    let mut offset = Reader(&bytes[OFFSET_AT..]);
    let mut reader = Reader(&bytes[RECORD_HEAD..]);
    let (topic, partition) = reader.place()?;
    let position = Position { topic, partition, offset: offset.i64()? };
    let timestamp = Timestamp::from_micros(reader.i64()?);
    let key = whole.slice_ref(reader.bytes()?);
    let value = whole.slice_ref(reader.bytes()?);
    let headers = Headers::take(reader.u32()?, whole, &mut reader.0).ok_or(Malformed)?;
    Ok(Delivered { position, key, value, headers, timestamp })
}

/// Appends an entry that is not a record.
pub(super) fn put_entry(entry: &Entry, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; OFFSET_AT]);
    out[start] = match entry {
        Entry::Record { .. } => unreachable!("records are written by put_record"),
        Entry::Topic { topic, partitions } => {
            put_topic(*topic, out);
            out.extend_from_slice(&partitions.to_le_bytes());
            TAG_TOPIC
        }
        Entry::End { place, offset } => {
            put_place(*place, out);
            out.extend_from_slice(&offset.to_le_bytes());
            TAG_END
        }
        Entry::Group { group, topic } => {
            put_topic(*topic, out);
            put_bytes(group.as_bytes(), out);
            TAG_GROUP
        }
        Entry::Committed { group, place, offset } => {
            put_place(*place, out);
            out.extend_from_slice(&offset.to_le_bytes());
            put_bytes(group.as_bytes(), out);
            TAG_COMMITTED
        }
    };
    let length = u32::try_from(out.len() - start - OFFSET_AT).expect("entries are short");
    out[start + 1..start + OFFSET_AT].copy_from_slice(&length.to_le_bytes());
}

/// The entries of a frame's payload, each with its place in `bytes`.
pub(super) fn entries(
    bytes: &[u8],
    payload: Range<usize>,
) -> impl Iterator<Item = Result<(usize, Entry), Malformed>> + '_ {
    let mut at = payload.start;
    std::iter::from_fn(move || {
        (at < payload.end).then(|| {
            let start = at;
            let bytes = bytes.get(start..payload.end).ok_or(Malformed)?;
            let (entry, length) = decode_entry(bytes)?;
            at += length;
            Ok((start, entry))
        })
    })
}

fn decode_entry(bytes: &[u8]) -> Result<(Entry, usize), Malformed> {
    let mut head = Reader(bytes);
    let tag = head.u8()?;
    let body = head.bytes()?;
    let mut reader = Reader(body);
    let entry = match tag {
        TAG_RECORD => {
            let offset = reader.i64()?;
            reader.u32()?;
            Entry::Record { place: reader.place()?, offset }
        }
        TAG_TOPIC => Entry::Topic { topic: reader.topic()?, partitions: reader.u32()? },
        TAG_END => Entry::End { place: reader.place()?, offset: reader.i64()? },
        TAG_GROUP => {
            let topic = reader.topic()?;
            Entry::Group { group: reader.text()?, topic }
        }
        TAG_COMMITTED => {
            let (place, offset) = (reader.place()?, reader.i64()?);
            Entry::Committed { group: reader.text()?, place, offset }
        }
        _ => return Err(Malformed),
    };
    Ok((entry, OFFSET_AT + body.len()))
}

fn put_length(length: usize, out: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("records are bounded");
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_length(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_topic(topic: Topic, out: &mut Vec<u8>) {
    out.push(family_code(topic.family));
    out.extend_from_slice(&topic.shard.0.to_le_bytes());
}

fn put_place((topic, partition): TopicPartition, out: &mut Vec<u8>) {
    put_topic(topic, out);
    out.extend_from_slice(&partition.0.to_le_bytes());
}

/// 0 is the dead letters, the others are the codes of the event types.
fn family_code(family: Family) -> u8 {
    match family {
        Family::DeadLetter => 0,
        Family::Event(kind) => u8::try_from(kind.code()).expect("event codes are 1 to 7"),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

/// Takes values from the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        Ok(self.take(N)?.try_into().expect("N bytes were taken"))
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| Malformed)
    }

    fn topic(&mut self) -> Result<Topic, Malformed> {
        let family = match self.u8()? {
            0 => Family::DeadLetter,
            code => Family::Event(EventType::from_code(code.into()).ok_or(Malformed)?),
        };
        Ok(Topic { family, shard: Shard(u16::from_le_bytes(self.array()?)) })
    }

    fn place(&mut self) -> Result<TopicPartition, Malformed> {
        Ok((self.topic()?, Partition(self.u32()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn topic() -> impl Strategy<Value = Topic> {
        (0..Family::ALL.len(), any::<u16>())
            .prop_map(|(family, shard)| Topic { family: Family::ALL[family], shard: Shard(shard) })
    }

    fn record() -> impl Strategy<Value = Record> {
        let headers = proptest::collection::vec((".{0,9}", ".{0,20}"), 0..5);
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        (topic(), any::<u32>(), ".{0,20}", bytes, headers, any::<i64>()).prop_map(
            |(topic, partition, key, value, headers, at)| Record {
                topic,
                partition: Partition(partition),
                key: key.into(),
                value: value.into(),
                headers: headers.into_iter().collect(),
                timestamp: Timestamp::from_micros(at),
            },
        )
    }

    fn frame_of(records: &[Record], sequence: u64) -> Vec<u8> {
        let mut frame = begin(0);
        for (offset, record) in (100..).zip(records) {
            let at = frame.len();
            put_record(record, &mut frame);
            set_offset(&mut frame, at, offset);
        }
        seal(&mut frame, sequence);
        frame
    }

    fn as_delivered(offset: i64, record: &Record) -> Delivered {
        Delivered {
            position: Position { topic: record.topic, partition: record.partition, offset },
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp: record.timestamp,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in proptest::collection::vec(record(), 0..8), sequence: u64) {
            let bytes = Bytes::from(frame_of(&records, sequence));
            let frame = read_frame(&bytes, 0).unwrap();
            prop_assert_eq!((frame.sequence, frame.payload.end), (sequence, bytes.len()));
            let found: Vec<Delivered> = entries(&bytes, frame.payload)
                .map(|entry| decode_record(&bytes, entry.unwrap().0).unwrap())
                .collect();
            let expected: Vec<Delivered> =
                (100..).zip(&records).map(|(offset, record)| as_delivered(offset, record)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn other_entries_read_back(topic in topic(), partition: u32, offset: i64, group in ".{0,20}") {
            let place = (topic, Partition(partition));
            let written = [
                Entry::Topic { topic, partitions: partition },
                Entry::End { place, offset },
                Entry::Group { group: group.clone(), topic },
                Entry::Committed { group, place, offset },
            ];
            let mut bytes = Vec::new();
            written.iter().for_each(|entry| put_entry(entry, &mut bytes));
            let read: Vec<Entry> =
                entries(&bytes, 0..bytes.len()).map(|entry| entry.unwrap().1).collect();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn a_flipped_bit_is_noticed(records in proptest::collection::vec(record(), 1..4), at: prop::sample::Index, bit in 0_u32..8) {
            let mut bytes = frame_of(&records, 7);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(read_frame(&bytes, 0), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read_frame(&bytes, 0);
            let _ = entries(&bytes, 0..bytes.len()).take(bytes.len()).count();
            let _ = decode_record(&bytes.into(), 0);
        }
    }

    #[test]
    fn a_bad_frame_with_a_good_one_behind_it_is_told_from_a_torn_end() {
        let mut journal = frame_of(&[], 1);
        let second = journal.len();
        journal.extend(frame_of(&[], 2));
        let third = journal.len();
        journal.extend(frame_of(&[], 3));
        journal[second + 9] ^= 1;
        assert_eq!(read_frame(&journal, second), None);
        assert!(has_frame_after(&journal, second, 1));
        assert!(!has_frame_after(&journal[..third + 5], second, 1));
    }
}
