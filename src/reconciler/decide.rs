//! What is to be done about a transfer that stands still: pure.

use crate::domain::{EventType, PivotDecision, State, StuckTransfer, Timestamp};

/// Re-drives of a REQUESTED transfer after which it is cancelled as undeliverable.
pub const MOST_REDRIVES: u32 = 8;

/// What was found out about the surroundings of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Database time of the source's shard.
    pub now: Timestamp,
    /// The outbox of the shard has unsent records as old as the transfer.
    pub unsent: bool,
    /// The group of its stage has yet to read an event as old as its entry into that stage, or
    /// the broker did not say.
    pub behind: bool,
    /// For HELD: what the destination's shard says.
    pub pivot: PivotLook,
}

/// The pivot, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PivotLook {
    /// The destination's shard did not answer, or was not asked.
    Unknown,
    /// There is none.
    None,
    /// It is decided.
    Decided(PivotDecision),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A backlog is not an orphan; look again later.
    Leave,
    /// Emit this event again: the ordinary workers do the rest.
    Emit(EventType),
    /// It is final, and was driven on or let go on its way: whoever wrote its end may not have
    /// come to announce it, and who read the event again may have let it go before. Announce it.
    Announce(EventType),
    /// Insert pivot REFUSED `hold_timeout`; if it is CREDITED by then, that is announced.
    Refuse,
    /// Cancel it as undeliverable.
    Cancel,
}

/// Decides about one transfer.
pub fn decide(stuck: &StuckTransfer, around: &Surroundings) -> Action {
    match stuck.row.state {
        end @ (State::Committed | State::Rejected | State::Cancelled) => {
            Action::Announce(EventType::announcing(end))
        }
        _ if around.behind => Action::Leave,
        State::Requested if around.unsent => Action::Leave,
        State::Requested if stuck.attempts >= MOST_REDRIVES => Action::Cancel,
        State::Requested => Action::Emit(EventType::Requested),
        State::Held => held(stuck, around),
    }
}

fn held(stuck: &StuckTransfer, around: &Surroundings) -> Action {
    match around.pivot {
        PivotLook::Unknown => Action::Leave,
        PivotLook::Decided(PivotDecision::Credited) => Action::Emit(EventType::Credited),
        PivotLook::Decided(PivotDecision::Refused(_)) => Action::Emit(EventType::Refused),
        PivotLook::None if stuck.row.hold_deadline.is_some_and(|at| at < around.now) => {
            Action::Refuse
        }
        PivotLook::None => Action::Emit(EventType::Held),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Money, Reason, Slot, Terms, TransferId, TransferRow};

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn stuck(state: State, attempts: u32, deadline: i64) -> StuckTransfer {
        StuckTransfer {
            row: TransferRow {
                terms: Terms {
                    id: TransferId::mint(NOW, Slot::new(1).unwrap(), 0, 0),
                    source: "a".parse().unwrap(),
                    destination: "b".parse().unwrap(),
                    amount: Money::from_minor(1, "USD".parse().unwrap()).unwrap(),
                    reverses: None,
                },
                state,
                reason: None,
                requested_at: NOW,
                held_at: Some(NOW),
                hold_deadline: Some(Timestamp::from_micros(NOW.micros() + deadline)),
                completed_at: None,
            },
            attempts,
            since: NOW,
            due_at: NOW,
        }
    }

    fn around(pivot: PivotLook) -> Surroundings {
        Surroundings { now: NOW, unsent: false, behind: false, pivot }
    }

    /// Hazard 19 and hazard 20, the decision: what a stage has yet to
    /// read, or the relay has yet to publish, is neither cancelled nor emitted again.
    #[test]
    fn a_backlog_is_left_alone_whatever_the_deadline() {
        let behind = Surroundings { behind: true, ..around(PivotLook::None) };
        assert_eq!(decide(&stuck(State::Held, 3, -1), &behind), Action::Leave);
        assert_eq!(decide(&stuck(State::Requested, 9, -1), &behind), Action::Leave);
        let unsent = Surroundings { unsent: true, ..around(PivotLook::Unknown) };
        assert_eq!(decide(&stuck(State::Requested, 9, -1), &unsent), Action::Leave);
    }

    #[test]
    fn a_hold_is_given_up_only_past_its_deadline_and_without_a_pivot() {
        let look = |deadline, pivot| decide(&stuck(State::Held, 0, deadline), &around(pivot));
        assert_eq!(look(1, PivotLook::None), Action::Emit(EventType::Held));
        assert_eq!(look(-1, PivotLook::None), Action::Refuse);
        assert_eq!(look(-1, PivotLook::Unknown), Action::Leave);
        let credited = PivotLook::Decided(PivotDecision::Credited);
        assert_eq!(look(-1, credited), Action::Emit(EventType::Credited));
        let refused = PivotLook::Decided(PivotDecision::Refused(Reason::HoldTimeout));
        assert_eq!(look(1, refused), Action::Emit(EventType::Refused));
    }

    #[test]
    fn an_end_is_announced_whatever_else_is_behind() {
        let behind = Surroundings { behind: true, ..around(PivotLook::Unknown) };
        let announced = decide(&stuck(State::Committed, 1, 0), &behind);
        assert_eq!(announced, Action::Announce(EventType::Committed));
    }

    #[test]
    fn a_requested_transfer_is_cancelled_after_eight_redrives() {
        let look =
            |attempts| decide(&stuck(State::Requested, attempts, 0), &around(PivotLook::Unknown));
        assert_eq!(look(7), Action::Emit(EventType::Requested));
        assert_eq!(look(8), Action::Cancel);
    }
}
