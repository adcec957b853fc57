//! An account's decision row: the one row that every decision about its money locks.

use super::currency::Currency;
use super::ids::{AccountId, TransferId};
use super::velocity::Velocity;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// `posted` and `posted - held` stay within plus and minus this many minor units (2^62), so that
/// no commit can overflow.
pub const POSTED_LIMIT: i64 = 1 << 62;

/// What an account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// Holds money of a customer; never below its overdraft limit.
    Customer,
    /// Stands for the world outside: money enters and leaves through it, so it may go negative.
    External,
}

/// Whether an account takes part in new transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// Takes part.
    Active,
    /// No new holds and no new credits; holds already made are committed or released.
    Frozen,
    /// For good; posted and held were zero when it was closed.
    Closed,
}

macro_rules! coded {
    ($type:ty { $($variant:ident = $code:literal, $name:literal;)+ }) => {
        impl $type {
            /// The number that stores keep.
            pub const fn code(self) -> i64 {
                match self { $(Self::$variant => $code,)+ }
            }

            /// All of them.
            pub fn all() -> impl Iterator<Item = Self> {
                [$(Self::$variant,)+].into_iter()
            }

            /// From the number that stores keep.
            pub const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// The name in requests, answers and events.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($name => Ok(Self::$variant),)+
                    _ => Err(concat!("one of" $(, " ", $name)+).to_owned()),
                }
            }
        }
    };
}
pub(super) use coded;

coded!(AccountKind { Customer = 1, "customer"; External = 2, "external"; });
coded!(AccountStatus { Active = 1, "active"; Frozen = 2, "frozen"; Closed = 3, "closed"; });

/// Why an account is quarantined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// One sentence.
    pub reason: String,
    /// By how many minor units its books differ, as far as that is known.
    pub amount: i64,
    /// The transfer that it is about, if it is about one.
    pub transfer: Option<TransferId>,
}

impl Suspicion {
    /// Nothing is known but the sentence.
    pub fn of(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), amount: 0, transfer: None }
    }
}

/// The decision row. Every change raises `version`; amounts are minor units of `currency`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// The only currency it holds.
    pub currency: Currency,
    /// Customer or external.
    pub kind: AccountKind,
    /// Active, frozen or closed.
    pub status: AccountStatus,
    /// New holds are refused until an operator has repaired and released it.
    pub quarantined: bool,
    /// How far `posted - held` may go below zero, in minor units; not negative.
    pub overdraft_limit: i64,
    /// Sum of its ledger entries.
    pub posted: i64,
    /// Sum of its transfers whose stored state is HELD; not negative.
    pub held: i64,
    /// Number of changes so far, from 1.
    pub version: i64,
    /// Its velocity limits and what is used of them: of a row that was read to decide on it, under
    /// its lock. Rows that were read otherwise have none, and are decided on by nobody.
    pub velocity: Velocity,
}

impl AccountRow {
    /// `posted - held + overdraft_limit`; nothing for external accounts, which have no limit.
    pub fn available(&self) -> Option<i64> {
        match self.kind {
            AccountKind::Customer => {
                Some(self.posted.saturating_sub(self.held).saturating_add(self.overdraft_limit))
            }
            AccountKind::External => None,
        }
    }

    /// The invariants of one row (protocol, invariant 2 and rule 8). A row that breaks one must
    /// neither be written nor be believed.
    pub fn check(&self) -> Result<(), String> {
        let within = |value: i64| (-POSTED_LIMIT..=POSTED_LIMIT).contains(&value);
        let free = self.posted.checked_sub(self.held);
        let fault = if self.held < 0 {
            "held is negative"
        } else if self.overdraft_limit < 0 {
            "overdraft limit is negative"
        } else if !within(self.posted) || !free.is_some_and(within) {
            "posted is out of bounds"
        } else if self.available().is_some_and(|available| available < 0) {
            "posted - held is below the overdraft limit"
        } else if self.version < 1 {
            "version is below 1"
        } else {
            return Ok(());
        };
        Err(format!(
            "{fault}: posted {} held {} overdraft limit {} version {}",
            self.posted, self.held, self.overdraft_limit, self.version
        ))
    }
}
