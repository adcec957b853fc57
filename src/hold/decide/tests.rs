//! Holds against the plainest ledger, and the histories that a careless hold gets wrong.

use super::*;
use crate::domain::testing::{
    HOLD_TIMEOUT, Ledger, Rows, Stored, account, any_batch, any_reason, broken_row, dead, emitted,
    ended, held, holding, input, inputs, moved, requested, reversing, rows, says, sound_row,
    sound_rows, stamp, stored, terms,
};
use crate::domain::{AccountSnapshot, Allowance, Cause, MAX_AMOUNT, Money};
use proptest::prelude::*;

mod velocity;

fn decide_now(batch: &[Input], accounts: &Rows, stored: Option<&Stored>) -> Plan {
    let mut now = accounts.clone();
    let mut plan = decide(batch, &mut now, stored, &stamp(), HOLD_TIMEOUT);
    plan.accounts = Plan::account_changes(accounts, &now);
    plan.usage = Plan::usage_changes(accounts, &now);
    plan
}

fn all_requested(batch: &[Input]) -> Stored {
    stored(batch.iter().map(|input| requested(&input.event.terms)))
}

/// A row that a transfer may have by the time its event is read; `found` says which.
fn row_found(input: &Input, found: usize, reason: Reason) -> Option<TransferRow> {
    let terms = &input.event.terms;
    let cancelled = Some(Reason::CancelledByClient);
    Some(match found {
        0 => requested(terms),
        1 => held(terms),
        2 => ended(requested(terms), State::Rejected, Some(reason)),
        3 => ended(held(terms), State::Rejected, Some(Reason::DestinationClosed)),
        4 => ended(requested(terms), State::Cancelled, cancelled),
        5 => ended(held(terms), State::Cancelled, cancelled),
        6 => ended(held(terms), State::Committed, None),
        _ => return None,
    })
}

/// A batch and what is stored of it: anything that can have happened to its transfers before.
fn any_history() -> impl Strategy<Value = (Vec<Input>, Stored)> {
    let found = proptest::collection::vec((0_usize..8, any_reason()), 24);
    (any_batch(EventType::Requested), found).prop_map(|(batch, found)| {
        let rows = batch
            .iter()
            .zip(found)
            .filter_map(|(input, (found, reason))| row_found(input, found, reason));
        let rows = stored(rows);
        (batch, rows)
    })
}

/// What the invariants of one row say, in numbers that cannot overflow.
fn assert_sound(row: &AccountSnapshot) {
    let (posted, held) = (i128::from(row.posted), i128::from(row.held));
    let bound = i128::from(POSTED_LIMIT);
    assert!(held >= 0 && posted.abs() <= bound && (posted - held).abs() <= bound, "{row:?}");
    let limit = i128::from(row.overdraft_limit);
    assert!(row.kind == AccountKind::External || posted - held >= -limit, "{row:?}");
}

proptest! {
    #[test]
    fn a_batch_is_decided_as_the_plainest_ledger_does(
        batch in any_batch(EventType::Requested), accounts in sound_rows(),
    ) {
        let plan = decide_now(&batch, &accounts, None);
        let mut ledger = Ledger::of(&accounts);
        let mut given_back: BTreeMap<TransferId, i64> = BTreeMap::new();
        let (mut outcomes, mut moves) = (Vec::new(), Vec::new());
        for input in &batch {
            let terms = &input.event.terms;
            match ledger.hold(terms) {
                Ok(row) => {
                    moves.push(moved(input, State::Requested, State::Held, None));
                    outcomes.push(says(input, EventType::Held, None, Some(row)));
                }
                Err(reason) => {
                    moves.push(moved(input, State::Requested, State::Rejected, Some(reason)));
                    outcomes.push(says(input, EventType::Rejected, Some(reason), None));
                    if let Some(original) = terms.reverses {
                        *given_back.entry(original).or_default() -= terms.amount.minor();
                    }
                }
            }
        }
        prop_assert_eq!(plan, Plan {
            accounts: ledger.changes_since(&accounts),
            usage: ledger.usage_since(&accounts),
            transfers: moves,
            reversed: given_back,
            outcomes,
            ..Plan::default()
        });
    }

    #[test]
    fn a_batch_decides_what_its_transfers_decide_one_by_one(
        (batch, rows) in any_history(), accounts in sound_rows(),
    ) {
        let whole = decide_now(&batch, &accounts, Some(&rows));
        let mut parts = Plan::default();
        let mut now = accounts.clone();
        for input in &batch {
            let part = decide_now(std::slice::from_ref(input), &now, Some(&rows));
            for change in &part.accounts {
                let row = now.get_mut(&change.id).unwrap();
                prop_assert_eq!(row.version, change.version_before);
                (row.posted, row.held, row.version) = (change.posted, change.held, change.version);
            }
            for change in &part.usage {
                let row = now.get_mut(&change.account).unwrap();
                let kept = row.velocity.iter().find(|(period, _)| *period == change.period);
                let (period, kept) = kept.unwrap();
                row.velocity.insert(period, Allowance { used: change.used, ..kept });
            }
            parts.transfers.extend(part.transfers);
            parts.outcomes.extend(part.outcomes);
            for (original, back) in part.reversed {
                *parts.reversed.entry(original).or_default() += back;
            }
        }
        parts.accounts = Plan::account_changes(&accounts, &now);
        parts.usage = Plan::usage_changes(&accounts, &now);
        prop_assert_eq!(whole, parts);
    }

    /// Hazard 29, seen from the source: every hold of a batch has a version of its own, and its
    /// event carries the row as it was right after it.
    #[test]
    fn every_held_event_carries_the_row_of_its_own_version(
        batch in any_batch(EventType::Requested), accounts in sound_rows(),
    ) {
        let plan = decide_now(&batch, &accounts, None);
        let mut now = accounts;
        for (input, outcome) in batch.iter().zip(&plan.outcomes) {
            let event = emitted(outcome);
            let Some(after) = &event.account else { continue };
            let row = now.get_mut(&after.id).unwrap();
            row.held += input.event.terms.amount.minor();
            row.version += 1;
            prop_assert_eq!(&AccountSnapshot::from(&*row), after);
            assert_sound(after);
        }
    }

    /// What is written without reading the transfers first is written only where it is what they
    /// would have led to.
    #[test]
    fn a_plan_made_blindly_that_fits_the_rows_is_the_plan_made_from_them(
        (batch, rows) in any_history(), accounts in sound_rows(),
    ) {
        let blind = decide_now(&batch, &accounts, None);
        let fits = |write: &StageWrite| {
            rows.get(&write.terms.id).is_some_and(|row| row.state == write.from)
        };
        if blind.transfers.iter().all(fits) {
            prop_assert_eq!(&blind, &decide_now(&batch, &accounts, Some(&rows)));
        }
        prop_assert_eq!(blind, decide_now(&batch, &accounts, Some(&all_requested(&batch))));
    }

    #[test]
    fn an_event_delivered_again_writes_nothing_and_says_what_holds(
        batch in any_batch(EventType::Requested), accounts in sound_rows(), reason in any_reason(),
        found in proptest::collection::vec(1_usize..7, 24),
    ) {
        let found: Vec<_> = batch.iter().zip(found).filter_map(|(input, found)| {
            row_found(input, found, reason)
        }).collect();
        let plan = decide_now(&batch, &accounts, Some(&stored(found.clone())));
        for ((input, row), outcome) in batch.iter().zip(found).zip(&plan.outcomes) {
            let account = accounts.get(&input.event.terms.source).map(AccountSnapshot::from);
            let expected = match (row.state, row.held_at) {
                (State::Held, _) => says(input, EventType::Held, None, account),
                (State::Rejected, None) => says(input, EventType::Rejected, Some(reason), None),
                _ => Outcome::Done,
            };
            prop_assert_eq!(outcome, &expected);
        }
        prop_assert_eq!(Plan { outcomes: Vec::new(), ..plan }, Plan::default());
    }

    #[test]
    fn what_is_already_so_is_said_even_of_an_account_that_is_broken(row in broken_row("a")) {
        let batch = inputs(EventType::Requested, [&terms(1, "a", "b", 5)]);
        let rows = rows([row.clone()]);
        let found = stored([held(&batch[0].event.terms)]);
        let plan = decide_now(&batch, &rows, Some(&found));
        let said = says(&batch[0], EventType::Held, None, Some((&row).into()));
        prop_assert_eq!(plan, Plan { outcomes: vec![said], ..Plan::default() });
    }

    #[test]
    fn a_broken_row_is_quarantined_and_nothing_of_it_is_written(
        broken in broken_row("a"), sound in sound_row("b"),
    ) {
        let (one, two) = (terms(1, "a", "c", 5), terms(2, "b", "c", 5));
        let batch = inputs(EventType::Requested, [&one, &two]);
        let accounts = rows([broken, sound]);
        let plan = decide_now(&batch, &accounts, Some(&all_requested(&batch)));
        prop_assert_eq!(dead(&plan.outcomes[0]), Some(DeadReason::Invariant));
        prop_assert_eq!(plan.quarantine.keys().collect::<Vec<_>>(), [&one.source]);
        prop_assert!(plan.transfers.iter().all(|write| write.terms == two));
        prop_assert!(plan.accounts.iter().all(|change| change.id == two.source));
        prop_assert_eq!(plan.transfers.len(), 1, "the other account is decided as ever");
    }
}

/// The reason that hold gives for a transfer of 10.00 USD from this account.
fn refused(row: AccountRow) -> Option<Reason> {
    let batch = inputs(EventType::Requested, [&terms(1, "a", "b", 1000)]);
    emitted(&decide_now(&batch, &rows([row]), None).outcomes[0]).reason
}

#[test]
fn every_refusal_has_its_reason_and_the_status_comes_first() {
    let rich = account("a", 5000);
    let with = |change: fn(&mut AccountRow)| {
        let mut row = rich.clone();
        change(&mut row);
        refused(row)
    };
    assert_eq!(with(|_| {}), None);
    assert_eq!(refused(account("other", 5000)), Some(Reason::SourceNotFound));
    assert_eq!(with(|row| row.posted = 999), Some(Reason::InsufficientFunds));
    assert_eq!(with(|row| row.held = 4001), Some(Reason::InsufficientFunds));
    assert_eq!(with(|row| row.currency = "EUR".parse().unwrap()), Some(Reason::CurrencyMismatch));
    assert_eq!(with(|row| row.quarantined = true), Some(Reason::AccountQuarantined));
    assert_eq!(with(|row| row.status = AccountStatus::Frozen), Some(Reason::SourceFrozen));
    assert_eq!(with(|row| row.status = AccountStatus::Closed), Some(Reason::SourceClosed));
    let everything = |row: &mut AccountRow| {
        row.posted = 0;
        row.currency = "EUR".parse().unwrap();
        row.quarantined = true;
        row.status = AccountStatus::Frozen;
    };
    assert_eq!(with(everything), Some(Reason::SourceFrozen));
    let all_but_status = |row: &mut AccountRow| {
        row.posted = 0;
        row.currency = "EUR".parse().unwrap();
        row.quarantined = true;
    };
    assert_eq!(with(all_but_status), Some(Reason::AccountQuarantined));
    let poor_in_another_currency = |row: &mut AccountRow| {
        row.posted = 0;
        row.currency = "EUR".parse().unwrap();
    };
    assert_eq!(with(poor_in_another_currency), Some(Reason::CurrencyMismatch));
}

#[test]
fn the_last_cent_of_the_overdraft_can_be_held_and_not_one_more() {
    let overdraft = |limit| AccountRow { overdraft_limit: limit, ..holding("a", -300, 200) };
    assert_eq!(refused(overdraft(1500)), None);
    assert_eq!(refused(overdraft(1499)), Some(Reason::InsufficientFunds));
}

/// Hazard 21: an external account has no overdraft limit, but a bound: of ten legal transfers of
/// the largest amount those that would take it past that are refused here, where it still can be
/// done, and not found out at commit, when the destination has the money.
#[test]
fn an_external_account_at_its_bound_is_refused_at_hold() {
    let mut world = account("world", 4 * MAX_AMOUNT - POSTED_LIMIT);
    world.kind = AccountKind::External;
    let ten: Vec<_> = (0..10).map(|number| terms(number, "world", "b", MAX_AMOUNT)).collect();
    let plan = decide_now(&inputs(EventType::Requested, &ten), &rows([world]), None);
    let reasons: Vec<_> = plan.outcomes.iter().map(|outcome| emitted(outcome).reason).collect();
    assert_eq!(reasons[..4], [None; 4]);
    assert_eq!(reasons[4..], [Some(Reason::BalanceLimit); 6]);
    assert_eq!(plan.accounts[0].posted - plan.accounts[0].held, -POSTED_LIMIT);
}

/// Hazard 12: a client's cancel has taken one transfer of the batch; its amount is not held, and
/// the plan made without reading the rows cannot be written, for it counts on that row.
#[test]
fn a_transfer_cancelled_meanwhile_adds_nothing_to_held() {
    let transfers = [terms(1, "a", "b", 50), terms(2, "a", "b", 30), terms(3, "a", "b", 20)];
    let batch = inputs(EventType::Requested, &transfers);
    let accounts = rows([account("a", 100)]);
    let mut found = all_requested(&batch);
    let cancelled = Some(Reason::CancelledByClient);
    let second = ended(requested(&transfers[1]), State::Cancelled, cancelled);
    found.insert(transfers[1].id, second);

    let blind = decide_now(&batch, &accounts, None);
    assert!(blind.transfers.iter().any(|write| write.terms == transfers[1]));
    let plan = decide_now(&batch, &accounts, Some(&found));
    assert_eq!(plan.accounts[0].held, 70);
    assert_eq!(plan.accounts[0].version, 9);
    let held: Vec<_> = plan.transfers.iter().map(|write| write.terms.id).collect();
    assert_eq!(held, [transfers[0].id, transfers[2].id]);
    assert_eq!(plan.outcomes[1], Outcome::Done, "who cancelled it has announced it");
}

/// Hazard 5, seen from the source: status and money are one row under one lock, so a freeze that
/// was answered is seen by every hold decided after it.
#[test]
fn a_frozen_source_holds_nothing_however_rich_it_is() {
    let row = AccountRow { status: AccountStatus::Frozen, ..account("a", 1_000_000) };
    let batch = inputs(EventType::Requested, [&terms(1, "a", "b", 1)]);
    let plan = decide_now(&batch, &rows([row]), None);
    assert!(plan.accounts.is_empty());
    assert_eq!(emitted(&plan.outcomes[0]).reason, Some(Reason::SourceFrozen));
}

/// Hazard 38, the way back: a reversal that hold refuses gives what it had taken of its original
/// back, and a second delivery of its event does not do it again.
#[test]
fn a_refused_reversal_gives_back_once() {
    let reversal = reversing(1, terms(5, "a", "b", 40));
    let twin = reversing(1, terms(6, "a", "b", 25));
    let batch = inputs(EventType::Requested, [&reversal, &twin]);
    let accounts = rows([account("a", 10)]);
    let plan = decide_now(&batch, &accounts, None);
    assert_eq!(plan.reversed, BTreeMap::from([(reversal.reverses.unwrap(), -65)]));

    let short = Some(Reason::InsufficientFunds);
    let found = [&reversal, &twin].map(|terms| ended(requested(terms), State::Rejected, short));
    let again = decide_now(&batch, &accounts, Some(&stored(found)));
    assert!(again.reversed.is_empty() && again.transfers.is_empty());
}

#[test]
fn a_source_is_decided_in_the_order_of_its_events() {
    let transfers = [terms(1, "a", "b", 60), terms(2, "a", "b", 50), terms(3, "a", "b", 40)];
    let accounts = rows([account("a", 100)]);
    let kinds = |order: [usize; 3]| {
        let batch = inputs(EventType::Requested, order.map(|at| &transfers[at]));
        let plan = decide_now(&batch, &accounts, None);
        plan.outcomes.iter().map(|outcome| emitted(outcome).kind).collect::<Vec<_>>()
    };
    let (held, rejected) = (EventType::Held, EventType::Rejected);
    assert_eq!(kinds([0, 1, 2]), [held, rejected, held]);
    assert_eq!(kinds([1, 0, 2]), [held, rejected, held]);
    assert_eq!(kinds([2, 1, 0]), [held, held, rejected]);
}

#[test]
fn an_event_without_its_row_or_against_it_is_dead_and_changes_nothing() {
    let event = terms(1, "a", "b", 50);
    let batch = inputs(EventType::Requested, [&event]);
    let accounts = rows([account("a", 100)]);
    let verdict = |found: Stored| {
        let plan = decide_now(&batch, &accounts, Some(&found));
        assert!(plan.accounts.is_empty() && plan.transfers.is_empty());
        dead(&plan.outcomes[0])
    };
    assert_eq!(verdict(Stored::new()), Some(DeadReason::NoRow));
    let usd = event.amount.currency();
    for other in [
        crate::domain::Terms { amount: Money::from_minor(51, usd).unwrap(), ..event.clone() },
        crate::domain::Terms { destination: "c".parse().unwrap(), ..event.clone() },
        reversing(9, event.clone()),
    ] {
        let row = TransferRow { terms: other, ..requested(&event) };
        let found = Stored::from([(event.id, row)]);
        assert_eq!(verdict(found), Some(DeadReason::Contradiction));
    }
}

#[test]
fn a_hold_keeps_its_cause_and_its_deadline_by_database_time() {
    let event = input(EventType::Requested, &terms(1, "a", "b", 5));
    let plan = decide_now(std::slice::from_ref(&event), &rows([account("a", 5)]), None);
    let write = &plan.transfers[0];
    assert_eq!(write.hold_deadline, Some(stamp().at.plus(HOLD_TIMEOUT)));
    assert_eq!(write.cause, Cause { offset: Some(event.offset), attempt: 1 });
}
