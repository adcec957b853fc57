//! Credits against the plainest ledger, and the histories that a careless credit gets wrong.

use super::*;
use crate::domain::testing::{
    Ledger, NOW, Rows, account, any_batch, any_reason, broken_row, dead, emitted, inputs, rows,
    says, sound_rows, stamp, terms,
};
use crate::domain::{AccountSnapshot, Cause, MAX_AMOUNT, Side, Terms};
use proptest::prelude::*;

type Pivots = HashMap<TransferId, Pivot>;

fn decide_now(batch: &[Input], accounts: &Rows, pivots: &Pivots) -> Plan {
    let mut now = accounts.clone();
    let mut plan = decide(batch, &mut now, pivots, &stamp());
    plan.accounts = Plan::account_changes(accounts, &now);
    plan
}

/// The pivot of a transfer as its destination's shard keeps it.
fn pivot(terms: &Terms, decision: PivotDecision) -> Pivot {
    Pivot {
        transfer: terms.id,
        destination: terms.destination.clone(),
        source: terms.source.clone(),
        amount: if decision == PivotDecision::Credited { terms.amount.minor() } else { 0 },
        decision,
    }
}

fn pivots(list: impl IntoIterator<Item = Pivot>) -> Pivots {
    list.into_iter().map(|pivot| (pivot.transfer, pivot)).collect()
}

/// The row that credit inserts, written out field by field.
fn row_of(input: &Input, outcome: Result<Entry, Reason>) -> EntryRow {
    let terms = &input.event.terms;
    EntryRow {
        transfer: terms.id,
        side: Side::Credit,
        account: terms.destination.clone(),
        counterparty: terms.source.clone(),
        currency: terms.amount.currency(),
        outcome,
        at: NOW,
        cause: Cause { offset: Some(input.offset), attempt: input.event.attempt },
    }
}

fn any_decision() -> impl Strategy<Value = PivotDecision> {
    prop_oneof![Just(PivotDecision::Credited), any_reason().prop_map(PivotDecision::Refused)]
}

/// A batch, and the pivots that some of its transfers have already.
fn any_history() -> impl Strategy<Value = (Vec<Input>, Pivots)> {
    let decisions = proptest::collection::vec(proptest::option::of(any_decision()), 24);
    (any_batch(EventType::Held), decisions).prop_map(|(batch, decisions)| {
        let found = batch.iter().zip(decisions).filter_map(|(input, decision)| {
            decision.map(|decision| pivot(&input.event.terms, decision))
        });
        let found = pivots(found);
        (batch, found)
    })
}

proptest! {
    /// Hazard 10: one row a transfer. Where a pivot exists nothing is written and the pivot is
    /// announced; where none does, exactly one row is inserted, whichever way it is decided.
    #[test]
    fn a_batch_is_decided_as_the_plainest_ledger_does(
        (batch, found) in any_history(), accounts in sound_rows(),
    ) {
        let plan = decide_now(&batch, &accounts, &found);
        let mut ledger = Ledger::of(&accounts);
        let (mut outcomes, mut entries) = (Vec::new(), Vec::new());
        for input in &batch {
            let terms = &input.event.terms;
            let known = found.get(&terms.id).map(|pivot| pivot.decision);
            outcomes.push(match known {
                Some(PivotDecision::Credited) => {
                    says(input, EventType::Credited, None, ledger.account(&terms.destination))
                }
                Some(PivotDecision::Refused(reason)) => {
                    says(input, EventType::Refused, Some(reason), None)
                }
                None => match ledger.credit(terms) {
                    Ok(row) => {
                        let (balance_after, version) = (row.posted, row.version);
                        let entry = Entry { amount: terms.amount, balance_after, version };
                        entries.push(row_of(input, Ok(entry)));
                        says(input, EventType::Credited, None, Some(row))
                    }
                    Err(reason) => {
                        entries.push(row_of(input, Err(reason)));
                        says(input, EventType::Refused, Some(reason), None)
                    }
                },
            });
        }
        prop_assert_eq!(plan, Plan {
            accounts: ledger.changes_since(&accounts),
            entries,
            outcomes,
            ..Plan::default()
        });
    }

    #[test]
    fn a_batch_decides_what_its_transfers_decide_one_by_one(
        (batch, found) in any_history(), accounts in sound_rows(),
    ) {
        let whole = decide_now(&batch, &accounts, &found);
        let mut parts = Plan::default();
        let mut now = accounts.clone();
        for input in &batch {
            let part = decide_now(std::slice::from_ref(input), &now, &found);
            for change in &part.accounts {
                let row = now.get_mut(&change.id).unwrap();
                (row.posted, row.held, row.version) = (change.posted, change.held, change.version);
            }
            parts.entries.extend(part.entries);
            parts.outcomes.extend(part.outcomes);
        }
        parts.accounts = Plan::account_changes(&accounts, &now);
        prop_assert_eq!(whole, parts);
    }

    /// Hazard 29: the credits of one batch have one version each, without gaps, and each balance
    /// follows from the one before, so that the entries of an account can be replayed in order.
    #[test]
    fn the_entries_of_a_batch_are_a_chain(
        (batch, found) in any_history(), accounts in sound_rows(),
    ) {
        let plan = decide_now(&batch, &accounts, &found);
        let mut now = accounts;
        for row in &plan.entries {
            let Ok(entry) = &row.outcome else { continue };
            let account = now.get_mut(&row.account).unwrap();
            account.posted += entry.amount.minor();
            account.version += 1;
            prop_assert_eq!((entry.balance_after, entry.version), (account.posted, account.version));
        }
        for change in &plan.accounts {
            let after = &now[&change.id];
            prop_assert_eq!((change.posted, change.version), (after.posted, after.version));
        }
    }

    #[test]
    fn a_pivot_is_announced_whatever_has_become_of_the_destination(
        decision in any_decision(), row in prop_oneof![
            Just(None), broken_row("b").prop_map(Some),
            Just(Some(AccountRow { status: AccountStatus::Closed, ..account("b", 0) })),
        ],
    ) {
        let terms = terms(1, "a", "b", 50);
        let batch = inputs(EventType::Held, [&terms]);
        let accounts = rows(row);
        let plan = decide_now(&batch, &accounts, &pivots([pivot(&terms, decision)]));
        let account = accounts.get(&terms.destination).map(AccountSnapshot::from);
        let said = match decision {
            PivotDecision::Credited => says(&batch[0], EventType::Credited, None, account),
            PivotDecision::Refused(reason) => {
                says(&batch[0], EventType::Refused, Some(reason), None)
            }
        };
        prop_assert_eq!(plan, Plan { outcomes: vec![said], ..Plan::default() });
    }

    #[test]
    fn a_broken_row_is_quarantined_and_gets_no_pivot(broken in broken_row("b")) {
        let (one, two) = (terms(1, "a", "b", 5), terms(2, "a", "c", 5));
        let batch = inputs(EventType::Held, [&one, &two]);
        let plan = decide_now(&batch, &rows([broken, account("c", 0)]), &Pivots::new());
        prop_assert_eq!(dead(&plan.outcomes[0]), Some(DeadReason::Invariant));
        prop_assert_eq!(plan.quarantine.keys().collect::<Vec<_>>(), [&one.destination]);
        prop_assert!(plan.entries.iter().all(|row| row.transfer == two.id));
        prop_assert_eq!(plan.entries.len(), 1, "the other account is decided as ever");
    }
}

/// The reason that credit gives for 10.00 USD to this account.
fn refused(row: AccountRow) -> Option<Reason> {
    let batch = inputs(EventType::Held, [&terms(1, "a", "b", 1000)]);
    emitted(&decide_now(&batch, &rows([row]), &Pivots::new()).outcomes[0]).reason
}

#[test]
fn every_refusal_has_its_reason_and_the_status_comes_first() {
    let full = POSTED_LIMIT - 999;
    let plain = account("b", 0);
    let with = |change: fn(&mut AccountRow)| {
        let mut row = plain.clone();
        change(&mut row);
        refused(row)
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(refused(account("other", 0)), Some(Reason::DestinationNotFound));
    assert_eq!(refused(account("b", full - 1)), None);
    assert_eq!(refused(account("b", full)), Some(Reason::BalanceLimit));
    assert_eq!(with(|row| row.currency = "EUR".parse().unwrap()), Some(Reason::CurrencyMismatch));
    assert_eq!(with(|row| row.status = AccountStatus::Frozen), Some(Reason::DestinationFrozen));
    assert_eq!(with(|row| row.status = AccountStatus::Closed), Some(Reason::DestinationClosed));
    let both = AccountRow { currency: "EUR".parse().unwrap(), ..account("b", full) };
    assert_eq!(refused(both.clone()), Some(Reason::CurrencyMismatch));
    let all = AccountRow { status: AccountStatus::Frozen, ..both };
    assert_eq!(refused(all), Some(Reason::DestinationFrozen));
}

#[test]
fn a_quarantined_account_still_takes_money() {
    assert_eq!(refused(AccountRow { quarantined: true, ..account("b", 0) }), None);
}

/// Hazard 3 and hazard 4: the source still holds the money when credit refuses it, so what is
/// announced is the pivot and never a final event; that is commit's to say, once it is true.
#[test]
fn a_refusal_is_announced_as_a_pivot_and_not_as_an_end() {
    let terms = terms(1, "a", "b", 50);
    let batch = inputs(EventType::Held, [&terms]);
    let timed_out = pivot(&terms, PivotDecision::Refused(Reason::HoldTimeout));
    for found in [Pivots::new(), pivots([timed_out])] {
        let plan = decide_now(&batch, &Rows::new(), &found);
        assert_eq!(emitted(&plan.outcomes[0]).kind, EventType::Refused);
        assert!(plan.transfers.is_empty());
    }
}

/// Hazard 5: whoever closes an account locks the row that is read here, status and money in one;
/// after that nothing is credited.
#[test]
fn a_closed_account_is_never_credited() {
    let closed = AccountRow { status: AccountStatus::Closed, ..account("b", 0) };
    let batch = inputs(EventType::Held, [&terms(1, "a", "b", 100), &terms(2, "c", "b", 100)]);
    let plan = decide_now(&batch, &rows([closed]), &Pivots::new());
    assert!(plan.accounts.is_empty());
    let closed = Err(Reason::DestinationClosed);
    assert!(plan.entries.iter().all(|row| row.outcome == closed));
}

/// Hazard 10, the other half: a cancel or a time-out that was first is followed, and no credit is
/// inserted beside it.
#[test]
fn a_transfer_that_was_refused_meanwhile_is_not_credited() {
    let terms = terms(1, "a", "b", 100);
    let refused = pivot(&terms, PivotDecision::Refused(Reason::CancelledByClient));
    let batch = inputs(EventType::Held, [&terms]);
    let plan = decide_now(&batch, &rows([account("b", 0)]), &pivots([refused]));
    assert!(plan.entries.is_empty() && plan.accounts.is_empty());
    assert_eq!(emitted(&plan.outcomes[0]).reason, Some(Reason::CancelledByClient));
}

/// Hazard 37: a REFUSED mark has no version. Two of them at one account, in one batch with
/// credits, take no number from the credits and collide with nothing.
#[test]
fn refused_marks_take_no_version() {
    let euros = |number| {
        let amount = crate::domain::Money::from_minor(5, "EUR".parse().unwrap()).unwrap();
        Terms { amount, ..terms(number, "a", "b", 5) }
    };
    let transfers = [euros(1), terms(2, "a", "b", 5), euros(3), terms(4, "a", "b", 5), euros(5)];
    let plan =
        decide_now(&inputs(EventType::Held, &transfers), &rows([account("b", 0)]), &Pivots::new());
    let versions: Vec<_> = plan
        .entries
        .iter()
        .map(|row| row.outcome.as_ref().ok().map(|entry| entry.version))
        .collect();
    assert_eq!(versions, [None, Some(8), None, Some(9), None]);
    assert_eq!(plan.accounts[0].version, 9);
}

/// Hazard 21, seen from the destination: what would take it over the bound is refused by the
/// pivot, external accounts included, and not found out later.
#[test]
fn largest_transfers_stop_at_the_bound() {
    let mut world = account("b", POSTED_LIMIT - 4 * MAX_AMOUNT);
    world.kind = crate::domain::AccountKind::External;
    let ten: Vec<_> = (0..10).map(|number| terms(number, "a", "b", MAX_AMOUNT)).collect();
    let plan = decide_now(&inputs(EventType::Held, &ten), &rows([world]), &Pivots::new());
    let reasons: Vec<_> = plan.outcomes.iter().map(|outcome| emitted(outcome).reason).collect();
    assert_eq!(reasons[..4], [None; 4]);
    assert_eq!(reasons[4..], [Some(Reason::BalanceLimit); 6]);
    assert_eq!(plan.accounts[0].posted, POSTED_LIMIT);
}

#[test]
fn a_pivot_of_other_terms_is_a_contradiction() {
    let event = terms(1, "a", "b", 50);
    let batch = inputs(EventType::Held, [&event]);
    let accounts = rows([account("b", 0)]);
    let credited = pivot(&event, PivotDecision::Credited);
    for other in [
        Pivot { amount: 51, ..credited.clone() },
        Pivot { source: "c".parse().unwrap(), ..credited.clone() },
        Pivot { destination: "c".parse().unwrap(), ..credited.clone() },
        Pivot { decision: PivotDecision::Refused(Reason::HoldTimeout), ..credited },
    ] {
        let plan = decide_now(&batch, &accounts, &Pivots::from([(event.id, other)]));
        assert_eq!(dead(&plan.outcomes[0]), Some(DeadReason::Contradiction));
        assert!(plan.entries.is_empty() && plan.accounts.is_empty());
    }
}
