//! One turn at a time for each shard.

use crate::domain::Shard;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What is done at a turn.
#[async_trait]
pub(super) trait Serve: Send + Sync + 'static {
    /// What somebody asks for, with the way to answer them.
    type Asked: Send + 'static;

    /// Takes those who are served at once from those who wait, the first of them among them, and
    /// says how much work that is.
    fn next(&self, waiting: &mut VecDeque<Self::Asked>) -> (Vec<Self::Asked>, usize);

    /// Serves and answers them.
    async fn serve(&self, shard: Shard, turn: Vec<Self::Asked>);

    /// How long the shard rests after so much work.
    fn rest(&self, size: usize) -> Duration;
}

/// The shards' queues.
pub(super) struct Queues<S: Serve> {
    serve: Arc<S>,
    shards: Vec<OnceLock<Entrance<S::Asked>>>,
}

/// The way to a shard's task, which ends when this is dropped.
struct Entrance<A> {
    asked: mpsc::UnboundedSender<A>,
    free: watch::Receiver<bool>,
}

impl<S: Serve> Queues<S> {
    pub fn new(serve: S, shards: u16) -> Self {
        Self { serve: Arc::new(serve), shards: (0..shards).map(|_| OnceLock::new()).collect() }
    }

    /// Until what is asked for now is served at once.
    pub async fn free(&self, shard: Shard) {
        let mut free = self.entrance(shard).free.clone();
        // Where the task has ended the process does.
        let _ = free.wait_for(|free| *free).await;
    }

    /// Asks for something; what comes of it comes the way that it holds.
    pub fn ask(&self, shard: Shard, asked: S::Asked) {
        // A task ends only with the process; then nobody waits for the answer either.
        let _ = self.entrance(shard).asked.send(asked);
    }

    fn entrance(&self, shard: Shard) -> &Entrance<S::Asked> {
        self.shards[usize::from(shard.0)].get_or_init(|| {
            let (asked, inbox) = mpsc::unbounded_channel();
            let (freed, free) = watch::channel(true);
            let serve = Arc::clone(&self.serve);
            tokio::spawn(Task { serve, shard, inbox, freed, waiting: VecDeque::new() }.run());
            Entrance { asked, free }
        })
    }
}

struct Task<S: Serve> {
    serve: Arc<S>,
    shard: Shard,
    inbox: mpsc::UnboundedReceiver<S::Asked>,
    freed: watch::Sender<bool>,
    waiting: VecDeque<S::Asked>,
}

impl<S: Serve> Task<S> {
    async fn run(mut self) {
        while self.collect().await {
            self.freed.send_replace(false);
            let (turn, size) = self.serve.next(&mut self.waiting);
            self.serve.serve(self.shard, turn).await;
            tokio::time::sleep(self.serve.rest(size)).await;
            self.freed.send_replace(true);
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
