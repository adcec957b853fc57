//! What the tests of the decisions share: rows and events written by hand, rows and batches from
//! generators, and the plainest ledger there is to compare with.

mod generators;
mod ledger;

pub use generators::{any_batch, any_event, any_reason, broken_row, sound_row, sound_rows};
pub use ledger::Ledger;

use super::{
    AccountId, AccountKind, AccountRow, AccountSnapshot, AccountStatus, Cause, ClusterId, Currency,
    DeadReason, Event, EventType, Generation, Input, Money, Outcome, Reason, Slot, StageWrite,
    Stamp, State, Terms, Timestamp, TransferId, TransferRow, Velocity,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use uuid::Uuid;

/// When every transaction of these tests takes place.
pub const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
/// How long a hold stands in these tests.
pub const HOLD_TIMEOUT: Duration = Duration::from_secs(300);

/// Rows by account.
pub type Rows = BTreeMap<AccountId, AccountRow>;
/// Stored transfers by id.
pub type Stored = HashMap<TransferId, TransferRow>;

/// The currency with this code.
pub fn currency(code: &str) -> Currency {
    code.parse().unwrap()
}

/// What the events of a transaction have in common.
pub fn stamp() -> Stamp {
    Stamp { cluster: ClusterId(Uuid::from_u128(1)), generation: Generation(3), at: NOW }
}

/// An active customer account in USD with so much posted; no overdraft, version 7.
pub fn account(id: &str, posted: i64) -> AccountRow {
    AccountRow {
        id: id.parse().unwrap(),
        currency: currency("USD"),
        kind: AccountKind::Customer,
        status: AccountStatus::Active,
        quarantined: false,
        overdraft_limit: 0,
        posted,
        held: 0,
        version: 7,
        velocity: Velocity::NONE,
    }
}

/// The same with so much of it held.
pub fn holding(id: &str, posted: i64, held: i64) -> AccountRow {
    AccountRow { held, ..account(id, posted) }
}

/// These rows by account.
pub fn rows(list: impl IntoIterator<Item = AccountRow>) -> Rows {
    list.into_iter().map(|row| (row.id.clone(), row)).collect()
}

/// The id of the transfer with this number; ids order as their numbers do.
pub fn transfer_id(number: u32) -> TransferId {
    TransferId::mint(NOW, Slot::new(1).unwrap(), number, 0)
}

/// A transfer in USD.
pub fn terms(number: u32, source: &str, destination: &str, minor: i64) -> Terms {
    Terms {
        id: transfer_id(number),
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        amount: Money::from_minor(minor, currency("USD")).unwrap(),
        reverses: None,
    }
}

/// The same, as a reversal of the transfer with number `original`.
pub fn reversing(original: u32, terms: Terms) -> Terms {
    Terms { reverses: Some(transfer_id(original)), ..terms }
}

/// An event about a transfer as a worker reads it.
pub fn input(kind: EventType, terms: &Terms) -> Input {
    Input { event: stamp().event(kind, terms), offset: 12 }
}

/// Events of one kind about these transfers, in order.
pub fn inputs<'t>(kind: EventType, terms: impl IntoIterator<Item = &'t Terms>) -> Vec<Input> {
    terms.into_iter().map(|terms| input(kind, terms)).collect()
}

/// A transfer that was just accepted.
pub fn requested(terms: &Terms) -> TransferRow {
    TransferRow {
        terms: terms.clone(),
        state: State::Requested,
        reason: None,
        requested_at: NOW,
        held_at: None,
        hold_deadline: None,
        completed_at: None,
    }
}

/// A transfer whose hold was made.
pub fn held(terms: &Terms) -> TransferRow {
    TransferRow {
        state: State::Held,
        held_at: Some(NOW),
        hold_deadline: Some(NOW.plus(HOLD_TIMEOUT)),
        ..requested(terms)
    }
}

/// A transfer that ended; `before` is its row until then.
pub fn ended(before: TransferRow, state: State, reason: Option<Reason>) -> TransferRow {
    TransferRow { state, reason, completed_at: Some(NOW), ..before }
}

/// These stored transfers by id.
pub fn stored(list: impl IntoIterator<Item = TransferRow>) -> Stored {
    list.into_iter().map(|row| (row.terms.id, row)).collect()
}

/// What a step says of an event, written out field by field.
pub fn says(
    input: &Input,
    kind: EventType,
    reason: Option<Reason>,
    account: Option<AccountSnapshot>,
) -> Outcome {
    Outcome::Emit(Event {
        kind,
        cluster: stamp().cluster,
        generation: stamp().generation,
        attempt: 1,
        at: NOW,
        terms: input.event.terms.clone(),
        reason,
        account,
        destination_account: None,
        request: None,
        traceparent: input.event.traceparent.clone(),
    })
}

/// A move of a transfer that `input` caused, written out field by field.
pub fn moved(input: &Input, from: State, to: State, reason: Option<Reason>) -> StageWrite {
    StageWrite {
        terms: input.event.terms.clone(),
        from,
        to,
        reason,
        hold_deadline: (to == State::Held).then(|| NOW.plus(HOLD_TIMEOUT)),
        at: NOW,
        cause: Cause { offset: Some(input.offset), attempt: input.event.attempt },
    }
}

/// Why an outcome goes to the dead letters, if it does.
pub fn dead(outcome: &Outcome) -> Option<DeadReason> {
    match outcome {
        Outcome::Dead { reason, .. } => Some(*reason),
        Outcome::Emit(_) | Outcome::Done | Outcome::LetGo(_) => None,
    }
}

/// The event of an outcome that must be one.
pub fn emitted(outcome: &Outcome) -> &Event {
    match outcome {
        Outcome::Emit(event) => event,
        Outcome::Done | Outcome::LetGo(_) | Outcome::Dead { .. } => {
            panic!("nothing is announced: {outcome:?}")
        }
    }
}
