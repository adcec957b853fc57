//! A database fails over and has lost its last commits.

use super::stage::{Stage, play};
use crate::faults::{Act, Side};
use crate::promotion;
use holdfast::domain::{EventType, Reason, Shard, State};
use holdfast::roles::Role;
use std::time::Duration;

fn remember(stage: &Stage) {
    for database in &mut stage.world.lock().databases {
        database.remembers = true;
    }
}

/// Hazard 6: the hold is lost and its credit survived. The source is held again, and pays.
#[test]
fn a_source_that_lost_its_hold_still_pays_for_the_credit() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Commit]);
        remember(stage);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.until("the credit", |state| state.auditor.pivots.contains_key(&transfer)).await;
        promotion::promote(&stage.fleet, Shard(0), 1).await;
        stage.machine(&[Role::Commit]);
        stage.until_state(transfer, State::Committed).await;
        assert_eq!((stage.row(&payer).posted, stage.row(&payee).posted), (-100, 100));
    });
}

/// Hazard 6: the credit is lost and the commit that followed it survived. It is credited again.
#[test]
fn a_destination_that_lost_its_credit_is_credited_again() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything();
        remember(stage);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.until_state(transfer, State::Committed).await;
        promotion::promote(&stage.fleet, Shard(1), 1).await;
        assert_eq!((stage.row(&payer).posted, stage.row(&payee).posted), (-100, 100));
    });
}

/// Hazard 6: a REFUSED is lost and the release that followed it survived. It is written again, so
/// that a `held` that is read again credits nobody.
#[test]
fn a_refusal_that_was_lost_refuses_again() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Credit]);
        remember(stage);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.until_state(transfer, State::Held).await;
        stage.cancel(one, transfer).await.unwrap();
        stage.until_state(transfer, State::Cancelled).await;
        promotion::promote(&stage.fleet, Shard(1), 1).await;
        stage.machine(&[Role::Credit]);
        stage.pass(30).await;
        assert_eq!(stage.state(transfer), (State::Cancelled, Some(Reason::CancelledByClient)));
        assert_eq!((stage.row(&payer).posted, stage.row(&payee).posted), (0, 0));
    });
}

/// Hazard 6: a claim is lost with its transfer, whose event was published. Both are made again, and
/// the caller who asks once more finds its transfer.
#[test]
fn a_claim_that_was_lost_is_found_again() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.machine(&[Role::Relay]);
        remember(stage);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.until("its event", |state| state.auditor.transfers[&transfer].published).await;
        promotion::promote(&stage.fleet, Shard(0), 1).await;
        let all = stage.everything();
        let request = stage.request("one", &payer, &payee, 100);
        let repeat = stage.submit(all, &request).await.unwrap();
        assert!(repeat.replayed);
        assert_eq!(repeat.transfer.row.terms.id, transfer);
        stage.until_state(transfer, State::Committed).await;
    });
}

/// Hazard 6: commit dies between its COMMIT and its event, and before it could read `credited` again
/// another shard was promoted: that event is of before. Recovery announces the end.
#[test]
fn an_end_that_nobody_was_told_of_is_announced_after_a_promotion() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Commit]);
        let commit = stage.machine(&[Role::Commit]);
        stage.fault(commit, "produce", Side::Before, Act::Stall(Duration::from_secs(3600)));
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.until_state(transfer, State::Committed).await;
        promotion::promote(&stage.fleet, Shard(1), 0).await;
        stage.until("its end", |state| state.auditor.transfers[&transfer].announced).await;
        assert_eq!(stage.published(EventType::Committed, 0), 1);
    });
}

/// Hazard 6: an end that waits in an outbox is on its way, and recovery leaves it to the relay.
#[test]
fn an_end_that_waits_in_an_outbox_is_announced_once() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.machine(&[]);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.cancel(one, transfer).await.unwrap();
        promotion::promote(&stage.fleet, Shard(1), 0).await;
        stage.everything();
        stage.until("its end", |state| state.auditor.transfers[&transfer].announced).await;
        stage.pass(30).await;
        assert_eq!(stage.published(EventType::Cancelled, 0), 1);
    });
}
