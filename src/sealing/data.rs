//! Data keys: what they seal and open.
//!
//! A sealed value is a version (1 byte), the number of its data key (4, big-endian), the mark of its
//! reference (8; zeros where there is none), a nonce (12), then ciphertext and tag. Bound to it are
//! the first three, the cluster, the shard, and which row it is.

use super::master::aead;
use super::{KeyFault, MasterKeys, Of, Place, Purpose, Wrapped, random};
use crate::domain::Sealed;
use ring::aead::{Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce};
use std::sync::atomic::{AtomicI64, Ordering};

/// Nonces are random: of so many under one key two are alike with a probability of 2^-32 (NIST SP
/// 800-38D, 8.3), so that a key seals no more.
pub const ROWS_PER_KEY: i64 = 1 << 32;

const VERSION: u8 = 1;
const HEAD: usize = 13;

/// The number of the data key that opens a value, if it is one.
pub fn key_of(sealed: &Sealed) -> Option<u32> {
    match sealed.bytes().split_first_chunk::<5>() {
        Some(([VERSION, id @ ..], _)) => Some(u32::from_be_bytes(*id)),
        Some(_) | None => None,
    }
}

/// A key that seals fields.
pub struct DataKey {
    id: u32,
    key: LessSafeKey,
    /// How many values this process may seal with it.
    left: AtomicI64,
}

impl DataKey {
    /// Unwraps it. It opens values; to seal some, they have to be granted.
    pub fn open(
        masters: &MasterKeys,
        place: Place,
        id: u32,
        wrapped: &Wrapped,
    ) -> Result<Self, KeyFault> {
        let key = masters.open(place, id, Purpose::Fields, wrapped)?;
        Ok(Self { id, key: aead(&key), left: AtomicI64::new(0) })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Lets this process seal so many more.
    pub fn grant(&self, rows: i64) {
        self.left.fetch_add(rows, Ordering::Relaxed);
    }

    /// How many it may still seal.
    pub fn left(&self) -> i64 {
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn seal(&self, place: Place, of: Of<'_>, mark: [u8; 8], text: &[u8]) -> Sealed {
        self.left.fetch_sub(1, Ordering::Relaxed);
        let nonce = random::<NONCE_LEN>();
        let mut out = Vec::with_capacity(HEAD + NONCE_LEN + text.len() + MAX_TAG_LEN);
        out.push(VERSION);
        out.extend(self.id.to_be_bytes());
        out.extend(mark);
        let aad = bound(place, &out, of);
        out.extend(nonce);
        out.extend(text);
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                aad,
                &mut out[HEAD + NONCE_LEN..],
            )
            .expect("a row is far smaller than 64 GiB");
        out.extend(tag.as_ref());
        Sealed::new(out)
    }

    /// What was sealed in this place; none where it was changed or sealed elsewhere.
    pub fn unseal(&self, place: Place, of: Of<'_>, sealed: &Sealed) -> Option<Vec<u8>> {
        let (head, rest) = sealed.bytes().split_at_checked(HEAD)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key.open_in_place(nonce, bound(place, head, of), &mut rest).ok()?.len();
        rest.truncate(length);
        Some(rest)
    }
}

fn bound(place: Place, head: &[u8], of: Of<'_>) -> Aad<Vec<u8>> {
    let mut bound = Vec::with_capacity(128);
    bound.extend(b"holdfast fields 1");
    place.bind(&mut bound);
    bound.extend(head);
    of.bind(&mut bound);
    Aad::from(bound)
}
