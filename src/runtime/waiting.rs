//! Waiting at the start: each service that does not answer is named once on stderr, and asked
//! again until it does or the time is over.

use super::readiness::Condition;
use crate::broker::{Broker, BrokerError, Topic};
use crate::cache::BalanceCache;
use crate::context::Context;
use crate::domain::Shard;
use crate::ingress::http::{DependencyStatus, Health};
use crate::store::{Store, StoreError};
use anyhow::anyhow;
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The patience of one start. Cheap to clone.
#[derive(Clone)]
pub struct Waiting {
    patience: Duration,
    deadline: Instant,
    named: Arc<Mutex<BTreeSet<String>>>,
    condition: Condition,
}

impl Waiting {
    /// Waits for `patience` from now on, for all services together.
    pub fn until(patience: Duration, condition: Condition) -> Self {
        let deadline = Instant::now() + patience;
        Self { patience, deadline, named: Arc::default(), condition }
    }

    /// Names a service that does not answer, and what follows from that; once.
    fn name(&self, service: &str, address: &str, detail: &str, then: &str) {
        let mut named = self.named.lock().expect("nothing panics while it is held");
        if named.insert(service.to_owned()) {
            eprintln!("holdfast: {service} at {address} does not answer ({detail}); {then}");
        }
    }

    fn trying_again(&self) -> String {
        format!("trying again for {}", humantime::format_duration(self.patience))
    }

    /// Opens a store as soon as a shard answers. The inner error of `open` names the shards that
    /// do not, the outer one is fatal.
    pub async fn for_store<S>(
        &self,
        open: impl AsyncFn() -> Result<Result<S, Vec<StoreError>>, StoreError>,
    ) -> anyhow::Result<S> {
        let mut pause = FIRST_PAUSE;
        loop {
            let silent = match open().await? {
                Ok(store) => return Ok(store),
                Err(silent) => silent,
            };
            let statuses =
                silent.iter().filter_map(|error| self.name_shard(error, &self.trying_again()));
            self.condition.waits_for(statuses.collect());
            self.sleep(&mut pause, "no MySQL shard answers", "them").await?;
        }
    }

    /// Names the shards that do not answer now; the roles of the others can start.
    pub async fn look_at_shards(&self, store: &dyn Store) {
        let shards: Vec<Shard> = store.map().all_shards().collect();
        let answers = join_all(shards.iter().map(|shard| store.ping(*shard))).await;
        for error in answers.into_iter().filter_map(Result::err) {
            self.name_shard(&error, "the other shards are served without it until it does");
        }
    }

    fn name_shard(&self, error: &StoreError, then: &str) -> Option<DependencyStatus> {
        let StoreError::Unavailable { shard, address, detail } = error else { return None };
        self.name(&format!("MySQL shard {shard}"), address, detail, then);
        Some(absent(format!("mysql.{shard}"), detail))
    }

    /// Returns when the broker answers and has every topic; topics that are missing are an error.
    pub async fn for_broker(&self, context: &Context) -> anyhow::Result<()> {
        let map = context.store.map();
        let topics = Topic::all(map.all_shards());
        let (broker, mut pause) = (&context.broker, FIRST_PAUSE);
        loop {
            match broker.missing_topics(&topics, map.partitions()).await {
                Ok(missing) => return require_topics(&missing),
                Err(BrokerError::Unavailable { address, detail }) => {
                    self.name("Kafka", &address, &detail, &self.trying_again());
                    let what = format!("Kafka at {address} does not answer");
                    self.sleep(&mut pause, &what, "it").await?;
                }
                Err(fatal) => return Err(fatal.into()),
            }
        }
    }

    /// Names the broker and the cache if they do not answer now, without holding anything up.
    pub fn look_at_others(&self, broker: Arc<dyn Broker>, cache: Option<BalanceCache>) {
        let waiting = self.clone();
        tokio::spawn(async move {
            if let Err(error) = broker.ping().await {
                let then = "transfers wait in the outbox until it does";
                waiting.name("Kafka", &broker.address(), words(&error), then);
            }
        });
        let waiting = self.clone();
        tokio::spawn(async move {
            if let Some(cache) = cache
                && let Err(error) = cache.ping().await
            {
                let then = "balances are read from MySQL until it does";
                waiting.name("Redis", cache.address(), &error.to_string(), then);
            }
        });
    }

    /// Sleeps a little longer than the last time, or says that the time is over.
    async fn sleep(&self, pause: &mut Duration, what: &str, it: &str) -> anyhow::Result<()> {
        if Instant::now() + *pause > self.deadline {
            let patience = humantime::format_duration(self.patience);
            return Err(anyhow!(
                "{what} after {patience}: start {it} or correct the configuration, then start this process again"
            ));
        }
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

fn words(error: &BrokerError) -> &str {
    match error {
        BrokerError::Unavailable { detail, .. } => detail,
        BrokerError::Refused { detail, .. } => detail,
        BrokerError::Broken(detail) | BrokerError::Topic(detail) => detail,
    }
}

fn require_topics(missing: &[Topic]) -> anyhow::Result<()> {
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(anyhow!(
            "{} topics do not exist or have another number of partitions, {first} among them: run `holdfast migrate`",
            missing.len()
        )),
    }
}

fn absent(name: String, detail: &str) -> DependencyStatus {
    DependencyStatus {
        name,
        health: Health::Down,
        latency: Duration::ZERO,
        required: true,
        detail: Some(detail.to_owned()),
    }
}
