//! What stands still, and what only waits for its turn.

use super::stage::play;
use crate::chaos;
use crate::faults::{Act, Side};
use crate::world::pass;
use holdfast::broker::Record;
use holdfast::broker::envelope::{self, Verdict};
use holdfast::domain::{DeadReason, EventType, Reason, Shard, State};
use holdfast::roles::Role;
use std::time::Duration;

/// Hazard 18: the event of an accepted transfer went to the dead letters. It is cancelled.
#[test]
fn what_went_to_the_dead_letters_comes_to_an_end() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Relay, Role::Reconciler]);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        {
            let mut state = stage.world.lock();
            let state = &mut *state;
            let outbox = &mut state.database(Shard(0)).tables.outbox;
            let (_, row) = outbox.pop_first().unwrap();
            let record: Record = row.records.unwrap().pop().unwrap();
            let verdict = Verdict {
                reason: DeadReason::Malformed,
                detail: "placed by a script",
                role: Role::Hold,
                at: row.at,
            };
            state.auditor.dead_letters_expected = true;
            let letter = envelope::dead_letter_unsent(&record, &verdict);
            stage.world.publish(state, usize::MAX, &[letter]);
        }
        stage.machine(&[Role::Relay, Role::Reconciler]);
        stage.until_state(transfer, State::Cancelled).await;
        assert_eq!(stage.state(transfer).1, Some(Reason::Undeliverable));
        assert_eq!(stage.dead_letters(0), 1);
    });
}

/// Hazard 19: credit is behind for longer than holds may stand. Nothing of its queue is refused.
#[test]
fn a_queue_is_not_refused_however_long_it_stands() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Credit]);
        let transfer = stage.pay(one, "one", &payer, &payee, 100).await;
        stage.pass(120).await;
        assert_eq!(stage.state(transfer).0, State::Held);
        assert!(!stage.world.lock().auditor.pivots.contains_key(&transfer));
        stage.machine(&[Role::Credit]);
        stage.until_state(transfer, State::Committed).await;
    });
}

/// Hazard 20: the relay is down. The reconciler publishes nothing that the outbox still has.
#[test]
fn nothing_overtakes_the_outbox() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Relay]);
        let mut transfers = Vec::new();
        for number in 0..3 {
            let key = format!("key-{number}");
            transfers.push(stage.pay(one, &key, &payer, &payee, 60).await);
        }
        stage.pass(120).await;
        assert_eq!(stage.published(EventType::Requested, 0), 0);
        stage.machine(&[Role::Relay]);
        stage.until_state(transfers[0], State::Committed).await;
        stage.until_state(transfers[2], State::Rejected).await;
    });
}

/// Hazard 28: the product's audit runs again and again while money moves between shards, and reports
/// nothing.
#[test]
fn an_audit_of_money_that_moves_reports_nothing() {
    play(async |stage| {
        let (one, two) = (stage.account("one", 0, 500), stage.account("two", 1, 500));
        let machine = stage.everything();
        let audits = async {
            for _ in 0..30 {
                chaos::audit_now(&stage.fleet).await;
                pass(Duration::from_millis(7)).await;
            }
        };
        let payments = async {
            for number in 0..60 {
                let key = format!("key-{number}");
                let (from, to) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
                for call in ["commit", "source facts", "credit facts of"] {
                    stage.fault(machine, call, Side::After, Act::Pause(Duration::from_millis(9)));
                }
                stage.pay(machine, &key, from, to, 5).await;
            }
        };
        tokio::join!(audits, payments);
        stage.world.lock().rules.clear();
        assert!(stage.world.lock().counts.of("audit") >= 30);
    });
}

/// Hazard 33: a shard that answers slowly holds up what goes to it and nothing else.
#[test]
fn a_slow_destination_holds_up_only_its_own() {
    play(async |stage| {
        let payer = stage.account("payer", 0, 100);
        let (near, far) = (stage.account("near", 0, 0), stage.account("far", 1, 0));
        let one = stage.everything();
        stage.fault_on(
            one,
            "lock accounts",
            Side::Before,
            Some(1),
            Act::Pause(Duration::from_secs(20)),
        );
        let slow = stage.pay(one, "slow", &payer, &far, 10).await;
        let quick = stage.pay(one, "quick", &payer, &near, 10).await;
        stage.until_state(quick, State::Committed).await;
        assert_eq!(stage.state(slow).0, State::Held);
        assert!(stage.world.elapsed() < Duration::from_secs(2));
        stage
            .until("the end of the slow one", |state| {
                state.auditor.transfers[&slow].state != State::Held
            })
            .await;
    });
}

/// Hazard 34: a transfer commits so late that the scan has passed its id, and its event is lost. The
/// sweep finds it.
#[test]
fn what_commits_behind_the_mark_is_found_by_the_sweep() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let one = stage.everything_but(&[Role::Credit]);
        let late = stage.machine(&[]);
        stage.fault_on(late, "commit", Side::Before, Some(0), Act::Pause(Duration::from_secs(5)));
        let request = stage.request("late", &payer, &payee, 10);
        let later = stage.request("later", &payer, &payee, 10);
        let after = async {
            stage.until("the late COMMIT", |state| state.rules.is_empty()).await;
            stage.submit(one, &later).await.unwrap()
        };
        let (found, passed) = tokio::join!(stage.submit(late, &request), after);
        let (found, passed) = (found.unwrap().transfer.row.terms.id, passed.transfer.row.terms.id);
        assert!(found < passed, "it is older than what the scan has seen");
        stage.until_state(found, State::Held).await;
        lose_held(stage);
        stage.machine(&[Role::Credit]);
        stage.until_state(found, State::Committed).await;
    });
}

/// The group of credit takes what it never read for done.
fn lose_held(stage: &super::stage::Stage) {
    let mut state = stage.world.lock();
    let state = &mut *state;
    let group = holdfast::broker::Group { role: Role::Credit.as_str(), shard: Shard(0) };
    let place =
        (holdfast::broker::Topic::of(EventType::Held, Shard(0)), holdfast::domain::Partition(0));
    let end = state.log.end(place);
    state.log.groups.entry(group).or_default().committed.insert(place, end);
}
