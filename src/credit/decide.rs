//! The decision at credit: pure, from events, pivots and destination rows to pivots and credits.

use crate::domain::{
    AccountId, AccountRow, AccountStatus, DeadReason, Entry, EntryRow, EventType, Input, Outcome,
    POSTED_LIMIT, Pivot, PivotDecision, Plan, Reason, Stamp, TransferId,
};
use std::collections::{BTreeMap, HashMap};

#[cfg(test)]
mod tests;

/// Decides a batch of one destination shard in order, changing the rows. A pivot that exists is announced, whatever
/// the destination looks like now; where there is none it is decided here, once and for ever.
pub fn decide(
    batch: &[Input],
    rows: &mut BTreeMap<AccountId, AccountRow>,
    pivots: &HashMap<TransferId, Pivot>,
    stamp: &Stamp,
) -> Plan {
    let mut plan = Plan::default();
    for input in batch {
        let outcome = match pivots.get(&input.event.terms.id) {
            Some(pivot) => announce(input, pivot, rows, stamp),
            None => credit(input, rows, &mut plan, stamp),
        };
        plan.outcomes.push(outcome);
    }
    plan
}

fn announce(
    input: &Input,
    pivot: &Pivot,
    rows: &BTreeMap<AccountId, AccountRow>,
    stamp: &Stamp,
) -> Outcome {
    let terms = &input.event.terms;
    if !pivot.fits(terms) {
        let detail = "the pivot belongs to a transfer with other terms".to_owned();
        return Outcome::Dead { reason: DeadReason::Contradiction, detail };
    }
    Outcome::Emit(match pivot.decision {
        PivotDecision::Credited => {
            stamp.following(input, EventType::Credited, None, rows.get(&terms.destination))
        }
        PivotDecision::Refused(reason) => {
            stamp.following(input, EventType::Refused, Some(reason), None)
        }
    })
}

fn credit(
    input: &Input,
    rows: &mut BTreeMap<AccountId, AccountRow>,
    plan: &mut Plan,
    stamp: &Stamp,
) -> Outcome {
    let terms = &input.event.terms;
    let Some(row) = rows.get_mut(&terms.destination) else {
        return refuse(input, Reason::DestinationNotFound, plan, stamp);
    };
    if let Err(fault) = row.check() {
        return plan.violation(&terms.destination, fault);
    }
    if let Some(reason) = refusal(row, input) {
        return refuse(input, reason, plan, stamp);
    }
    row.posted += terms.amount.minor();
    row.version += 1;
    if let Err(fault) = row.check() {
        unreachable!("a credit that was allowed breaks the row: {fault}");
    }
    let entry = Entry { amount: terms.amount, balance_after: row.posted, version: row.version };
    plan.entries.push(EntryRow::pivot_row(terms, Ok(entry), stamp.at, input.cause()));
    Outcome::Emit(stamp.following(input, EventType::Credited, None, Some(row)))
}

/// Why the destination cannot take the amount, if it cannot.
fn refusal(row: &AccountRow, input: &Input) -> Option<Reason> {
    let amount = input.event.terms.amount;
    match row.status {
        AccountStatus::Closed => return Some(Reason::DestinationClosed),
        AccountStatus::Frozen => return Some(Reason::DestinationFrozen),
        AccountStatus::Active => {}
    }
    if row.currency != amount.currency() {
        return Some(Reason::CurrencyMismatch);
    }
    // Cannot overflow: posted is at most 2^62 and an amount at most 10^15.
    (row.posted + amount.minor() > POSTED_LIMIT).then_some(Reason::BalanceLimit)
}

fn refuse(input: &Input, reason: Reason, plan: &mut Plan, stamp: &Stamp) -> Outcome {
    let terms = &input.event.terms;
    plan.entries.push(EntryRow::pivot_row(terms, Err(reason), stamp.at, input.cause()));
    Outcome::Emit(stamp.following(input, EventType::Refused, Some(reason), None))
}
