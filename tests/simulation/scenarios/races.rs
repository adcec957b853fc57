//! Two that decide about the same money at once.

use super::stage::play;
use crate::faults::{Act, Side};
use crate::world::pass;
use holdfast::domain::{Reason, State};
use holdfast::ingress::Refusal;
use holdfast::roles::Role;
use holdfast::store::Actor;
use std::time::Duration;

const A_SECOND: Duration = Duration::from_secs(1);
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// Hazard 1: a worker has decided to reject and stands still in its COMMIT. The money is free again
/// meanwhile, and its successor holds and commits the transfer. When it wakes, it has nothing to
/// say.
#[test]
fn a_rejection_that_was_never_written_is_never_announced() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let zombie = stage.machine(&[Role::Relay, Role::Hold]);
        let first = stage.pay(zombie, "first", &payer, &payee, 100).await;
        stage.until_state(first, State::Held).await;
        // The next COMMIT but the one that accepts the second transfer is the rejection's.
        let successor = stage.machine(&[]);
        stage.fault_on(zombie, "commit", Side::Before, Some(0), Act::Stall(30 * A_SECOND));
        let second = stage.pay(successor, "second", &payer, &payee, 100).await;
        stage.until("the stall", |state| state.rules.is_empty()).await;
        let others = stage.everything_but(&[Role::Hold]);
        stage.cancel(others, first).await.unwrap();
        stage.until_state(first, State::Cancelled).await;
        stage.machine(&[Role::Hold]);
        stage.until_state(second, State::Committed).await;
        assert!(stage.world.elapsed() < 25 * A_SECOND, "it still stands still");
        stage.pass(40).await;
        assert_eq!(stage.state(second), (State::Committed, None));
    });
}

/// Hazard 2: a cancel of a held transfer whose event is on its way writes the pivot, and credit
/// finds it.
#[test]
fn a_cancel_that_overtakes_the_credit_is_found_by_it() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Credit]);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.until_state(transfer, State::Held).await;
        stage.cancel(one, transfer).await.unwrap();
        stage.machine(&[Role::Credit]);
        stage.until_state(transfer, State::Cancelled).await;
        assert_eq!((stage.row(&payer).held, stage.row(&payee).posted), (0, 0));
    });
}

/// Hazard 5: closing waits for the credit that is being written, and then finds the money; a credit
/// that waits for a close finds the account closed.
#[test]
fn closing_and_crediting_decide_by_one_row() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let worker = stage.everything();
        let operator = stage.machine(&[]);
        stage.fault_on(worker, "insert entries", Side::After, Some(1), Act::Pause(A_SECOND / 4));
        let transfer = stage.pay(operator, "one", &payer, &payee, 10).await;
        stage.until("the credit", |state| state.rules.is_empty()).await;
        let closed = stage.door(operator).close_account(&payee, &Actor::itself()).await;
        assert!(matches!(closed, Err(Refusal::AccountNotEmpty { .. })), "{closed:?}");
        stage.until_state(transfer, State::Committed).await;
    });
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let worker = stage.everything();
        let operator = stage.machine(&[]);
        stage.fault_on(operator, "commit", Side::Before, Some(1), Act::Pause(A_SECOND / 4));
        let (closed, transfer) = tokio::join!(
            async { stage.door(operator).close_account(&payee, &Actor::itself()).await },
            stage.pay(worker, "one", &payer, &payee, 10),
        );
        closed.unwrap();
        stage.until_state(transfer, State::Rejected).await;
        assert_eq!(stage.state(transfer).1, Some(Reason::DestinationClosed));
    });
}

/// Hazard 5, the freeze: what is frozen while a hold is being written is held on before, and nothing
/// is held on it after.
#[test]
fn freezing_and_holding_decide_by_one_row() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let worker = stage.everything();
        let operator = stage.machine(&[]);
        let before = stage.pay(operator, "before", &payer, &payee, 10).await;
        stage.fault_on(worker, "write accounts", Side::After, Some(0), Act::Pause(A_SECOND));
        stage.until("the hold", |state| state.rules.is_empty()).await;
        stage.door(operator).freeze_account(&payer, &Actor::itself()).await.unwrap();
        assert_ne!(stage.state(before).0, State::Requested, "the freeze came after the hold");
        let after = stage.pay(operator, "after", &payer, &payee, 10).await;
        stage.until_state(after, State::Rejected).await;
        stage.until_state(before, State::Committed).await;
    });
}

/// Hazard 10: credit and cancel insert the pivot at the same time. Whoever comes second waits, reads
/// what the first wrote, and says that.
#[test]
fn one_of_two_pivots_wins_whoever_comes_first() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let worker = stage.everything_but(&[Role::Commit]);
        let caller = stage.machine(&[]);
        stage.fault_on(worker, "insert entries", Side::After, Some(1), Act::Pause(A_SECOND / 4));
        let transfer = stage.pay(caller, "one", &payer, &payee, 10).await;
        stage.until("the credit", |state| state.rules.is_empty()).await;
        let answer = stage.cancel(caller, transfer).await;
        assert!(matches!(answer, Err(Refusal::TransferCredited(_))), "{answer:?}");
        stage.machine(&[Role::Commit]);
        stage.until_state(transfer, State::Committed).await;
    });
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let worker = stage.everything_but(&[Role::Credit]);
        let caller = stage.machine(&[]);
        let transfer = stage.pay(worker, "one", &payer, &payee, 10).await;
        stage.until_state(transfer, State::Held).await;
        stage.fault_on(caller, "insert entries", Side::After, Some(1), Act::Pause(A_SECOND / 4));
        let credit = async {
            stage.until("the cancel", |state| state.rules.is_empty()).await;
            stage.machine(&[Role::Credit]);
        };
        let (answer, ()) = tokio::join!(stage.cancel(caller, transfer), credit);
        answer.unwrap();
        stage.until_state(transfer, State::Cancelled).await;
    });
}

/// Hazard 12: a cancel takes one transfer out of a batch that hold has added up already. None of
/// the batch is written as it was decided.
#[test]
fn a_cancel_in_the_middle_of_a_batch_leaves_its_amount_out() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let caller = stage.machine(&[Role::Relay]);
        let one = stage.pay(caller, "one", &payer, &payee, 30).await;
        let two = stage.pay(caller, "two", &payer, &payee, 20).await;
        let worker = stage.machine(&[]);
        stage
            .until("both events", |state| {
                [one, two].iter().all(|id| state.auditor.transfers[id].published)
            })
            .await;
        let holding = stage.machine(&[Role::Hold]);
        stage.fault_on(holding, "lock accounts", Side::After, Some(0), Act::Pause(A_SECOND));
        stage.until("the hold", |state| state.rules.is_empty()).await;
        stage.cancel(worker, one).await.unwrap();
        stage.until_state(two, State::Held).await;
        assert_eq!(stage.row(&payer).held, 20);
        stage.everything();
        stage.until_state(two, State::Committed).await;
    });
}

/// Hazard 29: five credits of one batch are five versions with five balances.
#[test]
fn every_credit_of_a_batch_has_a_version_of_its_own() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let caller = stage.everything_but(&[Role::Credit]);
        let mut transfers = Vec::new();
        for number in 0..5 {
            let key = format!("key-{number}");
            transfers.push(stage.pay(caller, &key, &payer, &payee, 10).await);
        }
        for transfer in &transfers {
            stage.until_state(*transfer, State::Held).await;
        }
        stage.machine(&[Role::Credit]);
        for transfer in &transfers {
            stage.until_state(*transfer, State::Committed).await;
        }
        assert_eq!((stage.row(&payee).version, stage.row(&payee).posted), (6, 50));
    });
}

/// Hazard 38: a reversal is asked for again while the COMMIT of the first request is on its way. It
/// finds the first, and not that nothing is left.
#[test]
fn a_reversal_that_is_asked_for_again_while_it_is_written_is_found() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let (one, other) = (stage.everything(), stage.machine(&[]));
        let original = stage.pay(one, "original", &payer, &payee, 100).await;
        stage.until_state(original, State::Committed).await;
        stage.fault_on(one, "commit", Side::Before, Some(1), Act::Pause(A_SECOND));
        let repeat = async {
            stage.until("the first COMMIT", |state| state.rules.is_empty()).await;
            stage.reverse(other, "reversal", original, 100).await
        };
        let (first, repeat) = tokio::join!(stage.reverse(one, "reversal", original, 100), repeat);
        let (first, repeat) = (first.unwrap(), repeat.unwrap());
        assert_eq!(first.transfer.row.terms, repeat.transfer.row.terms);
        assert!(repeat.replayed);
    });
}

/// Hazard 38: two partial reversals at once share what is left.
#[test]
fn two_reversals_at_once_take_back_no_more_than_there_is() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let (one, other) = (stage.everything(), stage.machine(&[]));
        let original = stage.pay(one, "original", &payer, &payee, 100).await;
        stage.until_state(original, State::Committed).await;
        stage.fault_on(one, "add reversals", Side::Before, Some(1), Act::Pause(HALF_A_SECOND));
        let (first, second) = tokio::join!(stage.reverse(one, "first", original, 60), async {
            pass(Duration::from_millis(100)).await;
            stage.reverse(other, "second", original, 60).await
        });
        first.unwrap();
        assert!(matches!(second, Err(Refusal::ReversalExceedsOriginal { .. })), "{second:?}");
    });
}
