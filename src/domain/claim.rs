//! What ingress accepts: a transfer, and the claim that makes a repeat of its request find it.

use super::ids::{AccountId, Client, IdempotencyKey, TransferId};
use super::sealed::Sealed;
use super::time::Timestamp;
use super::transfer::Terms;

/// Who claims a request: unique per client, source account and key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    /// The account that pays.
    pub source: AccountId,
    /// The principal.
    pub client: Client,
    /// The caller's key.
    pub key: IdempotencyKey,
}

/// What a claim says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The transfer that the key stands for.
    pub transfer: TransferId,
    /// Fingerprint of the request, 32 bytes.
    pub fingerprint: [u8; 32],
    /// How the fingerprint was computed.
    pub fingerprint_version: u8,
}

/// A transfer and its claim, to be inserted in state REQUESTED.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTransfer {
    /// Its terms.
    pub terms: Terms,
    /// Whose claim.
    pub claim: ClaimKey,
    /// Fingerprint of the request.
    pub fingerprint: [u8; 32],
    /// How it was computed.
    pub fingerprint_version: u8,
    /// The caller's text.
    pub description: Option<String>,
    /// The caller's reference.
    pub reference: Option<String>,
    /// A JSON object of strings, as text.
    pub metadata: Option<String>,
    /// These three, sealed: where it is there, it alone is stored and published.
    pub sealed: Option<Sealed>,
    /// When it is accepted.
    pub at: Timestamp,
}

impl NewTransfer {
    /// Whether the caller wrote anything that may be personal.
    pub fn is_personal(&self) -> bool {
        self.description.is_some() || self.reference.is_some() || self.metadata.is_some()
    }
}
