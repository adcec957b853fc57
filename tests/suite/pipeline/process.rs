//! One process of a cluster: ingress, and any roles for any shards, each of which can be stopped.

use super::backend::answered;
use super::faults::{BrokerFaults, ShardFaults, StoreFaults};
use crate::wait::{DEADLINE, eventually, within};
use holdfast::broker::{Family, Group, Topic};
use holdfast::context::Context;
use holdfast::domain::{AccountId, EventType, Money, Shard, TransferId};
use holdfast::ingress::{Ingress, Refusal, ReversalRequest, Submitted, TransferRequest};
use holdfast::roles::Role;
use holdfast::store::TransferRecord;
use holdfast::{commit, credit, hold, projector, reconciler, relay};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The roles that are started for a shard, in the order of the pipeline.
pub const ROLES: [Role; 6] =
    [Role::Relay, Role::Hold, Role::Credit, Role::Commit, Role::Projector, Role::Reconciler];

type Running = BTreeMap<(Role, Shard), (CancellationToken, JoinHandle<anyhow::Result<()>>)>;

/// A process. Its roles end with the test, or when they are stopped.
pub struct Process {
    pub context: Arc<Context>,
    pub ingress: Ingress,
    pub broker: Arc<BrokerFaults>,
    stores: Arc<StoreFaults>,
    running: Mutex<Running>,
}

impl Process {
    pub fn new(context: Arc<Context>, stores: Arc<StoreFaults>, broker: Arc<BrokerFaults>) -> Self {
        let ingress = Ingress::new(Arc::clone(&context));
        Self { context, ingress, broker, stores, running: Mutex::default() }
    }

    /// The switches between this process and a shard.
    pub fn shard(&self, shard: u16) -> &ShardFaults {
        self.stores.shard(Shard(shard))
    }

    pub fn start_all(&self) {
        self.start(&ROLES);
    }

    /// Every role but these.
    pub fn start_all_but(&self, roles: &[Role]) {
        let others: Vec<Role> = ROLES.into_iter().filter(|role| !roles.contains(role)).collect();
        self.start(&others);
    }

    /// Starts roles for all shards.
    pub fn start(&self, roles: &[Role]) {
        for role in roles {
            for shard in self.context.store.map().all_shards() {
                self.start_on(*role, shard.0);
            }
        }
    }

    pub fn start_on(&self, role: Role, shard: u16) {
        let (context, stop, shard) =
            (Arc::clone(&self.context), CancellationToken::new(), Shard(shard));
        let token = stop.clone();
        let task = tokio::spawn(async move {
            match role {
                Role::Relay => relay::run(context, shard, token).await,
                Role::Hold => hold::run(context, shard, token).await,
                Role::Credit => credit::run(context, shard, token).await,
                Role::Commit => commit::run(context, shard, token).await,
                Role::Projector => projector::run(context, shard, token).await,
                Role::Reconciler => reconciler::run(context, shard, token).await,
                Role::Ingress => panic!("ingress runs in every process"),
            }
        });
        let earlier = self.running.lock().unwrap().insert((role, shard), (stop, task));
        assert!(earlier.is_none(), "{role} of shard {shard} runs already");
    }

    /// Stops roles of all shards and waits until they have ended.
    pub async fn stop(&self, roles: &[Role]) {
        let shards: Vec<Shard> = self.context.store.map().all_shards().collect();
        for role in roles {
            for shard in &shards {
                self.stop_on(*role, shard.0).await;
            }
        }
    }

    pub async fn stop_on(&self, role: Role, shard: u16) {
        let running = self.running.lock().unwrap().remove(&(role, Shard(shard)));
        let (stop, task) = running.unwrap_or_else(|| panic!("{role} of {shard} does not run"));
        stop.cancel();
        within("the end of a role", task).await.unwrap().unwrap();
    }

    /// Ends roles of all shards in the middle of whatever they do.
    pub async fn abort(&self, roles: &[Role]) {
        let shards: Vec<Shard> = self.context.store.map().all_shards().collect();
        for role in roles {
            for shard in &shards {
                self.abort_on(*role, shard.0).await;
            }
        }
    }

    pub async fn abort_on(&self, role: Role, shard: u16) {
        let running = self.running.lock().unwrap().remove(&(role, Shard(shard)));
        let (_, task) = running.unwrap_or_else(|| panic!("{role} of {shard} does not run"));
        task.abort();
        let _ = task.await;
    }

    /// Waits until the groups of these roles have committed everything that is there.
    pub async fn caught_up(&self, roles: &[Role]) {
        let shards: Vec<Shard> = self.context.store.map().all_shards().collect();
        for (role, shard) in roles.iter().flat_map(|role| shards.iter().map(|at| (*role, *at))) {
            let group = Group { role: role.as_str(), shard };
            eventually(&format!("{group} caught up"), || async {
                let topics = topics(role, shard);
                let lags = answered(|| self.context.broker.lag(&group, &topics)).await.unwrap();
                lags.iter().all(|lag| lag.records() == 0)
            })
            .await;
        }
    }

    pub async fn stop_all(&self) {
        let running = std::mem::take(&mut *self.running.lock().unwrap());
        running.values().for_each(|(stop, _)| stop.cancel());
        for (_, task) in running.into_values() {
            within("the end of a role", task).await.unwrap().unwrap();
        }
    }

    /// Asks for a transfer with a key of its own.
    pub async fn transfer(&self, from: &AccountId, to: &AccountId, minor: i64) -> TransferId {
        self.submit(&request(from, to, minor)).await.transfer.row.terms.id
    }

    /// Asks until it is accepted or refused for good, as callers are told to.
    pub async fn ask(&self, request: &TransferRequest) -> Result<Submitted, Refusal> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.ingress.submit(request.clone()).await {
                Err(refusal) if refusal.is_momentary() => {
                    assert!(Instant::now() < deadline, "{refusal}: for {DEADLINE:?}");
                }
                answer => return answer,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn submit(&self, request: &TransferRequest) -> Submitted {
        self.ask(request).await.unwrap()
    }

    /// Waits for the end of a transfer as a caller with `Prefer: wait` does.
    pub async fn wait(&self, id: TransferId) -> TransferRecord {
        let transfer = self.ingress.transfer_record(id).await.unwrap();
        self.ingress.wait_final(transfer, DEADLINE).await.unwrap()
    }
}

fn topics(role: Role, shard: Shard) -> Vec<Topic> {
    match role {
        Role::Projector => [
            EventType::Held,
            EventType::Credited,
            EventType::Committed,
            EventType::Rejected,
            EventType::Cancelled,
        ]
        .map(|kind| Topic::of(kind, shard))
        .to_vec(),
        Role::Reconciler => vec![Topic { family: Family::DeadLetter, shard }],
        Role::Ingress | Role::Relay | Role::Hold | Role::Credit | Role::Commit => {
            holdfast::backlog::topics(role, shard)
        }
    }
}

/// A request with a key of its own.
pub fn request(from: &AccountId, to: &AccountId, minor: i64) -> TransferRequest {
    TransferRequest {
        client: "tests".parse().unwrap(),
        key: format!("key-{:016x}", rand::random::<u64>()).parse().unwrap(),
        source: from.clone(),
        destination: to.clone(),
        amount: dollars(minor),
        currency_given: true,
        description: None,
        reference: None,
        metadata: None,
        reverses: None,
        traceparent: None,
    }
}

/// A reversal with a key of its own.
pub fn reversal(original: TransferId, minor: i64) -> ReversalRequest {
    ReversalRequest {
        client: "tests".parse().unwrap(),
        key: format!("key-{:016x}", rand::random::<u64>()).parse().unwrap(),
        original,
        amount: dollars(minor),
        traceparent: None,
    }
}

/// Minor units of USD.
pub fn dollars(minor: i64) -> Money {
    Money::from_minor(minor, super::cluster::usd()).unwrap()
}
