//! Keys of the configuration, which wrap data keys.

use super::{Place, random};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use std::fmt;
use std::str::FromStr;

const KEY: usize = 32;
const NAME: usize = 64;

/// What a data key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing fields; changed by rotation.
    Fields,
    /// What is found by comparing; the same for as long as the shard lives.
    Lookup,
}

impl Purpose {
    /// The number that stores keep.
    pub const fn code(self) -> i64 {
        match self {
            Self::Fields => 1,
            Self::Lookup => 2,
        }
    }

    /// From the number that stores keep.
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::Fields),
            2 => Some(Self::Lookup),
            _ => None,
        }
    }

    /// The name that operators see.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fields => "fields",
            Self::Lookup => "lookup",
        }
    }
}

/// A data key as its shard keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The name of the master key that opens it.
    pub by: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wrapped(by {})", self.by)
    }
}

/// Why a data key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// Its master key is not in the configuration.
    #[error(
        "it is wrapped by '{0}', which is not among HOLDFAST_ENCRYPTION_KEYS: configure it again, and run `holdfast encryption rewrap` before it is taken out"
    )]
    NotConfigured(String),
    /// The master key of that name is another, or the row was changed or belongs elsewhere.
    #[error(
        "the configured key '{0}' does not open it: it is another key than the one of that name that wrapped it, or the row was changed"
    )]
    Refused(String),
}

/// The configured keys, by name: the first wraps, all of them open.
pub struct MasterKeys(Vec<(String, LessSafeKey)>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl MasterKeys {
    /// Their names, the one that wraps first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The name of the one that wraps.
    pub fn first(&self) -> &str {
        &self.0[0].0
    }

    /// A new data key, of which nobody has anything but this.
    pub fn make(&self, place: Place, id: u32, purpose: Purpose) -> Wrapped {
        self.wrap(place, id, purpose, random())
    }

    /// The same data key wrapped by the first of these keys; none where it is already.
    pub fn rewrap(
        &self,
        place: Place,
        id: u32,
        purpose: Purpose,
        wrapped: &Wrapped,
    ) -> Result<Option<Wrapped>, KeyFault> {
        let key = self.open(place, id, purpose, wrapped)?;
        Ok((wrapped.by != self.first()).then(|| self.wrap(place, id, purpose, key)))
    }

    /// The data key itself.
    pub(super) fn open(
        &self,
        place: Place,
        id: u32,
        purpose: Purpose,
        wrapped: &Wrapped,
    ) -> Result<[u8; KEY], KeyFault> {
        let by = &wrapped.by;
        let master = self.0.iter().find(|(name, _)| name == by);
        let (_, master) = master.ok_or_else(|| KeyFault::NotConfigured(by.clone()))?;
        let refused = || KeyFault::Refused(by.clone());
        let (nonce, rest) = wrapped.bytes.split_first_chunk::<NONCE_LEN>().ok_or_else(refused)?;
        let mut rest = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = master.open_in_place(nonce, bound(place, id, purpose), &mut rest);
        opened.ok().and_then(|key| (*key).try_into().ok()).ok_or_else(refused)
    }

    fn wrap(&self, place: Place, id: u32, purpose: Purpose, mut key: [u8; KEY]) -> Wrapped {
        let (by, master) = &self.0[0];
        let nonce = random::<NONCE_LEN>();
        let aad = bound(place, id, purpose);
        let tag = master
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut key)
            .expect("a key is 32 bytes");
        let mut bytes = Vec::with_capacity(NONCE_LEN + KEY + MAX_TAG_LEN);
        bytes.extend(nonce);
        bytes.extend(key);
        bytes.extend(tag.as_ref());
        Wrapped { by: by.clone(), bytes }
    }
}

fn bound(place: Place, id: u32, purpose: Purpose) -> Aad<Vec<u8>> {
    let mut bound = b"holdfast data key 1".to_vec();
    place.bind(&mut bound);
    bound.extend(id.to_be_bytes());
    bound.extend(purpose.code().to_be_bytes());
    Aad::from(bound)
}

/// A key of AES-256-GCM.
pub(super) fn aead(key: &[u8; KEY]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("32 bytes are a key"))
}

impl FromStr for MasterKeys {
    type Err = String;

    /// `name:base64`, comma-separated. No message repeats a key.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        let mut seen: Vec<[u8; KEY]> = Vec::new();
        for (place, part) in (1..).zip(text.split(',').map(str::trim)) {
            let (name, encoded) = part
                .split_once(':')
                .ok_or_else(|| format!("the key at place {place} is not name:base64"))?;
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if !(1..=NAME).contains(&name.len()) || !name.bytes().all(fits) {
                return Err(format!(
                    "the name of the key at place {place} must have 1 to {NAME} letters, digits, dots, underscores and hyphens"
                ));
            }
            if keys.iter().any(|(known, _)| known == name) {
                return Err(format!("two keys have the name {name}"));
            }
            let bytes = STANDARD
                .decode(encoded)
                .map_err(|_| format!("the key {name} is not base64 behind its name"))?;
            let key: [u8; KEY] = bytes.try_into().map_err(|bytes: Vec<u8>| {
                format!("the key {name} has {} bytes and must have {KEY}", bytes.len())
            })?;
            if seen.contains(&key) {
                return Err(format!("the key {name} is the same as another"));
            }
            keys.push((name.to_owned(), aead(&key)));
            seen.push(key);
        }
        Ok(Self(keys))
    }
}
