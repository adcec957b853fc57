//! Any rows and batches that are possible, the extreme ones as likely as the ordinary.

use super::{NOW, Rows, currency, rows, transfer_id};
use crate::domain::{
    AccountKind, AccountRow, AccountStatus, Allowance, Event, EventType, Input, Limit, MAX_AMOUNT,
    Money, POSTED_LIMIT, Period, Reason, RequestDetails, Sealed, Terms, Timestamp, Used, Velocity,
};
use proptest::prelude::*;

/// Few accounts, so that the transfers of a batch meet.
const ACCOUNTS: [&str; 4] = ["a", "b", "c", "d"];

/// An account's row that breaks no invariant.
pub fn sound_row(id: &'static str) -> impl Strategy<Value = AccountRow> {
    let kind = prop_oneof![4 => Just(AccountKind::Customer), 1 => Just(AccountKind::External)];
    let status = prop_oneof![
        10 => Just(AccountStatus::Active),
        1 => Just(AccountStatus::Frozen),
        1 => Just(AccountStatus::Closed),
    ];
    let code = prop_oneof![9 => Just("USD"), 1 => Just("EUR")];
    let quarantined = proptest::bool::weighted(0.05);
    let money = (any_posted(), any_sum(), any_sum());
    let counted = (1_i64..1_000_000, any_velocity());
    (kind, status, code, quarantined, money, counted).prop_map(
        move |(kind, status, code, quarantined, (posted, held, slack), (version, velocity))| {
            let held = held.min(posted.saturating_add(POSTED_LIMIT));
            AccountRow {
                id: id.parse().unwrap(),
                currency: currency(code),
                kind,
                status,
                quarantined,
                overdraft_limit: (held - posted).max(0) + slack,
                posted,
                held,
                version,
                velocity,
            }
        },
    )
}

/// Mostly none; limits that a batch meets, with something used before, now, or by a later clock.
fn any_velocity() -> impl Strategy<Value = Velocity> {
    let most = |most: i64| proptest::option::of(0..most);
    let used = (-1_i64..=1, 0_i64..4, 0_i64..300);
    let limit = (proptest::sample::select(Period::ALL.to_vec()), most(8), most(600), used);
    let limits = proptest::collection::vec(limit, 1..3).prop_map(|limits| {
        let mut velocity = Velocity::NONE;
        for (period, max_count, max_amount, (windows, count, amount)) in limits {
            let Some(limit) = Limit::new(max_count, max_amount) else { continue };
            let day = 86_400_000_000;
            let window = period.window(Timestamp::from_micros(NOW.micros() + windows * day));
            velocity.insert(period, Allowance { limit, used: Used { window, count, amount } });
        }
        velocity
    });
    prop_oneof![3 => Just(Velocity::NONE), 1 => limits]
}

/// Rows of some of the accounts that batches name; others do not exist.
pub fn sound_rows() -> impl Strategy<Value = Rows> {
    let maybe = |id| proptest::option::weighted(0.9, sound_row(id));
    let [a, b, c, d] = ACCOUNTS;
    (maybe(a), maybe(b), maybe(c), maybe(d))
        .prop_map(|(a, b, c, d)| rows([a, b, c, d].into_iter().flatten()))
}

/// An account's row that breaks one invariant.
pub fn broken_row(id: &'static str) -> impl Strategy<Value = AccountRow> {
    let breaks: [fn(&mut AccountRow); 9] = [
        |row| row.held = -1,
        |row| row.held = i64::MIN,
        |row| row.posted = i64::MIN,
        |row| row.posted = i64::MAX,
        |row| row.overdraft_limit = -1,
        |row| row.posted = POSTED_LIMIT + 1,
        |row| row.posted = -POSTED_LIMIT - 1,
        |row| {
            row.kind = AccountKind::Customer;
            row.overdraft_limit = 5;
            (row.posted, row.held) = (100, 106);
        },
        |row| row.version = 0,
    ];
    (sound_row(id), proptest::sample::select(breaks.to_vec())).prop_map(|(mut row, break_it)| {
        break_it(&mut row);
        row
    })
}

/// Events of one kind about up to 24 transfers between the accounts, each transfer once.
pub fn any_batch(kind: EventType) -> impl Strategy<Value = Vec<Input>> {
    proptest::collection::vec(any_draft(), 0..24).prop_map(move |drafts| {
        drafts.into_iter().zip(0..).map(|(draft, number)| draft.input(kind, number)).collect()
    })
}

/// Any reason to refuse a transfer.
pub fn any_reason() -> impl Strategy<Value = Reason> {
    (1_i64..=15).prop_map(|code| Reason::from_code(code).unwrap())
}

/// Any event that a step may publish.
pub fn any_event() -> impl Strategy<Value = Event> {
    let account = proptest::option::of(sound_row("a").prop_map(|row| (&row).into()));
    let reason = proptest::option::of(any_reason());
    let request = proptest::option::of(any_request());
    ((1_i64..=7), any_draft(), account, reason, request).prop_map(
        |(code, draft, account, reason, request)| {
            let kind = EventType::from_code(code).unwrap();
            Event { account, reason, request, ..draft.input(kind, 1).event }
        },
    )
}

fn any_request() -> impl Strategy<Value = RequestDetails> {
    let text = proptest::option::of("\\PC{0,60}");
    let metadata =
        proptest::option::of("[a-z]{1,9}".prop_map(|name| format!("{{\"{name}\":\"1\"}}")));
    let sealed = proptest::option::of(proptest::collection::vec(proptest::num::u8::ANY, 0..80));
    ("[!-~]{1,64}", "[!-~]{1,255}", "[0-9a-f]{64}", text.clone(), text, metadata, sealed).prop_map(
        |(client, key, fingerprint, description, reference, metadata, sealed)| RequestDetails {
            client: client.parse().unwrap(),
            idempotency_key: key.parse().unwrap(),
            fingerprint,
            fingerprint_version: 1,
            description,
            reference,
            metadata,
            sealed: sealed.map(Sealed::new),
        },
    )
}

/// An event whose transfer has no number yet.
#[derive(Clone, Debug)]
struct Draft {
    source: usize,
    distance: usize,
    minor: i64,
    code: &'static str,
    reverses: Option<u32>,
    offset: i64,
    attempt: u32,
    traced: bool,
}

impl Draft {
    fn input(self, kind: EventType, number: u32) -> Input {
        let account = |at: usize| ACCOUNTS[at % ACCOUNTS.len()].parse().unwrap();
        let terms = Terms {
            id: transfer_id(number),
            source: account(self.source),
            destination: account(self.source + self.distance),
            amount: Money::from_minor(self.minor, currency(self.code)).unwrap(),
            reverses: self.reverses.map(|original| transfer_id(1000 + original)),
        };
        let event = Event {
            attempt: self.attempt,
            at: NOW.minus(std::time::Duration::from_secs(9)),
            traceparent: self.traced.then(|| format!("00-{number:032x}-1-01").into()),
            ..super::stamp().event(kind, &terms)
        };
        Input { event, offset: self.offset }
    }
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let code = prop_oneof![12 => Just("USD"), 1 => Just("EUR")];
    let reverses = proptest::option::weighted(0.3, 0_u32..3);
    let accounts = (0..ACCOUNTS.len(), 1..ACCOUNTS.len());
    let place = (0_i64..1_000_000, 1_u32..9, any::<bool>());
    (accounts, any_amount(), code, reverses, place).prop_map(
        |((source, distance), minor, code, reverses, (offset, attempt, traced))| Draft {
            source,
            distance,
            minor,
            code,
            reverses,
            offset,
            attempt,
            traced,
        },
    )
}

fn any_amount() -> impl Strategy<Value = i64> {
    prop_oneof![6 => 1_i64..=200, 1 => 1..=MAX_AMOUNT, 1 => Just(MAX_AMOUNT)]
}

/// Balances around zero and around both bounds.
fn any_posted() -> impl Strategy<Value = i64> {
    let few_transfers = 0..=3 * MAX_AMOUNT;
    prop_oneof![
        6 => -200_i64..=600,
        1 => -3 * MAX_AMOUNT..=3 * MAX_AMOUNT,
        1 => few_transfers.clone().prop_map(|below| POSTED_LIMIT - below),
        1 => few_transfers.prop_map(|above| above - POSTED_LIMIT),
    ]
}

/// Holds and unused limits.
fn any_sum() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 4 => 0_i64..=400, 1 => 0..=3 * MAX_AMOUNT]
}
