//! A transfer's terms, its states and the only ways between them.

use super::account::coded;
use super::ids::{AccountId, TransferId};
use super::money::Money;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What a transfer is about; the same on every row and event that belongs to it, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The transfer.
    pub id: TransferId,
    /// The account that pays.
    pub source: AccountId,
    /// The account that is paid.
    pub destination: AccountId,
    /// How much; over zero.
    pub amount: Money,
    /// The transfer that this one reverses, if it is a reversal.
    pub reverses: Option<TransferId>,
}

/// The state stored at the source. CREDITED is not among them: it is a fact of the pivot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Accepted.
    Requested,
    /// The amount is held at the source.
    Held,
    /// Final: debited and credited.
    Committed,
    /// Final: refused; nothing moved.
    Rejected,
    /// Final: cancelled or timed out; nothing moved.
    Cancelled,
}

coded!(State {
    Requested = 1, "requested"; Held = 2, "held"; Committed = 3, "committed";
    Rejected = 4, "rejected"; Cancelled = 5, "cancelled";
});

impl State {
    /// Whether nothing follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Committed | Self::Rejected | Self::Cancelled)
    }

    /// Whether a stored state may change to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Requested, Self::Held | Self::Rejected | Self::Cancelled)
                | (Self::Held, Self::Committed | Self::Rejected | Self::Cancelled)
        )
    }
}

/// Why a transfer ended REJECTED or CANCELLED, or why a pivot reads REFUSED.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the contract's and say it all")]
pub enum Reason {
    InsufficientFunds,
    SourceNotFound,
    SourceFrozen,
    SourceClosed,
    DestinationNotFound,
    DestinationFrozen,
    DestinationClosed,
    CurrencyMismatch,
    BalanceLimit,
    HoldTimeout,
    CancelledByClient,
    CancelledByOperator,
    Undeliverable,
    AccountQuarantined,
    VelocityLimitExceeded,
}

coded!(Reason {
    InsufficientFunds = 1, "insufficient_funds"; SourceNotFound = 2, "source_not_found";
    SourceFrozen = 3, "source_frozen"; SourceClosed = 4, "source_closed";
    DestinationNotFound = 5, "destination_not_found"; DestinationFrozen = 6, "destination_frozen";
    DestinationClosed = 7, "destination_closed"; CurrencyMismatch = 8, "currency_mismatch";
    BalanceLimit = 9, "balance_limit"; HoldTimeout = 10, "hold_timeout";
    CancelledByClient = 11, "cancelled_by_client"; CancelledByOperator = 12, "cancelled_by_operator";
    Undeliverable = 13, "undeliverable"; AccountQuarantined = 14, "account_quarantined";
    VelocityLimitExceeded = 15, "velocity_limit_exceeded";
});

impl Reason {
    /// The final state that this reason leads to; decided by the reason alone.
    pub const fn final_state(self) -> State {
        match self {
            Self::HoldTimeout
            | Self::CancelledByClient
            | Self::CancelledByOperator
            | Self::Undeliverable => State::Cancelled,
            Self::InsufficientFunds
            | Self::SourceNotFound
            | Self::SourceFrozen
            | Self::SourceClosed
            | Self::DestinationNotFound
            | Self::DestinationFrozen
            | Self::DestinationClosed
            | Self::CurrencyMismatch
            | Self::BalanceLimit
            | Self::AccountQuarantined
            | Self::VelocityLimitExceeded => State::Rejected,
        }
    }
}

/// What the pivot says; the first insert wins, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PivotDecision {
    /// The destination has the money.
    Credited,
    /// It will never get it; the source's hold is released.
    Refused(Reason),
}

/// The pivot row, as the destination's shard keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pivot {
    /// The transfer.
    pub transfer: TransferId,
    /// The account to be paid.
    pub destination: AccountId,
    /// The account that pays.
    pub source: AccountId,
    /// Minor units credited; 0 where refused.
    pub amount: i64,
    /// What it says.
    pub decision: PivotDecision,
}

impl Pivot {
    /// Whether this row can be the pivot of a transfer with these terms.
    pub fn fits(&self, terms: &Terms) -> bool {
        let amount = match self.decision {
            PivotDecision::Credited => terms.amount.minor(),
            PivotDecision::Refused(_) => 0,
        };
        self.transfer == terms.id
            && self.source == terms.source
            && self.destination == terms.destination
            && self.amount == amount
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] =
        [State::Requested, State::Held, State::Committed, State::Rejected, State::Cancelled];

    #[test]
    fn nothing_follows_a_final_state() {
        for from in STATES {
            let ways_out = STATES.into_iter().filter(|to| from.may_become(*to)).count();
            assert_eq!(ways_out == 0, from.is_final(), "{from:?}");
            assert!(!from.may_become(from));
        }
    }

    #[test]
    fn nothing_is_committed_without_a_hold() {
        assert!(!State::Requested.may_become(State::Committed));
        assert!(!State::Held.may_become(State::Requested));
    }

    #[test]
    fn codes_and_names_read_back() {
        for code in 1..=15 {
            let reason = Reason::from_code(code).unwrap();
            assert_eq!(reason.code(), code);
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert!(reason.final_state().is_final());
        }
        assert_eq!(Reason::from_code(16), None);
        for state in STATES {
            assert_eq!(State::from_code(state.code()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
