//! What goes into a step and what comes out of it: the language of every `decide`.

use super::account::{AccountRow, Suspicion};
use super::currency::Currency;
use super::event::{AccountSnapshot, Event, EventType};
use super::ids::{AccountId, ClusterId, Generation, TransferId};
use super::money::Money;
use super::time::Timestamp;
use super::transfer::{Pivot, PivotDecision, Reason, State, Terms};
use super::velocity::{Period, Used};
use std::collections::BTreeMap;

/// An event to be acted on, and where it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The event.
    pub event: Event,
    /// Its offset in its topic.
    pub offset: i64,
}

impl Input {
    /// What the step will be said to be caused by.
    pub fn cause(&self) -> Cause {
        Cause { offset: Some(self.offset), attempt: self.event.attempt }
    }
}

/// What a step made of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are events: a box would be one a transfer"
)]
pub enum Outcome {
    /// Done; this is announced.
    Emit(Event),
    /// Done; there is nothing to announce.
    Done,
    /// Left as it is: the reconciler drives it again.
    LetGo(&'static str),
    /// No step can be made of it: to the dead letters.
    Dead {
        /// A stable word.
        reason: DeadReason,
        /// One sentence for the operator.
        detail: String,
    },
}

/// Why an event goes to the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadReason {
    /// It cannot be read.
    Malformed,
    /// It belongs to another cluster.
    ForeignCluster,
    /// Its transfer has no row.
    NoRow,
    /// It says something else than its row.
    Contradiction,
    /// The broker will never take it.
    TooLarge,
    /// Acting on it would violate an invariant; the account is quarantined.
    Invariant,
}

impl DeadReason {
    /// The word in the dead letter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::ForeignCluster => "foreign_cluster",
            Self::NoRow => "no_row",
            Self::Contradiction => "contradiction",
            Self::TooLarge => "too_large",
            Self::Invariant => "invariant",
        }
    }
}

/// What every event of one transaction has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its generation.
    pub generation: Generation,
    /// Database time of the transaction.
    pub at: Timestamp,
}

impl Stamp {
    /// An event about a transfer, first attempt.
    pub fn event(&self, kind: EventType, terms: &Terms) -> Event {
        Event {
            kind,
            cluster: self.cluster,
            generation: self.generation,
            attempt: 1,
            at: self.at,
            terms: terms.clone(),
            reason: None,
            account: None,
            destination_account: None,
            request: None,
            traceparent: None,
        }
    }

    /// The event that follows `input`: same transfer, same trace.
    pub fn following(
        &self,
        input: &Input,
        kind: EventType,
        reason: Option<Reason>,
        account: Option<&AccountRow>,
    ) -> Event {
        Event {
            reason,
            account: account.map(AccountSnapshot::from),
            traceparent: input.event.traceparent.clone(),
            ..self.event(kind, &input.event.terms)
        }
    }
}

/// All that one transaction writes for a batch, and what is to be said once it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Accounts whose money changes.
    pub accounts: Vec<AccountChange>,
    /// What becomes used of their velocity limits.
    pub usage: Vec<UsageChange>,
    /// Transfers that move on.
    pub transfers: Vec<StageWrite>,
    /// Ledger entries and REFUSED marks.
    pub entries: Vec<EntryRow>,
    /// By how much what is reversed of originals changes.
    pub reversed: BTreeMap<TransferId, i64>,
    /// Accounts to be quarantined, and why.
    pub quarantine: BTreeMap<AccountId, Suspicion>,
    /// One for each input, in order.
    pub outcomes: Vec<Outcome>,
}

impl Plan {
    /// Writes and says what another one does, too; the accounts are added up once all is decided.
    pub fn add(&mut self, other: Self) {
        let Self { accounts, usage, transfers, entries, reversed, quarantine, outcomes } = other;
        self.accounts.extend(accounts);
        self.usage.extend(usage);
        self.transfers.extend(transfers);
        self.entries.extend(entries);
        for (original, change) in reversed {
            *self.reversed.entry(original).or_default() += change;
        }
        for (account, suspicion) in quarantine {
            self.quarantine.entry(account).or_insert(suspicion);
        }
        self.outcomes.extend(outcomes);
    }

    /// The rows that changed, as [`Plan::accounts`].
    pub fn account_changes(
        before: &BTreeMap<AccountId, AccountRow>,
        after: &BTreeMap<AccountId, AccountRow>,
    ) -> Vec<AccountChange> {
        after
            .values()
            .filter_map(|row| {
                let old = before.get(&row.id)?;
                (old.version != row.version).then(|| AccountChange {
                    id: row.id.clone(),
                    posted: row.posted,
                    held: row.held,
                    version_before: old.version,
                    version: row.version,
                })
            })
            .collect()
    }

    /// What was counted against velocity limits, as [`Plan::usage`].
    pub fn usage_changes(
        before: &BTreeMap<AccountId, AccountRow>,
        after: &BTreeMap<AccountId, AccountRow>,
    ) -> Vec<UsageChange> {
        let limited = after.values().filter(|row| !row.velocity.is_none());
        limited
            .filter_map(|row| Some(UsageChange::between(before.get(&row.id)?, row)))
            .flatten()
            .collect()
    }

    /// Whether a plan that was made without reading the transfers may be written where all its
    /// counts are exact. A seeming violation may only be a transfer that was settled before, and
    /// no count would tell.
    pub fn may_be_written_unread(&self) -> bool {
        self.quarantine.is_empty()
    }

    /// A reversal that ended without moving money gives back what it had taken of its original.
    pub fn give_back(&mut self, terms: &Terms) {
        if let Some(original) = terms.reverses {
            *self.reversed.entry(original).or_default() -= terms.amount.minor();
        }
    }

    /// The account's row breaks an invariant, or would: nothing is written for this event.
    pub fn violation(&mut self, account: &AccountId, detail: String) -> Outcome {
        self.quarantine.entry(account.clone()).or_insert_with(|| Suspicion::of(&detail));
        Outcome::Dead { reason: DeadReason::Invariant, detail }
    }
}

/// A new state of an account's money, decided under its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountChange {
    /// The account.
    pub id: AccountId,
    /// What `posted` becomes.
    pub posted: i64,
    /// What `held` becomes.
    pub held: i64,
    /// The version that was locked.
    pub version_before: i64,
    /// The version it becomes: one more for each transfer applied.
    pub version: i64,
}

/// What was used of a velocity limit of an account, decided under its lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageChange {
    /// The account.
    pub account: AccountId,
    /// Which of its limits.
    pub period: Period,
    /// What is used of it now.
    pub used: Used,
}

impl UsageChange {
    /// What was counted between two states of a row.
    pub fn between(before: &AccountRow, after: &AccountRow) -> Vec<Self> {
        let kept = before.velocity.iter().zip(after.velocity.iter());
        let changed = kept.filter(|(old, new)| old != new);
        changed
            .map(|(_, (period, kept))| Self { account: after.id.clone(), period, used: kept.used })
            .collect()
    }
}

/// What a step needs to know of a stored transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Its terms.
    pub terms: Terms,
    /// The stored state.
    pub state: State,
    /// Why, where it is rejected or cancelled.
    pub reason: Option<Reason>,
    /// When it was accepted.
    pub requested_at: Timestamp,
    /// When the hold was made, if one was.
    pub held_at: Option<Timestamp>,
    /// When the hold may be given up, if one was made.
    pub hold_deadline: Option<Timestamp>,
    /// When it became final.
    pub completed_at: Option<Timestamp>,
}

/// A transfer on the reconciler's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StuckTransfer {
    /// The row as it is stored now.
    pub row: TransferRow,
    /// How often it was driven again.
    pub attempts: u32,
    /// When it was put on the list.
    pub since: Timestamp,
    /// When it was due to be looked at.
    pub due_at: Timestamp,
}

/// The event that caused a step, kept with the step for the timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cause {
    /// The event's offset in its topic; none where no event caused the step.
    pub offset: Option<i64>,
    /// The event's attempt.
    pub attempt: u32,
}

/// A transfer that a step moves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageWrite {
    /// Its terms; source, amount and currency must match the row.
    pub terms: Terms,
    /// The state that the row must have.
    pub from: State,
    /// The state that it gets.
    pub to: State,
    /// Why, where it is rejected or cancelled.
    pub reason: Option<Reason>,
    /// Where it is held, and be it on the way to its end: when the hold may be given up.
    pub hold_deadline: Option<Timestamp>,
    /// When: the transaction's time. Written as `held_at`, `completed_at` or both.
    pub at: Timestamp,
    /// What caused it.
    pub cause: Cause,
}

impl StageWrite {
    /// From REQUESTED to an end by way of HELD, in one transaction.
    pub fn passes_hold(&self) -> bool {
        self.from == State::Requested && self.to.is_final() && self.hold_deadline.is_some()
    }

    /// Whether transfers may move on like this.
    pub fn is_allowed(&self) -> bool {
        if self.passes_hold() {
            self.from.may_become(State::Held) && State::Held.may_become(self.to)
        } else {
            self.from.may_become(self.to)
        }
    }

    /// This hold and the end that follows it in the same transaction, which one event caused, as one.
    pub fn and_ends(&mut self, end: &Self) {
        (self.to, self.reason) = (end.to, end.reason);
    }
}

/// Which side of a transfer an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The source's; amount is taken from posted.
    Debit,
    /// The destination's, and the pivot; amount is added to posted.
    Credit,
}

impl Side {
    /// The number that stores keep.
    pub const fn code(self) -> i64 {
        match self {
            Self::Debit => 1,
            Self::Credit => 2,
        }
    }

    /// The name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debit => "debit",
            Self::Credit => "credit",
        }
    }
}

/// An entry that moved money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Over zero.
    pub amount: Money,
    /// `posted` after it, in minor units.
    pub balance_after: i64,
    /// The account's version that it made.
    pub version: i64,
}

/// A ledger entry or REFUSED mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// The transfer; with `side`, the primary key.
    pub transfer: TransferId,
    /// Debit or credit. A mark is on the credit side.
    pub side: Side,
    /// The account whose ledger it is in.
    pub account: AccountId,
    /// The other account.
    pub counterparty: AccountId,
    /// The transfer's currency.
    pub currency: Currency,
    /// The money, or why it is refused: a mark has amount 0 and no version.
    pub outcome: Result<Entry, Reason>,
    /// The transaction's time.
    pub at: Timestamp,
    /// What caused it.
    pub cause: Cause,
}

impl EntryRow {
    /// The credit-side row of a transfer: its pivot.
    pub fn pivot_row(
        terms: &Terms,
        outcome: Result<Entry, Reason>,
        at: Timestamp,
        cause: Cause,
    ) -> Self {
        Self {
            transfer: terms.id,
            side: Side::Credit,
            account: terms.destination.clone(),
            counterparty: terms.source.clone(),
            currency: terms.amount.currency(),
            outcome,
            at,
            cause,
        }
    }

    /// The pivot that a credit-side row is.
    pub fn pivot(&self) -> Option<Pivot> {
        let entry = self;
        (entry.side == Side::Credit).then(|| Pivot {
            transfer: entry.transfer,
            destination: entry.account.clone(),
            source: entry.counterparty.clone(),
            amount: entry.outcome.as_ref().map_or(0, |money| money.amount.minor()),
            decision: match entry.outcome {
                Ok(_) => PivotDecision::Credited,
                Err(reason) => PivotDecision::Refused(reason),
            },
        })
    }
}
