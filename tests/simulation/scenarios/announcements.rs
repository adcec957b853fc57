//! What is said, and when.

use super::stage::play;
use crate::faults::{Act, Side};
use holdfast::domain::{EventType, Reason, State};
use holdfast::ingress::Refusal;
use holdfast::roles::Role;
use std::time::Duration;

/// Hazard 3: credit has refused and commit is down for an hour. Nothing final is announced while the
/// money is held.
#[test]
fn nothing_is_said_to_be_over_while_its_money_is_held() {
    play(async |stage| {
        let payer = stage.account("payer", 0, 100);
        let nobody = "nobody".parse().unwrap();
        let one = stage.everything_but(&[Role::Commit]);
        let transfer = stage.pay(one, "one", &payer, &nobody, 100).await;
        stage.pass(3600).await;
        assert_eq!(stage.state(transfer).0, State::Held);
        assert_eq!(stage.published(EventType::Rejected, 0), 0);
        stage.machine(&[Role::Commit]);
        stage.until_state(transfer, State::Rejected).await;
        assert_eq!(stage.row(&payer).held, 0);
    });
}

/// Hazard 4: credit refuses for one reason and dies; the reconciler would refuse for another, loses
/// its insert, and announces what stands there.
#[test]
fn a_transfer_has_one_end_whoever_announces_it() {
    play(async |stage| {
        let payer = stage.account("payer", 0, 100);
        let nobody = "nobody".parse().unwrap();
        let credit = stage.machine(&[Role::Credit]);
        stage.fault(credit, "produce", Side::Before, Act::Stall(Duration::from_secs(60)));
        let others = stage.everything_but(&[Role::Credit]);
        let transfer = stage.pay(others, "one", &payer, &nobody, 100).await;
        stage.until_state(transfer, State::Rejected).await;
        assert_eq!(stage.state(transfer).1, Some(Reason::DestinationNotFound));
        stage.pass(90).await;
        let announced =
            [0, 1].map(|shard| stage.published(EventType::Cancelled, shard)).iter().sum::<i64>();
        assert_eq!(announced, 0);
    });
}

/// Hazard 39: a cancel that finds the pivot refused for another reason promises nothing.
#[test]
fn a_cancel_of_what_the_destination_refused_is_no_promise() {
    play(async |stage| {
        let payer = stage.account("payer", 0, 100);
        let nobody = "nobody".parse().unwrap();
        let one = stage.everything_but(&[Role::Commit]);
        let transfer = stage.pay(one, "one", &payer, &nobody, 100).await;
        stage.until("the pivot", |state| state.auditor.pivots.contains_key(&transfer)).await;
        let answer = stage.cancel(one, transfer).await;
        assert!(matches!(answer, Err(Refusal::TransferFinal(_))), "{answer:?}");
        stage.machine(&[Role::Commit]);
        stage.until_state(transfer, State::Rejected).await;
    });
}

/// A release's COMMIT is not confirmed and happens a second later. Meanwhile commit looks again, does
/// not learn the pivot, and must not let the transfer go: nobody else would announce its end.
#[test]
fn an_end_that_is_written_late_is_still_announced() {
    play(async |stage| {
        let payer = stage.account("payer", 0, 100);
        let nobody = "nobody".parse().unwrap();
        let one = stage.everything_but(&[Role::Commit]);
        let transfer = stage.pay(one, "one", &payer, &nobody, 100).await;
        stage.until("the pivot", |state| state.auditor.pivots.contains_key(&transfer)).await;
        let commit = stage.machine(&[Role::Commit]);
        let later = Act::Unconfirmed { applied: true, after: Duration::from_secs(1) };
        stage.fault(commit, "commit", Side::Before, later);
        stage.second_fault(commit, "entries of", Side::Before, Act::Unanswered);
        stage.until_state(transfer, State::Rejected).await;
    });
}

/// Hazard 41: commit stands still before a release, and its partition goes to another member, which does not
/// learn the pivot and lets the transfer go. Then the first wakes, releases, and dies before it says
/// so: the event is read, the transfer is final, and nobody who looks for what is unfinished would
/// ever announce its end.
#[test]
fn an_end_that_is_written_after_its_event_was_let_go_is_still_announced() {
    play(async |stage| {
        let payer = stage.account("payer", 0, 100);
        let nobody = "nobody".parse().unwrap();
        let one = stage.everything_but(&[Role::Commit]);
        let slow = stage.machine(&[Role::Commit]);
        let stall = Act::Stall(Duration::from_millis(600));
        stage.fault_on(slow, "begin", Side::Before, Some(0), stall);
        stage.fault(slow, "commit", Side::After, Act::Crash);
        let transfer = stage.pay(one, "one", &payer, &nobody, 100).await;
        stage.until("the pivot", |state| state.auditor.pivots.contains_key(&transfer)).await;
        let quick = stage.machine(&[Role::Commit]);
        stage.fault(quick, "entries of", Side::Before, Act::Unanswered);
        stage.until_state(transfer, State::Rejected).await;
    });
}
