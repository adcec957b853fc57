//! What a caller is told when a COMMIT is not confirmed.

use super::stage::play;
use crate::faults::{Act, Side};
use holdfast::domain::State;
use holdfast::ingress::Refusal;
use std::time::Duration;

/// Hazard 7: the answer to the COMMIT is lost, and so is what ingress asks then. It does not say that
/// nothing was accepted; the repeat finds the transfer.
#[test]
fn what_may_have_been_accepted_is_never_said_not_to_be() {
    for lost in ["begin", "claims", "transfer records"] {
        play(async |stage| {
            let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
            stage.everything();
            let door = stage.machine(&[]);
            stage.fault(
                door,
                "commit",
                Side::Before,
                Act::Unconfirmed { applied: true, after: Duration::ZERO },
            );
            match lost {
                "transfer records" => stage.fault(door, lost, Side::After, Act::Unanswered),
                // Nothing is looked up before the COMMIT that was not confirmed.
                "claims" => stage.fault(door, lost, Side::Before, Act::Unanswered),
                _ => stage.second_fault(door, lost, Side::Before, Act::Unanswered),
            }
            let request = stage.request("one", &payer, &payee, 10);
            let answer = stage.submit(door, &request).await;
            assert!(matches!(answer, Err(Refusal::OutcomeUnknown)), "{lost}: {answer:?}");
            let repeat = stage.submit(door, &request).await.unwrap();
            assert!(repeat.replayed);
            stage.until_state(repeat.transfer.row.terms.id, State::Committed).await;
        });
    }
}

/// Hazard 27: a key counts for the principal. A caller whose answer was lost repeats the request with
/// whatever credential it has by then, at another process, and finds its transfer; the same key of
/// another principal is another transfer.
#[test]
fn a_key_belongs_to_the_principal_and_to_nothing_else() {
    play(async |stage| {
        let (payer, payee) = (stage.account("payer", 0, 100), stage.account("payee", 1, 0));
        let (one, other) = (stage.everything(), stage.machine(&[]));
        let request = stage.request("one", &payer, &payee, 10);
        stage.fault_on(one, "commit", Side::After, Some(0), Act::Crash);
        let patience = Duration::from_secs(5);
        let lost = tokio::time::timeout(patience, stage.submit(one, &request)).await;
        assert!(lost.is_err(), "the process died before it answered");
        let mut renewed = request.clone();
        renewed.traceparent = Some("00-another-session".into());
        let repeat = stage.submit(other, &renewed).await.unwrap();
        assert!(repeat.replayed);
        let stranger = holdfast::ingress::TransferRequest {
            client: "stranger".parse().unwrap(),
            ..request.clone()
        };
        let second = stage.door(other).submit(stranger).await.unwrap();
        assert!(!second.replayed);
        assert_ne!(second.transfer.row.terms.id, repeat.transfer.row.terms.id);
    });
}
