//! State changes of transfers: one statement for all of a transaction, whatever they are.

use super::driver::Hex;
use crate::domain::{StageWrite, State, Timestamp};
use serde::Serialize;

/// Their rows in id order, which is the order in which transfers are locked.
pub(super) fn columns(writes: &[StageWrite]) -> Vec<impl Serialize + '_> {
    let mut writes: Vec<&StageWrite> = writes.iter().collect();
    writes.sort_unstable_by_key(|write| write.terms.id);
    writes.into_iter().map(row).collect()
}

/// What caused a refusal at hold, or a hold and its end in one, is remembered as both.
fn row(write: &StageWrite) -> impl Serialize + '_ {
    let terms = &write.terms;
    let held = write.to == State::Held || write.passes_hold();
    let refused_at_hold = write.from == State::Requested && write.to == State::Rejected;
    let hold = (held || refused_at_hold).then_some(write.cause);
    let end = write.to.is_final().then_some(write.cause);
    (
        Hex::from(terms.id),
        terms.source.as_str(),
        terms.destination.as_str(),
        terms.amount.minor(),
        terms.amount.currency(),
        write.from.code(),
        write.to.code(),
        write.reason.map(|reason| reason.code()),
        held.then_some(write.at.micros()),
        write.hold_deadline.map(Timestamp::micros),
        end.map(|_| write.at.micros()),
        hold.and_then(|cause| cause.offset),
        hold.map(|cause| cause.attempt),
        end.and_then(|cause| cause.offset),
        end.map(|cause| cause.attempt),
    )
}
