//! What money, accounts, transfers and events are: no I/O, no async, no clock, no randomness.
//!
//! Everything that enters is parsed here once; past this point a value is valid by its type.

#![warn(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm
)]

mod account;
mod claim;
mod currency;
mod event;
pub mod hex;
mod ids;
mod money;
mod proposal;
mod sealed;
mod step;
#[cfg(test)]
pub mod testing;
mod text;
mod time;
mod transfer;
mod velocity;

pub use account::{AccountKind, AccountRow, AccountStatus, POSTED_LIMIT, Suspicion};
pub use claim::{Claim, ClaimKey, NewTransfer};
pub use currency::Currency;
pub use event::{
    AccountSnapshot, DeadLetter, DeadLetterOrigin, EVENT_VERSION, Event, EventError, EventType,
    RequestDetails,
};
pub use ids::{
    AccountId, Client, ClusterId, Generation, IdempotencyKey, InvalidId, LetterId, Partition,
    SLOTS, Shard, Slot, TransferId,
};
pub use money::{InvalidAmount, MAX_AMOUNT, Money, format_minor, parse_signed_minor};
pub use proposal::{
    Decision, Ended, Operation, OperationKind, Proposal, ProposalId, ProposalState, told_limits,
};
pub use sealed::Sealed;
pub use step::{
    AccountChange, Cause, DeadReason, Entry, EntryRow, Input, Outcome, Plan, Side, StageWrite,
    Stamp, StuckTransfer, TransferRow, UsageChange,
};
pub use time::Timestamp;
pub use transfer::{Pivot, PivotDecision, Reason, State, Terms};
pub use velocity::{Allowance, Limit, MAX_COUNT, Period, Used, Velocity};
