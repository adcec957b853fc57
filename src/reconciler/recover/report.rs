//! What a recovery found and did.

use super::decide::{Repair, SourceRepair};
use super::survey::Case;
use crate::domain::{Currency, Generation, PivotDecision, Shard, format_minor};
pub use crate::reconciler::audit::Finding;
use serde::Serialize;

/// Transfers of one currency that were, or are to be, repaired in one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// In which way.
    pub what: &'static str,
    /// Their currency.
    pub currency: Currency,
    /// How many.
    pub transfers: u64,
    /// Their sum, in decimal text.
    pub amount: String,
    #[serde(skip)]
    minor: i128,
}

/// One transfer that was, or is to be, repaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RepairedTransfer {
    /// Its id.
    pub transfer: String,
    /// In which way.
    pub what: &'static str,
    /// Its amount, in decimal text.
    pub amount: String,
    /// Its currency.
    pub currency: Currency,
}

/// What was found and done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing was written.
    pub dry_run: bool,
    /// Roles may start: nothing is left that they could make worse.
    pub finished: bool,
    /// The shards that have lost commits.
    pub shards: Vec<Shard>,
    /// The generation that the cluster is in.
    pub generation: Generation,
    /// Transfers into the lost shards that were compared with their pivots.
    pub transfers: u64,
    /// Pivots of transfers out of the lost shards that were compared with them.
    pub pivots: u64,
    /// Events that were read.
    pub events: u64,
    /// Accounts whose rows were made again or raised above what was seen of them.
    pub accounts: u64,
    /// Projections that were written again.
    pub projections: u64,
    /// Final transfers of any shard whose end nobody had been told: announced, or to be.
    pub ends: u64,
    /// Sums by what was done.
    pub repairs: Vec<Repaired>,
    /// Each transfer.
    pub repaired: Vec<RepairedTransfer>,
    /// What an operator should know of or see to.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Counts what was, or is to be, done about one transfer.
    pub(super) fn count(&mut self, case: &Case) {
        let (amount, currency) = (case.terms.amount, case.terms.amount.currency());
        for what in names(&case.repair, case.lost.is_some()) {
            self.repaired.push(RepairedTransfer {
                transfer: case.terms.id.to_string(),
                what,
                amount: amount.to_string(),
                currency,
            });
            let same = |sum: &&mut Repaired| sum.what == what && sum.currency == currency;
            let sum = match self.repairs.iter_mut().find(same) {
                Some(sum) => sum,
                None => {
                    let amount = String::new();
                    self.repairs.push(Repaired { what, currency, transfers: 0, amount, minor: 0 });
                    self.repairs.last_mut().expect("it was put there")
                }
            };
            sum.transfers += 1;
            sum.minor += i128::from(amount.minor());
            sum.amount = format_minor(sum.minor, currency);
        }
    }
}

fn names(repair: &Repair, lost: bool) -> impl Iterator<Item = &'static str> {
    let pivot = repair.pivot.map(|pivot| match pivot {
        PivotDecision::Credited => "credited again at the destination",
        PivotDecision::Refused(_) => "refused again at the destination",
    });
    let source = repair.source.map(|source| match (source, lost) {
        (SourceRepair::Request, _) => "recreated as requested",
        (SourceRepair::Hold, true) => "recreated and held at the source",
        (SourceRepair::Hold, false) => "held again at the source",
        (SourceRepair::End(_), true) => "recreated and ended at the source",
        (SourceRepair::End(_), false) => "ended again at the source",
    });
    pivot.into_iter().chain(source)
}
