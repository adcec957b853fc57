//! The continuous drift check of one shard: what changed is compared soon after, everything now and
//! then.
//!
//! What changed is found the way the reconciler finds what stands still: ids of transfers are
//! time-ordered, so a scan of the primary key from a stored mark, a little behind the database's
//! time, comes past every transfer once. Those that are not final yet are put on a list and looked
//! at again until they are. The accounts at both ends of a transfer that came past are compared at
//! a glance: the balance after their newest entry, each new entry with the one before it, and held
//! with the unfinished transfers; so a pass costs what changed and what is unfinished, never what
//! is stored. Only where a glance finds a difference is everything of that account added up, and
//! only what that finds too counts. Nothing is written on the hot path, and no index serves this
//! check alone.
//!
//! The passes over everything (accounts, transfers, pivots) go on page by page and begin anew after
//! the configured interval. Page after page, all checks of a process together work a tenth of the time
//! at most: under a load that lasts they fall behind, and never take from the money what the money
//! needs. A shard that does not answer stops only what needs it, and the others for as long as a
//! statement may take. Behind is lag, which the projector's refresher copies; wrong at the same
//! version is drift.

use super::compare::{self, Fault, Looked};
use crate::cache::BalanceCache;
use crate::context::Context;
use crate::domain::{AccountId, PivotDecision, Shard, Suspicion, Timestamp, TransferId};
use crate::meters::Gauges;
use crate::meters::table::{
    self, DRIFT_ACCOUNTS, DRIFT_AMOUNT, DRIFT_COMPARED, DRIFT_FOUND, DRIFT_PASS,
};
use crate::quarantine::quarantine;
use crate::seldom::Seldom;
use crate::store::{AccountSums, Pass, Progress, SourceFact, StoreError, Tx, Work, transact};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const LEASE: Duration = Duration::from_secs(15);
/// Transfers, pivots or accounts of one page.
const PAGE: u32 = 1000;
/// Accounts of one page of the pass that adds up everything of each.
const WHOLE_ACCOUNTS: u32 = 200;
/// Accounts of one statement.
const LISTED: u32 = 500;
/// How long a look at transfers and the accounts that they changed is to take, and the fewest
/// transfers that one takes: while a statement of it runs, those who move money have that much less
/// of the database.
const GLANCE: Duration = Duration::from_millis(20);
const FEWEST: u32 = 50;

/// Runs until `stop`, through every outage.
pub async fn run(context: Arc<Context>, shard: Shard, stop: CancellationToken) {
    let interval = context.policy.drift_interval;
    let early = Seldom::unsaid();
    for what in table::findings() {
        DRIFT_FOUND.counter(&[&shard.to_string(), what]).increment(0);
    }
    let mut check =
        DriftCheck { context: &context, shard, shown: Gauges::default(), glanced: FEWEST };
    while !stop.is_cancelled() {
        let round = async {
            if let Err(error) = check.round(interval).await
                && let Some(left_out) = early.due()
            {
                tracing::warn!(%shard, %error, left_out, "a round of the drift check ended early");
            }
            tokio::time::sleep(interval).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = round => {}
        }
    }
}

struct DriftCheck<'a> {
    context: &'a Context,
    shard: Shard,
    /// What is in quarantine.
    shown: Gauges,
    /// Transfers whose accounts are looked at together.
    glanced: u32,
}

impl DriftCheck<'_> {
    /// Several at once are harmless; the lease only saves their work.
    async fn round(&mut self, interval: Duration) -> Result<(), StoreError> {
        let (store, holder) = (&self.context.store, &self.context.policy.instance);
        if !store.lease(self.shard, "drift", holder, LEASE).await? {
            self.shown.clear();
            return Ok(());
        }
        let now = store.now(self.shard).await?;
        let until = now.minus(self.context.policy.scan_lag);
        let recent = self.pages(&[Pass::Recent], now, until, interval).await;
        let watched = self.watched().await;
        let pivots = self.pages(&[Pass::RecentPivots], now, until, interval).await;
        let everything = [Pass::Accounts, Pass::Transfers, Pass::Pivots];
        let full = self.pages(&everything, now, until, interval).await;
        self.measure().await?;
        recent.and(watched).and(pivots).and(full)
    }

    /// Goes on with passes that are due, for so long; each at least by a page.
    async fn pages(
        &mut self,
        passes: &[Pass],
        now: Timestamp,
        until: Timestamp,
        bound: Duration,
    ) -> Result<(), StoreError> {
        let (context, began) = (self.context, Instant::now());
        let mut first = Ok(());
        for pass in passes {
            loop {
                let page = async {
                    match pass {
                        Pass::Accounts => self.accounts(now).await,
                        Pass::Pivots | Pass::RecentPivots => self.pivots(*pass, now, until).await,
                        Pass::Transfers => self.transfers(*pass, PAGE, now, until).await,
                        Pass::Recent => self.recent(now, until).await,
                    }
                };
                match context.ease.take(page).await {
                    Ok(Step::More) if began.elapsed() < bound => {}
                    Ok(Step::More | Step::Done) => break,
                    Err(error) => {
                        first = first.and(Err(error));
                        break;
                    }
                }
            }
        }
        first
    }

    /// Where a pass goes on; none where it is not due.
    async fn due(
        &self,
        pass: Pass,
        now: Timestamp,
    ) -> Result<Option<(Option<Progress>, Progress)>, StoreError> {
        let before = self.context.store.drift_progress(self.shard, pass).await?;
        let anew = Progress { position: String::new(), begun_at: now, ended_at: None };
        let next = match (&before, pass) {
            (Some(known), Pass::Recent | Pass::RecentPivots) => Some(known.clone()),
            (Some(known), _) if known.ended_at.is_none() => Some(known.clone()),
            (Some(known), _) => {
                let interval = self.context.policy.drift_full_interval;
                (now.since(known.begun_at) >= interval).then_some(anew)
            }
            (None, _) => Some(anew),
        };
        Ok(next.map(|next| (before, next)))
    }

    /// Transfers that are new, and the accounts that they changed.
    async fn recent(&mut self, now: Timestamp, until: Timestamp) -> Result<Step, StoreError> {
        let began = Instant::now();
        let step = self.transfers(Pass::Recent, self.glanced, now, until).await;
        let full = matches!(step, Ok(Step::More));
        self.glanced = next_size(self.glanced, full, began.elapsed());
        step
    }

    /// One page of transfers of this shard, of a pass that is due.
    async fn transfers(
        &mut self,
        pass: Pass,
        size: u32,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Step, StoreError> {
        let Some((before, mut at)) = self.due(pass, now).await? else { return Ok(Step::Done) };
        let (from, end) = (place(&at), TransferId::first_at(until));
        let store = &self.context.store;
        let facts = store.source_facts(self.shard, from, end, size).await?;
        let full = facts.len() == size as usize;
        let last = facts.last().map_or(end, |fact| fact.terms.id);
        let upto = if full { last } else { end };
        let lone = store.debits_without_transfer(self.shard, from, upto, PAGE).await?;
        let mut faults: Vec<Fault> =
            lone.into_iter().map(|id| compare::lone_debit(self.shard, id)).collect();
        let mut watch = Vec::new();
        if !facts.is_empty() {
            watch = self.look(&facts, pass == Pass::Recent, &mut faults).await?;
            at.position = last.to_string();
        }
        self.count(pass, facts.len());
        self.report(&faults).await?;
        at.ended_at = (!full).then_some(now);
        let moved = store.move_drift(self.shard, pass, before.as_ref(), &at, &watch).await?;
        Ok(if full && moved { Step::More } else { Step::Done })
    }

    /// Compares transfers with their pivots, and with `accounts` what they changed; returns those
    /// that are to be looked at again.
    async fn look(
        &self,
        facts: &[SourceFact],
        accounts: bool,
        faults: &mut Vec<Fault>,
    ) -> Result<Vec<TransferId>, StoreError> {
        let Looked { sound, faults: found, unanswered } =
            compare::transfers(&*self.context.store, self.shard, facts).await?;
        faults.extend(found);
        let mut watch: BTreeSet<TransferId> = unanswered.iter().map(|(id, _)| *id).collect();
        if !accounts {
            return Ok(watch.into_iter().collect());
        }
        let open = facts.iter().filter(|fact| !fact.state.is_final());
        watch.extend(open.map(|fact| fact.terms.id));
        let mut changed: BTreeMap<Shard, (BTreeSet<AccountId>, Vec<TransferId>)> = BTreeMap::new();
        for fact in facts {
            let (ids, transfers) = changed.entry(self.shard).or_default();
            ids.insert(fact.terms.source.clone());
            transfers.push(fact.terms.id);
        }
        for (fact, pivot) in &sound {
            if pivot.as_ref().is_some_and(|pivot| pivot.decision == PivotDecision::Credited) {
                let shard = self.context.store.map().shard_of(&fact.terms.destination);
                let (ids, transfers) = changed.entry(shard).or_default();
                ids.insert(fact.terms.destination.clone());
                transfers.push(fact.terms.id);
            }
        }
        for (shard, (ids, transfers)) in changed {
            match self.glance(shard, ids.into_iter().collect(), &transfers).await {
                Ok(found) => faults.extend(found),
                Err(error) if shard != self.shard => {
                    tracing::debug!(%shard, %error, "accounts of another shard are compared later");
                    watch.extend(transfers);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(watch.into_iter().collect())
    }

    /// Accounts that changed and the entries that changed them. A difference counts only if all
    /// that the account has, added up in one snapshot, says so too.
    async fn glance(
        &self,
        shard: Shard,
        ids: Vec<AccountId>,
        transfers: &[TransferId],
    ) -> Result<Vec<Fault>, StoreError> {
        let store = &self.context.store;
        let entries = store.entry_faults_of(shard, transfers).await?;
        let mut faults: Vec<Fault> =
            entries.iter().map(|fault| compare::entry(shard, fault)).collect();
        let mut suspicious = Vec::new();
        let mut rows = Vec::new();
        for page in ids.chunks(LISTED as usize) {
            for sums in store.account_glances(shard, page).await? {
                if !compare::account(shard, &sums).is_empty() {
                    suspicious.push(sums.row.id.clone());
                }
                rows.push(sums);
            }
        }
        if !suspicious.is_empty() {
            let whole = store.account_sums_of(shard, &suspicious).await?;
            faults.extend(whole.iter().flat_map(|sums| compare::account(shard, sums)));
        }
        faults.extend(self.cached(shard, &rows).await);
        Ok(faults)
    }

    /// What Redis says of accounts at the version that they have.
    async fn cached(&self, shard: Shard, rows: &[AccountSums]) -> Vec<Fault> {
        let Some(cache) = &self.context.cache else { return Vec::new() };
        match cached(cache, rows).await {
            Some(wrong) => wrong
                .iter()
                .map(|(row, posted, held)| compare::projection("Redis", shard, row, *posted, *held))
                .collect(),
            None => Vec::new(),
        }
    }

    /// Transfers that were not final when the pass came by.
    async fn watched(&mut self) -> Result<(), StoreError> {
        let (context, mut after) = (self.context, start());
        while let Some(last) = context.ease.take(self.watched_page(after)).await? {
            after = last;
        }
        Ok(())
    }

    /// The next of them behind one; returns the last, if there was any.
    async fn watched_page(&mut self, after: TransferId) -> Result<Option<TransferId>, StoreError> {
        let (store, page) = (&self.context.store, Instant::now());
        let ids = store.drift_watched(self.shard, after, self.glanced).await?;
        let Some(last) = ids.last().copied() else { return Ok(None) };
        let full = ids.len() == self.glanced as usize;
        let facts = store.source_facts_of(self.shard, &ids).await?;
        let ended: Vec<SourceFact> =
            facts.into_iter().filter(|fact| fact.state.is_final()).collect();
        let mut faults = Vec::new();
        let again: HashSet<TransferId> =
            self.look(&ended, true, &mut faults).await?.into_iter().collect();
        self.report(&faults).await?;
        let seen: Vec<TransferId> =
            ended.iter().map(|fact| fact.terms.id).filter(|id| !again.contains(id)).collect();
        store.drift_seen(self.shard, &seen).await?;
        self.glanced = next_size(self.glanced, full, page.elapsed());
        Ok(Some(last))
    }

    /// One page of pivots of this shard, of a pass that is due.
    async fn pivots(
        &mut self,
        pass: Pass,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Step, StoreError> {
        let Some((before, mut at)) = self.due(pass, now).await? else { return Ok(Step::Done) };
        let store = &self.context.store;
        let end = TransferId::first_at(until);
        let facts = store.credit_facts(self.shard, place(&at), end, PAGE).await?;
        let faults = compare::pivots(&**store, self.shard, &facts).await?;
        self.count(pass, facts.len());
        self.report(&faults).await?;
        let full = facts.len() == PAGE as usize;
        if let Some(last) = facts.last() {
            at.position = last.transfer.to_string();
        }
        at.ended_at = (!full).then_some(now);
        let moved = store.move_drift(self.shard, pass, before.as_ref(), &at, &[]).await?;
        Ok(if full && moved { Step::More } else { Step::Done })
    }

    /// One page of accounts with all that they have, of a pass that is due.
    async fn accounts(&mut self, now: Timestamp) -> Result<Step, StoreError> {
        let Some((before, mut at)) = self.due(Pass::Accounts, now).await? else {
            return Ok(Step::Done);
        };
        let store = &self.context.store;
        let after: Option<AccountId> = at.position.parse().ok();
        let page = store.account_page(self.shard, after.as_ref(), WHOLE_ACCOUNTS).await?;
        let mut faults = Vec::new();
        for sums in &page {
            if !compare::account(self.shard, sums).is_empty() {
                let id = std::slice::from_ref(&sums.row.id);
                let again = store.account_sums_of(self.shard, id).await?;
                faults.extend(again.iter().flat_map(|sums| compare::account(self.shard, sums)));
            }
        }
        let ids: Vec<AccountId> = page.iter().map(|sums| sums.row.id.clone()).collect();
        let chains = store.chain_faults_of(self.shard, &ids).await?;
        faults.extend(chains.iter().map(|fault| compare::entry(self.shard, fault)));
        faults.extend(self.cached(self.shard, &page).await);
        self.count(Pass::Accounts, page.len());
        self.report(&faults).await?;
        let full = page.len() == WHOLE_ACCOUNTS as usize;
        if let Some(last) = ids.last() {
            at.position = last.to_string();
        }
        at.ended_at = (!full).then_some(now);
        let moved = store.move_drift(self.shard, Pass::Accounts, before.as_ref(), &at, &[]).await?;
        Ok(if full && moved { Step::More } else { Step::Done })
    }

    fn count(&self, pass: Pass, looked_at: usize) {
        let shard = self.shard.to_string();
        DRIFT_COMPARED.counter(&[&shard, pass.as_str()]).increment(looked_at as u64);
    }

    /// One log line for each difference, and the account that it is about into quarantine.
    async fn report(&self, faults: &[Fault]) -> Result<(), StoreError> {
        let mut suspects: BTreeMap<Shard, BTreeMap<AccountId, Suspicion>> = BTreeMap::new();
        for fault in faults {
            let finding = &fault.finding;
            tracing::error!(
                what = finding.what,
                place = finding.masked_place(),
                amount = finding.amount,
                "drift"
            );
            let shard = self.shard.to_string();
            DRIFT_FOUND.counter(&[&shard, finding.what]).increment(1);
            if let Some((account, suspicion)) = fault.suspicion() {
                let shard = self.context.store.map().shard_of(account);
                let known = suspects.entry(shard).or_default();
                known.entry(account.clone()).or_insert(suspicion);
            }
        }
        for (shard, suspects) in suspects {
            transact(&*self.context.store, shard, &Quarantine(suspects)).await?;
        }
        Ok(())
    }

    /// How much is in quarantine, and when the passes came to their ends.
    async fn measure(&mut self) -> Result<(), StoreError> {
        let store = &self.context.store;
        let shard = self.shard.to_string();
        let mut sums: BTreeMap<String, u64> = BTreeMap::new();
        let (mut accounts, mut after) = (0_usize, None);
        loop {
            let page = store.quarantines(self.shard, after.as_ref(), PAGE).await?;
            accounts += page.len();
            for one in &page {
                let currency = self.context.money.label(one.currency);
                *sums.entry(currency).or_default() += one.suspicion.amount.unsigned_abs();
            }
            match page.last() {
                Some(last) if page.len() == PAGE as usize => after = Some(last.account.clone()),
                _ => break,
            }
        }
        self.shown.set(&DRIFT_ACCOUNTS, &[&shard], accounts as f64);
        for (currency, off) in &sums {
            self.shown.set(&DRIFT_AMOUNT, &[&shard, currency], *off as f64);
        }
        self.shown.and_no_more();
        for pass in [Pass::Recent, Pass::Accounts, Pass::Transfers, Pass::Pivots] {
            let known = store.drift_progress(self.shard, pass).await?;
            if let Some(ended) = known.and_then(|known| known.ended_at) {
                let ended = ended.micros() as f64 / 1e6;
                DRIFT_PASS.gauge(&[&shard, pass.as_str()]).set(ended);
            }
        }
        Ok(())
    }
}

/// Whether a pass has more to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Done,
}

/// How many are looked at next, after so many, or fewer where there were no more, that took so long.
fn next_size(size: u32, full: bool, took: Duration) -> u32 {
    if took > GLANCE {
        (size / 2).max(FEWEST)
    } else if full && took < GLANCE / 4 {
        (size * 2).min(PAGE)
    } else {
        size
    }
}

fn place(at: &Progress) -> TransferId {
    at.position.parse().unwrap_or_else(|_| start())
}

/// Before every transfer.
fn start() -> TransferId {
    TransferId::from_bytes([0; 16])
}

/// Rows that Redis contradicts at the same version, with what it says; none where it does not
/// answer.
async fn cached<'a>(
    cache: &BalanceCache,
    rows: &'a [AccountSums],
) -> Option<Vec<(&'a crate::domain::AccountRow, i64, i64)>> {
    let ids: Vec<AccountId> = rows.iter().map(|sums| sums.row.id.clone()).collect();
    let found = cache.get_many(&ids).await.ok()?;
    let wrong = rows.iter().zip(found).filter_map(|(sums, cached)| {
        let (row, cached) = (&sums.row, cached?.row);
        let same = compare::same_balance(row, &cached);
        (cached.version == row.version && !same).then_some((row, cached.posted, cached.held))
    });
    Some(wrong.collect())
}

struct Quarantine(BTreeMap<AccountId, Suspicion>);

#[async_trait]
impl Work for Quarantine {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        quarantine(tx, &self.0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes long is looked at in smaller pieces until a piece is short, and no smaller than
    /// makes sense; what takes next to nothing in larger ones.
    #[test]
    fn glances_are_as_large_as_their_time_allows() {
        assert_eq!(next_size(1000, true, GLANCE * 2), 500);
        assert_eq!(next_size(FEWEST, true, GLANCE * 100), FEWEST);
        assert_eq!(next_size(400, true, GLANCE / 2), 400);
        assert_eq!(next_size(400, true, Duration::ZERO), 800);
        assert_eq!(next_size(800, true, Duration::ZERO), PAGE);
        assert_eq!(next_size(400, false, Duration::ZERO), 400, "a short page says nothing");
    }
}
