//! Every history of a transfer, cut off anywhere on either side, and the ways of losing commits by
//! name.

use super::*;
use crate::domain::testing::any_reason;
use proptest::prelude::*;

/// One commit of a transfer's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Accept,
    Hold,
    Credit,
    Refuse(Reason),
    Commit,
    /// REJECTED or CANCELLED, from whatever it is.
    Release(Reason),
}

impl Step {
    fn at_source(self) -> bool {
        !matches!(self, Self::Credit | Self::Refuse(_))
    }

    fn apply(self, source: &mut Option<SourceRow>, pivot: &mut Option<PivotDecision>) {
        let was_held = source.is_some_and(|row| row.was_held);
        let row = |state, reason, was_held| Some(SourceRow { state, reason, was_held });
        match self {
            Self::Accept => *source = row(State::Requested, None, false),
            Self::Hold => *source = row(State::Held, None, true),
            Self::Commit => *source = row(State::Committed, None, true),
            Self::Release(reason) => *source = row(reason.final_state(), Some(reason), was_held),
            Self::Credit => *pivot = Some(PivotDecision::Credited),
            Self::Refuse(reason) => *pivot = Some(PivotDecision::Refused(reason)),
        }
    }

    fn announce(self, announced: &mut Announced) {
        match self {
            Self::Accept | Self::Hold => {}
            Self::Credit => announced.pivot = Some(PivotDecision::Credited),
            Self::Refuse(reason) => announced.pivot = Some(PivotDecision::Refused(reason)),
            Self::Commit => announced.end = Some(End::Committed),
            Self::Release(reason) => announced.end = Some(End::Without(reason)),
        }
    }
}

fn whole_history() -> impl Strategy<Value = Vec<Step>> {
    use Step::{Accept, Commit, Credit, Hold, Refuse, Release};
    (0..3, any_reason()).prop_map(|(kind, reason)| match kind {
        0 => vec![Accept, Release(reason)],
        1 => vec![Accept, Hold, Credit, Commit],
        _ => vec![Accept, Hold, Refuse(reason), Release(reason)],
    })
}

/// What was done; each step was caused by the event of the one before, so that only the last may
/// be unannounced.
fn any_history() -> impl Strategy<Value = (Vec<Step>, usize)> {
    (whole_history(), 1..=4_usize, any::<bool>()).prop_map(|(steps, length, all)| {
        let steps = steps[..length.min(steps.len())].to_vec();
        let announced = steps.len() - usize::from(!all);
        (steps, announced)
    })
}

/// Which shards went back, and how many steps of them survive. On one shard for both sides they
/// are the first of the whole history.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Source(usize),
    Destination(usize),
    Both(usize, usize),
    OneShard(usize),
}

fn any_loss() -> impl Strategy<Value = Loss> {
    let kept = || 0..4_usize;
    prop_oneof![
        kept().prop_map(Loss::Source),
        kept().prop_map(Loss::Destination),
        (kept(), kept()).prop_map(|(source, destination)| Loss::Both(source, destination)),
        kept().prop_map(Loss::OneShard),
    ]
}

/// What is found after the loss.
fn facts(steps: &[Step], announced: usize, loss: Loss) -> Facts {
    let (of_source, of_destination, of_all) = match loss {
        Loss::Source(kept) => (kept, usize::MAX, usize::MAX),
        Loss::Destination(kept) => (usize::MAX, kept, usize::MAX),
        Loss::Both(source, destination) => (source, destination, usize::MAX),
        Loss::OneShard(kept) => (usize::MAX, usize::MAX, kept),
    };
    let mut facts = Facts {
        source: None,
        pivot: None,
        source_lost: !matches!(loss, Loss::Destination(_)),
        destination_lost: !matches!(loss, Loss::Source(_)),
        announced: Announced::default(),
    };
    let (mut sources, mut destinations) = (0, 0);
    for (at, step) in steps.iter().enumerate() {
        let (seen, kept) = if step.at_source() {
            (&mut sources, of_source)
        } else {
            (&mut destinations, of_destination)
        };
        if *seen < kept && at < of_all {
            step.apply(&mut facts.source, &mut facts.pivot);
        }
        *seen += 1;
        if at < announced {
            step.announce(&mut facts.announced);
        }
    }
    facts
}

/// Both sides once the repair is written.
fn repaired(facts: &Facts, repair: Repair) -> (SourceRow, Option<PivotDecision>) {
    let mut source = facts.source;
    let mut pivot = facts.pivot;
    if let Some(decision) = repair.pivot {
        assert_eq!(pivot, None, "a pivot never changes");
        pivot = Some(decision);
    }
    if let Some(repair) = repair.source {
        let state = source.map(|row| row.state);
        assert!(matches!(state, None | Some(State::Requested)), "only commit leaves HELD");
        Step::Accept.apply(&mut source, &mut pivot);
        match repair {
            SourceRepair::Request => {}
            SourceRepair::Hold => Step::Hold.apply(&mut source, &mut pivot),
            SourceRepair::End(reason) => Step::Release(reason).apply(&mut source, &mut pivot),
        }
    }
    (source.expect("every transfer that anything tells of has a row"), pivot)
}

proptest! {
    #[test]
    fn whatever_was_lost_both_sides_agree_and_what_was_announced_stays_true(
        (steps, announced) in any_history(), loss in any_loss(),
    ) {
        let facts = facts(&steps, announced, loss);
        // Nothing tells of a transfer whose acceptance was lost before it was published.
        prop_assume!(announced > 0 || facts.source.is_some());
        let repair = decide(&facts).unwrap();
        prop_assert!(facts.source_lost || repair.source.is_none(), "only what was lost is written");
        prop_assert!(facts.destination_lost || repair.pivot.is_none());
        let (source, pivot) = repaired(&facts, repair);
        match (source.state, pivot) {
            (State::Committed, pivot) => prop_assert_eq!(pivot, Some(PivotDecision::Credited)),
            (State::Requested, pivot) => prop_assert_eq!(pivot, None),
            (State::Rejected | State::Cancelled, pivot) => {
                prop_assert_ne!(pivot, Some(PivotDecision::Credited));
                if source.was_held {
                    prop_assert_eq!(pivot, source.reason.map(PivotDecision::Refused));
                }
            }
            (State::Held, _) => {}
        }
        match facts.announced.end {
            Some(End::Committed) => {
                prop_assert_eq!(pivot, Some(PivotDecision::Credited));
                prop_assert!(matches!(source.state, State::Held | State::Committed));
            }
            Some(End::Without(reason)) => {
                let ended = source.state == reason.final_state() && source.reason == Some(reason);
                let ends = source.state == State::Held
                    && pivot == Some(PivotDecision::Refused(reason));
                prop_assert!(ended || ends, "{:?} {:?}", source, pivot);
            }
            None => {}
        }
        let again = Facts { source: Some(source), pivot, ..facts };
        prop_assert_eq!(decide(&again), Ok(Repair::default()), "a second run finds it repaired");
    }
}

const HELD: SourceRow = SourceRow { state: State::Held, reason: None, was_held: true };
const REQUESTED: SourceRow = SourceRow { state: State::Requested, reason: None, was_held: false };
const COMMITTED: SourceRow = SourceRow { state: State::Committed, reason: None, was_held: true };

fn released(reason: Reason) -> SourceRow {
    SourceRow { state: reason.final_state(), reason: Some(reason), was_held: true }
}

fn source_lost(source: Option<SourceRow>, pivot: Option<PivotDecision>) -> Facts {
    let announced = Announced::default();
    Facts { source, pivot, source_lost: true, destination_lost: false, announced }
}

fn destination_lost(source: SourceRow) -> Facts {
    Facts { source_lost: false, destination_lost: true, ..source_lost(Some(source), None) }
}

fn at_source(repair: SourceRepair) -> Result<Repair, &'static str> {
    Ok(Repair { pivot: None, source: Some(repair) })
}

fn at_destination(decision: PivotDecision) -> Result<Repair, &'static str> {
    Ok(Repair { pivot: Some(decision), source: None })
}

/// Hazard 6: the hold is gone, the destination has the money.
#[test]
fn a_lost_hold_whose_credit_survived_is_held_again() {
    let credited = Some(PivotDecision::Credited);
    for source in [None, Some(REQUESTED)] {
        assert_eq!(decide(&source_lost(source, credited)), at_source(SourceRepair::Hold));
    }
    assert_eq!(decide(&source_lost(Some(HELD), credited)), Ok(Repair::default()));
}

/// Hazard 6: the source has paid, the destination has nothing.
#[test]
fn a_lost_credit_whose_commit_survived_is_credited_again() {
    assert_eq!(decide(&destination_lost(COMMITTED)), at_destination(PivotDecision::Credited));
}

/// Hazard 6: any `held` that is delivered again would credit a cancelled transfer.
#[test]
fn a_lost_refusal_whose_release_survived_is_written_again_with_its_reason() {
    let reason = Reason::HoldTimeout;
    let again = at_destination(PivotDecision::Refused(reason));
    assert_eq!(decide(&destination_lost(released(reason))), again);
    let at_hold = SourceRow { was_held: false, ..released(Reason::InsufficientFunds) };
    assert_eq!(decide(&destination_lost(at_hold)), Ok(Repair::default()), "it had no pivot");
}

/// Hazard 6: its claim is made again with it, so that a retry finds it.
#[test]
fn a_lost_acceptance_is_requested_again() {
    assert_eq!(decide(&source_lost(None, None)), at_source(SourceRepair::Request));
}

/// Hazard 6: nothing else tells that it was cancelled, and its caller was told so.
#[test]
fn a_lost_end_that_was_announced_is_the_end_again() {
    let reason = Reason::CancelledByClient;
    let announced = Announced { pivot: None, end: Some(End::Without(reason)) };
    for source in [None, Some(REQUESTED)] {
        let facts = Facts { announced, ..source_lost(source, None) };
        assert_eq!(decide(&facts), at_source(SourceRepair::End(reason)));
    }
}

/// Hazard 6: a cancel was answered by this pivot, a payment by that one.
#[test]
fn a_lost_pivot_that_was_announced_is_the_pivot_again() {
    let refused = PivotDecision::Refused(Reason::CancelledByClient);
    for decision in [refused, PivotDecision::Credited] {
        let announced = Announced { pivot: Some(decision), end: None };
        let facts = Facts { announced, ..destination_lost(HELD) };
        assert_eq!(decide(&facts), at_destination(decision));
    }
    assert_eq!(decide(&destination_lost(HELD)), Ok(Repair::default()), "credit decides anew");
}

#[test]
fn what_no_loss_explains_is_left_to_an_engineer() {
    let credited = Some(PivotDecision::Credited);
    let refused = Some(PivotDecision::Refused(Reason::HoldTimeout));
    let intact = |facts: Facts| Facts { source_lost: false, ..facts };
    assert!(decide(&intact(source_lost(None, credited))).is_err());
    assert!(decide(&intact(source_lost(Some(REQUESTED), credited))).is_err());
    assert!(decide(&source_lost(Some(released(Reason::HoldTimeout)), credited)).is_err());
    assert!(decide(&source_lost(Some(COMMITTED), refused)).is_err());
    assert!(decide(&source_lost(Some(COMMITTED), None)).is_err());
    let announced = Announced { pivot: None, end: Some(End::Committed) };
    assert!(decide(&Facts { announced, ..source_lost(Some(REQUESTED), None) }).is_err());
}
