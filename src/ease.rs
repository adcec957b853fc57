//! Work that can wait, and is not to take from the money what the money needs.

use std::future::Future;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// The rest after a piece of work, as a multiple of what it took.
const REST: u32 = 9;
/// But no longer: what was slow for once, on one shard, does not put off all others.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Over all shards of a process one piece of such work is done at a time, and nothing of it in the
/// rest that follows, so that its share of the time does not grow with the shards.
#[derive(Debug, Default)]
pub struct Ease(Mutex<()>);

impl Ease {
    /// Does a piece of work when it is its turn. What fails needs no rest.
    pub async fn take<T, E>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let turn = self.0.lock().await;
        let began = Instant::now();
        let done = work.await?;
        tokio::time::sleep((began.elapsed() * REST).min(LONGEST_REST)).await;
        drop(turn);
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::Arc;

    async fn works_for(seconds: u64) -> Result<Instant, ()> {
        let work = tokio::time::timeout(Duration::from_secs(seconds), pending::<()>());
        work.await.unwrap_err();
        Ok(Instant::now())
    }

    /// Three at once take as much of the time as one.
    #[tokio::test(start_paused = true)]
    async fn whoever_works_rests_for_all() {
        let (ease, began) = (Arc::new(Ease::default()), Instant::now());
        let works = (0..3).map(|_| {
            let ease = Arc::clone(&ease);
            tokio::spawn(async move { ease.take(works_for(1)).await.unwrap() })
        });
        let mut ended = Vec::new();
        for work in works.collect::<Vec<_>>() {
            ended.push(work.await.unwrap().duration_since(began).as_secs());
        }
        assert_eq!(ended, [1, 11, 21]);
        let failed = ease.take(async { Err::<(), _>("away") }).await;
        assert_eq!(failed, Err("away"));
        assert_eq!(began.elapsed().as_secs(), 30);
        ease.take(works_for(60)).await.unwrap();
        assert_eq!(began.elapsed().as_secs(), 30 + 60 + 10);
    }
}
