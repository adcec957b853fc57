//! The full audit: every invariant that can be seen from outside, while everything runs.
//!
//! Per shard, entries against posted, holds against held and the projection are read in one
//! snapshot. Across shards, transfers are compared, not moments: those older than a cut-off, the
//! source's state before the pivot. What may be a race is looked at again; only what a second look
//! finds too is reported.

pub use super::compare::Finding;

use super::compare::{self, Fault};
use crate::cache::BalanceCache;
use crate::context::Context;
use crate::domain::{
    AccountId, Currency, PivotDecision, Shard, State, Timestamp, TransferId, format_minor,
};
use crate::store::{CreditFact, SourceFact, Store, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

const PAGE: u32 = 1000;
/// After this a projection that has not moved is behind, not on its way.
const SECOND_LOOK_AFTER: Duration = Duration::from_secs(5);
/// A finding that is none while a projector is busy.
pub const PROJECTION_BEHIND: &str = "a projection stays behind";

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
    audit.look_again_at_projections(context.cache.as_deref()).await?;
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

    async fn snapshot(&mut self, shard: Shard) -> Result<(), StoreError> {
        let snapshot = self.store.audit_snapshot(shard).await?;
        self.report.accounts += snapshot.accounts;
        self.report.entries += snapshot.entries;
        for sums in &snapshot.faulty_accounts {
            self.report.findings.extend(findings(compare::account(shard, sums)));
            if let Some(version) = compare::behind(sums) {
                self.projections.insert((shard, sums.row.id.clone(), "balances"), version);
            }
        }
        let faults = snapshot.faulty_entries.iter();
        self.report.findings.extend(faults.map(|fault| compare::entry(shard, fault).finding));
        Ok(())
    }

    /// Every transfer of a source shard against its pivot.
    async fn transfers(&mut self, shard: Shard, cut_off: TransferId) -> Result<(), StoreError> {
        let mut after = TransferId::from_bytes([0; 16]);
        loop {
            let facts = self.store.source_facts(shard, after, cut_off, PAGE).await?;
            let Some(last) = facts.last() else { return Ok(()) };
            after = last.terms.id;
            self.report.transfers += facts.len() as u64;
            let looked = compare::transfers(self.store, shard, &facts).await?;
            for (fact, pivot) in &looked.sound {
                self.add_up(fact, pivot.as_ref());
            }
            self.report.findings.extend(findings(looked.faults));
            if let Some((_, error)) = looked.unanswered.into_iter().next() {
                return Err(error);
            }
        }
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
            let faults = compare::pivots(self.store, shard, &facts).await?;
            self.report.findings.extend(findings(faults));
        }
    }

    async fn lone_debits(&mut self, shard: Shard, cut_off: TransferId) -> Result<(), StoreError> {
        let first = TransferId::from_bytes([0; 16]);
        for id in self.store.debits_without_transfer(shard, first, cut_off, PAGE).await? {
            self.report.findings.push(compare::lone_debit(shard, id).finding);
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
                    if let Some(cached) =
                        cached.filter(|cached| !compare::same_balance(row, &cached.row))
                    {
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
                    projected.row.version == version && !compare::same_balance(&row, &projected.row)
                }
                None => place != "Redis",
            };
            if stands {
                self.report.findings.push(Finding {
                    what: PROJECTION_BEHIND,
                    place: format!(
                        "{place}, shard {shard}, account {id}, version {version} of {}",
                        row.version
                    ),
                    amount: format!(
                        "stored {} {}",
                        format_minor(row.posted, row.currency),
                        row.currency
                    ),
                    repair: "the projector copies the row over it within its next round; see that it runs, or reconcile repair",
                });
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Report {
        for (currency, sums) in std::mem::take(&mut self.sums) {
            if sums.credited != sums.debited + sums.in_flight {
                let off = sums.credited - sums.debited - sums.in_flight;
                self.report.findings.push(Finding {
                    what: "money is not conserved",
                    place: format!("all shards, {currency}"),
                    amount: format!("{} {currency} too much", format_minor(off, currency)),
                    repair: "the findings about transfers say which",
                });
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

fn findings(faults: Vec<Fault>) -> impl Iterator<Item = Finding> {
    faults.into_iter().map(|fault| fault.finding)
}
