//! Asks Redis for tokens: one call at a time, for all who came while the one before was under way.

use super::rules::{Class, Rate, Rules};
use crate::access::Principal;
use crate::cache::{BalanceCache, Taken, Wanted};
use crate::seldom::Seldom;
use moka::sync::Cache;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Callers that one call to Redis is made for.
const TOGETHER: usize = 512;
/// Callers that wait for one; who comes then is treated as if Redis were away.
const WAITING: usize = 16_384;
/// Addresses that are remembered as refused.
const REFUSED: u64 = 100_000;
/// How long, at most.
const REFUSED_FOR: Duration = Duration::from_secs(60);

static AWAY: Seldom = Seldom::unsaid();

/// What a caller is told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// It may go on; by which rate, and what is left.
    Within(Rate, Taken),
    /// Not before that long.
    Beyond(Rate, Taken),
    /// Redis does not say, and callers are then let through.
    Unknown,
    /// Redis does not say, and callers are then refused.
    Closed,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Limiter {
    rules: Arc<Rules>,
    /// Whether callers are let through while Redis is away.
    open: bool,
    asking: mpsc::Sender<Asked>,
    /// Addresses that have to wait until then.
    refused: Cache<IpAddr, Instant>,
}

struct Asked {
    wanted: Wanted,
    answer: oneshot::Sender<Option<Taken>>,
}

impl Limiter {
    /// By these rules, with buckets there. Ends when the last clone is dropped.
    pub fn start(rules: Rules, redis: Arc<BalanceCache>, open: bool) -> Self {
        let (asking, asked) = mpsc::channel(WAITING);
        tokio::spawn(answer(asked, redis));
        let refused = Cache::builder().max_capacity(REFUSED).time_to_live(REFUSED_FOR).build();
        Self { rules: Arc::new(rules), open, asking, refused }
    }

    /// Takes as many tokens as a call is worth; nothing where no rule is for it.
    pub async fn take(&self, principal: &Principal, class: Class, calls: u32) -> Option<Verdict> {
        let rate = self.rules.of(principal, class)?;
        let bucket = format!("{}:{}", class.as_str(), principal.client);
        Some(self.ask(bucket, rate, calls).await)
    }

    /// Whether an address has shown too many credentials that were refused. Asks nobody.
    pub fn is_refused(&self, address: IpAddr) -> Option<Duration> {
        let until = self.refused.get(&address)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// An address has shown one.
    pub async fn stranger(&self, address: IpAddr) {
        let Some(rate) = self.rules.of_strangers() else { return };
        if let Verdict::Beyond(_, taken) = self.ask(format!("from:{address}"), rate, 1).await {
            self.refused.insert(address, Instant::now() + taken.wait.min(REFUSED_FOR));
        }
    }

    async fn ask(&self, bucket: String, rate: Rate, calls: u32) -> Verdict {
        let tokens = calls.clamp(1, rate.burst);
        let wanted = Wanted { bucket, rate: rate.per_second(), most: rate.burst, tokens };
        let (answer, answered) = oneshot::channel();
        let taken = match self.asking.try_send(Asked { wanted, answer }) {
            Ok(()) => answered.await.ok().flatten(),
            Err(_) => None,
        };
        match taken {
            Some(taken) if taken.taken => Verdict::Within(rate, taken),
            Some(taken) => Verdict::Beyond(rate, taken),
            None if self.open => Verdict::Unknown,
            None => Verdict::Closed,
        }
    }
}

async fn answer(mut asked: mpsc::Receiver<Asked>, redis: Arc<BalanceCache>) {
    let mut together = Vec::with_capacity(TOGETHER);
    while asked.recv_many(&mut together, TOGETHER).await > 0 {
        let (wanted, answers): (Vec<Wanted>, Vec<_>) =
            together.drain(..).map(|asked: Asked| (asked.wanted, asked.answer)).unzip();
        let taken = match redis.take(&wanted).await {
            Ok(taken) => taken.into_iter().map(Some).collect(),
            Err(error) => {
                if let Some(left_out) = AWAY.due() {
                    tracing::warn!(%error, left_out, "rate limits cannot be looked up");
                }
                vec![None; wanted.len()]
            }
        };
        for (answer, taken) in answers.into_iter().zip(taken) {
            // Who asked may have gone.
            let _ = answer.send(taken);
        }
    }
}
