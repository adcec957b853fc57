//! What is known of a shard as a whole is measured by whoever reconciles it, and by nobody else: the
//! money that is under way, what is stuck, how far the consumer groups are behind.
//!
//! The statement is that of `holdfast status`: it reads what the scan has not come past yet, so it
//! costs what was accepted in the last minute. It is asked every fifteenth round; where it takes long
//! it takes a twentieth of the time at most, but is asked once a minute at least, so that it can be
//! seen what is wrong with a shard that is slow. Which stage the stuck ones wait for is looked up only
//! where there are some.

use super::LEASE;
use super::sight::Sight;
use crate::context::Context;
use crate::domain::{Currency, Shard, State, Timestamp, TransferId};
use crate::meters::Gauges;
use crate::meters::table::{
    LAG_RECORDS, LAG_SECONDS, OPEN, OPEN_AGE, OPEN_AMOUNT, RECONCILED, STUCK, STUCK_AMOUNT,
};
use crate::roles::Role;
use crate::store::{Standing, StoreError, StuckTransfer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Rounds of the reconciler between two measures.
const ROUNDS: u32 = 15;
/// The rest after a measure, as a multiple of what it took, and the longest.
const REST: u32 = 20;
const LONGEST_REST: Duration = Duration::from_secs(60);
/// Stuck transfers of one page, and of how many it is looked up what they wait for.
const PAGE: u32 = 500;
const LOOKED_UP: usize = 2000;
/// The roles that read events.
const READERS: [Role; 4] = [Role::Hold, Role::Credit, Role::Commit, Role::Projector];

/// The measures of one shard.
pub struct Measures {
    context: Arc<Context>,
    shard: Shard,
    label: String,
    money: Gauges,
    lags: Gauges,
    money_due: Instant,
    lags_due: Instant,
    led: Option<Instant>,
}

/// How many transfers, and how much.
type Sum = (u64, i128);

impl Measures {
    /// Nothing is measured yet.
    pub fn new(context: Arc<Context>, shard: Shard) -> Self {
        let now = Instant::now();
        Self {
            context,
            shard,
            label: shard.to_string(),
            money: Gauges::default(),
            lags: Gauges::default(),
            money_due: now,
            lags_due: now,
            led: None,
        }
    }

    /// The money that is under way, where it is time to look. `now` is database time.
    pub async fn money(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.led = Some(Instant::now());
        if self.money_due > Instant::now() {
            return Ok(());
        }
        let began = Instant::now();
        let open = self.context.store.standing(self.shard).await?;
        let until = now.minus(self.context.policy.scan_lag);
        let stuck = if open.iter().any(|one| one.oldest < until) {
            self.stuck(until).await?
        } else {
            BTreeMap::new()
        };
        self.show(&open, &stuck, now);
        let rest = (began.elapsed() * REST).min(LONGEST_REST);
        self.money_due = Instant::now() + rest.max(self.context.policy.reconcile_interval * ROUNDS);
        Ok(())
    }

    /// How far the consumer groups are behind, where it is time to look and the broker says.
    pub async fn lags(&mut self, now: Timestamp) {
        if self.lags_due > Instant::now() {
            return;
        }
        for role in READERS {
            let context = Arc::clone(&self.context);
            let progress = context.backlog.of(&*context.broker, role, self.shard).await;
            let Some(progress) = progress else { continue };
            let labels = [role.as_str(), self.label.as_str()];
            self.lags.set(&LAG_RECORDS, &labels, progress.records() as f64);
            self.lags.set(&LAG_SECONDS, &labels, progress.lag(now).as_secs_f64());
        }
        self.lags_due = Instant::now() + self.context.policy.reconcile_interval * ROUNDS;
    }

    /// A round went to its end. The time stays where it is when somebody else reconciles: the newest
    /// of all processes counts.
    pub fn passed(&self, now: Timestamp) {
        RECONCILED.gauge(&[&self.label]).set(now.micros() as f64 / 1e6);
    }

    /// A round did not go to its end. Once somebody else may reconcile nothing is shown here.
    pub fn failed(&mut self) {
        if self.led.is_some_and(|at| at.elapsed() > LEASE) {
            self.clear();
        }
    }

    /// Somebody else reconciles.
    pub fn clear(&mut self) {
        self.led = None;
        self.money.clear();
        self.lags.clear();
    }

    /// By currency and the stage that has to act next, of the oldest.
    async fn stuck(&self, until: Timestamp) -> Result<BTreeMap<(Currency, Role), Sum>, StoreError> {
        let sight = Sight::of(&self.context, self.shard).await?;
        let mut sums: BTreeMap<(Currency, Role), Sum> = BTreeMap::new();
        let (mut after, mut looked_up) = (TransferId::from_bytes([0; 16]), 0);
        while looked_up < LOOKED_UP {
            let store = &self.context.store;
            let page: Vec<StuckTransfer> =
                store.open_transfers(self.shard, after, until, PAGE).await?;
            let pivots = sight.pivots(&page).await;
            for stuck in &page {
                let terms = &stuck.row.terms;
                let (stage, _) = sight.stage(stuck, &pivots);
                let sum = sums.entry((terms.amount.currency(), stage)).or_default();
                *sum = (sum.0 + 1, sum.1 + i128::from(terms.amount.minor()));
            }
            looked_up += page.len();
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = last.row.terms.id,
                _ => break,
            }
        }
        Ok(sums)
    }

    /// Currencies that share a label are added up.
    fn show(&mut self, open: &[Standing], stuck: &BTreeMap<(Currency, Role), Sum>, now: Timestamp) {
        let mut by_state: BTreeMap<(String, &str), (Sum, Duration)> = BTreeMap::new();
        for one in open {
            let state = match one.state {
                State::Requested | State::Held => one.state.as_str(),
                State::Committed | State::Rejected | State::Cancelled => continue,
            };
            let currency = self.context.money.label(one.currency);
            let (sum, age) = by_state.entry((currency, state)).or_default();
            *sum = (sum.0 + one.transfers, sum.1 + one.amount);
            *age = now.since(one.oldest).max(*age);
        }
        for ((currency, state), ((transfers, amount), age)) in &by_state {
            let labels = [self.label.as_str(), currency, state];
            self.money.set(&OPEN, &labels, *transfers as f64);
            self.money.set(&OPEN_AMOUNT, &labels, *amount as f64);
            self.money.set(&OPEN_AGE, &labels, age.as_secs_f64());
        }
        let mut by_stage: BTreeMap<(String, &str), Sum> = BTreeMap::new();
        for ((currency, stage), (transfers, amount)) in stuck {
            let currency = self.context.money.label(*currency);
            let sum = by_stage.entry((currency, stage.as_str())).or_default();
            *sum = (sum.0 + transfers, sum.1 + amount);
        }
        for ((currency, stage), (transfers, amount)) in &by_stage {
            let labels = [self.label.as_str(), currency, stage];
            self.money.set(&STUCK, &labels, *transfers as f64);
            self.money.set(&STUCK_AMOUNT, &labels, *amount as f64);
        }
        self.money.and_no_more();
    }
}
