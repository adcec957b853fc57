//! Velocity limits at hold: exactly the limit passes, and what passed is counted once.

use super::*;
use crate::domain::{Limit, Period, UsageChange, Used, Velocity};

/// `a`, rich, with this limit.
fn limited(period: Period, max_count: Option<i64>, max_amount: Option<i64>) -> AccountRow {
    let limit = Limit::new(max_count, max_amount).unwrap();
    let velocity = Velocity::NONE.limited_to(&[(period, limit)].into());
    AccountRow { velocity, ..account("a", 1_000_000) }
}

fn reasons(plan: &Plan) -> Vec<Option<Reason>> {
    plan.outcomes.iter().map(|outcome| emitted(outcome).reason).collect()
}

/// Hazard 45: each transfer of a batch alone is within the limit.
#[test]
fn of_a_batch_exactly_what_the_limit_allows_is_held() {
    let over = Some(Reason::VelocityLimitExceeded);
    let ten: Vec<_> = (0..10).map(|number| terms(number, "a", "b", 30)).collect();
    let batch = inputs(EventType::Requested, &ten);
    for period in Period::ALL {
        for row in [limited(period, Some(3), None), limited(period, None, Some(119))] {
            let plan = decide_now(&batch, &rows([row]), None);
            assert_eq!(reasons(&plan)[..3], [None; 3]);
            assert_eq!(reasons(&plan)[3..], [over; 7]);
            let used = Used { window: period.window(stamp().at), count: 3, amount: 90 };
            let account = "a".parse().unwrap();
            assert_eq!(plan.usage, [UsageChange { account, period, used }]);
        }
    }
}

#[test]
fn a_smaller_transfer_may_still_be_within_a_limit_that_a_larger_one_exceeds() {
    let three = [terms(1, "a", "b", 60), terms(2, "a", "b", 50), terms(3, "a", "b", 40)];
    let batch = inputs(EventType::Requested, &three);
    let row = limited(Period::Hour, None, Some(100));
    let plan = decide_now(&batch, &rows([row]), None);
    assert_eq!(reasons(&plan), [None, Some(Reason::VelocityLimitExceeded), None]);
    assert_eq!((plan.accounts[0].held, plan.usage[0].used.amount), (100, 100));
}

/// Hazard 47: the same event again, when the limit it was within has been used up.
#[test]
fn what_is_held_already_is_counted_once_and_refused_by_no_limit() {
    let transfer = terms(1, "a", "b", 30);
    let batch = inputs(EventType::Requested, [&transfer]);
    let mut row = limited(Period::Day, Some(1), None);
    row.velocity.count(30, stamp().at);
    let plan = decide_now(&batch, &rows([row]), Some(&stored([held(&transfer)])));
    assert_eq!(emitted(&plan.outcomes[0]).kind, EventType::Held);
    assert_eq!(Plan { outcomes: Vec::new(), ..plan }, Plan::default());
}

#[test]
fn a_limit_is_asked_after_what_the_account_is_and_before_what_it_has() {
    let over = Some(Reason::VelocityLimitExceeded);
    let none_left = limited(Period::Minute, Some(0), None);
    assert_eq!(refused(AccountRow { posted: 0, ..none_left.clone() }), over);
    let frozen = AccountRow { status: AccountStatus::Frozen, ..none_left.clone() };
    assert_eq!(refused(frozen), Some(Reason::SourceFrozen));
    let quarantined = AccountRow { quarantined: true, ..none_left.clone() };
    assert_eq!(refused(quarantined), Some(Reason::AccountQuarantined));
    let euros = AccountRow { currency: "EUR".parse().unwrap(), ..none_left.clone() };
    assert_eq!(refused(euros), Some(Reason::CurrencyMismatch));
    assert_eq!(refused(AccountRow { kind: AccountKind::External, ..none_left }), over);
}

/// What is refused for want of money is not set in motion, and does not count.
#[test]
fn what_is_refused_otherwise_uses_nothing_of_a_limit() {
    let two = [terms(1, "a", "b", 60), terms(2, "a", "b", 50)];
    let row = AccountRow { posted: 50, ..limited(Period::Day, Some(1), None) };
    let plan = decide_now(&inputs(EventType::Requested, &two), &rows([row]), None);
    assert_eq!(reasons(&plan), [Some(Reason::InsufficientFunds), None]);
    assert_eq!(plan.usage[0].used.count, 1);
}

/// Hazard 46: the database's clock goes back over the border of a window.
#[test]
fn a_window_that_is_over_is_not_opened_again_by_a_clock_that_goes_back() {
    let batch = inputs(EventType::Requested, [&terms(1, "a", "b", 30)]);
    let mut row = limited(Period::Minute, Some(1), None);
    let next = Period::Minute.window(stamp().at).plus(Duration::from_secs(60));
    row.velocity.count(30, next);
    let accounts = rows([row]);
    let plan = decide_now(&batch, &accounts, None);
    assert_eq!(reasons(&plan), [Some(Reason::VelocityLimitExceeded)]);
    assert!(plan.usage.is_empty());
}
