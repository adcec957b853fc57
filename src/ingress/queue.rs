//! Requests that wait for a group commit: bounded in number, in bytes and in time. Who does not fit
//! or has waited for too long is told so at once, instead of being served when nobody waits for
//! the answer any more.

use super::decide::Asked;
use super::fingerprint::fingerprint;
use super::request::{Refusal, Submitted, TransferRequest};
use crate::domain::Shard;
use crate::meters::table::OVERLOADED;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Requests that may wait, and bytes of what callers sent in them.
const WAITING: usize = 16_384;
const WAITING_BYTES: usize = 64 * 1024 * 1024;
/// How long a request may wait for its transaction to begin.
const LONGEST: Duration = Duration::from_secs(3);
/// Most transfers, and bytes of what callers sent, of one transaction.
const MOST_TRANSFERS: usize = 512;
const MOST_BYTES: usize = 1024 * 1024;

pub(super) type Answer = Result<Submitted, Refusal>;

/// A request, since when it waits, and the room that it takes.
pub(super) struct Waiting {
    asked: Asked,
    answer: oneshot::Sender<Answer>,
    since: Instant,
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

impl Waiting {
    /// Taken out of the queue: what is asked, and where the answer goes.
    pub(super) fn taken(self) -> (Asked, oneshot::Sender<Answer>) {
        (self.asked, self.answer)
    }

    /// Since when it waits.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The trace context that its event will have.
    pub(super) fn traceparent(&mut self) -> &mut Option<Arc<str>> {
        &mut self.asked.request.traceparent
    }

    fn late_at(&self) -> Instant {
        self.since + LONGEST
    }
}

/// The way into the group commits of one shard.
pub(super) struct Entrance {
    shard: Shard,
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
}

impl Entrance {
    /// Queues a request now, after those queued before; the answer comes once it is decided.
    pub(super) fn enter(
        &self,
        request: TransferRequest,
    ) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let (answer, receiver) = oneshot::channel();
        let bytes = weight(&request);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let asked = Asked { fingerprint: fingerprint(&request), request };
        let room = Arc::clone(&self.room).try_acquire_many_owned(permits);
        let entered = room.ok().and_then(|_room| {
            let waiting = Waiting { asked, answer, since: Instant::now(), bytes, _room };
            self.queue.try_send(waiting).ok()
        });
        match entered {
            Some(()) => Ok(receiver),
            None => Err(refused(self.shard, "full")),
        }
    }
}

/// Counts a request that is refused for the load alone.
pub(super) fn refused(shard: Shard, why: &'static str) -> Refusal {
    OVERLOADED.counter(&[&shard.to_string(), why]).increment(1);
    Refusal::Overloaded
}

/// Those that wait, in the order in which they came.
pub(super) struct Queue {
    shard: Shard,
    inbox: mpsc::Receiver<Waiting>,
    /// The oldest, where it was looked at before its turn.
    next: Option<Waiting>,
}

/// An empty queue.
pub(super) fn queue(shard: Shard) -> (Entrance, Queue) {
    let (queue, inbox) = mpsc::channel(WAITING);
    let room = Arc::new(Semaphore::new(WAITING_BYTES));
    (Entrance { shard, queue, room }, Queue { shard, inbox, next: None })
}

impl Queue {
    /// Waits for a request, then takes what else is there, as far as it fits one transaction. None
    /// when nothing can come any more.
    pub(super) async fn collect(&mut self) -> Option<Vec<Waiting>> {
        let first = loop {
            let oldest = self.oldest().await?;
            if oldest.late_at() > Instant::now() {
                break oldest;
            }
            self.refuse(oldest);
        };
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        while batch.len() < MOST_TRANSFERS {
            let Ok(waiting) = self.inbox.try_recv() else { break };
            bytes += waiting.bytes;
            if bytes > MOST_BYTES {
                self.next = Some(waiting);
                break;
            }
            batch.push(waiting);
        }
        Some(batch)
    }

    /// Refuses, for as long as it is polled, everybody who has waited for too long. Nothing is lost
    /// when it is dropped.
    pub(super) async fn refuse_late(&mut self) -> Infallible {
        loop {
            match self.oldest().await {
                None => std::future::pending().await,
                Some(oldest) => {
                    let late_at = oldest.late_at();
                    self.next = Some(oldest);
                    tokio::time::sleep_until(late_at).await;
                }
            }
            if let Some(late) = self.next.take() {
                self.refuse(late);
            }
        }
    }

    async fn oldest(&mut self) -> Option<Waiting> {
        match self.next.take() {
            Some(oldest) => Some(oldest),
            None => self.inbox.recv().await,
        }
    }

    fn refuse(&self, late: Waiting) {
        // The caller may have gone.
        let _ = late.answer.send(Err(refused(self.shard, "waited")));
    }
}

fn weight(request: &TransferRequest) -> usize {
    let text = |field: &Option<String>| field.as_ref().map_or(0, String::len);
    let metadata =
        request.metadata.iter().flatten().map(|(name, value)| name.len() + value.len() + 6);
    512 + text(&request.description) + text(&request.reference) + metadata.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::request::tests::request;

    fn with_metadata(bytes: usize) -> TransferRequest {
        let metadata = [("note".to_owned(), "x".repeat(bytes))].into();
        TransferRequest { metadata: Some(metadata), ..request("k") }
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_so_many_requests_and_bytes_and_no_more() {
        let (entrance, mut queue) = queue(Shard(0));
        let answers: Vec<_> = (0..WAITING).map(|_| entrance.enter(request("k")).unwrap()).collect();
        assert!(matches!(entrance.enter(request("k")), Err(Refusal::Overloaded)));
        assert_eq!(queue.collect().await.unwrap().len(), MOST_TRANSFERS);
        let after = entrance.enter(request("k"));
        assert!(after.is_ok(), "there is room again");
        drop((answers, queue));

        let (entrance, mut queue) = super::queue(Shard(0));
        let large = 16 * 1024;
        let entered = (0..WAITING).take_while(|_| entrance.enter(with_metadata(large)).is_ok());
        assert!(entered.count() <= WAITING_BYTES / large);
        let batch = queue.collect().await.unwrap();
        assert!(batch.iter().map(|waiting| waiting.bytes).sum::<usize>() <= MOST_BYTES);
        entrance.enter(with_metadata(large)).expect_err("they still take their room");
        drop(batch);
        entrance.enter(with_metadata(large)).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_so_also_while_a_transaction_runs() {
        let (entrance, mut queue) = queue(Shard(0));
        let early = entrance.enter(request("a")).unwrap();
        assert_eq!(queue.collect().await.unwrap().len(), 1);
        drop(early);
        let late = entrance.enter(request("b")).unwrap();
        let told = tokio::select! {
            biased;
            told = late => told.unwrap(),
            never = queue.refuse_late() => match never {},
        };
        assert!(matches!(told, Err(Refusal::Overloaded)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_at_the_oldest_that_is_given_up_loses_nobody() {
        let (entrance, mut queue) = queue(Shard(0));
        let (one, two) = (entrance.enter(request("a")), entrance.enter(request("b")));
        tokio::time::timeout(LONGEST / 2, queue.refuse_late()).await.unwrap_err();
        let batch = queue.collect().await.unwrap();
        assert_eq!(batch.len(), 2);
        drop((one, two));
        let late = entrance.enter(request("c")).unwrap();
        tokio::time::advance(LONGEST).await;
        drop(entrance);
        assert!(queue.collect().await.is_none(), "nobody is left");
        assert!(matches!(late.await.unwrap(), Err(Refusal::Overloaded)));
    }
}
