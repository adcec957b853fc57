//! Velocity limits: how much an account may set in motion within a minute, an hour, a day.
//!
//! Windows follow one another, begin where minutes, hours and days of UTC do, and are never opened
//! twice: what is decided with a clock that has gone back counts in the window that was open.

use super::account::coded;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// From one full minute to the next.
    Minute,
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight, UTC.
    Day,
}

coded!(Period { Minute = 1, "minute"; Hour = 2, "hour"; Day = 3, "day"; });

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    const fn micros(self) -> i64 {
        let seconds = match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        };
        seconds * 1_000_000
    }

    /// When the window begins that a time is in.
    pub const fn window(self, at: Timestamp) -> Timestamp {
        Timestamp::from_micros(at.micros() - at.micros().rem_euclid(self.micros()))
    }
}

/// The most transfers that a limit may name.
pub const MAX_COUNT: i64 = 1_000_000_000;

/// The most that may be held within one window: so many transfers, so many minor units, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    max_count: Option<i64>,
    max_amount: Option<i64>,
}

impl Limit {
    /// None where it would limit nothing, or where a number is negative.
    pub fn new(max_count: Option<i64>, max_amount: Option<i64>) -> Option<Self> {
        let given = max_count.or(max_amount).is_some();
        let sound = max_count.unwrap_or(0) >= 0 && max_amount.unwrap_or(0) >= 0;
        (given && sound).then_some(Self { max_count, max_amount })
    }

    /// Transfers in one window.
    pub const fn max_count(self) -> Option<i64> {
        self.max_count
    }

    /// Minor units of the account's currency in one window.
    pub const fn max_amount(self) -> Option<i64> {
        self.max_amount
    }

    /// Whether what is used is within it.
    fn covers(self, used: Used) -> bool {
        self.max_count.is_none_or(|most| used.count <= most)
            && self.max_amount.is_none_or(|most| used.amount <= most)
    }
}

/// What was held in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Used {
    /// When the window began.
    pub window: Timestamp,
    /// Transfers.
    pub count: i64,
    /// Minor units.
    pub amount: i64,
}

impl Used {
    /// What counts at a time: nothing of a window that is over. A window that began later than the
    /// one of this time stays, for the clock has gone back since.
    #[must_use]
    pub fn at(self, period: Period, at: Timestamp) -> Self {
        let window = period.window(at);
        if self.window < window { Self { window, count: 0, amount: 0 } } else { self }
    }

    /// One hold more. Saturates: more than 2^63 is over every limit.
    fn and(self, minor: i64) -> Self {
        Self {
            count: self.count.saturating_add(1),
            amount: self.amount.saturating_add(minor),
            ..self
        }
    }
}

/// A limit and what was last used of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The limit.
    pub limit: Limit,
    /// What was used when the account last held something.
    pub used: Used,
}

/// The velocity limits of an account, at most one a period; most accounts have none.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Velocity(BTreeMap<Period, Allowance>);

impl Velocity {
    /// No limits.
    pub const NONE: Self = Self(BTreeMap::new());

    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The limits, the shortest period first.
    pub fn iter(&self) -> impl Iterator<Item = (Period, Allowance)> + '_ {
        self.0.iter().map(|(period, allowance)| (*period, *allowance))
    }

    /// Sets the limit of a period, with what is used of it.
    pub fn insert(&mut self, period: Period, allowance: Allowance) {
        self.0.insert(period, allowance);
    }

    /// Whether so many minor units may be held at a time.
    pub fn allows(&self, minor: i64, at: Timestamp) -> bool {
        self.iter().all(|(period, kept)| kept.limit.covers(kept.used.at(period, at).and(minor)))
    }

    /// Counts a hold of so many minor units that is made at a time.
    pub fn count(&mut self, minor: i64, at: Timestamp) {
        for (period, kept) in &mut self.0 {
            kept.used = kept.used.at(*period, at).and(minor);
        }
    }

    /// With other limits. A period that had one keeps what is used of it; in a new one nothing is.
    #[must_use]
    pub fn limited_to(&self, limits: &BTreeMap<Period, Limit>) -> Self {
        let used = |period| self.0.get(period).map_or_else(Used::default, |kept| kept.used);
        let kept = limits
            .iter()
            .map(|(period, limit)| (*period, Allowance { limit: *limit, used: used(period) }));
        Self(kept.collect())
    }

    /// The limits alone.
    pub fn limits(&self) -> BTreeMap<Period, Limit> {
        self.iter().map(|(period, kept)| (period, kept.limit)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000_000;
    const MINUTE: i64 = 60_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn limited(period: Period, max_count: Option<i64>, max_amount: Option<i64>) -> Velocity {
        let limit = Limit::new(max_count, max_amount).unwrap();
        Velocity::NONE.limited_to(&[(period, limit)].into())
    }

    #[test]
    fn windows_begin_where_utc_does() {
        let noon = "2026-02-03T12:34:56.789012Z".parse().unwrap();
        let windows = Period::ALL.map(|period| period.window(noon).to_string());
        let expected = [
            "2026-02-03T12:34:00.000000Z",
            "2026-02-03T12:00:00.000000Z",
            "2026-02-03T00:00:00.000000Z",
        ];
        assert_eq!(windows, expected);
        for period in Period::ALL {
            assert_eq!(period.window(period.window(noon)), period.window(noon));
            assert_eq!(period.window(at(-1)), at(-period.micros()), "before 1970 as well");
        }
    }

    #[test]
    fn a_limit_limits_something_and_is_not_negative() {
        assert_eq!(Limit::new(None, None), None);
        assert_eq!(Limit::new(Some(-1), None), None);
        assert_eq!(Limit::new(Some(1), Some(-1)), None);
        assert!(Limit::new(Some(0), None).is_some(), "nothing at all may be the most");
    }

    #[test]
    fn exactly_the_limit_passes() {
        let mut count = limited(Period::Hour, Some(2), None);
        let mut amount = limited(Period::Hour, None, Some(100));
        for held in [1, 99] {
            assert!(count.allows(held, at(5)) && amount.allows(held, at(5)));
            count.count(held, at(5));
            amount.count(held, at(5));
        }
        assert!(!count.allows(1, at(5)) && !amount.allows(1, at(5)));
        assert!(amount.allows(0, at(5)));
    }

    #[test]
    fn the_last_instant_of_a_window_is_in_it_and_the_next_one_in_the_next() {
        let mut velocity = limited(Period::Minute, Some(1), None);
        velocity.count(1, at(7 * MINUTE));
        assert!(!velocity.allows(1, at(8 * MINUTE - 1)));
        assert!(velocity.allows(1, at(8 * MINUTE)));
    }

    /// Hazard 46.
    #[test]
    fn a_clock_that_goes_back_opens_no_window_twice() {
        let mut velocity = limited(Period::Minute, Some(1), None);
        velocity.count(1, at(7 * MINUTE));
        velocity.count(1, at(8 * MINUTE));
        for back in [7 * MINUTE, 8 * MINUTE - 1, 0] {
            assert!(!velocity.allows(1, at(back)));
        }
        velocity.count(1, at(0));
        let (_, kept) = velocity.iter().next().unwrap();
        assert_eq!(kept.used, Used { window: at(8 * MINUTE), count: 2, amount: 2 });
        assert!(velocity.allows(1, at(9 * MINUTE)));
    }

    #[test]
    fn every_limit_must_allow_it() {
        let day = Limit::new(Some(3), None).unwrap();
        let mut velocity = limited(Period::Minute, Some(2), Some(50));
        velocity = velocity.limited_to(&{
            let mut limits = velocity.limits();
            limits.insert(Period::Day, day);
            limits
        });
        velocity.count(20, at(0));
        assert!(velocity.allows(30, at(0)) && !velocity.allows(31, at(0)));
        velocity.count(30, at(0));
        assert!(!velocity.allows(1, at(0)) && velocity.allows(1, at(MINUTE)));
        velocity.count(1, at(MINUTE));
        assert!(!velocity.allows(1, at(2 * MINUTE)), "the day's");
        assert!(velocity.allows(1, at(DAY)));
    }

    #[test]
    fn a_changed_limit_keeps_what_is_used_and_a_removed_one_forgets_it() {
        let mut velocity = limited(Period::Day, Some(5), None);
        velocity.count(70, at(0));
        let lower = [(Period::Day, Limit::new(None, Some(70)).unwrap())].into();
        let lowered = velocity.limited_to(&lower);
        assert!(!lowered.allows(1, at(1)));
        let removed = lowered.limited_to(&BTreeMap::new());
        assert!(removed.is_none());
        assert!(removed.limited_to(&lower).allows(70, at(1)));
    }

    #[test]
    fn what_is_used_never_overflows() {
        let mut velocity = limited(Period::Day, Some(i64::MAX), None);
        velocity.count(i64::MAX, at(0));
        velocity.count(i64::MAX, at(0));
        let (_, kept) = velocity.iter().next().unwrap();
        assert_eq!(kept.used.amount, i64::MAX);
        let amount = [(Period::Day, Limit::new(None, Some(i64::MAX - 1)).unwrap())].into();
        assert!(!velocity.limited_to(&amount).allows(1, at(0)));
    }

    proptest! {
        /// The plainest model: every hold that was made is kept in a list with the window it was
        /// made in, and a window is as full as those of the list that are in it.
        #[test]
        fn in_no_window_more_than_the_limit_is_held(
            max_count in proptest::option::of(0_i64..6),
            max_amount in 0_i64..300,
            asked in proptest::collection::vec((1_i64..120, 0..4 * MINUTE), 1..60),
        ) {
            let mut velocity = limited(Period::Minute, max_count, Some(max_amount));
            let mut made: Vec<(i64, i64)> = Vec::new();
            let mut open = i64::MIN;
            for (minor, micros) in asked {
                let window = open.max(micros.div_euclid(MINUTE));
                let inside = made.iter().filter(|(of, _)| *of == window);
                let (count, amount) =
                    inside.fold((1, minor), |(count, sum), (_, minor)| (count + 1, sum + minor));
                let fits = amount <= max_amount && max_count.is_none_or(|most| count <= most);
                prop_assert_eq!(velocity.allows(minor, at(micros)), fits);
                if fits {
                    velocity.count(minor, at(micros));
                    made.push((window, minor));
                    open = window;
                }
            }
        }
    }
}
