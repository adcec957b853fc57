//! Debits and releases against the plainest ledger, and the histories that a careless commit gets
//! wrong.

use super::*;
use crate::domain::testing::{
    Ledger, NOW, Rows, Stored, account, any_batch, any_reason, broken_row, dead, emitted, ended,
    held, holding, input, moved, requested, reversing, rows, says, sound_rows, stamp, stored,
    terms,
};
use crate::domain::{
    AccountKind, AccountSnapshot, AccountStatus, Cause, MAX_AMOUNT, POSTED_LIMIT, Terms,
};
use proptest::prelude::*;

const CREDITED: PivotDecision = PivotDecision::Credited;
const REFUSED: PivotDecision = PivotDecision::Refused(Reason::HoldTimeout);

fn decide_now(batch: &[Settled], accounts: &Rows, stored: Option<&Stored>) -> Plan {
    let mut now = accounts.clone();
    let mut plan = decide(batch, &mut now, stored, &stamp());
    plan.accounts = Plan::account_changes(accounts, &now);
    plan
}

/// A transfer whose pivot was read.
fn settled(terms: &Terms, decision: PivotDecision) -> Settled {
    let kind = match decision {
        PivotDecision::Credited => EventType::Credited,
        PivotDecision::Refused(_) => EventType::Refused,
    };
    Settled { input: input(kind, terms), decision }
}

/// The state that a decision leads to.
fn end_of(decision: PivotDecision) -> (State, Option<Reason>) {
    match decision {
        PivotDecision::Credited => (State::Committed, None),
        PivotDecision::Refused(reason) => (reason.final_state(), Some(reason)),
    }
}

fn kind_of(state: State) -> EventType {
    match state {
        State::Committed => EventType::Committed,
        State::Rejected => EventType::Rejected,
        State::Cancelled => EventType::Cancelled,
        State::Requested | State::Held => panic!("commit never announces {state:?}"),
    }
}

fn any_decision() -> impl Strategy<Value = PivotDecision> {
    prop_oneof![Just(CREDITED), any_reason().prop_map(PivotDecision::Refused)]
}

fn any_settled() -> impl Strategy<Value = Vec<Settled>> {
    let decisions = proptest::collection::vec(any_decision(), 24);
    (any_batch(EventType::Credited), decisions).prop_map(|(batch, decisions)| {
        batch
            .into_iter()
            .zip(decisions)
            .map(|(input, decision)| Settled { input, decision })
            .collect()
    })
}

/// Adds what these transfers hold to their sources, which stay sound.
fn with_holds<'s>(mut accounts: Rows, held: impl IntoIterator<Item = &'s Settled>) -> Rows {
    for settled in held {
        let terms = &settled.input.event.terms;
        let row = accounts
            .entry(terms.source.clone())
            .or_insert_with(|| account(terms.source.as_str(), 0));
        let amount = terms.amount.minor();
        row.held += amount;
        if row.posted - row.held < -POSTED_LIMIT {
            row.posted += amount;
        }
        row.overdraft_limit = row.overdraft_limit.max(row.held - row.posted);
        assert_eq!(row.check(), Ok(()));
    }
    accounts
}

fn all_held(batch: &[Settled]) -> Stored {
    stored(batch.iter().map(|settled| held(&settled.input.event.terms)))
}

/// A batch of which some transfers are settled already, and rows that hold the others' amounts.
fn any_history() -> impl Strategy<Value = (Vec<Settled>, Stored, Rows)> {
    let over = proptest::collection::vec(any::<bool>(), 24);
    (any_settled(), over, sound_rows()).prop_map(|(batch, over, accounts)| {
        let found = batch.iter().zip(over).map(|(settled, over)| {
            let row = held(&settled.input.event.terms);
            let (state, reason) = end_of(settled.decision);
            if over { ended(row, state, reason) } else { row }
        });
        let found = stored(found);
        let open = batch
            .iter()
            .filter(|settled| found[&settled.input.event.terms.id].state == State::Held);
        let accounts = with_holds(accounts, open);
        (batch, found, accounts)
    })
}

proptest! {
    #[test]
    fn a_batch_is_decided_as_the_plainest_ledger_does((batch, found, accounts) in any_history()) {
        let plan = decide_now(&batch, &accounts, Some(&found));
        let mut ledger = Ledger::of(&accounts);
        let mut expected = Plan::default();
        for Settled { input, decision } in &batch {
            let terms = &input.event.terms;
            let (state, reason) = end_of(*decision);
            let row = if found[&terms.id].state != State::Held {
                ledger.account(&terms.source)
            } else if *decision == CREDITED {
                let row = ledger.debit(terms);
                expected.entries.push(EntryRow {
                    transfer: terms.id,
                    side: Side::Debit,
                    account: terms.source.clone(),
                    counterparty: terms.destination.clone(),
                    currency: terms.amount.currency(),
                    outcome: Ok(Entry {
                        amount: terms.amount,
                        balance_after: row.posted,
                        version: row.version,
                    }),
                    at: NOW,
                    cause: Cause { offset: Some(input.offset), attempt: input.event.attempt },
                });
                Some(row)
            } else {
                if let Some(original) = terms.reverses {
                    *expected.reversed.entry(original).or_default() -= terms.amount.minor();
                }
                Some(ledger.release(terms))
            };
            if found[&terms.id].state == State::Held {
                expected.transfers.push(moved(input, State::Held, state, reason));
            }
            expected.outcomes.push(says(input, kind_of(state), reason, row));
        }
        expected.accounts = ledger.changes_since(&accounts);
        prop_assert_eq!(plan, expected);
    }

    #[test]
    fn a_batch_decides_what_its_transfers_decide_one_by_one(
        (batch, found, accounts) in any_history(),
    ) {
        let whole = decide_now(&batch, &accounts, Some(&found));
        let mut parts = Plan::default();
        let mut now = accounts.clone();
        for settled in &batch {
            let part = decide_now(std::slice::from_ref(settled), &now, Some(&found));
            for change in &part.accounts {
                let row = now.get_mut(&change.id).unwrap();
                (row.posted, row.held, row.version) = (change.posted, change.held, change.version);
            }
            parts.transfers.extend(part.transfers);
            parts.entries.extend(part.entries);
            parts.outcomes.extend(part.outcomes);
            for (original, back) in part.reversed {
                *parts.reversed.entry(original).or_default() += back;
            }
        }
        parts.accounts = Plan::account_changes(&accounts, &now);
        prop_assert_eq!(whole, parts);
    }

    /// Hazard 29, seen from the source: each debit and each release has a version of its own, each
    /// balance follows from the one before, and a release, which has no entry, leaves it as it is.
    #[test]
    fn the_entries_of_a_batch_are_a_chain((batch, found, accounts) in any_history()) {
        let plan = decide_now(&batch, &accounts, Some(&found));
        let mut entries = plan.entries.iter();
        let mut now = accounts;
        for write in &plan.transfers {
            let row = now.get_mut(&write.terms.source).unwrap();
            row.version += 1;
            if write.to == State::Committed {
                row.posted -= write.terms.amount.minor();
                let entry = entries.next().unwrap();
                let money = entry.outcome.as_ref().unwrap();
                prop_assert_eq!(entry.transfer, write.terms.id);
                prop_assert_eq!((money.balance_after, money.version), (row.posted, row.version));
            }
        }
        prop_assert_eq!(entries.next(), None);
    }

    /// What is written without reading the transfers first is written only where it is what they
    /// would have led to: where every row is as it was taken to be, and no invariant seems broken.
    #[test]
    fn a_plan_made_blindly_that_fits_the_rows_is_the_plan_made_from_them(
        (batch, found, accounts) in any_history(),
    ) {
        let blind = decide_now(&batch, &accounts, None);
        let fits = |write: &StageWrite| found[&write.terms.id].state == write.from;
        if blind.may_be_written_unread() && blind.transfers.iter().all(fits) {
            prop_assert_eq!(&blind, &decide_now(&batch, &accounts, Some(&found)));
        }
        let full = with_holds(accounts, &batch);
        let blind = decide_now(&batch, &full, None);
        prop_assert!(blind.may_be_written_unread());
        prop_assert_eq!(blind, decide_now(&batch, &full, Some(&all_held(&batch))));
    }

    #[test]
    fn a_pivot_that_contradicts_the_stored_state_is_dead_and_changes_nothing(
        decision in any_decision(), other in any_decision(),
    ) {
        prop_assume!(end_of(decision).0 != end_of(other).0);
        let terms = terms(1, "a", "b", 50);
        let (state, reason) = end_of(other);
        let found = stored([ended(held(&terms), state, reason)]);
        let plan = decide_now(&[settled(&terms, decision)], &rows([account("a", 100)]), Some(&found));
        prop_assert_eq!(dead(&plan.outcomes[0]), Some(DeadReason::Contradiction));
        prop_assert_eq!(Plan { outcomes: Vec::new(), ..plan }, Plan::default());
    }

    #[test]
    fn a_broken_row_is_quarantined_and_nothing_of_it_is_written(
        broken in broken_row("a"), decision in any_decision(),
    ) {
        let (one, two) = (terms(1, "a", "c", 5), terms(2, "b", "c", 5));
        let batch = [settled(&one, decision), settled(&two, decision)];
        let accounts = rows([broken, holding("b", 5, 5)]);
        let plan = decide_now(&batch, &accounts, Some(&all_held(&batch)));
        prop_assert_eq!(dead(&plan.outcomes[0]), Some(DeadReason::Invariant));
        prop_assert_eq!(plan.quarantine.keys().collect::<Vec<_>>(), [&one.source]);
        prop_assert!(plan.transfers.iter().all(|write| write.terms == two));
        prop_assert!(plan.entries.iter().all(|row| row.transfer == two.id));
        prop_assert_eq!(plan.transfers.len(), 1, "the other account is decided as ever");
    }
}

#[test]
fn a_hold_is_settled_whatever_has_become_of_the_source() {
    for status in [AccountStatus::Frozen, AccountStatus::Closed] {
        let row = AccountRow { status, quarantined: true, ..holding("a", 50, 50) };
        let one = terms(1, "a", "b", 50);
        for decision in [CREDITED, REFUSED] {
            let plan = decide_now(&[settled(&one, decision)], &rows([row.clone()]), None);
            assert_eq!(emitted(&plan.outcomes[0]).kind, kind_of(end_of(decision).0));
        }
    }
}

#[test]
fn second_release_of_the_same_hold_changes_nothing() {
    let one = terms(1, "a", "b", 50);
    let found = stored([ended(held(&one), State::Cancelled, Some(Reason::HoldTimeout))]);
    let accounts = rows([holding("a", 200, 100)]);
    let plan = decide_now(&[settled(&one, REFUSED)], &accounts, Some(&found));
    assert!(plan.accounts.is_empty() && plan.transfers.is_empty() && plan.entries.is_empty());
    let event = emitted(&plan.outcomes[0]);
    assert_eq!((event.kind, event.reason), (EventType::Cancelled, Some(Reason::HoldTimeout)));
}

/// Read again after its transfer was committed, an event finds less held than it would settle.
/// That is no broken invariant: a plan made without the transfers' rows must not say so.
#[test]
fn a_settled_transfer_read_again_does_not_quarantine_its_source() {
    let one = terms(1, "a", "b", 50);
    let accounts = rows([account("a", 0)]);
    for decision in [CREDITED, REFUSED] {
        let batch = [settled(&one, decision)];
        let blind = decide_now(&batch, &accounts, None);
        assert!(!blind.may_be_written_unread());
        let (state, reason) = end_of(decision);
        let found = stored([ended(held(&one), state, reason)]);
        let plan = decide_now(&batch, &accounts, Some(&found));
        assert!(plan.quarantine.is_empty());
        assert_eq!(emitted(&plan.outcomes[0]).kind, kind_of(state));
    }
}

/// Hazard 15: a release is announced with the row that it made, so that the projection learns of
/// the lower `held` even where nothing follows.
#[test]
fn a_release_carries_the_row_that_it_made() {
    let one = terms(1, "a", "b", 30);
    let plan = decide_now(&[settled(&one, REFUSED)], &rows([holding("a", 100, 80)]), None);
    let event = emitted(&plan.outcomes[0]);
    assert_eq!(event.kind, EventType::Cancelled);
    let after = AccountRow { version: 8, ..holding("a", 100, 50) };
    assert_eq!(event.account, Some(AccountSnapshot::from(&after)));
}

/// Hazard 3: a final event leaves this step in the same plan that writes the state it announces,
/// or for a row in which that state is found; for nothing else.
#[test]
fn a_final_event_is_announced_only_with_its_state() {
    let one = terms(1, "a", "b", 30);
    let accounts = rows([holding("a", 100, 30)]);
    let plan = decide_now(&[settled(&one, REFUSED)], &accounts, Some(&stored([held(&one)])));
    assert_eq!(plan.transfers[0].to, State::Cancelled);
    assert_eq!(emitted(&plan.outcomes[0]).kind, EventType::Cancelled);
    let early = decide_now(&[settled(&one, REFUSED)], &accounts, Some(&stored([requested(&one)])));
    assert_eq!(dead(&early.outcomes[0]), Some(DeadReason::Contradiction));
}

/// Hazard 38, the way back: a reversal that was held and then refused gives what it had taken of
/// its original back once; one that is committed keeps it.
#[test]
fn only_a_released_reversal_gives_back_and_only_once() {
    let (kept, back) = (reversing(1, terms(5, "a", "b", 40)), reversing(1, terms(6, "a", "b", 25)));
    let batch = [settled(&kept, CREDITED), settled(&back, REFUSED)];
    let plan = decide_now(&batch, &rows([holding("a", 65, 65)]), None);
    assert_eq!(plan.reversed, BTreeMap::from([(back.reverses.unwrap(), -25)]));

    let found = stored([
        ended(held(&kept), State::Committed, None),
        ended(held(&back), State::Cancelled, Some(Reason::HoldTimeout)),
    ]);
    let again = decide_now(&batch, &rows([account("a", 25)]), Some(&found));
    assert!(again.reversed.is_empty());
}

/// Hazard 21, past the pivot: whatever hold let through can be debited, at the very bound too.
#[test]
fn what_was_held_at_the_bound_can_be_debited() {
    let mut world = holding("world", 4 * MAX_AMOUNT - POSTED_LIMIT, 4 * MAX_AMOUNT);
    world.kind = AccountKind::External;
    let four: Vec<_> =
        (0..4).map(|number| settled(&terms(number, "world", "b", MAX_AMOUNT), CREDITED)).collect();
    let plan = decide_now(&four, &rows([world]), None);
    assert_eq!((plan.accounts[0].posted, plan.accounts[0].held), (-POSTED_LIMIT, 0));
    assert!(plan.quarantine.is_empty());
}

#[test]
fn an_event_without_its_row_or_against_it_is_dead_and_changes_nothing() {
    let one = terms(1, "a", "b", 50);
    let accounts = rows([holding("a", 100, 50)]);
    let verdict = |found: Stored| {
        let plan = decide_now(&[settled(&one, CREDITED)], &accounts, Some(&found));
        assert!(plan.accounts.is_empty() && plan.transfers.is_empty() && plan.entries.is_empty());
        dead(&plan.outcomes[0])
    };
    assert_eq!(verdict(Stored::new()), Some(DeadReason::NoRow));
    let other = TransferRow { terms: terms(1, "a", "c", 50), ..held(&one) };
    assert_eq!(verdict(stored([other])), Some(DeadReason::Contradiction));
}
