//! The whole protocol in memory: the three decisions over a toy ledger, in any order, with events
//! read any number of times, announcements lost, and callers who cancel, freeze and close.
//!
//! Events are never taken away here, so that every step may read any of them again at any time:
//! more than Kafka does to it.

mod ledger;

use crate::domain::testing::{
    account, broken_row, ended, input, requested, reversing, rows, terms, transfer_id,
};
use crate::domain::{
    AccountKind, AccountRow, AccountStatus, EventType, Outcome, Reason, State, TransferId,
};
use ledger::Ledger;
use proptest::prelude::*;
use proptest::sample::Index;

/// Accounts of every schedule: the world outside, and customers with and without money.
const ACCOUNTS: [&str; 5] = ["world", "a", "b", "c", "d"];
const TRANSFERS: u32 = 10;

/// Something that happens to the cluster.
#[derive(Clone, Debug)]
enum Happening {
    /// A step reads some events, whichever were published so far, and perhaps dies before what it
    /// has to say is published.
    Step { kind: StepKind, events: Vec<Index>, announced: bool },
    /// A caller, an operator or the reconciler gives a transfer up, in the way its state asks for.
    GiveUp { transfer: Index, reason: Reason },
    /// The reconciler emits the event of the stage that a transfer stands in.
    Redrive { transfer: Index },
    /// An operator changes an account's status.
    Status { account: Index, status: AccountStatus },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepKind {
    Hold,
    Credit,
    Commit,
}

impl StepKind {
    const ALL: [Self; 3] = [Self::Hold, Self::Credit, Self::Commit];

    fn reads(self, kind: EventType) -> bool {
        match self {
            Self::Hold => kind == EventType::Requested,
            Self::Credit => kind == EventType::Held,
            Self::Commit => matches!(kind, EventType::Credited | EventType::Refused),
        }
    }
}

fn any_happening() -> impl Strategy<Value = Happening> {
    let kind = proptest::sample::select(StepKind::ALL.to_vec());
    let events = proptest::collection::vec(any::<Index>(), 1..6);
    let reasons = vec![
        Reason::CancelledByClient,
        Reason::CancelledByOperator,
        Reason::HoldTimeout,
        Reason::Undeliverable,
    ];
    let statuses = vec![AccountStatus::Active, AccountStatus::Frozen, AccountStatus::Closed];
    prop_oneof![
        12 => (kind, events, proptest::bool::weighted(0.8)).prop_map(|(kind, events, announced)| {
            Happening::Step { kind, events, announced }
        }),
        2 => (any::<Index>(), proptest::sample::select(reasons)).prop_map(|(transfer, reason)| {
            Happening::GiveUp { transfer, reason }
        }),
        1 => any::<Index>().prop_map(|transfer| Happening::Redrive { transfer }),
        1 => (any::<Index>(), proptest::sample::select(statuses)).prop_map(|(account, status)| {
            Happening::Status { account, status }
        }),
    ]
}

/// From which account how far on to which, how much, and perhaps which original it reverses.
type Draft = ((usize, usize), i64, Option<u32>);

/// Amounts that sometimes fit and sometimes do not, between any two accounts, some as reversals.
fn any_transfers() -> impl Strategy<Value = Vec<crate::domain::Terms>> {
    let places = (0..ACCOUNTS.len(), 1..ACCOUNTS.len());
    let one = (places, 1_i64..120, proptest::option::weighted(0.3, 0_u32..2));
    proptest::collection::vec(one, 1..=TRANSFERS as usize).prop_map(|drafts| {
        let of = |(((from, distance), minor, reverses), number): (Draft, u32)| {
            let to = ACCOUNTS[(from + distance) % ACCOUNTS.len()];
            let terms = terms(number, ACCOUNTS[from], to, minor);
            match reverses {
                Some(original) => reversing(900 + original, terms),
                None => terms,
            }
        };
        drafts.into_iter().zip(0..).map(of).collect()
    })
}

fn beginning() -> [AccountRow; 5] {
    let external = AccountRow { kind: AccountKind::External, ..account("world", 0) };
    let overdrawn = AccountRow { overdraft_limit: 50, ..account("c", -30) };
    [external, account("a", 200), account("b", 0), overdrawn, account("d", 40)]
}

impl Ledger {
    fn happen(&mut self, happening: &Happening) {
        let ids: Vec<TransferId> = self.ids();
        match happening {
            Happening::Step { kind, events, announced } => self.step(*kind, events, *announced),
            Happening::GiveUp { transfer, reason } => self.give_up(*transfer.get(&ids), *reason),
            Happening::Redrive { transfer } => self.redrive(*transfer.get(&ids)),
            Happening::Status { account, status } => {
                self.set_status(ACCOUNTS[account.index(ACCOUNTS.len())], *status);
            }
        }
        self.assert_invariants();
    }

    /// What is left is driven on until nothing is, as the reconciler and the workers do it.
    fn finish(&mut self) {
        for _ in 0..3 {
            for id in self.ids() {
                self.redrive(id);
            }
            self.read_everything();
            self.assert_invariants();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Hazard 2, hazard 4, hazard 10, hazard 12 and hazard 38 in every interleaving: whatever is
    /// cancelled, refused, credited, read twice or never announced, no money is made or lost, each
    /// transfer ends in one way, and its source, its pivot and its events agree on which.
    #[test]
    fn any_schedule_conserves_money_and_ends_in_agreement(
        transfers in any_transfers(), schedule in proptest::collection::vec(any_happening(), 0..80),
    ) {
        let mut ledger = Ledger::new(rows(beginning()), &transfers);
        for happening in &schedule {
            ledger.happen(happening);
        }
        ledger.finish();
        ledger.assert_finished();
    }

    /// Hazard 23, as far as decisions go: an account whose row is broken stops what
    /// touches it and nothing else; the rest is moved and adds up.
    #[test]
    fn a_broken_account_stops_only_its_own_transfers(broken in broken_row("a")) {
        let transfers = [terms(1, "world", "a", 5), terms(2, "a", "b", 5), terms(3, "d", "b", 5)];
        let mut ledger = Ledger::new(rows(beginning().into_iter().chain([broken.clone()])), &transfers);
        ledger.expect_quarantine();
        ledger.read_everything();
        let state = |number| ledger.transfer(transfer_id(number)).state;
        prop_assert_eq!(state(1), State::Held, "refused at its deadline");
        prop_assert_eq!(state(2), State::Requested, "cancelled as a dead letter");
        prop_assert_eq!(state(3), State::Committed);
        prop_assert_eq!(ledger.account("a"), &broken);
    }
}

#[test]
fn a_transfer_walks_from_request_to_end() {
    let one = terms(1, "a", "b", 60);
    let mut ledger = Ledger::new(rows(beginning()), std::slice::from_ref(&one));
    ledger.read_everything();
    assert_eq!(ledger.transfer(one.id).state, State::Committed);
    assert_eq!((ledger.account("a").posted, ledger.account("b").posted), (140, 60));
    ledger.assert_finished();
}

/// Hazard 11: the loop leaves further copies out of a batch. Were one to come through, the plan
/// would count on two rows where there is one, and none of it would be written.
#[test]
fn a_batch_that_holds_a_transfer_twice_is_never_written() {
    let one = terms(1, "a", "b", 50);
    let ledger = Ledger::new(rows(beginning()), std::slice::from_ref(&one));
    let event = input(EventType::Requested, &one);
    let plan = ledger.plan_hold(&[event.clone(), event], None);
    assert_eq!(plan.accounts[0].held, 100);
    assert!(!ledger.clone().write(&plan));
}

#[test]
fn a_cancelled_transfer_that_is_read_again_stays_cancelled() {
    let one = terms(1, "a", "b", 50);
    let mut ledger = Ledger::new(rows(beginning()), std::slice::from_ref(&one));
    ledger.give_up(one.id, Reason::CancelledByClient);
    ledger.read_everything();
    let cancelled = Some(Reason::CancelledByClient);
    let expected = ended(requested(&one), State::Cancelled, cancelled);
    assert_eq!(ledger.transfer(one.id), &expected);
    assert_eq!(ledger.last_outcomes(), [Outcome::Done], "whoever cancelled it has said so");
}
