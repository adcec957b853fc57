//! The whole way in one transaction against the same way step by step.

use super::*;
use crate::domain::testing::{
    HOLD_TIMEOUT, Rows, account, any_batch, emitted, ended, held, holding, input, requested, rows,
    sound_rows, stamp, terms,
};
use crate::domain::{
    AccountStatus, Pivot, Reason, Side, State, Suspicion, TransferRow, testing::broken_row,
};
use proptest::prelude::*;

/// Of any two accounts here, those with the same remainder are on one shard.
fn stays(terms: &Terms) -> bool {
    let of = |id: &AccountId| id.as_str().bytes().map(u32::from).sum::<u32>() % 2;
    of(&terms.source) == of(&terms.destination)
}

fn whole(batch: &[Input], now: &mut Rows, stored: Option<&Stored>) -> Plan {
    let transfers = stored.map(|stored| &stored.transfers);
    let plan = super::super::decide::decide(batch, now, transfers, &stamp(), HOLD_TIMEOUT);
    decide(plan, batch, |_| true, now, stored, &stamp())
}

/// What was said of an event, as if that event were the cause of what follows, too.
fn caused(input: &Input, said: &Outcome) -> Input {
    let attempt = input.event.attempt;
    Input { event: Event { attempt, ..emitted(said).clone() }, ..*input }
}

fn found(row: TransferRow, pivot: Option<PivotDecision>) -> Stored {
    let terms = row.terms.clone();
    let amount = match pivot {
        Some(PivotDecision::Credited) => terms.amount.minor(),
        _ => 0,
    };
    let pivot = pivot.map(|decision| Pivot {
        transfer: terms.id,
        destination: terms.destination.clone(),
        source: terms.source.clone(),
        amount,
        decision,
    });
    Stored {
        transfers: HashMap::from([(terms.id, row)]),
        pivots: pivot.into_iter().map(|pivot| (pivot.transfer, pivot)).collect(),
    }
}

proptest! {
    /// The rows, the entries, the ends and what is given back are those of three transactions.
    #[test]
    fn one_transaction_decides_what_three_do(
        batch in any_batch(EventType::Requested), accounts in sound_rows(),
    ) {
        let (mut at_once, mut by_steps) = (accounts.clone(), accounts);
        let plan = {
            let held = super::super::decide::decide(&batch, &mut at_once, None, &stamp(), HOLD_TIMEOUT);
            decide(held, &batch, stays, &mut at_once, None, &stamp())
        };
        let mut steps = super::super::decide::decide(&batch, &mut by_steps, None, &stamp(), HOLD_TIMEOUT);
        let said = |plan: &Plan, kind: EventType| -> Vec<Input> {
            let said = batch.iter().zip(&plan.outcomes).filter(|(input, outcome)| {
                emitted(outcome).kind == kind && stays(&input.event.terms)
            });
            said.map(|(input, outcome)| caused(input, outcome)).collect()
        };
        let held = said(&steps, EventType::Held);
        let credited = credit::decide(&held, &mut by_steps, &HashMap::new(), &stamp());
        let settled: Vec<Settled> = held.iter().zip(&credited.outcomes).map(|(input, outcome)| {
            let event = emitted(outcome);
            let decision = event.reason.map_or(PivotDecision::Credited, PivotDecision::Refused);
            Settled { input: caused(input, outcome), decision }
        }).collect();
        let committed = commit::decide(&settled, &mut by_steps, None, &stamp());
        prop_assert_eq!(&at_once, &by_steps);
        let ends: BTreeMap<TransferId, &Outcome> = settled.iter()
            .map(|settled| settled.input.event.terms.id).zip(&committed.outcomes).collect();
        for (input, outcome) in batch.iter().zip(&plan.outcomes) {
            let id = input.event.terms.id;
            let place = batch.iter().position(|other| other.event.terms.id == id).unwrap();
            let expected = emitted(ends.get(&id).copied().unwrap_or(&steps.outcomes[place]));
            let event = emitted(outcome);
            prop_assert_eq!((event.kind, event.reason), (expected.kind, expected.reason));
            prop_assert_eq!(&event.account, &expected.account);
            let paid = event.kind == EventType::Committed;
            prop_assert_eq!(event.destination_account.is_some(), paid);
        }
        let ends = committed.transfers.clone();
        steps.add(credited);
        steps.add(Plan { transfers: Vec::new(), ..committed });
        prop_assert_eq!((&plan.entries, &plan.reversed), (&steps.entries, &steps.reversed));
        prop_assert!(plan.transfers.iter().all(StageWrite::is_allowed));
        let states = |writes: &[StageWrite]| -> BTreeMap<TransferId, (State, Option<Reason>)> {
            writes.iter().map(|write| (write.terms.id, (write.to, write.reason))).collect()
        };
        let mut expected = states(&steps.transfers);
        expected.extend(states(&ends));
        prop_assert_eq!(plan.transfers.len(), expected.len());
        prop_assert_eq!(states(&plan.transfers), expected);
    }

    /// A row that breaks an invariant is found by whoever decides about it; nothing is made of it.
    #[test]
    fn a_broken_destination_is_not_paid(broken in broken_row("b")) {
        let mut now = rows([account("a", 50), broken.clone()]);
        let batch = [input(EventType::Requested, &terms(1, "a", "b", 10))];
        let plan = whole(&batch, &mut now, None);
        let suspects: Vec<(&str, &Suspicion)> =
            plan.quarantine.iter().map(|(id, why)| (id.as_str(), why)).collect();
        prop_assert_eq!(suspects.len(), 1);
        prop_assert_eq!(suspects[0].0, "b");
        prop_assert!(plan.entries.is_empty() && !plan.may_be_written_unread());
        prop_assert_eq!(&now[&broken.id], &broken);
        prop_assert_eq!(plan.transfers[0].to, State::Held);
    }
}

/// Hazard 44: held, credited and debited by one write each, and both rows are said.
#[test]
fn a_transfer_that_stays_goes_all_its_way() {
    let mut now = rows([account("a", 50), account("b", 5)]);
    let terms = terms(1, "a", "b", 10);
    let plan = whole(&[input(EventType::Requested, &terms)], &mut now, None);
    let [write] = &plan.transfers[..] else { panic!("{:?}", plan.transfers) };
    assert_eq!((write.from, write.to), (State::Requested, State::Committed));
    assert!(write.passes_hold());
    let sides: Vec<Side> = plan.entries.iter().map(|entry| entry.side).collect();
    assert_eq!(sides, [Side::Credit, Side::Debit]);
    let event = emitted(&plan.outcomes[0]);
    assert_eq!(event.kind, EventType::Committed);
    let said: Vec<(&str, i64, i64)> =
        event.accounts().map(|row| (row.id.as_str(), row.posted, row.version)).collect();
    assert_eq!(said, [("a", 40, 9), ("b", 15, 8)]);
}

/// Hazard 44: a destination that cannot be paid refuses by its mark, and the money is free again.
#[test]
fn a_refusal_leaves_its_mark_and_frees_the_money() {
    let mut frozen = account("b", 5);
    frozen.status = AccountStatus::Frozen;
    let mut now = rows([account("a", 50), frozen]);
    let plan = whole(&[input(EventType::Requested, &terms(1, "a", "b", 10))], &mut now, None);
    let reason = Some(Reason::DestinationFrozen);
    assert_eq!((plan.transfers[0].to, plan.transfers[0].reason), (State::Rejected, reason));
    assert_eq!(plan.entries[0].outcome, Err(Reason::DestinationFrozen));
    assert_eq!((plan.entries.len(), emitted(&plan.outcomes[0]).kind), (1, EventType::Rejected));
    let source = &now[&"a".parse().unwrap()];
    assert_eq!((source.posted, source.held), (50, 0));
}

/// Hazard 44: what was committed before its event was published is announced again with both rows,
/// and nothing moves a second time.
#[test]
fn an_end_that_stands_is_announced_again() {
    let terms = terms(1, "a", "b", 10);
    let batch = [input(EventType::Requested, &terms)];
    let before = rows([account("a", 40), account("b", 15)]);
    let ends = [
        (State::Committed, None, Some(PivotDecision::Credited)),
        (
            State::Cancelled,
            Some(Reason::HoldTimeout),
            Some(PivotDecision::Refused(Reason::HoldTimeout)),
        ),
    ];
    for (state, reason, pivot) in ends {
        let mut now = before.clone();
        let stored = found(ended(held(&terms), state, reason), pivot);
        let plan = whole(&batch, &mut now, Some(&stored));
        let event = emitted(&plan.outcomes[0]);
        assert_eq!((event.kind, event.reason), (EventType::announcing(state), reason));
        assert_eq!(event.accounts().count(), if reason.is_none() { 2 } else { 1 });
        let nothing = Plan { outcomes: plan.outcomes.clone(), ..Plan::default() };
        assert_eq!((plan, now), (nothing, before.clone()));
    }
    let never_held = found(ended(requested(&terms), State::Cancelled, ends[1].1), None);
    let plan = whole(&batch, &mut before.clone(), Some(&never_held));
    assert_eq!(plan.outcomes, [Outcome::Done], "who cancelled it announced it");
}

/// Hazard 44: a pivot that is there decides, whoever wrote it, and is not written again.
#[test]
fn a_pivot_that_stands_decides() {
    let terms = terms(1, "a", "b", 10);
    let batch = [input(EventType::Requested, &terms)];
    let cancelled = Reason::CancelledByClient;
    for (decision, to, posted) in [
        (PivotDecision::Credited, State::Committed, 40),
        (PivotDecision::Refused(cancelled), State::Cancelled, 50),
    ] {
        let mut now = rows([holding("a", 50, 10), account("b", 15)]);
        let stored = found(held(&terms), Some(decision));
        let plan = whole(&batch, &mut now, Some(&stored));
        let [write] = &plan.transfers[..] else { panic!("{:?}", plan.transfers) };
        assert_eq!((write.from, write.to), (State::Held, to));
        assert!(plan.entries.iter().all(|entry| entry.side == Side::Debit));
        let source = &now[&"a".parse().unwrap()];
        assert_eq!((source.posted, source.held), (posted, 0));
        assert_eq!(now[&"b".parse().unwrap()].posted, 15);
    }
}
