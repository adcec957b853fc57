//! The journal's files. Each begins with a frame that holds the whole state at that point (topics,
//! ends of partitions, groups), so that opening reads the beginning of every segment and all of the
//! last one, and dropping an old segment loses nothing but its records.

use super::TopicPartition;
use super::frame::{self, Entry};
use crate::broker::Delivered;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const SUFFIX: &str = "journal";

/// Why a journal cannot be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error(
        "{} is in use by another holdfast process: stop that one, or give this one a directory of its own",
        dir.display()
    )]
    InUse {
        /// The data directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// Bytes that were once written and synced are damaged or gone.
    #[error("{} is damaged at byte {at}: restore it from a copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        at: u64,
    },
}

/// Names the file in an error of the file system.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    |source| JournalError::Io { path, source }
}

/// Where in a segment each record of each partition begins.
#[derive(Debug, Default)]
pub(super) struct Index {
    positions: HashMap<TopicPartition, Vec<u32>>,
}

impl Index {
    pub(super) fn push(&mut self, place: TopicPartition, position: u32) {
        self.positions.entry(place).or_default().push(position);
    }

    fn count(&self, place: TopicPartition) -> i64 {
        self.positions.get(&place).map_or(0, |positions| positions.len() as i64)
    }

    /// At most `max` positions, after skipping `skip`.
    pub(super) fn slice(&self, place: TopicPartition, skip: usize, max: usize) -> &[u32] {
        let all = self.positions.get(&place).map_or(&[][..], Vec::as_slice);
        let rest = all.get(skip..).unwrap_or_default();
        &rest[..rest.len().min(max)]
    }
}

/// One file of the journal.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub path: PathBuf,
    file: File,
    /// The offset that each partition's first record here has; 0 where nothing is said.
    first: HashMap<TopicPartition, i64>,
    /// Of a sealed segment, once it is known.
    index: OnceLock<Index>,
}

/// What a walk over a segment's frames found.
pub(super) struct Walked {
    /// Length of the undamaged frames.
    pub length: u64,
    /// The sequence number of the last one.
    pub sequence: u64,
}

impl Segment {
    /// Writes a new segment that begins with `opening`, a sealed frame that holds the state. It
    /// gets its name only when it is whole, so a named segment always begins with a good frame.
    pub(super) fn create(dir: &Path, number: u64, opening: &[u8]) -> Result<Self, JournalError> {
        let path = dir.join(format!("{number:012}.{SUFFIX}"));
        let unnamed = path.with_extension("new");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unnamed)
            .map_err(io_error(&unnamed))?;
        file.write_all(opening).and_then(|()| file.sync_all()).map_err(io_error(&unnamed))?;
        fs::rename(&unnamed, &path).map_err(io_error(&path))?;
        sync_directory(dir)?;
        let first = first_offsets(&path, opening)?;
        Ok(Self { number, path, file, first, index: OnceLock::new() })
    }

    fn open(path: PathBuf, number: u64, writable: bool) -> Result<Self, JournalError> {
        let file =
            OpenOptions::new().read(true).write(writable).open(&path).map_err(io_error(&path))?;
        let first = first_offsets(&path, &read_opening(&path, &file)?)?;
        Ok(Self { number, path, file, first, index: OnceLock::new() })
    }

    /// The segments in `dir`, oldest first.
    pub(super) fn open_all(dir: &Path, writable: bool) -> Result<Vec<Arc<Self>>, JournalError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir).map_err(io_error(dir))? {
            let path = entry.map_err(io_error(dir))?.path();
            if path.extension().is_some_and(|extension| extension == SUFFIX) {
                let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
                names.push((
                    number.ok_or(JournalError::Damaged { path: path.clone(), at: 0 })?,
                    path,
                ));
            }
        }
        names.sort();
        if let Some(gap) = names.windows(2).find(|pair| pair[0].0 + 1 != pair[1].0) {
            return Err(JournalError::Damaged { path: gap[1].1.clone(), at: 0 });
        }
        names
            .into_iter()
            .map(|(number, path)| Self::open(path, number, writable).map(Arc::new))
            .collect()
    }

    /// The offset that the partition's first record here has, or would have.
    pub(super) fn first(&self, place: TopicPartition) -> i64 {
        self.first.get(&place).copied().unwrap_or(0)
    }

    /// The partitions that had records before this segment began.
    pub(super) fn places(&self) -> impl Iterator<Item = TopicPartition> + '_ {
        self.first.keys().copied()
    }

    /// Hands over the index that was kept while the segment was written to.
    pub(super) fn seal(&self, index: Index) {
        self.index.set(index).expect("a segment is sealed once, before anybody loads its index");
    }

    pub(super) fn length(&self) -> Result<u64, JournalError> {
        self.file.metadata().map(|file| file.len()).map_err(io_error(&self.path))
    }

    /// Writes at `at` and waits until it is on the disk.
    pub(super) fn append(&self, frame: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(frame, at)?;
        self.file.sync_data()
    }

    /// Cuts a torn end off.
    pub(super) fn truncate(&self, length: u64) -> Result<(), JournalError> {
        self.file.set_len(length).and_then(|()| self.file.sync_all()).map_err(io_error(&self.path))
    }

    /// Visits every entry with its position. With `torn_end`, what follows the last good frame is
    /// left out, provided that it is the end of the journal; without, it is damage.
    pub(super) fn walk(
        &self,
        torn_end: bool,
        mut visit: impl FnMut(u32, Entry) -> Result<(), frame::Malformed>,
    ) -> Result<Walked, JournalError> {
        let damaged = |at: u64| JournalError::Damaged { path: self.path.clone(), at };
        let end = self.length()?;
        let (mut at, mut last, mut buffer) = (0, None, Vec::new());
        while at < end {
            self.read_frame_bytes(at, end, &mut buffer)?;
            let Some(frame) = frame::read_frame(&buffer, 0) else {
                let sequence = last.ok_or_else(|| damaged(0))?;
                if torn_end && !self.has_frame_after(at, end, sequence)? {
                    break;
                }
                return Err(damaged(at));
            };
            if last.is_some_and(|last| last + 1 != frame.sequence) {
                return Err(damaged(at));
            }
            last = Some(frame.sequence);
            for entry in frame::entries(&buffer, frame.payload) {
                let (position, entry) = entry.map_err(|_| damaged(at))?;
                let position = u32::try_from(at + position as u64).map_err(|_| damaged(at))?;
                visit(position, entry).map_err(|_| damaged(at))?;
            }
            at += buffer.len() as u64;
        }
        let sequence = last.ok_or_else(|| damaged(0))?;
        Ok(Walked { length: at, sequence })
    }

    /// The bytes of the frame at `at`, as far as they are there and its header makes sense.
    fn read_frame_bytes(
        &self,
        at: u64,
        end: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(), JournalError> {
        let mut header = [0; frame::HEADER];
        let there = (end - at).min(frame::HEADER as u64) as usize;
        self.read_exact(&mut header[..there], at)?;
        let announced = frame::announced_length(&header).unwrap_or(0) + frame::HEADER;
        buffer.resize(announced.min((end - at) as usize), 0);
        self.read_exact(buffer, at)
    }

    fn has_frame_after(&self, at: u64, end: u64, sequence: u64) -> Result<bool, JournalError> {
        let mut rest = vec![0; (end - at) as usize];
        self.read_exact(&mut rest, at)?;
        Ok(frame::has_frame_after(&rest, 0, sequence))
    }

    fn read_exact(&self, buffer: &mut [u8], at: u64) -> Result<(), JournalError> {
        self.file.read_exact_at(buffer, at).map_err(io_error(&self.path))
    }

    /// The index of a sealed segment; built by reading all of it when it is first asked for.
    fn index(&self) -> Result<&Index, JournalError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let mut index = Index::default();
        self.walk(false, |position, entry| self.index_entry(&mut index, position, &entry))?;
        Ok(self.index.get_or_init(|| index))
    }

    /// Adds a record to an index of this segment, where it follows the one before it.
    pub(super) fn index_entry(
        &self,
        index: &mut Index,
        position: u32,
        entry: &Entry,
    ) -> Result<(), frame::Malformed> {
        if let Entry::Record { place, offset } = *entry {
            if offset != self.first(place) + index.count(place) {
                return Err(frame::Malformed);
            }
            index.push(place, position);
        }
        Ok(())
    }

    fn read_record(&self, position: u32) -> Result<Delivered, JournalError> {
        let at = u64::from(position);
        let mut head = [0; 5];
        self.read_exact(&mut head, at)?;
        let damaged = |_| JournalError::Damaged { path: self.path.clone(), at };
        let mut record = vec![0; frame::record_length(&head).map_err(damaged)?];
        self.read_exact(&mut record, at)?;
        frame::decode_record(&record.into(), 0).map_err(damaged)
    }
}

/// Records to be read from a file, away from the async runtime.
pub(super) struct ColdRead {
    pub segment: Arc<Segment>,
    pub place: TopicPartition,
    pub from: i64,
    pub max: usize,
    /// Known where the segment is still written to.
    pub positions: Option<Vec<u32>>,
}

impl ColdRead {
    /// At least one record, at most `max`, and not many more bytes than `max_bytes`.
    pub(super) fn run(self, max_bytes: usize) -> Result<Vec<Delivered>, JournalError> {
        let skip = usize::try_from(self.from - self.segment.first(self.place))
            .expect("the segment was chosen to begin at or before the offset");
        let positions = match &self.positions {
            Some(positions) => positions.as_slice(),
            None => self.segment.index()?.slice(self.place, skip, self.max),
        };
        let mut records = Vec::with_capacity(positions.len());
        let mut bytes = 0;
        for (offset, position) in (self.from..).zip(positions) {
            let record = self.segment.read_record(*position)?;
            let (topic, partition) = self.place;
            let expected = crate::broker::Position { topic, partition, offset };
            assert_eq!(record.position, expected, "the index points at another record");
            bytes += record.value.len();
            records.push(record);
            if bytes >= max_bytes {
                break;
            }
        }
        if records.is_empty() {
            return Err(JournalError::Damaged { path: self.segment.path.clone(), at: 0 });
        }
        Ok(records)
    }
}

fn read_opening(path: &Path, file: &File) -> Result<Vec<u8>, JournalError> {
    let mut header = [0; frame::HEADER];
    file.read_exact_at(&mut header, 0).map_err(io_error(path))?;
    let length = file.metadata().map_err(io_error(path))?.len();
    let announced = frame::announced_length(&header)
        .map(|payload| frame::HEADER + payload)
        .filter(|frame| *frame as u64 <= length)
        .ok_or(JournalError::Damaged { path: path.to_owned(), at: 0 })?;
    let mut opening = vec![0; announced];
    file.read_exact_at(&mut opening, 0).map_err(io_error(path))?;
    Ok(opening)
}

fn first_offsets(
    path: &Path,
    opening: &[u8],
) -> Result<HashMap<TopicPartition, i64>, JournalError> {
    let damaged = || JournalError::Damaged { path: path.to_owned(), at: 0 };
    let frame = frame::read_frame(opening, 0).ok_or_else(damaged)?;
    let mut first = HashMap::new();
    for entry in frame::entries(opening, frame.payload) {
        if let (_, Entry::End { place, offset }) = entry.map_err(|_| damaged())? {
            first.insert(place, offset);
        }
    }
    Ok(first)
}

/// Makes created, renamed and removed names durable.
pub(super) fn sync_directory(dir: &Path) -> Result<(), JournalError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error(dir))
}
