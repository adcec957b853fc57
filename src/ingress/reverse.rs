//! Reversals: ordinary transfers from the original's destination to its source.

use super::Ingress;
use super::request::{Original, Refusal, Submitted, TransferRequest};
use crate::domain::{Client, IdempotencyKey, Money, State, TransferId};
use std::sync::Arc;

/// A reversal as the caller asked for it, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReversalRequest {
    /// The principal; scope of the key.
    pub client: Client,
    /// The caller's key.
    pub key: IdempotencyKey,
    /// The transfer to be reversed.
    pub original: TransferId,
    /// How much of it, in its currency; over zero.
    pub amount: Money,
    /// W3C trace context of the request.
    pub traceparent: Option<Arc<str>>,
}

impl Ingress {
    /// Accepts a reversal of a committed transfer; all of its reversals together never exceed it.
    ///
    /// COMMITTED is final, so it is enough to have read it once; how much is left is decided under
    /// a lock in the reversal's own transaction, after its claim was looked up.
    pub async fn reverse(&self, request: ReversalRequest) -> Result<Submitted, Refusal> {
        let original = self.transfer_record(request.original).await?.row;
        if original.state != State::Committed {
            return Err(Refusal::TransferNotCommitted(request.original));
        }
        self.submit(TransferRequest {
            client: request.client,
            key: request.key,
            source: original.terms.destination,
            destination: original.terms.source,
            amount: request.amount,
            currency_given: false,
            description: None,
            reference: None,
            metadata: None,
            reverses: Some(Original { id: request.original, amount: original.terms.amount }),
            traceparent: request.traceparent,
        })
        .await
    }
}
