//! Reversals: ordinary transfers from the original's destination to its source.

use super::Ingress;
use super::request::{Refusal, Submitted};
use crate::domain::{Client, IdempotencyKey, Money, TransferId};
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
    pub async fn reverse(&self, _request: ReversalRequest) -> Result<Submitted, Refusal> {
        todo!()
    }
}
