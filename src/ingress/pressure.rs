//! Back-pressure: when the outbox of a shard is full or a stage falls behind, nothing new is
//! accepted for that shard until it has caught up.
//!
//! The depth is measured once a second and what this process accepts is counted in between, so
//! that the outbox is over its limit by one group commit of each process at most, however fast it
//! grows. When the count says that it is full it is measured again at once.

use crate::backlog::STAGES;
use crate::context::Context;
use crate::domain::Shard;
use crate::meters::table::{OUTBOX_AGE, OUTBOX_UNSENT};
use crate::seldom::Seldom;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the measures are taken.
const INTERVAL: Duration = Duration::from_secs(1);
/// How soon a full outbox is measured again.
const SHORT_INTERVAL: Duration = Duration::from_millis(50);
/// A lag below this cannot be told from offsets that are committed a moment later.
const LEAST_LAG: Duration = Duration::from_secs(5);

/// How far the shards are behind, as last measured.
pub(super) struct Pressure {
    shards: Vec<OfShard>,
}

struct OfShard {
    /// Transfers that this process accepted so far, and how many it may have accepted before the
    /// outbox counts as full.
    accepted: AtomicU64,
    ceiling: AtomicU64,
    full: Notify,
    /// A stage is behind.
    late: AtomicBool,
    /// What was logged last, and when.
    told: AtomicBool,
    changed: Seldom,
}

impl Pressure {
    pub(super) fn new(shards: u16, limit: u64) -> Self {
        let of_shard = |_| OfShard {
            accepted: AtomicU64::new(0),
            ceiling: AtomicU64::new(limit),
            full: Notify::new(),
            late: AtomicBool::new(false),
            told: AtomicBool::new(false),
            changed: Seldom::unsaid(),
        };
        Self { shards: (0..shards).map(of_shard).collect() }
    }

    /// Whether new transfers of this shard are to be refused.
    pub(super) fn is_high(&self, shard: Shard) -> bool {
        self.of(shard).is_full() || self.of(shard).late.load(Ordering::Relaxed)
    }

    /// So many transfers were written to the outbox just now.
    pub(super) fn accepted(&self, shard: Shard, transfers: usize) {
        let of_shard = self.of(shard);
        of_shard.accepted.fetch_add(transfers as u64, Ordering::Relaxed);
        if of_shard.is_full() {
            of_shard.full.notify_one();
        }
    }

    fn of(&self, shard: Shard) -> &OfShard {
        &self.shards[usize::from(shard.0)]
    }

    /// Measures one shard for as long as anybody uses the result: the outbox, and beside it the
    /// stages, so that a broker that hangs does not hold up the outbox.
    pub(super) fn watch(pressure: &Arc<Self>, context: &Arc<Context>, shard: Shard) {
        let watched =
            Watched { pressure: Arc::downgrade(pressure), context: Arc::downgrade(context), shard };
        tokio::spawn(watched.clone().outbox());
        tokio::spawn(watched.stages());
    }
}

impl OfShard {
    fn is_full(&self) -> bool {
        self.accepted.load(Ordering::Relaxed) >= self.ceiling.load(Ordering::Relaxed)
    }
}

/// Keeps nothing alive between two looks.
#[derive(Clone)]
struct Watched {
    pressure: Weak<Pressure>,
    context: Weak<Context>,
    shard: Shard,
}

impl Watched {
    fn get(&self) -> Option<(Arc<Pressure>, Arc<Context>)> {
        Some((self.pressure.upgrade()?, self.context.upgrade()?))
    }

    async fn outbox(self) {
        while let Some((pressure, context)) = self.get() {
            let of_shard = pressure.of(self.shard);
            // What is accepted from here on may be counted twice, and never not at all.
            let accepted = of_shard.accepted.load(Ordering::Relaxed);
            // Where the shard does not say, ingress finds out by itself that it does not answer.
            if let Some(unsent) = unsent(&context, self.shard).await {
                let room = context.policy.outbox_limit.saturating_sub(unsent);
                of_shard.ceiling.store(accepted + room, Ordering::Relaxed);
            }
            self.tell(&pressure);
            drop((pressure, context));
            tokio::time::sleep(SHORT_INTERVAL).await;
            let Some(pressure) = self.pressure.upgrade() else { return };
            let of_shard = pressure.of(self.shard);
            if !of_shard.is_full() {
                // Bounded, so that this ends with the last user.
                let full = of_shard.full.notified();
                let _ = tokio::time::timeout(INTERVAL, full).await;
            }
        }
    }

    async fn stages(self) {
        while let Some((pressure, context)) = self.get() {
            if let Some(late) = late(&context, self.shard).await {
                pressure.of(self.shard).late.store(late, Ordering::Relaxed);
            }
            self.tell(&pressure);
            drop((pressure, context));
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn tell(&self, pressure: &Pressure) {
        let (of_shard, overloaded) = (pressure.of(self.shard), pressure.is_high(self.shard));
        if of_shard.told.swap(overloaded, Ordering::Relaxed) != overloaded
            && let Some(left_out) = of_shard.changed.due()
        {
            tracing::warn!(shard = %self.shard, overloaded, left_out, "the pipeline of a shard changed");
        }
    }
}

async fn unsent(context: &Context, shard: Shard) -> Option<u64> {
    let (unsent, oldest) = context.store.outbox_depth(shard).await.ok()?;
    let label = shard.to_string();
    OUTBOX_UNSENT.gauge(&[&label]).set(unsent as f64);
    let age = match oldest {
        Some(oldest) => context.store.now(shard).await.ok()?.since(oldest),
        None => Duration::ZERO,
    };
    OUTBOX_AGE.gauge(&[&label]).set(age.as_secs_f64());
    Some(unsent)
}

async fn late(context: &Context, shard: Shard) -> Option<bool> {
    let now = context.store.now(shard).await.ok()?;
    let bound = (context.policy.hold_timeout / 5).max(LEAST_LAG);
    for role in STAGES {
        let progress = context.backlog.of(&*context.broker, role, shard).await;
        if progress.is_some_and(|progress| progress.lag(now) > bound) {
            return Some(true);
        }
    }
    Some(false)
}
