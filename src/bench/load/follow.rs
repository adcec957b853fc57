//! Following a sample of the transfers to their end, as a caller would: the same request once more,
//! with the same key and `Prefer: wait`. On connections of its own, so that who waits keeps nobody
//! from sending.

use super::record::Record;
use super::requests::is_final;
use crate::bench::wire::{Target, Wire};
use bytes::Bytes;
use http::HeaderValue;
use rand::Rng;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most transfers that are followed of those sent in one second: following costs Holdfast a little.
const MOST_A_SECOND: f64 = 100.0;
/// Most that are followed at once.
const MOST_AT_ONCE: usize = 2000;
/// Before what was not answered with a state is asked for again.
const AGAIN: Duration = Duration::from_millis(100);

/// Follows transfers. Cheap to clone.
#[derive(Clone)]
pub struct Follower(Rc<Shared>);

struct Shared {
    target: Target,
    share: f64,
    record: Rc<RefCell<Record>>,
    idle: RefCell<Vec<Wire>>,
    active: Cell<usize>,
    over: Notify,
    /// How many more may be followed, and as of when.
    allowed: Cell<(f64, Instant)>,
}

impl Follower {
    /// Of `share` of all transfers.
    pub fn new(target: &Target, share: f64, record: &Rc<RefCell<Record>>) -> Self {
        Self(Rc::new(Shared {
            target: target.clone(),
            share,
            record: Rc::clone(record),
            idle: RefCell::default(),
            active: Cell::new(0),
            over: Notify::new(),
            allowed: Cell::new((1.0, Instant::now())),
        }))
    }

    /// Which of the next `count` transfers to follow, evenly spread.
    pub fn choose<R: Rng>(
        &self,
        count: usize,
        rng: &mut R,
    ) -> impl Iterator<Item = usize> + use<R> {
        let wanted = self.0.share * count as f64;
        let more = rng.random_bool(wanted.fract());
        let wanted = self.allowed(wanted as usize + usize::from(more));
        (0..wanted).map(move |number| number * count / wanted)
    }

    fn allowed(&self, wanted: usize) -> usize {
        if wanted == 0 {
            return 0;
        }
        let (left, since) = self.0.allowed.get();
        let left = (left + since.elapsed().as_secs_f64() * MOST_A_SECOND).min(MOST_A_SECOND);
        let granted = wanted.min(left as usize);
        self.0.allowed.set((left - granted as f64, Instant::now()));
        granted
    }

    /// Follows the transfer that was accepted with this body.
    pub fn follow(&self, body: Bytes, due: Instant) {
        if self.0.active.get() >= MOST_AT_ONCE {
            self.0.record.borrow_mut().not_followed += 1;
            return;
        }
        self.0.active.set(self.0.active.get() + 1);
        let follower = self.clone();
        tokio::task::spawn_local(async move {
            follower.until_final(body, due).await;
            follower.0.active.set(follower.0.active.get() - 1);
            follower.0.over.notify_one();
        });
    }

    async fn until_final(&self, body: Bytes, due: Instant) {
        let idle = self.0.idle.borrow_mut().pop();
        let mut wire = idle.unwrap_or_else(|| Wire::new(&self.0.target));
        let wait = HeaderValue::from_static("wait=30");
        loop {
            match wire.post(super::SINGLE, body.clone(), Some(wait.clone()), true).await {
                Ok(answer) if answer.status.is_success() && is_final(answer.body) => break,
                Ok(answer) if answer.status.is_success() => {}
                Ok(_) | Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
        self.0.record.borrow_mut().completes(due);
        self.0.idle.borrow_mut().push(wire);
    }

    /// Until all that are followed have ended.
    pub async fn settle(&self) {
        while self.0.active.get() > 0 {
            self.0.over.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn follower(share: f64) -> Follower {
        let record = Record::new(Instant::now(), Duration::from_secs(1));
        let target = Target::new("http://127.0.0.1:1").unwrap();
        Follower::new(&target, share, &Rc::new(RefCell::new(record)))
    }

    #[tokio::test(start_paused = true)]
    async fn the_asked_share_is_followed_and_never_more_than_the_bound() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut followed = |share: f64, rate: u32, count: usize| -> usize {
            let follower = follower(share);
            let mut chosen = 0;
            for _ in 0..rate {
                chosen += follower.choose(count, &mut rng).count();
            }
            chosen
        };
        assert_eq!(followed(0.0, 1000, 1), 0);
        assert!(followed(1.0, 1000, 1) <= 100, "all at one moment");
    }

    #[tokio::test(start_paused = true)]
    async fn those_followed_are_spread_over_a_batch() {
        let (follower, mut rng) = (follower(0.01), SmallRng::seed_from_u64(7));
        tokio::time::advance(Duration::from_secs(1)).await;
        let chosen: Vec<usize> = follower.choose(400, &mut rng).collect();
        assert_eq!(chosen, [0, 100, 200, 300]);
    }
}
