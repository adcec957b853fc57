//! What is asked of ingress and how it answers.

use crate::domain::{AccountId, Client, IdempotencyKey, Money, TransferId};
use crate::seldom::Seldom;
use crate::store::{StoreError, TransferRecord};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A transfer as the caller asked for it, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// The principal; scope of the key.
    pub client: Client,
    /// The caller's key.
    pub key: IdempotencyKey,
    /// The account that pays.
    pub source: AccountId,
    /// The account that is paid; another than the source.
    pub destination: AccountId,
    /// How much; over zero.
    pub amount: Money,
    /// Whether the caller named the currency; a default is no part of the fingerprint.
    pub currency_given: bool,
    /// Up to 255 characters.
    pub description: Option<String>,
    /// Up to 64 characters.
    pub reference: Option<String>,
    /// Strings by name.
    pub metadata: Option<BTreeMap<String, String>>,
    /// For a reversal: the original.
    pub reverses: Option<Original>,
    /// W3C trace context of the request.
    pub traceparent: Option<Arc<str>>,
}

impl TransferRequest {
    /// Whether the caller wrote anything that may be personal.
    pub fn is_personal(&self) -> bool {
        self.description.is_some() || self.reference.is_some() || self.metadata.is_some()
    }
}

/// The transfer that a reversal takes back; it is COMMITTED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its id.
    pub id: TransferId,
    /// Its amount.
    pub amount: Money,
}

/// A transfer that is stored: this request's, or that of an earlier one with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// As it is stored now.
    pub transfer: TransferRecord,
    /// Whether an earlier request had made it.
    pub replayed: bool,
}

/// Why a request is not done. Each variant is one `code` of the contract.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// `transfer_not_found`.
    #[error("there is no transfer {0}")]
    TransferNotFound(TransferId),
    /// `account_not_found`.
    #[error("there is no account {0}")]
    AccountNotFound(AccountId),
    /// The caller sees the transfer and has no such say in it: `forbidden`.
    #[error("transfer {0} is not yours to do this with")]
    NotYours(TransferId),
    /// `account_exists`, with other attributes.
    #[error(
        "account {id} exists with {difference}; choose another id or repeat the original request"
    )]
    AccountExists {
        /// The account.
        id: AccountId,
        /// Which attributes differ.
        difference: String,
    },
    /// `account_not_empty`.
    #[error("account {id} has posted {posted} and held {held}; both must be zero to close it")]
    AccountNotEmpty {
        /// The account.
        id: AccountId,
        /// Decimal text.
        posted: String,
        /// Decimal text.
        held: String,
    },
    /// A closed account takes no more changes: `account_closed`.
    #[error("account {0} is closed for good")]
    AccountClosed(AccountId),
    /// `limit_in_use`.
    #[error("account {id} uses its overdraft: the limit can be lowered to {lowest} at most")]
    LimitInUse {
        /// The account.
        id: AccountId,
        /// The lowest limit that is possible now, decimal text.
        lowest: String,
    },
    /// `idempotency_key_reused`.
    #[error(
        "this idempotency key was used for another request from the same source account; use a new key for a new transfer"
    )]
    KeyReused,
    /// `transfer_final`.
    #[error("transfer {0} is already final and did not end cancelled")]
    TransferFinal(TransferId),
    /// `transfer_credited`.
    #[error("transfer {0} has been credited and will be committed; reverse it instead")]
    TransferCredited(TransferId),
    /// `transfer_not_committed`.
    #[error("transfer {0} is not committed; only a committed transfer can be reversed")]
    TransferNotCommitted(TransferId),
    /// `reversal_exceeds_original`.
    #[error("of transfer {original} only {left} is left to be reversed")]
    ReversalExceedsOriginal {
        /// The original.
        original: TransferId,
        /// Decimal text.
        left: String,
    },
    /// `shard_unavailable`: nothing was accepted.
    #[error(
        "a shard that this request needs does not answer; nothing was accepted, repeat the request with the same key"
    )]
    ShardUnavailable,
    /// `overloaded`: nothing was accepted.
    #[error(
        "the pipeline is behind; nothing was accepted, repeat the request with the same key later"
    )]
    Overloaded,
    /// `paused`: nothing was accepted.
    #[error(
        "{0} is paused by an operator; nothing was accepted, repeat the request with the same key later"
    )]
    Paused(String),
    /// `outcome_unknown`: it may have been accepted.
    #[error(
        "the database did not confirm; the transfer may exist: repeat the request with the same key"
    )]
    OutcomeUnknown,
    /// `internal_error`: nothing is known to have been accepted; logged.
    #[error(
        "the request failed inside; repeat it with the same key, and tell the operator the request id"
    )]
    Internal,
}

/// Every request of an outage says the same.
static SILENT: Seldom = Seldom::unsaid();
static UNUSABLE: Seldom = Seldom::unsaid();

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::CommitUnknown { .. } => Self::OutcomeUnknown,
            StoreError::Unavailable { .. } | StoreError::Retry { .. } => {
                if let Some(left_out) = SILENT.due() {
                    tracing::warn!(%error, left_out, "a shard does not answer");
                }
                Self::ShardUnavailable
            }
            StoreError::Duplicate { .. } | StoreError::Identity { .. } => {
                if let Some(left_out) = UNUSABLE.due() {
                    tracing::error!(%error, left_out, "a shard cannot be used");
                }
                Self::ShardUnavailable
            }
            StoreError::Corrupt { .. } | StoreError::Failed { .. } => {
                tracing::error!(%error, "a statement failed");
                Self::Internal
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn request(key: &str) -> TransferRequest {
        TransferRequest {
            client: "anonymous".parse().unwrap(),
            key: key.parse().unwrap(),
            source: "alice".parse().unwrap(),
            destination: "bob".parse().unwrap(),
            amount: Money::parse("10.00", "USD".parse().unwrap()).unwrap(),
            currency_given: true,
            description: None,
            reference: None,
            metadata: None,
            reverses: None,
            traceparent: None,
        }
    }
}
