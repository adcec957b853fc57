//! State changes of transfers. Those of a batch nearly always differ only in the transfer and in
//! what caused them: what they have in common is bound once, which leaves a third of the columns
//! and a quarter of the cost.

use super::driver::{Arg, Driver, Hex};
use crate::domain::{StageWrite, State, Timestamp};
use std::collections::BTreeMap;

/// What the state changes of one statement have in common; codes instead of names, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    from: i64,
    to: i64,
    reason: Option<i64>,
    at: Timestamp,
    hold_deadline: Option<Timestamp>,
}

impl Step {
    fn of(write: &StageWrite) -> Self {
        Self {
            from: write.from.code(),
            to: write.to.code(),
            reason: write.reason.map(|reason| reason.code()),
            at: write.at,
            hold_deadline: write.hold_deadline,
        }
    }
}

/// The state changes of a batch by what they have in common, each group in id order.
pub(super) fn alike(writes: &[StageWrite]) -> BTreeMap<Step, Vec<&StageWrite>> {
    let mut groups: BTreeMap<Step, Vec<&StageWrite>> = BTreeMap::new();
    for write in writes {
        groups.entry(Step::of(write)).or_default().push(write);
    }
    for group in groups.values_mut() {
        group.sort_unstable_by_key(|write| write.terms.id);
    }
    groups
}

/// The statement that writes one group. What caused a refusal at hold, or a hold and its end in one,
/// is remembered as both.
pub(super) fn statement<D: Driver>(
    step: Step,
    writes: Vec<&StageWrite>,
) -> (&'static str, Vec<Arg>) {
    let batch = D::rows(writes.into_iter().map(|write| {
        let (terms, cause) = (&write.terms, write.cause);
        let (source, currency) = (terms.source.as_str(), terms.amount.currency());
        let id = Hex::from(terms.id);
        (id, source, terms.amount.minor(), currency, cause.offset, cause.attempt)
    }));
    let from = Arg::Int(step.from);
    if step.to == State::Held.code() {
        let args = vec![batch, from, step.at.into(), step.hold_deadline.into()];
        return (D::STATEMENTS.hold_transfers, args);
    }
    let passes_hold = step.hold_deadline.is_some();
    let refused_at_hold = step.from == State::Requested.code() && step.to == State::Rejected.code();
    let at_hold = Arg::Int(i64::from(refused_at_hold || passes_hold));
    let held_at = passes_hold.then_some(step.at);
    let (to, reason) = (Arg::Int(step.to), Arg::from(step.reason));
    let hold = [held_at.into(), step.hold_deadline.into(), at_hold.clone(), at_hold];
    let args = [batch, from, to, reason, step.at.into()].into_iter().chain(hold).collect();
    (D::STATEMENTS.end_transfers, args)
}
