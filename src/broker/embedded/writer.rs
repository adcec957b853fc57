//! Group commit: one thread takes everything that is queued, writes it as one frame and syncs once.
//! While it waits for the disk the next frame gathers, so the load sets the size and no timer runs.

use super::TopicPartition;
use super::frame::{Entry, begin, put_entry, seal, set_offset};
use super::segment::{JournalError, Segment, Walked, sync_directory};
use super::state::{State, Written};
use crate::broker::BrokerError;
use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a committed offset may wait for a frame to travel with before it gets one of its own.
const COMMIT_INTERVAL: Duration = Duration::from_millis(100);
/// A frame takes no more calls once it has this many bytes.
const FRAME_BYTES: usize = 4 << 20;

/// Something to be written, and whom to tell.
pub(super) struct Call {
    /// Encoded records without offsets.
    pub bytes: Vec<u8>,
    /// Partition and position in `bytes` of each record.
    pub records: Vec<(TopicPartition, usize)>,
    /// Everything else.
    pub entries: Vec<Entry>,
    /// Told when it is on the disk.
    pub done: oneshot::Sender<()>,
}

#[derive(Default)]
struct Queue {
    calls: Vec<Call>,
    /// There are committed offsets to be written.
    commits: bool,
    closing: bool,
}

/// What the writer, producers and consumers share.
pub(super) struct Shared {
    pub dir: PathBuf,
    state: Mutex<State>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Why nothing can be written any more.
    failure: OnceLock<String>,
}

impl Shared {
    pub(super) fn new(dir: PathBuf, state: State) -> Self {
        Self {
            dir,
            state: Mutex::new(state),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("a panic while the state changes has stopped the log")
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }

    /// Queues a call, after those of earlier calls.
    pub(super) fn submit(&self, call: Call) -> Result<(), BrokerError> {
        let mut queue = self.queue();
        // Read under the lock: the writer drops what is queued only after it has set the failure.
        if let Some(failure) = self.failure.get() {
            return Err(BrokerError::Broken(failure.clone()));
        }
        queue.calls.push(call);
        drop(queue);
        self.arrived.notify_one();
        Ok(())
    }

    /// Writes entries and waits until they are on the disk.
    pub(super) async fn submit_entries(&self, entries: Vec<Entry>) -> Result<(), BrokerError> {
        let (done, written) = oneshot::channel();
        self.submit(Call { bytes: Vec::new(), records: Vec::new(), entries, done })?;
        written.await.map_err(|_| self.broken())
    }

    /// Says that there are committed offsets to be written.
    pub(super) fn note_commits(&self) {
        let mut queue = self.queue();
        if !queue.commits {
            queue.commits = true;
            drop(queue);
            self.arrived.notify_one();
        }
    }

    /// Lets the writer write what is queued and end.
    pub(super) fn close(&self) {
        self.queue().closing = true;
        self.arrived.notify_one();
    }

    /// Why nothing can be written, if so.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// The error of calls that will never be answered.
    pub(super) fn broken(&self) -> BrokerError {
        BrokerError::Broken(self.failure().unwrap_or("the log is closed").to_owned())
    }

    fn fail(&self, failure: String) {
        tracing::error!(dir = %self.dir.display(), failure, "the embedded log stops writing");
        self.failure.get_or_init(|| failure);
        self.queue().calls.clear();
    }

    /// Waits for work: calls, at most about [`FRAME_BYTES`] of them, or commits that have waited
    /// long enough. Whether the log is closing and nothing is left comes with it.
    fn take(&self) -> (Vec<Call>, bool) {
        let mut queue = self.queue();
        while queue.calls.is_empty() && !queue.closing {
            if queue.commits {
                let (again, waited) = self
                    .arrived
                    .wait_timeout(queue, COMMIT_INTERVAL)
                    .expect("nothing panics while it holds the queue");
                queue = again;
                if waited.timed_out() {
                    break;
                }
            } else {
                queue = self.arrived.wait(queue).expect("nothing panics while it holds the queue");
            }
        }
        queue.commits = false;
        let mut bytes = 0;
        let fitting = queue.calls.iter().take_while(|call| {
            let fits = bytes < FRAME_BYTES;
            bytes += call.bytes.len();
            fits
        });
        let count = fitting.count();
        let calls = queue.calls.drain(..count).collect();
        (calls, queue.closing && queue.calls.is_empty())
    }
}

/// A frame that is not sealed yet, what is in it, and who waits for it.
struct Gathered {
    frame: Vec<u8>,
    records: Vec<(TopicPartition, u32)>,
    entries: Vec<Entry>,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Owns the end of the journal.
pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub segment: Arc<Segment>,
    /// Length and last sequence number of the segment.
    pub end: Walked,
    pub segment_bytes: u64,
    /// Sealed segments to keep.
    pub keep: usize,
}

impl Writer {
    /// Runs until the log is closed or the disk fails. After a failed write or sync nobody can know
    /// what is on the disk, so nothing more is written; opening the log anew finds out.
    pub(super) fn run(mut self) {
        let stopped = StopsOnDrop(self.shared.clone());
        loop {
            let (calls, last) = self.shared.take();
            if let Err(error) = self.write(calls) {
                return stopped.0.fail(format!("{error}; restart when the disk is well"));
            }
            if last {
                return;
            }
        }
    }

    fn write(&mut self, calls: Vec<Call>) -> Result<(), JournalError> {
        let commits = self.shared.state().take_unwritten();
        if calls.is_empty() && commits.is_empty() {
            return Ok(());
        }
        let Gathered { mut frame, records, entries, waiting } = self.gather(calls, commits);
        if self.end.length + frame.len() as u64 > self.segment_bytes {
            self.roll()?;
        }
        seal(&mut frame, self.end.sequence + 1);
        self.segment
            .append(&frame, self.end.length)
            .map_err(|source| JournalError::Io { path: self.segment.path.clone(), source })?;
        let at = u32::try_from(self.end.length).expect("segments are far below 4 GiB");
        self.end.length += frame.len() as u64;
        self.end.sequence += 1;
        let frame = frame.into();
        self.shared.state().publish(Written { frame, at, records, entries });
        waiting.into_iter().for_each(|done| {
            // The caller may have stopped waiting; it is written all the same.
            let _ = done.send(());
        });
        Ok(())
    }

    /// Makes one frame of the calls, in order, and gives each record its offset.
    fn gather(&self, calls: Vec<Call>, commits: Vec<Entry>) -> Gathered {
        let mut frame = begin(calls.iter().map(|call| call.bytes.len()).sum::<usize>() + 1024);
        let mut records = Vec::with_capacity(calls.iter().map(|call| call.records.len()).sum());
        let (mut entries, mut waiting) = (commits, Vec::with_capacity(calls.len()));
        let mut next: HashMap<TopicPartition, i64> = HashMap::new();
        let state = self.shared.state();
        for call in calls {
            let base = frame.len();
            frame.extend_from_slice(&call.bytes);
            for (place, position) in call.records {
                let end = || state.end(place).expect("send checked that the partition exists");
                let offset = next.entry(place).or_insert_with(end);
                set_offset(&mut frame, base + position, *offset);
                *offset += 1;
                let position = u32::try_from(base + position).expect("frames are below 4 GiB");
                records.push((place, position));
            }
            entries.extend(call.entries);
            waiting.push(call.done);
        }
        drop(state);
        entries.iter().for_each(|entry| put_entry(entry, &mut frame));
        Gathered { frame, records, entries, waiting }
    }

    /// Begins a new segment and lets go of the oldest.
    fn roll(&mut self) -> Result<(), JournalError> {
        let mut opening = self.shared.state().opening();
        seal(&mut opening, self.end.sequence + 1);
        let segment = Segment::create(&self.shared.dir, self.segment.number + 1, &opening)?;
        self.segment = Arc::new(segment);
        self.end.length = opening.len() as u64;
        self.end.sequence += 1;
        let mut state = self.shared.state();
        state.roll(self.segment.clone());
        let expired = state.expire(self.keep);
        drop(state);
        for segment in expired {
            fs::remove_file(&segment.path).map_err(super::segment::io_error(&segment.path))?;
        }
        sync_directory(&self.shared.dir)
    }
}

/// Makes sure that nobody waits for a writer that has ended, also when it panicked.
struct StopsOnDrop(Arc<Shared>);

impl Drop for StopsOnDrop {
    fn drop(&mut self) {
        self.0.failure.get_or_init(|| "the log is closed".to_owned());
        if let Ok(mut queue) = self.0.queue.lock() {
            queue.calls.clear();
        }
    }
}
