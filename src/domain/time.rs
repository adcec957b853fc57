//! Points in time, in microseconds since the Unix epoch, UTC.

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A point in time in microseconds since 1970-01-01T00:00:00Z; text form is RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This time and `duration` more; saturates at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// This time less `duration`; saturates at the beginning of time.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// How long after `earlier` this is; zero where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(at) if (0..=9999).contains(&at.year()) => {
                f.write_str(std::str::from_utf8(&text(at)).expect("digits and signs"))
            }
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// What `to_rfc3339_opts` makes of a year of four digits, in a tenth of the time: every event has
/// two of these.
fn text(at: DateTime<Utc>) -> [u8; 27] {
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut put = |mut value: u32, from: usize, digits: usize| {
        for place in text[from..from + digits].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    };
    put(at.year().unsigned_abs(), 0, 4);
    put(at.month(), 5, 2);
    put(at.day(), 8, 2);
    put(at.hour(), 11, 2);
    put(at.minute(), 14, 2);
    put(at.second(), 17, 2);
    put(at.timestamp_subsec_micros(), 20, 6);
    text
}

/// The text is not an RFC 3339 time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time such as 2026-01-31T12:00:00Z")]
pub struct InvalidTimestamp;

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text)
            .map(|at| Self(at.timestamp_micros()))
            .map_err(|_| InvalidTimestamp)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_has_microseconds_and_a_z() {
        let at = Timestamp::from_micros(1_700_000_000_000_001);
        assert_eq!(at.to_string(), "2023-11-14T22:13:20.000001Z");
        assert_eq!(at.to_string().parse(), Ok(at));
    }

    proptest::proptest! {
        #[test]
        fn the_text_is_that_of_the_library(micros in -80_000_000_000_000_000_i64..300_000_000_000_000_000) {
            let at = DateTime::<Utc>::from_timestamp_micros(micros).unwrap();
            let expected = at.to_rfc3339_opts(SecondsFormat::Micros, true);
            proptest::prop_assert_eq!(Timestamp::from_micros(micros).to_string(), expected);
        }
    }

    #[test]
    fn distance_to_a_later_time_is_zero() {
        let (early, late) = (Timestamp::from_micros(5), Timestamp::from_micros(9));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_micros(4));
    }
}
