//! Personal fields where they are encrypted at rest: bytes that only their keys make readable.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// As they are stored; in events and other JSON as base64.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// From what was sealed or read.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What is stored.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Sealed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

impl Serialize for Sealed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Sealed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(|_| D::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_from_json_and_shows_nothing() {
        let sealed = Sealed::new(vec![0, 1, 254, 255]);
        let text = serde_json::to_string(&sealed).unwrap();
        assert_eq!(text, "\"AAH+/w==\"");
        assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
        assert!(serde_json::from_str::<Sealed>("\"not base64\"").is_err());
        assert_eq!(format!("{sealed:?}"), "Sealed(4 bytes)");
    }
}
