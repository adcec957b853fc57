//! Back-pressure: when the outbox of a shard grows or a stage falls behind, nothing new is
//! accepted for that shard until it has caught up.

use crate::backlog::STAGES;
use crate::context::Context;
use crate::domain::Shard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often the measures are taken.
const INTERVAL: Duration = Duration::from_secs(1);
/// A lag below this cannot be told from offsets that are committed a moment later.
const LEAST_LAG: Duration = Duration::from_secs(5);

/// Which shards are behind, as last measured.
pub(super) struct Pressure {
    high: Vec<AtomicBool>,
}

impl Pressure {
    pub(super) fn new(shards: u16) -> Self {
        Self { high: (0..shards).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Whether new transfers of this shard are to be refused.
    pub(super) fn is_high(&self, shard: Shard) -> bool {
        self.high[usize::from(shard.0)].load(Ordering::Relaxed)
    }

    /// Measures one shard for as long as anybody uses the result.
    pub(super) fn watch(pressure: &Arc<Self>, context: Arc<Context>, shard: Shard) {
        let pressure: Weak<Self> = Arc::downgrade(pressure);
        tokio::spawn(async move {
            while let Some(pressure) = pressure.upgrade() {
                if let Some(high) = measure(&context, shard).await {
                    let before = pressure.high[usize::from(shard.0)].swap(high, Ordering::Relaxed);
                    if before != high {
                        tracing::warn!(%shard, overloaded = high, "the pipeline of a shard changed");
                    }
                }
                drop(pressure);
                tokio::time::sleep(INTERVAL).await;
            }
        });
    }
}

/// Nothing where the shard did not say: ingress finds out by itself that it does not answer.
async fn measure(context: &Context, shard: Shard) -> Option<bool> {
    let (unsent, oldest) = context.store.outbox_depth(shard).await.ok()?;
    metrics::gauge!("holdfast_outbox_unsent", "shard" => shard.to_string()).set(unsent as f64);
    let now = context.store.now(shard).await.ok()?;
    let age = oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
    metrics::gauge!("holdfast_outbox_age_seconds", "shard" => shard.to_string())
        .set(age.as_secs_f64());
    if unsent > context.policy.outbox_limit {
        return Some(true);
    }
    let bound = (context.policy.hold_timeout / 5).max(LEAST_LAG);
    for role in STAGES {
        let progress = context.backlog.of(&*context.broker, role, shard).await;
        if progress.is_some_and(|progress| progress.lag(now) > bound) {
            return Some(true);
        }
    }
    Some(false)
}
