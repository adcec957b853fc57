//! `reconcile repair`: what stands still is driven on now, by the reconciler's own decisions, and
//! projections that differ are made anew. Never touches posted or held.

use super::OperatorError;
use super::letters::{self, LetterFilter};
use crate::cancel::{cancel_requested, refuse};
use crate::context::Context;
use crate::domain::{
    AccountId, Reason, Shard, State, StuckTransfer, Timestamp, TransferId, format_minor,
};
use crate::reconciler::compare::{behind, same_balance};
use crate::reconciler::sight::{Pivots, Sight};
use crate::reconciler::{Action as Decision, PivotLook, decide};
use crate::store::{AccountSums, Action, Actor, BalanceRow, StoreError, Tx, Work, transact};
use async_trait::async_trait;
use serde::Serialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// Transfers or accounts looked at in one go.
const PAGE: u32 = 500;
/// Transfers that are younger are on their way.
const YOUNG: Duration = Duration::from_secs(5);
/// After this a projection that has not moved is behind, not on its way.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(5);

/// Something that was found, why it is so, and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// `transfer`, or which projection.
    pub kind: &'static str,
    /// The transfer, or the account.
    pub target: String,
    /// Where it is.
    pub shard: Shard,
    /// A transfer's stored state, or the projection's version.
    pub state: String,
    /// Money of it, with its currency.
    pub amount: String,
    /// Since when a transfer stands in its state.
    pub since: Option<Timestamp>,
    /// How often the reconciler drove it.
    pub attempts: u32,
    /// Why it stands.
    pub why: Vec<String>,
    /// What is done about it; none where it is to be left alone.
    pub action: Option<String>,
}

/// All that was found, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Repairs {
    /// In order of shard and id.
    pub repairs: Vec<Repair>,
    /// Shards and services that did not answer: nothing of theirs was repaired.
    pub faults: Vec<String>,
}

impl Repairs {
    /// Whether there is anything that is not left alone.
    pub fn acts(&self) -> bool {
        self.repairs.iter().any(|repair| repair.action.is_some())
    }
}

/// Repairs all shards; with no actor it only says what it would do.
pub async fn repair(context: &Context, actor: Option<&Actor>) -> Repairs {
    let mut all = Repairs::default();
    let letters = match letters::letters(context, LetterFilter::default(), None, 10_000).await {
        Ok((letters, _)) => letters,
        Err(error) => {
            all.faults.push(format!("dead letters are not known: {error}"));
            Vec::new()
        }
    };
    let mut dead: HashMap<TransferId, String> = HashMap::new();
    for letter in &letters {
        if let (Some(id), Ok(content)) = (letter.transfer(), &letter.content) {
            dead.entry(id).or_insert_with(|| format!("{} ({})", letter.id, content.reason));
        }
    }
    for shard in context.store.map().all_shards() {
        let mut transfers = Transfers { context, shard, actor, dead: &dead, all: &mut all };
        if let Err(error) = transfers.repair().await {
            all.faults.push(format!("transfers of shard {shard}: {error}"));
        }
    }
    let mut projections = Projections { context, differing: BTreeMap::new() };
    for shard in context.store.map().all_shards() {
        if let Err(error) = projections.look(shard).await {
            all.faults.push(format!("projections of shard {shard}: {error}"));
        }
    }
    projections.repair(actor, &mut all).await;
    all
}

struct Transfers<'a> {
    context: &'a Context,
    shard: Shard,
    actor: Option<&'a Actor>,
    dead: &'a HashMap<TransferId, String>,
    all: &'a mut Repairs,
}

impl Transfers<'_> {
    async fn repair(&mut self) -> Result<(), OperatorError> {
        let (store, shard) = (&self.context.store, self.shard);
        let sight = Sight::of(self.context, shard).await?;
        let young = YOUNG.min(self.context.policy.scan_lag);
        let until = sight.now.minus(young);
        let mut after = TransferId::from_bytes([0; 16]);
        loop {
            let page = store.open_transfers(shard, after, until, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.row.terms.id;
            let pivots = sight.pivots(&page).await;
            for stuck in &page {
                let repair = self.one(&sight, stuck, &pivots).await?;
                self.all.repairs.push(repair);
            }
        }
    }

    async fn one(
        &self,
        sight: &Sight<'_>,
        stuck: &StuckTransfer,
        pivots: &Pivots,
    ) -> Result<Repair, OperatorError> {
        let (row, terms) = (&stuck.row, &stuck.row.terms);
        let decision = decide(stuck, &sight.surroundings(stuck, pivots));
        let mut repair = Repair {
            kind: "transfer",
            target: terms.id.to_string(),
            shard: self.shard,
            state: row.state.as_str().to_owned(),
            amount: format!("{} {}", terms.amount, terms.amount.currency()),
            since: Some(row.held_at.unwrap_or(row.requested_at)),
            attempts: stuck.attempts,
            why: self.why(sight, stuck, pivots).await,
            action: None,
        };
        repair.action = match decision {
            Decision::Leave => None,
            Decision::Emit(kind) | Decision::Announce(kind) => {
                Some(format!("emit {} once more", kind.as_str()))
            }
            Decision::Refuse => {
                Some("write its pivot REFUSED hold_timeout; commit then releases it".to_owned())
            }
            Decision::Cancel => Some("cancel it as undeliverable".to_owned()),
        };
        if let Some(actor) = self.actor
            && let Err(error) = self.act(decision, stuck, actor).await
        {
            repair.why.push(format!("not done: {error}"));
            repair.action = None;
        }
        Ok(repair)
    }

    async fn act(
        &self,
        decision: Decision,
        stuck: &StuckTransfer,
        actor: &Actor,
    ) -> Result<(), OperatorError> {
        let terms = &stuck.row.terms;
        match decision {
            Decision::Leave => {}
            // What is emitted is what holds by then.
            Decision::Emit(_) | Decision::Announce(_) => {
                drop(super::retry(self.context, terms.id, actor).await?);
            }
            Decision::Refuse => {
                refuse(self.context, terms, Reason::HoldTimeout, Some(actor)).await?;
            }
            Decision::Cancel => {
                let reason = Reason::Undeliverable;
                cancel_requested(self.context, terms, reason, Some(actor)).await?;
            }
        }
        Ok(())
    }

    /// What keeps the transfer where it is, as far as that can be seen.
    async fn why(&self, sight: &Sight<'_>, stuck: &StuckTransfer, pivots: &Pivots) -> Vec<String> {
        let (row, terms) = (&stuck.row, &stuck.row.terms);
        let around = sight.surroundings(stuck, pivots);
        let (stage, known) = sight.stage(stuck, pivots);
        let mut why = Vec::new();
        if row.state == State::Requested && around.unsent {
            why.push("the outbox has unsent records as old as it: the relay is behind".to_owned());
        }
        if !known {
            why.push(format!("the broker does not say how far {stage} has come"));
        } else if around.behind {
            why.push(format!("{stage} has yet to read events as old as it"));
        }
        let destination = self.context.store.map().shard_of(&terms.destination);
        if row.state == State::Held {
            match around.pivot {
                PivotLook::Unknown => why.push(format!("shard {destination} does not answer")),
                PivotLook::Decided(decision) => {
                    why.push(format!(
                        "its pivot is decided ({decision:?}); commit has not followed"
                    ));
                }
                PivotLook::None if row.hold_deadline.is_some_and(|at| at < around.now) => {
                    why.push("its hold is past its deadline and nobody has decided".to_owned());
                }
                PivotLook::None => why.push("it is not credited yet".to_owned()),
            }
        }
        if let Some(letter) = self.dead.get(&terms.id) {
            why.push(format!("dead letter {letter}"));
        }
        for (account, shard) in [(&terms.source, self.shard), (&terms.destination, destination)] {
            if let Ok(Some(_)) = self.context.store.quarantine_of(shard, account).await {
                why.push(format!("account {account} is in quarantine"));
            }
        }
        if why.is_empty() {
            why.push(format!("{stage} has read past it and has not acted"));
        }
        why
    }
}

/// Where a projection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Copy {
    Balances,
    Redis,
}

impl Copy {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Balances => "balances",
            Self::Redis => "redis",
        }
    }
}

struct Projections<'a> {
    context: &'a Context,
    /// Projections that differ, and the versions that they had.
    differing: BTreeMap<(Shard, AccountId, Copy), i64>,
}

impl Projections<'_> {
    async fn look(&mut self, shard: Shard) -> Result<(), StoreError> {
        let mut after: Option<AccountId> = None;
        loop {
            let rows = self.context.store.decision_rows(shard, after.as_ref(), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.id.clone());
            let ids: Vec<AccountId> = rows.iter().map(|row| row.id.clone()).collect();
            self.differing.extend(self.compare(shard, &ids).await?);
        }
    }

    /// The projections of these accounts that are not what the rows are.
    async fn compare(
        &self,
        shard: Shard,
        ids: &[AccountId],
    ) -> Result<BTreeMap<(Shard, AccountId, Copy), i64>, StoreError> {
        let mut differing = BTreeMap::new();
        // Read before the rows, so that it cannot be the newer of the two.
        let cached = match &self.context.cache {
            Some(cache) => cache.get_many(ids).await.unwrap_or_else(|_| vec![None; ids.len()]),
            None => vec![None; ids.len()],
        };
        let cached: HashMap<&AccountId, BalanceRow> =
            ids.iter().zip(cached).filter_map(|(id, cached)| Some((id, cached?))).collect();
        for sums in self.context.store.account_glances(shard, ids).await? {
            let (row, id) = (&sums.row, sums.row.id.clone());
            if let Some(version) = differs(&sums) {
                differing.insert((shard, id.clone(), Copy::Balances), version);
            }
            if let Some(cached) = cached.get(&row.id).filter(|it| !same_balance(row, &it.row)) {
                differing.insert((shard, id, Copy::Redis), cached.row.version);
            }
        }
        Ok(differing)
    }

    /// Those that still differ, at the version that they had, after a while.
    async fn repair(&mut self, actor: Option<&Actor>, all: &mut Repairs) {
        if self.differing.is_empty() {
            return;
        }
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
        let mut by_shard: BTreeMap<Shard, BTreeSet<AccountId>> = BTreeMap::new();
        for (shard, id, _) in self.differing.keys() {
            by_shard.entry(*shard).or_default().insert(id.clone());
        }
        for (shard, ids) in by_shard {
            let ids: Vec<AccountId> = ids.into_iter().collect();
            for page in ids.chunks(PAGE as usize) {
                if let Err(error) = self.again(shard, page, actor, all).await {
                    all.faults.push(format!("projections of shard {shard}: {error}"));
                }
            }
        }
    }

    async fn again(
        &self,
        shard: Shard,
        ids: &[AccountId],
        actor: Option<&Actor>,
        all: &mut Repairs,
    ) -> Result<(), StoreError> {
        let mut now = self.compare(shard, ids).await?;
        now.retain(|place, version| self.differing.get(place) == Some(version));
        let wrong: BTreeSet<AccountId> = now.keys().map(|(_, id, _)| id.clone()).collect();
        if let Some(actor) = actor
            && !wrong.is_empty()
        {
            let rows = transact(&*self.context.store, shard, &Rebuild { now: &now, actor }).await?;
            if let Some(cache) = &self.context.cache {
                let ids: Vec<AccountId> = rows.iter().map(|row| row.row.id.clone()).collect();
                if let Err(error) = cache.replace(&ids, &rows).await {
                    all.faults.push(format!("balances in Redis: {error}"));
                }
            }
        }
        for ((shard, id, copy), version) in now {
            let row = self.context.store.account(shard, &id).await?.map(|account| account.row);
            let Some(row) = row else { continue };
            all.repairs.push(Repair {
                kind: copy.as_str(),
                target: id.to_string(),
                shard,
                state: format!("version {version} of {}", row.version),
                amount: format!("{} {}", format_minor(row.posted, row.currency), row.currency),
                since: None,
                attempts: 0,
                why: vec!["it differs from the decision row and has not moved".to_owned()],
                action: Some("make it anew from the decision row".to_owned()),
            });
        }
        Ok(())
    }
}

/// The version of a projection that is not what its row is.
fn differs(sums: &AccountSums) -> Option<i64> {
    let row = &sums.row;
    let same = sums.projected == Some((row.posted, row.held, row.version));
    (!same).then(|| behind(sums).unwrap_or(row.version))
}

struct Rebuild<'a> {
    now: &'a BTreeMap<(Shard, AccountId, Copy), i64>,
    actor: &'a Actor,
}

#[async_trait]
impl Work for Rebuild<'_> {
    type Output = Vec<BalanceRow>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Vec<BalanceRow>, StoreError> {
        let ids: BTreeSet<AccountId> = self.now.keys().map(|(_, id, _)| id.clone()).collect();
        let rows = tx.lock_accounts(&ids).await?;
        tx.rebuild_projections(&ids).await?;
        let acts: Vec<_> = self
            .now
            .iter()
            .filter_map(|((_, id, copy), version)| {
                let before = json!({ "projection": copy.as_str(), "version": version });
                let after = json!({ "version": rows.get(id)?.version });
                Some(self.actor.act(Action::RebuildProjection, id, &before, &after))
            })
            .collect();
        tx.record_acts(&acts).await?;
        let as_of = tx.now();
        Ok(rows.into_values().map(|row| BalanceRow { row, as_of }).collect())
    }
}
