//! What operators do by hand: through the ordinary path, by the protocol, each act in the audit
//! log with the transaction that does it. Nothing here touches posted or held.

pub mod letters;
mod release;
mod repair;
mod replay;
mod stage;

pub use release::{Examined, examine, quarantined, release, release_within};
pub use repair::{Repair, Repairs, repair};
pub use replay::{Replayed, discard, discard_within, replay};
pub use stage::{retry, stage};

use crate::broker::BrokerError;
use crate::domain::{AccountId, TransferId};
use crate::store::StoreError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// A shard.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// No such transfer.
    #[error("there is no transfer {0}")]
    NoTransfer(TransferId),
    /// No such account.
    #[error("there is no account {0}")]
    NoAccount(AccountId),
    /// No such dead letter.
    #[error("there is no dead letter {0}; `holdfast dlq list` has those there are")]
    NoLetter(letters::LetterId),
}
