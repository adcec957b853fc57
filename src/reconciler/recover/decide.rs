//! What makes the two sides of a transfer agree again after one of them lost commits: pure.
//!
//! Believed, in this order: a pivot that is stored; a final state that is stored; and, of what was
//! lost, what events said of it, for they follow the commits that they announce. No row of a
//! shard that lost nothing is changed.

use crate::domain::{PivotDecision, Reason, State};

#[cfg(test)]
mod tests;

/// A transfer's row, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRow {
    /// The stored state.
    pub state: State,
    /// Why, where it is rejected or cancelled.
    pub reason: Option<Reason>,
    /// Whether it was ever HELD.
    pub was_held: bool,
}

/// A final state that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// COMMITTED.
    Committed,
    /// REJECTED or CANCELLED, as the reason says.
    Without(Reason),
}

/// What events said of a transfer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// `credited` or `refused`.
    pub pivot: Option<PivotDecision>,
    /// `committed`, `rejected` or `cancelled`.
    pub end: Option<End>,
}

/// All that is known of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its row; none where the source's shard has none.
    pub source: Option<SourceRow>,
    /// Its pivot; none where the destination's shard has none.
    pub pivot: Option<PivotDecision>,
    /// The source's shard has lost commits.
    pub source_lost: bool,
    /// The destination's shard has lost commits.
    pub destination_lost: bool,
    /// By events.
    pub announced: Announced,
}

/// What is written at the source. Where there is no row it is made first, with its claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceRepair {
    /// REQUESTED: the ordinary steps decide about it.
    Request,
    /// HELD, whatever the account has: its destination has the money.
    Hold,
    /// REJECTED or CANCELLED, as the reason says.
    End(Reason),
}

/// What is written; the ordinary steps do the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// The pivot that is written again.
    pub pivot: Option<PivotDecision>,
    /// What is written at the source.
    pub source: Option<SourceRepair>,
}

/// Decides about one transfer, or says why nobody can.
pub fn decide(facts: &Facts) -> Result<Repair, &'static str> {
    let pivot = if facts.pivot.is_none() && facts.destination_lost {
        lost_pivot(facts)
    } else {
        facts.pivot
    };
    let source = source(facts, pivot)?;
    Ok(Repair { pivot: pivot.filter(|_| facts.pivot.is_none()), source })
}

/// What the pivot was, as far as anything tells.
fn lost_pivot(facts: &Facts) -> Option<PivotDecision> {
    match facts.source {
        Some(SourceRow { state: State::Committed, .. }) => Some(PivotDecision::Credited),
        Some(SourceRow { state: State::Rejected | State::Cancelled, reason, was_held }) => {
            reason.filter(|_| was_held).map(PivotDecision::Refused)
        }
        Some(SourceRow { state: State::Requested | State::Held, .. }) | None => {
            announced_pivot(facts)
        }
    }
}

/// A transfer that ended without being held had no pivot.
fn announced_pivot(facts: &Facts) -> Option<PivotDecision> {
    let held = facts.source.is_some_and(|row| row.state == State::Held);
    match facts.announced.end {
        Some(End::Committed) => Some(PivotDecision::Credited),
        Some(End::Without(reason)) if held => Some(PivotDecision::Refused(reason)),
        Some(End::Without(_)) | None => facts.announced.pivot,
    }
}

fn source(
    facts: &Facts,
    pivot: Option<PivotDecision>,
) -> Result<Option<SourceRepair>, &'static str> {
    match (facts.source.map(|row| row.state), pivot) {
        (None | Some(State::Requested), _) if facts.source_lost => lost_source(facts, pivot),
        (None, Some(_)) => {
            Err("a pivot belongs to no transfer, and its source's shard lost nothing")
        }
        (Some(State::Requested), Some(PivotDecision::Credited)) => {
            Err("credited, but never held, and the source's shard lost nothing")
        }
        (Some(State::Committed), Some(PivotDecision::Refused(_))) => {
            Err("committed, but its pivot reads REFUSED")
        }
        (Some(State::Committed), None) => {
            Err("committed, but not credited, and the destination's shard lost nothing")
        }
        (Some(State::Rejected | State::Cancelled), Some(PivotDecision::Credited)) => {
            Err("credited, but not paid for: the source's row is final")
        }
        (Some(State::Held), None) if facts.announced.end.is_some() => {
            Err("announced as final, but the destination's shard, which lost nothing, has no pivot")
        }
        (None, None)
        | (Some(State::Requested), Some(PivotDecision::Refused(_)) | None)
        | (Some(State::Held), _)
        | (Some(State::Committed), Some(PivotDecision::Credited))
        | (Some(State::Rejected | State::Cancelled), _) => Ok(None),
    }
}

/// The row was lost, or all that followed its acceptance was.
fn lost_source(
    facts: &Facts,
    pivot: Option<PivotDecision>,
) -> Result<Option<SourceRepair>, &'static str> {
    match (pivot, facts.announced.end) {
        (Some(PivotDecision::Credited), _) => Ok(Some(SourceRepair::Hold)),
        (Some(PivotDecision::Refused(reason)), _) | (None, Some(End::Without(reason))) => {
            Ok(Some(SourceRepair::End(reason)))
        }
        (None, Some(End::Committed)) => Err(
            "announced as committed, but its destination's shard, which lost nothing, has no pivot",
        ),
        (None, None) => Ok(facts.source.is_none().then_some(SourceRepair::Request)),
    }
}
