//! What is found again by comparing it: SHA-256 under a key of the shard (HMAC), so that whoever
//! reads the tables cannot try out what short texts would give.

use super::{KeyFault, MasterKeys, Place, Purpose, Wrapped};
use crate::domain::AccountId;
use ring::hmac::{HMAC_SHA256, Key, Tag, sign};

/// A shard's key for lookups.
pub struct LookupKey {
    fingerprints: Key,
    references: Key,
}

impl LookupKey {
    /// Unwraps it.
    pub fn open(
        masters: &MasterKeys,
        place: Place,
        id: u32,
        wrapped: &Wrapped,
    ) -> Result<Self, KeyFault> {
        let secret = masters.open(place, id, Purpose::Lookup, wrapped)?;
        let root = Key::new(HMAC_SHA256, &secret);
        let derived = |name: &[u8]| Key::new(HMAC_SHA256, sign(&root, name).as_ref());
        Ok(Self { fingerprints: derived(b"fingerprints"), references: derived(b"references") })
    }

    pub(super) fn fingerprint(&self, plain: &[u8; 32]) -> [u8; 32] {
        first(&sign(&self.fingerprints, plain))
    }

    /// By which transfers out of an account that carry a reference are found. The same reference of
    /// another account has another mark.
    pub fn mark(&self, source: &AccountId, reference: &str) -> [u8; 8] {
        let source = source.as_str();
        let mut text = Vec::with_capacity(source.len() + 1 + reference.len());
        text.extend(source.as_bytes());
        text.push(0);
        text.extend(reference.as_bytes());
        first(&sign(&self.references, &text))
    }
}

fn first<const N: usize>(tag: &Tag) -> [u8; N] {
    *tag.as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}
