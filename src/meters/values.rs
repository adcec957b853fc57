//! What labels may say: never more than is known beforehand.

use crate::domain::Currency;
use std::fmt::Write;

/// Currencies that a process tells apart; the others are `other` together.
pub const MOST_CURRENCIES: usize = 32;
/// What those beyond are called.
pub const OTHER: &str = "other";

/// The set that a label's values are from.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// The numbers of the shards.
    Shards,
    /// Codes of ISO 4217, [`MOST_CURRENCIES`] of them, and [`OTHER`].
    Currencies,
    /// These.
    Listed(fn() -> Vec<&'static str>),
    /// The patterns of the API's paths.
    Routes,
    /// Numbers of three digits.
    Statuses,
    /// The codes of problem documents.
    Codes,
    /// What a breaker stands before: the shards, Kafka, Redis.
    Dependencies,
    /// The release.
    Version,
}

impl Values {
    /// Whether a value is among them.
    pub fn allow(&self, value: &str) -> bool {
        let number = |text: &str| text.parse::<u16>().is_ok();
        match self {
            Self::Shards => number(value),
            Self::Currencies => value == OTHER || value.parse::<Currency>().is_ok(),
            Self::Listed(values) => values().contains(&value),
            Self::Routes => value == "unmatched" || value.starts_with('/') && !value.contains(' '),
            Self::Statuses => value.len() == 3 && number(value),
            Self::Codes => value.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            Self::Dependencies => {
                let kinds = ["mysql.", "mysql-replica.", "sqlite."];
                let shard = kinds.iter().find_map(|kind| value.strip_prefix(kind));
                shard.map_or(["kafka", "redis"].contains(&value), number)
            }
            Self::Version => value == env!("CARGO_PKG_VERSION"),
        }
    }

    /// In the document; empty where the label's name says it, and the document what it may be.
    pub fn describe(&self) -> String {
        match self {
            Self::Listed(values) => {
                let mut text = String::new();
                for value in values() {
                    let comma = if text.is_empty() { "" } else { ", " };
                    write!(text, "{comma}`{value}`").expect("a string takes everything");
                }
                text
            }
            Self::Shards
            | Self::Currencies
            | Self::Routes
            | Self::Statuses
            | Self::Codes
            | Self::Dependencies
            | Self::Version => String::new(),
        }
    }
}
