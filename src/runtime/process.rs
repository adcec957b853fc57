//! From the first moment of a process to its last.

use super::backend::{self, Backend};
use super::door::Door;
use super::limits;
use super::readiness::{Condition, Needs};
use super::stop;
use super::supervisor::Supervisor;
use super::waiting::Waiting;
use crate::access::{Authenticator, Gate, Oidc};
use crate::config::{Access, Config};
use crate::context::Context;
use crate::ingress::Ingress;
use crate::ingress::http::{self, HttpExtras};
use crate::limits::Limiter;
use crate::roles::Role;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::trace::{Exporting, Resource, Traces};
use anyhow::bail;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the rest of a process is given to end once one of its roles has failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How much of the time to end is kept for the roles, after requests were answered.
const FOR_ROLES: Duration = Duration::from_secs(10);

/// The principal of every request, as long as nobody has to say who they are.
pub const ANYBODY: &str = "default";

/// Runs the configured roles on MySQL and Kafka until SIGINT or SIGTERM.
pub async fn serve(config: &Config) -> anyhow::Result<()> {
    limits::set(config.core_dumps);
    let stop = stop::on_signal()?;
    let condition = Condition::starting();
    let extras = extras(&condition)?;
    let door = open_door(config, &extras).await?;
    let waiting = Waiting::until(config.start_timeout, condition.clone());
    let backend = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        backend = backend::connect(config, &waiting) => backend?,
    };
    refuse_unrecovered(&*backend.store).await?;
    let gate = gate(&config.access, &backend.store)?;
    let traces = traces(config)?;
    let mut process = Process::new(backend, config, condition, waiting, door, traces);
    process.learn_pauses().await;
    process.let_in(extras, gate, &config.access);
    process.run(stop, config).await
}

/// Runs every role on the embedded store and log until SIGINT or SIGTERM. New data gets `shards`
/// shards, or 2. `greet` is told scheme and address as soon as requests are taken.
pub async fn dev(
    config: &Config,
    shards: Option<u16>,
    greet: impl FnOnce(&str, SocketAddr),
) -> anyhow::Result<()> {
    limits::set(config.core_dumps);
    let stop = stop::on_signal()?;
    let condition = Condition::starting();
    let extras = extras(&condition)?;
    let backend = backend::open_or_create_embedded(config, shards).await?;
    refuse_unrecovered(&*backend.store).await?;
    let door = Door::open(&config.listen, &config.http, http::probes(extras.clone(), true)).await?;
    let (scheme, address) = (door.scheme(), door.address());
    let everything = Config { roles: Role::ALL.to_vec(), shards: None, ..config.clone() };
    let waiting = Waiting::until(config.start_timeout, condition.clone());
    let gate = gate(&config.access, &backend.store)?;
    let traces = traces(&everything)?;
    let mut process = Process::new(backend, &everything, condition, waiting, Some(door), traces);
    process.learn_pauses().await;
    process.let_in(extras, gate, &config.access);
    greet(scheme, address);
    process.run(stop, config).await
}

/// No role works while a recovery is not finished: what does not agree yet would be driven on as if
/// it did. A shard that does not answer says nothing; the others say the same.
async fn refuse_unrecovered(store: &dyn Store) -> anyhow::Result<()> {
    for shard in store.map().all_shards() {
        if let Ok(true) = store.recovery_unfinished(shard).await {
            bail!(
                "a recovery was begun and is not finished: run `holdfast reconcile recover` for \
                 the shard that was promoted, then start this process again"
            );
        }
    }
    Ok(())
}

/// For ingress, and for the probes of a process that was given an address for them.
async fn open_door(config: &Config, extras: &HttpExtras) -> anyhow::Result<Option<Door>> {
    let ingress = config.roles.contains(&Role::Ingress);
    if !ingress && !config.listen_given {
        return Ok(None);
    }
    let probes = http::probes(extras.clone(), ingress);
    Ok(Some(Door::open(&config.listen, &config.http, probes).await?))
}

fn extras(condition: &Condition) -> anyhow::Result<HttpExtras> {
    let metrics = Metrics::start()?.render();
    Ok(HttpExtras { readiness: condition.readiness(), metrics })
}

/// Where spans go, and the task that sends them, where they go anywhere.
fn traces(config: &Config) -> anyhow::Result<(Traces, Option<Exporting>)> {
    let Some(settings) = &config.traces else { return Ok((Traces::default(), None)) };
    let roles: Vec<&str> = config.roles.iter().map(|role| role.as_str()).collect();
    let resource = Resource { instance: config.policy.instance.clone(), roles: roles.join(",") };
    let (traces, exporting) = Traces::start(settings, &resource)?;
    Ok((traces, Some(exporting)))
}

/// Who is let in, by the configuration.
fn gate(access: &Access, store: &Arc<dyn Store>) -> anyhow::Result<Gate> {
    if access.open {
        tracing::warn!(
            "nobody has to say who they are: everybody on this machine may do everything"
        );
        return Ok(Gate::open(ANYBODY.parse().expect("a valid client name")));
    }
    let oidc = access.oidc.clone().map(Oidc::new).transpose()?;
    let keys = access.keys.then(|| Arc::clone(store));
    Ok(Gate::Guarded(Arc::new(Authenticator::new(keys, oidc))))
}

/// A process whose store is open.
struct Process {
    context: Arc<Context>,
    needs: Needs,
    condition: Condition,
    waiting: Waiting,
    door: Option<Door>,
    /// Once the API is served.
    ingress: Option<Ingress>,
    supervisor: Supervisor,
    exporting: Option<Exporting>,
}

impl Process {
    fn new(
        backend: Backend,
        config: &Config,
        condition: Condition,
        waiting: Waiting,
        door: Option<Door>,
        (traces, exporting): (Traces, Option<Exporting>),
    ) -> Self {
        let services = backend.services;
        let context = Context { traces, ..backend.into_context(config.policy.clone()) };
        let context = Arc::new(context);
        let all = || context.store.map().all_shards().collect();
        let shards = config.shards.clone().unwrap_or_else(all);
        let needs = Needs { roles: config.roles.clone(), shards, services };
        let supervisor = Supervisor::new();
        Self { context, needs, condition, waiting, door, ingress: None, supervisor, exporting }
    }

    /// Nothing is begun before it is known what operators have stopped.
    async fn learn_pauses(&self) {
        self.context.pauses.follow(&self.context.store).await;
    }

    /// Serves the API from now on, if that is among the roles. Not before that is anybody told that
    /// the process is ready.
    fn let_in(&mut self, extras: HttpExtras, gate: Gate, access: &Access) {
        if self.needs.roles.contains(&Role::Ingress) {
            let ingress = Ingress::new(Arc::clone(&self.context));
            self.ingress = Some(ingress.clone());
            let api = http::router(ingress, extras, gate, self.limiter(access));
            self.door.as_ref().expect("ingress has a door").let_in(api);
            tracing::info!("the API is served");
        }
        self.condition.runs(Arc::clone(&self.context), self.needs.clone());
    }

    /// How often callers may call, where there are rules for it.
    fn limiter(&self, access: &Access) -> Option<Limiter> {
        let redis = self.context.cache.clone()?;
        let rules = Some(access.limits.clone()).filter(|rules| !rules.is_empty())?;
        Some(Limiter::start(rules, redis, access.limits_open))
    }

    /// Works until told to stop or until a role fails, then ends in order.
    async fn run(mut self, stop: CancellationToken, config: &Config) -> anyhow::Result<()> {
        let failure = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            failure = self.work() => Some(failure),
        };
        match failure {
            None => {
                let failure = self.drain(config.drain_delay).await;
                let ended = self.end(config.stop_timeout).await;
                failure.map_or(ended, Err)
            }
            Some(failure) => {
                tracing::error!(error = format!("{failure:#}"), "the process ends");
                let _ = self.end(AFTER_FAILURE).await;
                Err(failure)
            }
        }
    }

    /// Runs the roles other than ingress as soon as the broker is there; returns why one failed.
    async fn work(&mut self) -> anyhow::Error {
        if self.needs.roles.iter().any(|role| role.needs_broker()) {
            if let Err(error) = self.waiting.for_broker(&self.context).await {
                return error;
            }
            let roles: Vec<&str> = self.needs.roles.iter().map(|role| role.as_str()).collect();
            tracing::info!(?roles, shards = ?self.needs.shards, "the roles begin");
            self.supervisor.start(&self.context, &self.needs.roles, &self.needs.shards);
        }
        self.supervisor.failure().await
    }

    /// Not ready any more, and working all the same until whoever sends requests has noticed. A role
    /// that fails meanwhile ends it.
    async fn drain(&mut self, delay: Duration) -> Option<anyhow::Error> {
        self.condition.stops();
        if self.ingress.is_none() || delay.is_zero() {
            return None;
        }
        tracing::info!(?delay, "draining: not ready any more, requests are still taken");
        if let Some(door) = &self.door {
            door.drain();
        }
        tokio::time::timeout(delay, self.supervisor.failure()).await.ok()
    }

    /// Not ready any more; requests under way are answered, those that wait for an end with the
    /// state there is; then the roles finish, and their consumers leave. All within `bound`.
    async fn end(mut self, bound: Duration) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + bound;
        tracing::info!("stopping: requests under way are answered, roles finish their batches");
        self.condition.stops();
        if let Some(ingress) = self.ingress.take() {
            ingress.end_waiting();
        }
        if let Some(door) = &mut self.door {
            door.close(bound.saturating_sub(FOR_ROLES.min(bound / 2))).await;
        }
        let ended = self.supervisor.stop(deadline - tokio::time::Instant::now()).await;
        let left = tokio::time::timeout_at(deadline, self.context.broker.left());
        if left.await.is_err() {
            tracing::warn!("some consumers have not left their groups in time");
        }
        if let Some(exporting) = self.exporting.take()
            && tokio::time::timeout_at(deadline, exporting.finish()).await.is_err()
        {
            tracing::warn!("the last spans of traces were not sent in time");
        }
        ended
    }
}
