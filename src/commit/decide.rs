//! The decision at commit: pure, from pivots and the source's rows to debits and releases.

use crate::domain::{
    AccountId, AccountRow, DeadReason, Entry, EntryRow, EventType, Input, Outcome, PivotDecision,
    Plan, Reason, Side, StageWrite, Stamp, State, TransferId, TransferRow,
};
use std::collections::{BTreeMap, HashMap};

#[cfg(test)]
mod tests;

/// An event and what the pivot says: read by whoever emitted `credited`, read here for `refused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The event.
    pub input: Input,
    /// The pivot's decision.
    pub decision: PivotDecision,
}

/// Decides a batch in order, changing the rows. Without `stored` every transfer is taken to be HELD: the writes then
/// fail their count where one is not, and the batch is decided again with the rows. So it is where
/// an invariant seems violated ([`Plan::may_be_written_unread`]).
pub fn decide(
    batch: &[Settled],
    rows: &mut BTreeMap<AccountId, AccountRow>,
    stored: Option<&HashMap<TransferId, TransferRow>>,
    stamp: &Stamp,
) -> Plan {
    let mut plan = Plan::default();
    for settled in batch {
        let outcome = match standing(settled, stored) {
            Standing::Held => settle(settled, rows, &mut plan, stamp),
            Standing::Settled(kind, reason) => {
                let account = rows.get(&settled.input.event.terms.source);
                Outcome::Emit(stamp.following(&settled.input, kind, reason, account))
            }
            Standing::Dead(reason, detail) => Outcome::Dead { reason, detail: detail.to_owned() },
        };
        plan.outcomes.push(outcome);
    }
    plan
}

enum Standing {
    Held,
    /// By an earlier run of this step, whose event may not have been published.
    Settled(EventType, Option<Reason>),
    Dead(DeadReason, &'static str),
}

fn standing(settled: &Settled, stored: Option<&HashMap<TransferId, TransferRow>>) -> Standing {
    let Some(stored) = stored else { return Standing::Held };
    let terms = &settled.input.event.terms;
    let Some(row) = stored.get(&terms.id) else {
        return Standing::Dead(DeadReason::NoRow, "the source's shard has no such transfer");
    };
    if row.terms != *terms {
        return Standing::Dead(DeadReason::Contradiction, "the stored transfer has other terms");
    }
    let agrees = match settled.decision {
        PivotDecision::Credited => matches!(row.state, State::Held | State::Committed),
        PivotDecision::Refused(reason) => {
            row.state == State::Held || row.state == reason.final_state()
        }
    };
    if !agrees {
        let detail = "the stored state contradicts the pivot";
        return Standing::Dead(DeadReason::Contradiction, detail);
    }
    match row.state {
        State::Held => Standing::Held,
        State::Requested | State::Committed | State::Rejected | State::Cancelled => {
            Standing::Settled(EventType::announcing(row.state), row.reason)
        }
    }
}

fn settle(
    settled: &Settled,
    rows: &mut BTreeMap<AccountId, AccountRow>,
    plan: &mut Plan,
    stamp: &Stamp,
) -> Outcome {
    let terms = &settled.input.event.terms;
    let amount = terms.amount.minor();
    let Some(row) = rows.get_mut(&terms.source) else {
        return plan.violation(&terms.source, "a held transfer's source has no row".to_owned());
    };
    if let Err(fault) = row.check() {
        return plan.violation(&terms.source, fault);
    }
    let mut after = row.clone();
    after.held -= amount;
    after.version += 1;
    if settled.decision == PivotDecision::Credited {
        after.posted -= amount;
    }
    if let Err(fault) = after.check() {
        return plan.violation(&terms.source, fault);
    }
    *row = after;
    let (to, reason) = match settled.decision {
        PivotDecision::Credited => {
            plan.entries.push(debit(settled, row, stamp));
            (State::Committed, None)
        }
        PivotDecision::Refused(reason) => {
            plan.give_back(terms);
            (reason.final_state(), Some(reason))
        }
    };
    plan.transfers.push(StageWrite {
        terms: terms.clone(),
        from: State::Held,
        to,
        reason,
        hold_deadline: None,
        at: stamp.at,
        cause: settled.input.cause(),
    });
    let kind = EventType::announcing(to);
    Outcome::Emit(stamp.following(&settled.input, kind, reason, Some(row)))
}

fn debit(settled: &Settled, after: &AccountRow, stamp: &Stamp) -> EntryRow {
    let terms = &settled.input.event.terms;
    EntryRow {
        transfer: terms.id,
        side: Side::Debit,
        account: terms.source.clone(),
        counterparty: terms.destination.clone(),
        currency: terms.amount.currency(),
        outcome: Ok(Entry {
            amount: terms.amount,
            balance_after: after.posted,
            version: after.version,
        }),
        at: stamp.at,
        cause: settled.input.cause(),
    }
}
