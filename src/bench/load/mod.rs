//! Load on a running Holdfast over HTTP, and what it comes to: what callers see, what it costs.

mod follow;
mod generator;
mod mix;
mod record;
mod report;
mod requests;
mod watch;

pub use generator::Pace;
pub use mix::Mix;
pub use report::LoadReport;

use super::client::{Api, ApiError};
use super::cost::Measured;
use super::metrics::Scraper;
use super::wire::Target;
use crate::random;
use crate::routing::ShardMap;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use generator::Orders;
use mix::{Across, Pairs};
use requests::Names;
use serde_json::json;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use watch::Watch;

const SINGLE: &str = "/v1/transfers";
const BATCH: &str = "/v1/transfers/batch";

/// What each account may owe, in whole units: nobody runs out of money, and nobody has to be paid
/// first.
const OVERDRAFT: &str = "100000000000";
const ACCOUNTS_A_REQUEST: u32 = 1000;
/// Requests for accounts at once: enough to keep the shards busy, few enough not to be refused.
const ACCOUNT_REQUESTS: usize = 8;
/// A run that ends by its number of transfers has no other end that anybody reaches.
const A_YEAR: Duration = Duration::from_secs(365 * 86_400);

/// What to send, to whom, and what to look at meanwhile.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where Holdfast listens.
    pub target: Target,
    /// How fast.
    pub pace: Pace,
    /// Transfers a request; 1 is the single call.
    pub batch: usize,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// For how long before it counts.
    pub warmup: Duration,
    /// For how long it counts; none where only a number of transfers ends it.
    pub duration: Option<Duration>,
    /// How many transfers end it, counted from the end of the warm-up as they are accepted.
    pub transfers: Option<u64>,
    /// How long the ends of what was accepted are waited for.
    pub drain: Duration,
    /// Between how many accounts, at least 3.
    pub accounts: u32,
    /// Begins their names.
    pub prefix: String,
    /// Whether they are there already.
    pub reuse: bool,
    /// In which currency.
    pub currency: String,
    /// How transfers are spread over them.
    pub mix: Mix,
    /// Zipf's exponent.
    pub skew: f64,
    /// The share of the transfers that touch the hot account.
    pub hot_share: f64,
    /// The share of the transfers that leave their source's shard, where it is asked for.
    pub cross_shard: Option<f64>,
    /// The share of the transfers that are followed to their end.
    pub sample: f64,
    /// Whether what was not taken is sent again.
    pub retry: bool,
}

impl Load {
    /// Whether requests are due whatever the answers do.
    pub fn is_open(&self) -> bool {
        matches!(self.pace, Pace::Rate(_))
    }

    /// For how long it counts at most.
    fn longest(&self) -> Duration {
        self.duration.unwrap_or(A_YEAR)
    }
}

/// What a run is looked at with.
pub struct Instruments {
    /// For making accounts.
    pub api: Api,
    /// For counting ends.
    pub scraper: Scraper,
    /// For what it costs.
    pub measured: Measured,
    /// Where accounts live, where that is known.
    pub map: Option<ShardMap>,
}

/// Makes the accounts, sends, waits for the ends. A `stop` ends the sending early.
pub async fn load(
    load: &Load,
    instruments: &Instruments,
    stop: &CancellationToken,
    told: &dyn Fn(&str),
) -> anyhow::Result<LoadReport> {
    let names = Names {
        accounts: load.prefix.clone(),
        keys: format!("{}-{:08x}", load.prefix, random::bits() >> 32),
        currency: load.currency.clone(),
    };
    if !load.reuse {
        told("making accounts");
        make_accounts(&instruments.api, load, &names, told).await?;
    }
    let orders = Orders {
        target: load.target.clone(),
        pace: load.pace,
        batch: load.batch,
        connections: load.connections,
        warmup: load.warmup,
        duration: load.longest(),
        transfers: load.transfers,
        pairs: pairs(load, instruments.map.as_ref(), &names),
        names,
        sample: load.sample,
        retry: load.retry,
    };
    let facts = instruments.measured.facts().await?;
    let watch = Watch::new(instruments, load.drain);
    let (record, watched) = watch.run(orders, stop, told).await?;
    Ok(LoadReport::new(load, instruments, facts, &record, &watched))
}

fn pairs(load: &Load, map: Option<&ShardMap>, names: &Names) -> Pairs {
    let across = map.map(|map| {
        let shard = |number| {
            let id = names.account(number).parse().expect("the prefix was checked");
            map.shard_of(&id).0
        };
        Across { share: load.cross_shard, shards: (0..load.accounts).map(shard).collect() }
    });
    Pairs::new(load.mix, load.accounts, load.skew, load.hot_share, across)
}

/// Those that exist with the same attributes are left as they are.
async fn make_accounts(
    api: &Api,
    load: &Load,
    names: &Names,
    told: &dyn Fn(&str),
) -> Result<(), ApiError> {
    let account = |number: u32| {
        json!({
            "id": names.account(number),
            "currency": load.currency,
            "overdraft_limit": OVERDRAFT,
        })
    };
    let make = async |first: u32| {
        let numbers = first..load.accounts.min(first + ACCOUNTS_A_REQUEST);
        let accounts: Vec<_> = numbers.map(account).collect();
        api.create_accounts(&accounts).await.map(|()| accounts.len())
    };
    let requests = (0..load.accounts).step_by(ACCOUNTS_A_REQUEST as usize).map(make);
    let mut made = stream::iter(requests).buffer_unordered(ACCOUNT_REQUESTS);
    let mut count = 0;
    while let Some(more) = made.try_next().await? {
        count += more;
        told(&format!("making accounts: {count} of {}", load.accounts));
    }
    Ok(())
}
