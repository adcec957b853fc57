//! The full audit: every invariant that can be seen from outside, while everything runs.
//!
//! Per shard, entries against posted, holds against held and the projection are read in one
//! snapshot. Across shards, transfers are compared, not moments: those older than a cut-off, the
//! source's state before the pivot. What may be a race is looked at again; only what a second look
//! finds too is reported.

use crate::cache::BalanceCache;
use crate::context::Context;
use crate::domain::{
    AccountId, AccountRow, Currency, PivotDecision, Shard, State, Timestamp, TransferId,
    format_minor,
};
use crate::store::{AccountSums, CreditFact, SourceFact, Store, StoreError};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

const PAGE: u32 = 1000;
/// After this a projection that has not moved is behind, not on its way.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(5);

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// Which rule is broken.
    pub what: &'static str,
    /// Shard, account, transfer.
    pub place: String,
    /// How much money, or by how much.
    pub amount: String,
    /// What repairs it.
    pub repair: &'static str,
}

/// Money of one currency, in decimal text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MoneyReport {
    /// Debited from sources by committed transfers.
    pub debited: String,
    /// Credited to destinations.
    pub credited: String,
    /// Credited while the source's row is still HELD.
    pub in_flight: String,
}

/// What the audit saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Accounts compared.
    pub accounts: u64,
    /// Ledger entries added up.
    pub entries: u64,
    /// Transfers compared with their pivots.
    pub transfers: u64,
    /// Pivots compared with their transfers.
    pub pivots: u64,
    /// Per currency.
    pub money: BTreeMap<String, MoneyReport>,
    /// Empty where everything is as it must be.
    pub findings: Vec<Finding>,
}

#[derive(Default)]
struct Sums {
    debited: i128,
    credited: i128,
    in_flight: i128,
}

/// Audits all shards and Redis.
pub async fn check(context: &Context) -> Result<Report, StoreError> {
    let mut audit = Audit {
        store: &*context.store,
        report: Report::default(),
        sums: BTreeMap::new(),
        projections: BTreeMap::new(),
    };
    let cut_off = audit.cut_off().await?;
    for shard in context.store.map().all_shards() {
        audit.snapshot(shard).await?;
        audit.transfers(shard, cut_off).await?;
        audit.pivots(shard, cut_off).await?;
        audit.lone_debits(shard, cut_off).await?;
    }
    if let Some(cache) = &context.cache {
        audit.redis(cache).await?;
    }
    audit.look_again_at_projections(context.cache.as_ref()).await?;
    Ok(audit.finish())
}

/// A projection that differed: where, and the version that it had.
type Behind = BTreeMap<(Shard, AccountId, &'static str), i64>;

struct Audit<'a> {
    store: &'a dyn Store,
    report: Report,
    sums: BTreeMap<Currency, Sums>,
    projections: Behind,
}

impl Audit<'_> {
    /// Before any transfer that the audit could see half of: the earliest of the shards' times.
    async fn cut_off(&self) -> Result<TransferId, StoreError> {
        let mut earliest: Option<Timestamp> = None;
        for shard in self.store.map().all_shards() {
            let now = self.store.now(shard).await?;
            earliest = Some(earliest.map_or(now, |before| before.min(now)));
        }
        Ok(TransferId::first_at(earliest.unwrap_or_default()))
    }

    fn find(&mut self, what: &'static str, place: String, amount: String, repair: &'static str) {
        self.report.findings.push(Finding { what, place, amount, repair });
    }

    async fn snapshot(&mut self, shard: Shard) -> Result<(), StoreError> {
        let snapshot = self.store.audit_snapshot(shard).await?;
        self.report.accounts += snapshot.accounts;
        self.report.entries += snapshot.entries;
        for sums in &snapshot.faulty_accounts {
            self.account(shard, sums);
        }
        for fault in &snapshot.faulty_entries {
            self.find(
                "an entry does not follow from the one before it",
                format!(
                    "shard {shard}, account {}, version {}, transfer {}",
                    fault.account, fault.version, fault.transfer
                ),
                format!("{} instead of {} minor units", fault.balance_after, fault.expected),
                "nothing automatic: stop the account and call an engineer",
            );
        }
        Ok(())
    }

    fn account(&mut self, shard: Shard, sums: &AccountSums) {
        let row = &sums.row;
        let place = || format!("shard {shard}, account {}, version {}", row.id, row.version);
        let money = |minor: i128| format_minor(minor, row.currency);
        const BY_HAND: &str = "nothing automatic: quarantine the account and call an engineer";
        if sums.entries != i128::from(row.posted) {
            let amount =
                format!("posted {}, entries {}", money(row.posted.into()), money(sums.entries));
            self.find("posted is not the sum of the entries", place(), amount, BY_HAND);
        }
        if sums.held != i128::from(row.held) {
            let amount = format!("held {}, transfers {}", money(row.held.into()), money(sums.held));
            self.find("held is not the sum of the held transfers", place(), amount, BY_HAND);
        }
        if let Err(fault) = row.check() {
            self.find("the account's row breaks an invariant", place(), fault, BY_HAND);
        }
        match sums.projected {
            Some((posted, held, version)) if version == row.version => {
                if (posted, held) != (row.posted, row.held) {
                    let amount = format!(
                        "projected {} and {}, stored {} and {}",
                        money(posted.into()),
                        money(held.into()),
                        money(row.posted.into()),
                        money(row.held.into())
                    );
                    self.find(
                        "the projection differs at the same version",
                        place(),
                        amount,
                        "the projector copies the row over it within its next round",
                    );
                }
            }
            other => {
                let version = other.map_or(0, |(_, _, version)| version);
                self.projections.insert((shard, row.id.clone(), "balances"), version);
            }
        }
    }

    /// Every transfer of a source shard against its pivot.
    async fn transfers(&mut self, shard: Shard, cut_off: TransferId) -> Result<(), StoreError> {
        let mut after = TransferId::from_bytes([0; 16]);
        loop {
            let facts = self.store.source_facts(shard, after, cut_off, PAGE).await?;
            let Some(last) = facts.last() else { return Ok(()) };
            after = last.terms.id;
            self.report.transfers += facts.len() as u64;
            let pivots = self.pivots_of(&facts).await?;
            let mut again = Vec::new();
            for fact in &facts {
                let pivot = pivots.get(&fact.terms.id);
                if disagreement(fact, pivot).is_some() {
                    again.push(fact.terms.id);
                } else {
                    self.add_up(fact, pivot);
                }
            }
            if !again.is_empty() {
                self.look_again(shard, &again).await?;
            }
        }
    }

    async fn pivots_of(
        &self,
        facts: &[SourceFact],
    ) -> Result<HashMap<TransferId, CreditFact>, StoreError> {
        let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
        for fact in facts {
            let shard = self.store.map().shard_of(&fact.terms.destination);
            by_shard.entry(shard).or_default().push(fact.terms.id);
        }
        let mut pivots = HashMap::new();
        for (shard, ids) in by_shard {
            let found = self.store.credit_facts_of(shard, &ids).await?;
            pivots.extend(found.into_iter().map(|pivot| (pivot.transfer, pivot)));
        }
        Ok(pivots)
    }

    /// Source first, then pivot, anew: what differed may have moved on in between.
    async fn look_again(&mut self, shard: Shard, ids: &[TransferId]) -> Result<(), StoreError> {
        let facts = self.store.source_facts_of(shard, ids).await?;
        let pivots = self.pivots_of(&facts).await?;
        for fact in &facts {
            let pivot = pivots.get(&fact.terms.id);
            match disagreement(fact, pivot) {
                None => self.add_up(fact, pivot),
                Some((what, repair)) => self.find(
                    what,
                    format!("shard {shard}, transfer {}, {}", fact.terms.id, fact.state.as_str()),
                    format!("{} {}", fact.terms.amount, fact.terms.amount.currency()),
                    repair,
                ),
            }
        }
        Ok(())
    }

    fn add_up(&mut self, fact: &SourceFact, pivot: Option<&CreditFact>) {
        let amount = i128::from(fact.terms.amount.minor());
        let sums = self.sums.entry(fact.terms.amount.currency()).or_default();
        sums.debited += fact.debit.map_or(0, i128::from);
        if pivot.is_some_and(|pivot| pivot.decision == PivotDecision::Credited) {
            sums.credited += amount;
            if fact.state == State::Held {
                sums.in_flight += amount;
            }
        }
    }

    /// Every pivot of a shard against the transfer that it names: money must come from somewhere.
    async fn pivots(&mut self, shard: Shard, cut_off: TransferId) -> Result<(), StoreError> {
        let mut after = TransferId::from_bytes([0; 16]);
        loop {
            let facts = self.store.credit_facts(shard, after, cut_off, PAGE).await?;
            let Some(last) = facts.last() else { return Ok(()) };
            after = last.transfer;
            self.report.pivots += facts.len() as u64;
            let mut by_shard: BTreeMap<Shard, Vec<TransferId>> = BTreeMap::new();
            for fact in &facts {
                let source = self.store.map().shard_of_transfer(fact.transfer);
                by_shard.entry(source).or_default().push(fact.transfer);
            }
            let mut known = HashMap::new();
            for (source, ids) in by_shard {
                for fact in self.store.source_facts_of(source, &ids).await? {
                    known.insert(fact.terms.id, fact);
                }
            }
            for fact in &facts {
                let belongs = known.get(&fact.transfer).is_some_and(|transfer| {
                    transfer.terms.destination == fact.destination
                        && transfer.terms.source == fact.source
                });
                if !belongs {
                    self.find(
                        "a pivot belongs to no transfer",
                        format!(
                            "shard {shard}, account {}, transfer {}",
                            fact.destination, fact.transfer
                        ),
                        format!("{} {}", format_minor(fact.amount, fact.currency), fact.currency),
                        "reconcile recover, if a shard was promoted; else call an engineer",
                    );
                }
            }
        }
    }

    async fn lone_debits(&mut self, shard: Shard, cut_off: TransferId) -> Result<(), StoreError> {
        let first = TransferId::from_bytes([0; 16]);
        for id in self.store.debits_without_transfer(shard, first, cut_off, PAGE).await? {
            let place = format!("shard {shard}, transfer {id}");
            self.find("a debit belongs to no transfer", place, String::new(), "call an engineer");
        }
        Ok(())
    }

    async fn redis(&mut self, cache: &BalanceCache) -> Result<(), StoreError> {
        for shard in self.store.map().all_shards() {
            let mut after: Option<AccountId> = None;
            loop {
                let rows = self.store.decision_rows(shard, after.as_ref(), PAGE).await?;
                let Some(last) = rows.last() else { break };
                after = Some(last.id.clone());
                let ids: Vec<AccountId> = rows.iter().map(|row| row.id.clone()).collect();
                let Ok(cached) = cache.get_many(&ids).await else {
                    tracing::warn!(
                        address = cache.address(),
                        "Redis does not answer; its balances were not compared"
                    );
                    return Ok(());
                };
                for (row, cached) in rows.iter().zip(cached) {
                    if let Some(cached) = cached.filter(|cached| !same_balance(row, &cached.row)) {
                        self.projections
                            .insert((shard, row.id.clone(), "Redis"), cached.row.version);
                    }
                }
            }
        }
        Ok(())
    }

    /// Behind is lag: only what has not moved for five seconds is reported.
    async fn look_again_at_projections(
        &mut self,
        cache: Option<&BalanceCache>,
    ) -> Result<(), StoreError> {
        if self.projections.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(SECOND_LOOK_AFTER).await;
        for ((shard, id, place), version) in std::mem::take(&mut self.projections) {
            let projected = match (place, cache) {
                ("Redis", Some(cache)) => cache.get(&id).await.ok().flatten(),
                _ => self.store.balance(shard, &id).await?,
            };
            // Read after the projection, so that it cannot be the older of the two.
            let Some(row) = self.store.account(shard, &id).await?.map(|account| account.row) else {
                continue;
            };
            let stands = match &projected {
                Some(projected) => {
                    projected.row.version == version && !same_balance(&row, &projected.row)
                }
                None => place != "Redis",
            };
            if stands {
                self.find(
                    "a projection stays behind",
                    format!(
                        "{place}, shard {shard}, account {id}, version {version} of {}",
                        row.version
                    ),
                    format!("stored {} {}", format_minor(row.posted, row.currency), row.currency),
                    "the projector copies the row over it within its next round; see that it runs",
                );
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        for (currency, sums) in std::mem::take(&mut self.sums) {
            if sums.credited != sums.debited + sums.in_flight {
                let off = sums.credited - sums.debited - sums.in_flight;
                self.find(
                    "money is not conserved",
                    format!("all shards, {currency}"),
                    format!("{} {currency} too much", format_minor(off, currency)),
                    "the findings about transfers say which",
                );
            }
            let money = MoneyReport {
                debited: format_minor(sums.debited, currency),
                credited: format_minor(sums.credited, currency),
                in_flight: format_minor(sums.in_flight, currency),
            };
            self.report.money.insert(currency.to_string(), money);
        }
        self.report.findings.sort();
        self.report
    }
}

fn same_balance(row: &AccountRow, projected: &AccountRow) -> bool {
    (row.posted, row.held, row.version) == (projected.posted, projected.held, projected.version)
}

/// What is wrong between a transfer and its pivot, the transfer having been read first.
fn disagreement(
    fact: &SourceFact,
    pivot: Option<&CreditFact>,
) -> Option<(&'static str, &'static str)> {
    const RECOVER: &str = "reconcile recover, if a shard was promoted; else call an engineer";
    let amount = fact.terms.amount.minor();
    let debit_fits = match fact.state {
        State::Committed => fact.debit == Some(amount),
        State::Requested | State::Held | State::Rejected | State::Cancelled => fact.debit.is_none(),
    };
    if !debit_fits {
        return Some(("a transfer's debit entry does not fit its state", RECOVER));
    }
    let decision = pivot.map(|pivot| pivot.decision);
    if decision == Some(PivotDecision::Credited)
        && pivot.is_some_and(|pivot| {
            pivot.amount != amount || pivot.currency != fact.terms.amount.currency()
        })
    {
        return Some(("a transfer's two entries differ", RECOVER));
    }
    match (fact.state, decision) {
        (State::Committed, Some(PivotDecision::Credited)) => None,
        (State::Committed, _) => Some(("committed at the source, not credited", RECOVER)),
        (State::Rejected | State::Cancelled, Some(PivotDecision::Credited)) => {
            Some(("credited, but not paid for", RECOVER))
        }
        (State::Requested, Some(PivotDecision::Credited)) => {
            Some(("credited, but never held", RECOVER))
        }
        (State::Requested | State::Held | State::Rejected | State::Cancelled, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Money, Reason, Slot, Terms};

    fn fact(state: State, debit: Option<i64>) -> SourceFact {
        let at = Timestamp::from_micros(1_700_000_000_000_000);
        let terms = Terms {
            id: TransferId::mint(at, Slot::new(1).unwrap(), 0, 0),
            source: "a".parse().unwrap(),
            destination: "b".parse().unwrap(),
            amount: Money::from_minor(50, "USD".parse().unwrap()).unwrap(),
            reverses: None,
        };
        SourceFact { terms, state, debit }
    }

    fn pivot(of: &SourceFact, decision: PivotDecision) -> CreditFact {
        CreditFact {
            transfer: of.terms.id,
            source: of.terms.source.clone(),
            destination: of.terms.destination.clone(),
            currency: of.terms.amount.currency(),
            amount: if decision == PivotDecision::Credited { 50 } else { 0 },
            decision,
        }
    }

    #[test]
    fn what_a_transfer_and_its_pivot_may_say_together() {
        let refused = PivotDecision::Refused(Reason::HoldTimeout);
        let credited = PivotDecision::Credited;
        let agrees = |state, debit, decision: Option<PivotDecision>| {
            let fact = fact(state, debit);
            let pivot = decision.map(|decision| pivot(&fact, decision));
            disagreement(&fact, pivot.as_ref()).is_none()
        };
        assert!(agrees(State::Held, None, Some(credited)), "money in flight");
        assert!(agrees(State::Held, None, Some(refused)));
        assert!(agrees(State::Committed, Some(50), Some(credited)));
        assert!(agrees(State::Cancelled, None, Some(refused)));
        assert!(agrees(State::Rejected, None, None));
        assert!(!agrees(State::Committed, Some(50), None), "paid for, never credited");
        assert!(!agrees(State::Committed, None, Some(credited)), "no debit");
        assert!(!agrees(State::Cancelled, None, Some(credited)), "money made");
        assert!(!agrees(State::Requested, None, Some(credited)), "credited without a hold");
        assert!(!agrees(State::Held, Some(50), None), "debited before its end");
    }
}
