//! Identifiers: each is a type of its own, valid from the moment it exists.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

use super::time::Timestamp;

/// Number of slots that accounts hash to; fixed for all time, shards own sets of slots.
pub const SLOTS: u16 = 4096;

/// A text that is no valid identifier; the message says what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub &'static str);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text, as the caller gave it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&[u8]) -> bool = $valid;
                if valid(text.as_bytes()) { Ok(Self(text.into())) } else { Err(InvalidId($rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                super::text::parsed(deserializer)
            }
        }
    };
}

fn account_id_is_valid(bytes: &[u8]) -> bool {
    matches!(bytes.len(), 1..=64)
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(b))
}

text_id!(
    /// The caller's name of an account: `^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$`, case-sensitive,
    /// compared byte for byte everywhere.
    AccountId,
    "an account id is 1 to 64 characters of A-Z a-z 0-9 . _ : - and begins with a letter or digit",
    account_id_is_valid
);

/// Shortest id of which anything is shown in the log: four characters of it are hidden.
const SHOWN_FROM: usize = 8;

impl AccountId {
    /// For the log: its first two and its last two characters, and nothing of a short one.
    pub fn masked(&self) -> String {
        let text = self.as_str();
        if text.len() < SHOWN_FROM {
            return "****".to_owned();
        }
        format!("{}****{}", &text[..2], &text[text.len() - 2..])
    }
}

text_id!(
    /// The caller's name of one request: 1 to 255 visible ASCII characters, compared byte for byte.
    IdempotencyKey,
    "an idempotency key is 1 to 255 visible ASCII characters",
    |bytes| matches!(bytes.len(), 1..=255) && bytes.iter().all(u8::is_ascii_graphic)
);

text_id!(
    /// The principal that an idempotency key belongs to (never the credential it used).
    Client,
    "a client name is 1 to 64 visible ASCII characters",
    |bytes| matches!(bytes.len(), 1..=64) && bytes.iter().all(u8::is_ascii_graphic)
);

/// One of the [`SLOTS`] that accounts hash to; always below [`SLOTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, if there is one.
    pub const fn new(number: u16) -> Option<Self> {
        if number < SLOTS { Some(Self(number)) } else { None }
    }

    /// Its number, 0 to 4095.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A shard by its index in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(pub u16);

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Partition(pub u32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a dead letter stands: `shard.partition.offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId {
    /// The shard of its topic.
    pub shard: Shard,
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let mut parts = text.split('.');
            let (shard, partition) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let offset = parts.next()?.parse().ok().filter(|offset| *offset >= 0)?;
            let (shard, partition) = (Shard(shard), Partition(partition));
            parts.next().is_none().then_some(Self { shard, partition, offset })
        };
        read().ok_or("shard, partition and offset of a dead letter, such as 0.3.17")
    }
}

/// The cluster that rows and events belong to; minted once by `migrate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub Uuid);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The cluster's generation, raised on every shard after a promotion that may have lost commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

/// A transfer's id: a `UUIDv7` whose 12 `rand_a` bits are the slot of its source, so that the id
/// alone finds its shard. Ids order by time of acceptance, to the millisecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(u128);

const VERSION_7: u128 = 0x7 << 76;
const VARIANT_RFC: u128 = 0b10 << 62;

impl TransferId {
    /// The id for a transfer accepted at `at` (database time) from an account in `slot`.
    /// `sequence` orders the ids of one group commit; `random` makes it unique (40 bits are used).
    pub fn mint(at: Timestamp, slot: Slot, sequence: u32, random: u64) -> Self {
        let millis = u128::from(at.millis().unsigned_abs() & 0xFFFF_FFFF_FFFF);
        let tail = (u128::from(sequence & 0x3F_FFFF) << 40) | u128::from(random & 0xFF_FFFF_FFFF);
        Self((millis << 80) | VERSION_7 | (u128::from(slot.0) << 64) | VARIANT_RFC | tail)
    }

    /// The smallest id that a transfer accepted at `at` can have: a bound for scans.
    pub fn first_at(at: Timestamp) -> Self {
        Self(u128::from(at.millis().unsigned_abs() & 0xFFFF_FFFF_FFFF) << 80)
    }

    /// The slot of the source account.
    #[expect(clippy::cast_possible_truncation, reason = "twelve bits are what is wanted")]
    pub fn slot(self) -> Slot {
        Slot((self.0 >> 64) as u16 & (SLOTS - 1))
    }

    /// When the id was minted, to the millisecond.
    pub fn minted_at(self) -> Timestamp {
        Timestamp::from_micros((self.0 >> 80) as i64 * 1000)
    }

    /// The 16 bytes in network order, which sort as the ids do.
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// From 16 bytes in network order, as a store keeps them; any bytes are taken, so that scans
    /// can begin at the smallest.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// 32 lower-case hexadecimal digits, as bound in batch statements.
    pub fn hex(self) -> String {
        Uuid::from_u128(self.0).simple().encode_lower(&mut Uuid::encode_buffer()).to_owned()
    }
}

impl FromStr for TransferId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        const RULE: InvalidId = InvalidId(
            "a transfer id is a version 7 UUID such as 018bcfe5-687f-7abc-9def-0123456789ab",
        );
        if text.len() != 36 {
            return Err(RULE);
        }
        let uuid = Uuid::try_parse(text).map_err(|_| RULE)?;
        if uuid.get_version_num() != 7 || uuid.get_variant() != uuid::Variant::RFC4122 {
            return Err(RULE);
        }
        Ok(Self(uuid.as_u128()))
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.0).fmt(f)
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransferId({self})")
    }
}

impl Serialize for TransferId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let uuid = Uuid::from_u128(self.0).hyphenated();
        serializer.serialize_str(uuid.encode_lower(&mut Uuid::encode_buffer()))
    }
}

impl<'de> Deserialize<'de> for TransferId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn at_least_four_characters_of_an_account_are_hidden() {
        for (id, masked) in [
            ("ACC-000034", "AC****34"),
            ("AC123434", "AC****34"),
            ("AC12334", "****"),
            ("a", "****"),
        ] {
            assert_eq!(id.parse::<AccountId>().unwrap().masked(), masked);
        }
    }

    proptest! {
        #[test]
        fn account_ids_are_exactly_those_of_the_pattern(text in "\\PC{0,70}|[A-Za-z0-9._:-]{0,70}") {
            let mut chars = text.chars();
            let expected = chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
                && text.len() <= 64
                && chars.all(|c| c.is_ascii_alphanumeric() || "._:-".contains(c));
            prop_assert_eq!(text.parse::<AccountId>().is_ok(), expected);
        }

        #[test]
        fn a_minted_id_tells_its_slot_and_time(micros in 0_i64..4_000_000_000_000_000, slot in 0..SLOTS,
                                              sequence in 0_u32..0x3F_FFFF, random: u64) {
            let at = Timestamp::from_micros(micros);
            let slot = Slot::new(slot).unwrap();
            let id = TransferId::mint(at, slot, sequence, random);
            prop_assert_eq!(id.slot(), slot);
            prop_assert_eq!(id.minted_at().millis(), at.millis());
            prop_assert_eq!(id.to_string().parse::<TransferId>(), Ok(id));
            prop_assert_eq!(TransferId::from_bytes(id.bytes()), id);
            prop_assert!(TransferId::first_at(at) <= id);
            let next = TransferId::mint(at, slot, sequence + 1, 0);
            prop_assert!(id < next, "ids of one group commit keep their order");
        }
    }

    #[test]
    fn a_uuid_of_another_version_is_refused() {
        assert!("f47ac10b-58cc-4372-a567-0e02b2c3d479".parse::<TransferId>().is_err());
        assert!("018bcfe5687f7abc9def0123456789ab".parse::<TransferId>().is_err());
    }

    #[test]
    fn ids_that_differ_in_case_differ() {
        assert_ne!("Alice".parse::<AccountId>(), "alice".parse::<AccountId>());
    }

    #[test]
    fn the_id_of_a_letter_reads_back() {
        let id = LetterId { shard: Shard(1), partition: Partition(3), offset: 17 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "1.2", "1.2.-3", "1.2.3.4", "a.2.3", "70000.1.1"] {
            assert!(text.parse::<LetterId>().is_err(), "{text}");
        }
    }
}
