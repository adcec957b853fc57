//! Step 7, reconciler: what stands still is driven on, and a hold that nobody settles is given up
//! by the protocol. It writes pivots and cancels REQUESTED transfers; it never touches posted or
//! held.
//!
//! State before: any that is not final. State after: the same, one event or one pivot further.
//! A backlog is not an orphan: what a stage has yet to read is left alone.

pub mod audit;
pub mod compare;
mod dead_letters;
mod decide;
mod drift;
mod measure;
pub mod recover;
mod redrive;
pub mod sight;
mod traced;

pub use decide::{Action, PivotLook, Surroundings, decide};

use crate::broker::Producer;
use crate::context::Context;
use crate::crash::{self, Place};
use crate::domain::{Shard, Timestamp};
use crate::roles::Role;
use crate::seldom::Seldom;
use crate::store::{Mark, StoreError};
use measure::Measures;
use redrive::{Round, RoundError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Transfers scanned at once, and how long one round may scan.
const SCAN: u32 = 2000;
const SCAN_BOUND: Duration = Duration::from_millis(500);
const LEASE: Duration = Duration::from_secs(15);
/// How often it is asked whether a sweep is due.
const SWEEP_LOOK: Duration = Duration::from_secs(60);
/// Claims deleted at once, and how often.
const CLAIMS: u32 = 1000;
const CLAIMS_INTERVAL: Duration = Duration::from_secs(60);

/// Runs the role for one shard until `stop`, through every outage.
pub async fn run(
    context: Arc<Context>,
    shard: Shard,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let letters = AbortOnDropHandle::new(tokio::spawn(dead_letters::run(
        Arc::clone(&context),
        shard,
        stop.clone(),
    )));
    let drift =
        AbortOnDropHandle::new(tokio::spawn(drift::run(Arc::clone(&context), shard, stop.clone())));
    let mut reconciler = Reconciler {
        context: Arc::clone(&context),
        shard,
        sweep_looked_at: None,
        sweeping: false,
        expired: Instant::now(),
        producer: None,
        measures: Measures::new(Arc::clone(&context), shard),
    };
    let early = Seldom::unsaid();
    while !stop.is_cancelled() {
        if context.pauses.now().stops(Role::Reconciler, shard) {
            // Nothing is known of the shard here meanwhile.
            reconciler.measures.clear();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = context.pauses.running(Role::Reconciler, shard) => {}
            }
        }
        match reconciler.round().await {
            Ok(()) => {}
            Err(RoundError::Store(error @ StoreError::Identity { .. })) => {
                return Err(anyhow::Error::new(error).context("reconciler cannot go on"));
            }
            Err(error) => {
                if let Some(left_out) = early.due() {
                    tracing::warn!(%shard, %error, left_out, "a round of the reconciler ended early");
                }
                reconciler.producer = None;
                reconciler.measures.failed();
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(context.policy.reconcile_interval) => {}
        }
    }
    letters.await?;
    drift.await?;
    Ok(())
}

struct Reconciler {
    context: Arc<Context>,
    shard: Shard,
    sweep_looked_at: Option<Instant>,
    sweeping: bool,
    expired: Instant,
    producer: Option<Box<dyn Producer>>,
    measures: Measures,
}

impl Reconciler {
    /// Several reconcilers are harmless; the lease only saves their work.
    async fn round(&mut self) -> Result<(), RoundError> {
        let (context, shard) = (Arc::clone(&self.context), self.shard);
        let holder = &context.policy.instance;
        if !context.store.lease(shard, "reconciler", holder, LEASE).await? {
            self.measures.clear();
            return Ok(());
        }
        let now = self.scan().await?;
        crash::at(Role::Reconciler, Place::Scanned);
        self.expire_claims().await?;
        match self.measures.money(now).await {
            Err(error @ StoreError::Identity { .. }) => return Err(error.into()),
            Err(error) => tracing::debug!(%shard, %error, "the money under way was not measured"),
            Ok(()) => {}
        }
        if self.producer.is_none() {
            self.producer = Some(context.broker.producer().await?);
        }
        if let Some(producer) = &self.producer {
            Round::begin(&context, shard, &**producer).await?.run().await?;
            crash::at(Role::Reconciler, Place::Seen);
        }
        self.measures.lags(now).await;
        self.measures.passed(now);
        Ok(())
    }

    /// Moves the mark over what was accepted since; and now and then lets the sweep, one page a
    /// round, go over everything from the oldest on. Returns database time.
    async fn scan(&mut self) -> Result<Timestamp, StoreError> {
        let (context, policy) = (Arc::clone(&self.context), &self.context.policy);
        let store = &context.store;
        let now = store.now(self.shard).await?;
        let until = now.minus(policy.scan_lag);
        self.sweeping = self.sweeping || self.sweep_is_due(until).await?;
        if self.sweeping
            && store.scan_unfinished(self.shard, Mark::Sweep, until, SCAN).await? < SCAN
        {
            self.sweeping = false;
        }
        let began = Instant::now();
        while store.scan_unfinished(self.shard, Mark::Recent, until, SCAN).await? == SCAN
            && began.elapsed() < SCAN_BOUND
        {}
        Ok(now)
    }

    /// Once in each interval, whoever reconciles and however often processes are started: whoever
    /// sweeps takes a lease for the interval under a name that nobody has, and keeps it.
    async fn sweep_is_due(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let policy = &self.context.policy;
        let pause = policy.full_sweep_interval.min(SWEEP_LOOK);
        if self.sweep_looked_at.is_some_and(|at| at.elapsed() < pause) {
            return Ok(false);
        }
        self.sweep_looked_at = Some(Instant::now());
        let holder = format!("{} at {now}", policy.instance);
        self.context.store.lease(self.shard, "sweep", &holder, policy.full_sweep_interval).await
    }

    async fn expire_claims(&mut self) -> Result<(), StoreError> {
        if self.expired.elapsed() < CLAIMS_INTERVAL {
            return Ok(());
        }
        let store = &self.context.store;
        let before = store.now(self.shard).await?.minus(self.context.policy.claim_retention);
        if store.expire_claims(self.shard, before, CLAIMS).await? < CLAIMS {
            self.expired = Instant::now();
        }
        Ok(())
    }
}
