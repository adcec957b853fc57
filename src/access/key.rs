//! API keys: `hf_{id}_{secret}{checksum}`.
//!
//! The prefix lets scanners of source code find a key that was published. The checksum tells a key
//! that was mistyped or made up from one that has to be looked up. The secret has 260 random bits,
//! and of the whole only the SHA-256 is stored: a slow hash protects what people choose, and there
//! is nothing to guess here.

use super::principal::Principal;
use super::scope::{Role, Scopes};
use crate::domain::Timestamp;
use crate::store::ApiKeyRow;
use rand::Rng;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq;

const PREFIX: &str = "hf_";
const ID: usize = 12;
const SECRET: usize = 52;
const CHECKSUM: usize = 7;
/// Crockford's digits: nobody takes one for another.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The public part of a key, by which it is stored and listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

impl KeyId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() == ID && is_digits(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("a key's id has {ID} digits and lower-case letters, such as 8d3k0q2m7x1c"))
    }
}

/// A new key: the only moment at which all of it is known.
pub struct Minted {
    /// Its id.
    pub id: KeyId,
    /// What its owner sends.
    pub text: String,
    /// What is stored of it.
    pub hash: [u8; 32],
}

impl Minted {
    /// Another key.
    pub fn new() -> Self {
        let (id, secret) = (random(ID), random(SECRET));
        let text = format!("{PREFIX}{id}_{secret}");
        let text = format!("{text}{}", checksum(&text));
        Self { id: KeyId(id), hash: hash(&text), text }
    }
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Minted").field(&self.id).finish()
    }
}

impl Default for Minted {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether a credential means to be a key.
pub(super) fn is_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// The id of a key that is whole.
pub(super) fn id_of(text: &str) -> Option<KeyId> {
    let (id, rest) = text.strip_prefix(PREFIX)?.split_at_checked(ID)?;
    let secret = rest.strip_prefix('_')?;
    let whole = secret.len() == SECRET + CHECKSUM && is_digits(id) && is_digits(secret);
    let (named, sum) = text.split_at_checked(text.len().checked_sub(CHECKSUM)?)?;
    (whole && checksum(named) == sum).then(|| KeyId(id.to_owned()))
}

/// What is stored of a key.
pub(super) fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| DIGITS.contains(&byte))
}

fn random(length: usize) -> String {
    let mut source = rand::rng();
    (0..length).map(|_| char::from(DIGITS[source.random_range(0..DIGITS.len())])).collect()
}

fn checksum(text: &str) -> String {
    let sum = crc32fast::hash(text.as_bytes());
    let digit = |place: usize| char::from(DIGITS[(sum >> (5 * place)) as usize & 31]);
    (0..CHECKSUM).rev().map(digit).collect()
}

/// A key as it is stored, of the shards that were asked the one with the most changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its row.
    pub row: ApiKeyRow,
}

impl ApiKey {
    /// What the shards know of one key: whichever row changed last, and revoked where any of them
    /// says so.
    pub fn merged(rows: impl IntoIterator<Item = ApiKeyRow>) -> Option<Self> {
        let mut rows: Vec<ApiKeyRow> = rows.into_iter().collect();
        let revoked_at = rows.iter().filter_map(|row| row.revoked_at).min();
        rows.sort_by_key(|row| row.revision);
        let row = rows.pop()?;
        Some(Self { row: ApiKeyRow { revoked_at, ..row } })
    }

    /// What it stands for, if it is this text and holds at `now`.
    pub(super) fn principal(&self, text: &str, now: Timestamp) -> Option<Principal> {
        let same = bool::from(self.row.hash.ct_eq(&hash(text)));
        let ended = self.row.expires_at.is_some_and(|end| end <= now);
        if !same || ended || self.row.revoked_at.is_some() {
            return None;
        }
        Some(Principal::new(self.row.principal.clone(), &self.roles(), self.scopes()))
    }

    /// Its roles; one of a later release allows nothing here.
    pub fn roles(&self) -> Vec<Role> {
        self.row.roles.split(',').filter_map(|name| name.parse().ok()).collect()
    }

    /// The scopes that it is limited to.
    pub fn scopes(&self) -> Option<Scopes> {
        let names = self.row.scopes.as_deref()?;
        let known: Vec<_> = names.split(',').filter_map(|name| name.parse().ok()).collect();
        Some(Scopes::of(&known))
    }

    /// `active`, `expiring`, `expired` or `revoked`.
    pub fn status(&self, now: Timestamp) -> &'static str {
        match (self.row.revoked_at, self.row.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(end)) if end <= now => "expired",
            (None, Some(_)) => "expiring",
            (None, None) => "active",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(minted: &Minted) -> ApiKeyRow {
        ApiKeyRow {
            id: minted.id.to_string(),
            name: "till".to_owned(),
            principal: "shop".parse().unwrap(),
            roles: "merchant".to_owned(),
            scopes: None,
            hash: minted.hash,
            revision: 1,
            created_at: Timestamp::from_micros(1),
            expires_at: None,
            revoked_at: None,
        }
    }

    const NOW: Timestamp = Timestamp::from_micros(1_000);

    #[test]
    fn a_key_is_known_by_its_checksum() {
        let minted = Minted::new();
        assert_eq!(id_of(&minted.text), Some(minted.id.clone()));
        assert_eq!(minted.text.len(), 75);
        for at in 0..minted.text.len() {
            let mut wrong = minted.text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(id_of(std::str::from_utf8(&wrong).unwrap()), None, "digit {at}");
        }
        for text in ["", "hf_", "hf_é", &minted.text[..74], &format!("{}0", minted.text)] {
            assert_eq!(id_of(text), None, "{text}");
        }
    }

    #[test]
    fn only_the_whole_key_opens() {
        let (minted, other) = (Minted::new(), Minted::new());
        let key = ApiKey { row: row(&minted) };
        assert_eq!(key.principal(&minted.text, NOW).unwrap().client.as_str(), "shop");
        assert_eq!(key.principal(&other.text, NOW), None);
    }

    #[test]
    fn a_key_ends_when_it_expires() {
        let minted = Minted::new();
        let key = ApiKey { row: ApiKeyRow { expires_at: Some(NOW), ..row(&minted) } };
        assert_eq!(key.principal(&minted.text, NOW), None);
        assert!(key.principal(&minted.text, Timestamp::from_micros(999)).is_some());
    }

    #[test]
    fn what_one_shard_says_of_a_revocation_counts() {
        let minted = Minted::new();
        let revoked = ApiKeyRow { revoked_at: Some(NOW), revision: 2, ..row(&minted) };
        let later = ApiKeyRow { revision: 3, ..row(&minted) };
        let key = ApiKey::merged([row(&minted), revoked, later]).unwrap();
        assert_eq!((key.row.revision, key.status(NOW)), (3, "revoked"));
        assert_eq!(key.principal(&minted.text, NOW), None);
    }
}
