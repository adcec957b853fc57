//! One turn at a time for each shard.

use crate::domain::Shard;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// What is done at a turn.
#[async_trait]
pub(super) trait Serve: Send + Sync + 'static {
    /// What somebody asks for, with the way to answer them.
    type Asked: Send + 'static;

    /// Takes those who are served at once from those who wait, the first of them among them, and
    /// says how much work that is.
    fn next(&self, shard: Shard, waiting: &mut VecDeque<Self::Asked>) -> (Vec<Self::Asked>, usize);

    /// Serves and answers them; whether the shard answered.
    async fn serve(&self, shard: Shard, turn: Vec<Self::Asked>) -> bool;

    /// How long the shard rests after so much work, which took so long.
    fn rest(&self, shard: Shard, size: usize, took: Duration) -> Duration;
}

/// The shards' queues.
pub(super) struct Queues<S: Serve> {
    serve: Arc<S>,
    shards: Vec<OnceLock<Entrance<S::Asked>>>,
}

/// The way to a shard's task, which ends when this is dropped.
struct Entrance<A> {
    asked: mpsc::UnboundedSender<A>,
    door: Arc<Door>,
}

/// Those who wait for a shard to be free are told in the order in which they came, so that a
/// simulation repeats itself.
#[derive(Default)]
struct Door {
    closed: AtomicBool,
    opened: Notify,
    answered: Mutex<Option<Instant>>,
}

impl Door {
    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn open(&self) {
        self.closed.store(false, Ordering::Release);
        self.opened.notify_waiters();
    }

    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass(&self) {
        loop {
            // Hears of an opening from here on, so that none falls between the look and the wait.
            let opened = self.opened.notified();
            if !self.closed.load(Ordering::Acquire) {
                return;
            }
            opened.await;
        }
    }
}

impl<S: Serve> Queues<S> {
    pub fn new(serve: S, shards: u16) -> Self {
        Self { serve: Arc::new(serve), shards: (0..shards).map(|_| OnceLock::new()).collect() }
    }

    /// Until what is asked for now is served at once.
    pub async fn free(&self, shard: Shard) {
        self.entrance(shard).door.pass().await;
    }

    /// What is done at a turn.
    pub fn serve(&self) -> &S {
        &self.serve
    }

    /// When the shard last answered a turn.
    pub fn answered(&self, shard: Shard) -> Option<Instant> {
        *self.entrance(shard).door.answered()
    }

    /// Asks for something; what comes of it comes the way that it holds.
    pub fn ask(&self, shard: Shard, asked: S::Asked) {
        // A task ends only with the process; then nobody waits for the answer either.
        let _ = self.entrance(shard).asked.send(asked);
    }

    fn entrance(&self, shard: Shard) -> &Entrance<S::Asked> {
        self.shards[usize::from(shard.0)].get_or_init(|| {
            let (asked, inbox) = mpsc::unbounded_channel();
            let door = Arc::new(Door::default());
            let serve = Arc::clone(&self.serve);
            let waiting = VecDeque::new();
            tokio::spawn(Task { serve, shard, inbox, door: Arc::clone(&door), waiting }.run());
            Entrance { asked, door }
        })
    }
}

struct Task<S: Serve> {
    serve: Arc<S>,
    shard: Shard,
    inbox: mpsc::UnboundedReceiver<S::Asked>,
    door: Arc<Door>,
    waiting: VecDeque<S::Asked>,
}

impl<S: Serve> Task<S> {
    async fn run(mut self) {
        while self.collect().await {
            self.door.close();
            let (turn, size) = self.serve.next(self.shard, &mut self.waiting);
            let began = Instant::now();
            if self.serve.serve(self.shard, turn).await {
                *self.door.answered() = Some(Instant::now());
            }
            let rest = self.serve.rest(self.shard, size, began.elapsed());
            tokio::time::sleep(rest).await;
            self.door.open();
        }
    }

    /// Waits for somebody, and lets in whoever was told together with them that the shard is free.
    async fn collect(&mut self) -> bool {
        if self.waiting.is_empty() {
            match self.inbox.recv().await {
                Some(asked) => self.waiting.push_back(asked),
                None => return false,
            }
        }
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        while let Ok(asked) = self.inbox.try_recv() {
            self.waiting.push_back(asked);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::{Semaphore, oneshot};

    /// Remembers who was served together, each turn when it is told to go on.
    struct Served {
        turns: Arc<Mutex<Vec<Vec<u32>>>>,
        go_on: Arc<Semaphore>,
    }

    #[async_trait]
    impl Serve for Served {
        type Asked = (u32, oneshot::Sender<()>);

        fn next(&self, _: Shard, waiting: &mut VecDeque<Self::Asked>) -> (Vec<Self::Asked>, usize) {
            (waiting.drain(..).collect(), 1)
        }

        async fn serve(&self, _: Shard, turn: Vec<Self::Asked>) -> bool {
            self.turns.lock().unwrap().push(turn.iter().map(|(number, _)| *number).collect());
            self.go_on.acquire().await.unwrap().forget();
            turn.into_iter().for_each(|(_, answer)| answer.send(()).unwrap());
            true
        }

        fn rest(&self, _: Shard, _: usize, _: Duration) -> Duration {
            Duration::from_millis(10)
        }
    }

    /// Until nothing is left to be done but what waits to be told to go on, or for time to pass.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    /// One that finds the shard idle is served at once; those that come while it is served are told
    /// together that the shard is free, and served together.
    #[tokio::test(start_paused = true)]
    async fn those_who_wait_for_a_shard_share_its_next_turn() {
        let (turns, go_on) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let served = Served { turns: Arc::clone(&turns), go_on: Arc::clone(&go_on) };
        let queues = Arc::new(Queues::new(served, 1));
        let ask = |number: u32| {
            let queues = Arc::clone(&queues);
            tokio::spawn(async move {
                queues.free(Shard(0)).await;
                let (answer, answered) = oneshot::channel();
                queues.ask(Shard(0), (number, answer));
                answered.await.unwrap();
            })
        };
        let first = ask(1);
        settle().await;
        let others = [2, 3, 4].map(ask);
        settle().await;
        assert_eq!(*turns.lock().unwrap(), [vec![1]]);
        go_on.add_permits(1);
        first.await.unwrap();
        go_on.add_permits(1);
        for other in others {
            other.await.unwrap();
        }
        assert_eq!(*turns.lock().unwrap(), [vec![1], vec![2, 3, 4]]);
    }
}
