//! Velocity limits.

use super::stage::{Stage, play};
use holdfast::domain::{AccountId, Limit, Period, Reason, State};
use holdfast::ingress::VelocityChange;
use holdfast::store::Actor;

async fn limit(stage: &Stage, machine: usize, id: &AccountId, count: i64) {
    let limit = Limit::new(Some(count), None).unwrap();
    let change = VelocityChange::Set(Period::Minute, limit);
    stage.door(machine).set_velocity(id, &change, &Actor::itself()).await.unwrap();
}

fn jump(stage: &Stage, seconds: i64) {
    let mut state = stage.world.lock();
    state.auditor.clocks_jumped = true;
    state.databases[0].clock_offset += seconds * 1_000_000;
}

/// Hazard 46: the clock of a database goes over the border of a window and back, as it does when it
/// is set right.
#[test]
fn a_clock_that_goes_back_opens_no_window_twice() {
    play(async |stage: &Stage| {
        let machine = stage.everything();
        let (alice, bob) = (stage.account("alice", 0, 1000), stage.account("bob", 1, 0));
        limit(stage, machine, &alice, 2).await;
        let refused = (State::Rejected, Some(Reason::VelocityLimitExceeded));
        for (number, seconds, expected) in [
            (0, 0, (State::Committed, None)),
            // The next window, and back into the one before it.
            (1, 60, (State::Committed, None)),
            (2, -60, (State::Committed, None)),
            (3, 0, refused),
            (4, 60, refused),
            (5, 60, (State::Committed, None)),
        ] {
            jump(stage, seconds);
            let id = stage.pay(machine, &format!("key-{number}"), &alice, &bob, 10).await;
            stage.until_state(id, expected.0).await;
            assert_eq!(stage.state(id), expected, "transfer {number}");
        }
    });
}
