//! What every role is given: the ports, the policy and the wake-ups of one process.

use crate::backlog::Backlog;
use crate::broker::Broker;
use crate::cache::BalanceCache;
use crate::domain::{Currency, Shard};
use crate::ease::Ease;
use crate::meters::Money;
use crate::pauses::Pauses;
use crate::random;
use crate::reads::Reads;
use crate::store::Store;
use crate::trace::Traces;
use crate::turn::{Projections, Turns};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The ports and settings that the roles of one process share.
pub struct Context {
    /// The shards.
    pub store: Arc<dyn Store>,
    /// Where it is read what may be a little old.
    pub reads: Reads,
    /// The log between the steps.
    pub broker: Arc<dyn Broker>,
    /// Redis, where it is configured.
    pub cache: Option<Arc<BalanceCache>>,
    /// Times and bounds.
    pub policy: Policy,
    /// Wake-ups within the process.
    pub wake: Wake,
    /// How far the stages have come.
    pub backlog: Backlog,
    /// What the steps decide about a shard's accounts shares a transaction.
    pub turns: Turns,
    /// What is projected to a shard is written in rounds.
    pub projections: Projections,
    /// What operators have stopped.
    pub pauses: Pauses,
    /// What is counted of the transfers' money.
    pub money: Arc<Money>,
    /// The comparison of the books, one shard after the other.
    pub ease: Ease,
    /// Where spans go; nowhere unless somebody says otherwise.
    pub traces: Traces,
}

impl Context {
    /// Over these ports.
    pub fn new(
        store: Arc<dyn Store>,
        broker: Arc<dyn Broker>,
        cache: Option<BalanceCache>,
        policy: Policy,
        backlog: Backlog,
    ) -> Self {
        let cache = cache.map(Arc::new);
        let money = Arc::new(Money::new(store.map().shards()));
        Self {
            wake: Wake::new(store.map().shards()),
            turns: Turns::new(Arc::clone(&store), Arc::clone(&money)),
            money,
            projections: Projections::new(Arc::clone(&store), cache.clone()),
            pauses: Pauses::default(),
            ease: Ease::default(),
            traces: Traces::default(),
            reads: Reads::of(Arc::clone(&store)),
            store,
            broker,
            cache,
            policy,
            backlog,
        }
    }
}

/// Times and bounds of the pipeline; all from configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How long a hold stands before it may be given up.
    pub hold_timeout: Duration,
    /// How long a step waits for a shard that is not its own before it lets a transfer go.
    pub foreign_shard_timeout: Duration,
    /// Unsent outbox records of a shard from which on ingress answers `overloaded`.
    pub outbox_limit: u64,
    /// How far behind database time the reconciler's scan stays.
    pub scan_lag: Duration,
    /// How often the reconciler looks.
    pub reconcile_interval: Duration,
    /// How often the reconciler sweeps all transfers for what the mark missed.
    pub full_sweep_interval: Duration,
    /// How often the drift check looks at what changed.
    pub drift_interval: Duration,
    /// How often the drift check looks at everything.
    pub drift_full_interval: Duration,
    /// How long after its first look the reconciler drives a stuck transfer a second time;
    /// doubles each time.
    pub redrive_backoff: Duration,
    /// How long claims are kept.
    pub claim_retention: Duration,
    /// Currency of requests on the compatibility paths that name none.
    pub default_currency: Currency,
    /// Most records that a worker takes, and most transfers of one transaction.
    pub batch: usize,
    /// How often a process that is not told of new outbox rows looks for them.
    pub outbox_poll: Duration,
    /// How long a proposal can be approved.
    pub proposal_expiry: Duration,
    /// Name of this process among others, in leases.
    pub instance: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            hold_timeout: Duration::from_secs(300),
            foreign_shard_timeout: Duration::from_secs(2),
            outbox_limit: 100_000,
            scan_lag: Duration::from_secs(60),
            reconcile_interval: Duration::from_secs(1),
            full_sweep_interval: Duration::from_secs(86_400),
            drift_interval: Duration::from_secs(10),
            drift_full_interval: Duration::from_secs(86_400),
            redrive_backoff: Duration::from_secs(2),
            claim_retention: Duration::from_secs(30 * 86_400),
            default_currency: "USD".parse().expect("USD is a currency"),
            batch: 1000,
            outbox_poll: Duration::from_millis(4),
            proposal_expiry: Duration::from_secs(86_400),
            instance: format!("{}-{:08x}", std::process::id(), random::bits() >> 32),
        }
    }
}

/// Wake-ups within the process: they save a look, nothing depends on them.
pub struct Wake {
    outbox: Vec<Notify>,
    finals: Vec<watch::Sender<u64>>,
}

impl Wake {
    fn new(shards: u16) -> Self {
        Self {
            outbox: (0..shards).map(|_| Notify::new()).collect(),
            finals: (0..shards).map(|_| watch::Sender::new(0)).collect(),
        }
    }

    /// The outbox of a shard has a new row.
    pub fn outbox_written(&self, shard: Shard) {
        self.outbox[usize::from(shard.0)].notify_one();
    }

    /// Until the outbox of a shard has a new row.
    pub async fn outbox_of(&self, shard: Shard) {
        self.outbox[usize::from(shard.0)].notified().await;
    }

    /// Transfers of a shard became final.
    pub fn finals_written(&self, shard: Shard) {
        self.finals[usize::from(shard.0)].send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A receiver that changes when transfers of a shard become final in this process.
    pub fn finals_of(&self, shard: Shard) -> watch::Receiver<u64> {
        self.finals[usize::from(shard.0)].subscribe()
    }
}
