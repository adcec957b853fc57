//! The decision at hold: pure, from events and the rows they touch to what is written and said.

use crate::domain::{
    AccountId, AccountKind, AccountRow, AccountStatus, DeadReason, EventType, Input, Outcome,
    POSTED_LIMIT, Plan, Reason, StageWrite, Stamp, State, TransferId, TransferRow,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Decides a batch in order, changing the rows. Without `stored` every transfer is taken to be REQUESTED: the writes
/// then fail their count where one is not, and the batch is decided again with the rows. So it is
/// where an invariant seems violated ([`Plan::may_be_written_unread`]).
pub fn decide(
    batch: &[Input],
    rows: &mut BTreeMap<AccountId, AccountRow>,
    stored: Option<&HashMap<TransferId, TransferRow>>,
    stamp: &Stamp,
    hold_timeout: Duration,
) -> Plan {
    let mut plan = Plan::default();
    for input in batch {
        let outcome = match standing(input, stored) {
            Standing::Requested => hold(input, rows, &mut plan, stamp, hold_timeout),
            Standing::Held => {
                let account = rows.get(&input.event.terms.source);
                Outcome::Emit(stamp.following(input, EventType::Held, None, account))
            }
            Standing::RejectedHere(reason) => {
                Outcome::Emit(stamp.following(input, EventType::Rejected, reason, None))
            }
            Standing::Over => Outcome::Done,
            Standing::Dead(reason, detail) => Outcome::Dead { reason, detail: detail.to_owned() },
        };
        plan.outcomes.push(outcome);
    }
    plan
}

enum Standing {
    Requested,
    Held,
    /// By an earlier run of this step, whose event may not have been published.
    RejectedHere(Option<Reason>),
    /// Somebody else wrote and announced what followed.
    Over,
    Dead(DeadReason, &'static str),
}

fn standing(input: &Input, stored: Option<&HashMap<TransferId, TransferRow>>) -> Standing {
    let Some(stored) = stored else { return Standing::Requested };
    let terms = &input.event.terms;
    let Some(row) = stored.get(&terms.id) else {
        return Standing::Dead(DeadReason::NoRow, "the source's shard has no such transfer");
    };
    if row.terms != *terms {
        return Standing::Dead(DeadReason::Contradiction, "the stored transfer has other terms");
    }
    match row.state {
        State::Requested => Standing::Requested,
        State::Held => Standing::Held,
        State::Rejected if row.held_at.is_none() => Standing::RejectedHere(row.reason),
        State::Rejected | State::Committed | State::Cancelled => Standing::Over,
    }
}

fn hold(
    input: &Input,
    rows: &mut BTreeMap<AccountId, AccountRow>,
    plan: &mut Plan,
    stamp: &Stamp,
    hold_timeout: Duration,
) -> Outcome {
    let terms = &input.event.terms;
    let Some(row) = rows.get_mut(&terms.source) else {
        return reject(input, Reason::SourceNotFound, plan, stamp);
    };
    if let Err(fault) = row.check() {
        return plan.violation(&terms.source, fault);
    }
    if let Some(reason) = refusal(row, input, stamp) {
        return reject(input, reason, plan, stamp);
    }
    row.held += terms.amount.minor();
    row.version += 1;
    row.velocity.count(terms.amount.minor(), stamp.at);
    if let Err(fault) = row.check() {
        unreachable!("a hold that was allowed breaks the row: {fault}");
    }
    plan.transfers.push(StageWrite {
        terms: terms.clone(),
        from: State::Requested,
        to: State::Held,
        reason: None,
        hold_deadline: Some(stamp.at.plus(hold_timeout)),
        at: stamp.at,
        cause: input.cause(),
    });
    Outcome::Emit(stamp.following(input, EventType::Held, None, Some(row)))
}

/// Why the source may not hold the amount, if it may not. What it may comes before what it can: who
/// is over a limit learns nothing of the balance by asking on.
fn refusal(row: &AccountRow, input: &Input, stamp: &Stamp) -> Option<Reason> {
    let amount = input.event.terms.amount;
    match row.status {
        AccountStatus::Closed => return Some(Reason::SourceClosed),
        AccountStatus::Frozen => return Some(Reason::SourceFrozen),
        AccountStatus::Active => {}
    }
    if row.quarantined {
        return Some(Reason::AccountQuarantined);
    }
    if row.currency != amount.currency() {
        return Some(Reason::CurrencyMismatch);
    }
    if !row.velocity.allows(amount.minor(), stamp.at) {
        return Some(Reason::VelocityLimitExceeded);
    }
    // Neither can overflow: the row passed its check, and an amount is at most 10^15.
    let free_after = row.posted - row.held - amount.minor();
    match row.kind {
        AccountKind::Customer if free_after < -row.overdraft_limit => {
            Some(Reason::InsufficientFunds)
        }
        AccountKind::Customer | AccountKind::External if free_after < -POSTED_LIMIT => {
            Some(Reason::BalanceLimit)
        }
        AccountKind::Customer | AccountKind::External => None,
    }
}

fn reject(input: &Input, reason: Reason, plan: &mut Plan, stamp: &Stamp) -> Outcome {
    let terms = &input.event.terms;
    plan.transfers.push(StageWrite {
        terms: terms.clone(),
        from: State::Requested,
        to: State::Rejected,
        reason: Some(reason),
        hold_deadline: None,
        at: stamp.at,
        cause: input.cause(),
    });
    plan.give_back(terms);
    Outcome::Emit(stamp.following(input, EventType::Rejected, Some(reason), None))
}
