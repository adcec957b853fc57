//! Amounts of money: whole minor units of one currency, checked arithmetic, strict text forms.

use super::currency::Currency;
use rust_decimal::Decimal;
use std::fmt;

/// The largest amount of one transfer, in minor units (10^15).
pub const MAX_AMOUNT: i64 = 1_000_000_000_000_000;

/// An amount that is not negative: minor units of a currency, at most [`MAX_AMOUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// It does not match the contract's pattern for the currency.
    #[error(
        "an amount of {currency} is a decimal such as {example}, with at most {scale} decimal places, no sign, no exponent and no leading zeros"
    )]
    Pattern {
        /// The currency it was read for.
        currency: Currency,
        /// An amount that would have been taken.
        example: String,
        /// Decimal places of that currency.
        scale: u32,
    },
    /// It is over [`MAX_AMOUNT`].
    #[error("an amount is at most 10^15 minor units")]
    TooLarge,
}

impl Money {
    /// `minor` units of `currency`, if that is from 0 to [`MAX_AMOUNT`].
    pub fn from_minor(minor: i64, currency: Currency) -> Option<Self> {
        (0..=MAX_AMOUNT).contains(&minor).then_some(Self { minor, currency })
    }

    /// Parses `^(0|[1-9][0-9]{0,14})(\.[0-9]{1,S})?$`, S being the currency's scale; the text of a
    /// JSON string or the literal text of a JSON number, never a float.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, InvalidAmount> {
        if !matches_pattern(text, currency.scale()) {
            return Err(InvalidAmount::Pattern {
                currency,
                example: format_minor(1_234_567, currency),
                scale: currency.scale(),
            });
        }
        to_minor(text, currency)
            .and_then(|minor| Self::from_minor(minor, currency))
            .ok_or(InvalidAmount::TooLarge)
    }

    /// Minor units, 0 to [`MAX_AMOUNT`].
    pub fn minor(self) -> i64 {
        self.minor
    }

    /// Its currency.
    pub fn currency(self) -> Currency {
        self.currency
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_minor(self.minor, self.currency))
    }
}

/// Minor units as a decimal text with the currency's full scale: 100050 of USD is `1000.50`.
/// Takes 128 bits, so that sums over accounts can be written too.
pub fn format_minor(minor: impl Into<i128>, currency: Currency) -> String {
    let minor: i128 = minor.into();
    let scale = currency.scale() as usize;
    // At least one digit stands before the point.
    let width = scale + 1 + usize::from(minor < 0);
    let mut text = format!("{minor:0width$}");
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    text
}

/// Reads what [`format_minor`] wrote for a balance, which may be negative: minor units.
pub fn parse_signed_minor(text: &str, currency: Currency) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let shaped = !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.split('.').all(|part| !part.is_empty());
    if shaped { to_minor(text, currency) } else { None }
}

fn matches_pattern(text: &str, scale: u32) -> bool {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let whole_fits = matches!(whole.len(), 1..=15) && digits(whole);
    let fraction_fits = fraction
        .is_none_or(|part| !part.is_empty() && part.len() <= scale as usize && digits(part));
    whole_fits && fraction_fits && (whole == "0" || !whole.starts_with('0'))
}

/// Exact conversion; nothing where the text has more places than the currency or does not fit.
fn to_minor(text: &str, currency: Currency) -> Option<i64> {
    let mut decimal = Decimal::from_str_exact(text).ok()?;
    if decimal.scale() > currency.scale() {
        return None;
    }
    decimal.rescale(currency.scale());
    if decimal.scale() != currency.scale() {
        return None;
    }
    i64::try_from(decimal.mantissa()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn currency(code: &str) -> Currency {
        code.parse().unwrap()
    }

    #[test]
    fn amounts_in_every_scale() {
        for (text, code, minor) in [
            ("0", "USD", 0),
            ("0.5", "USD", 50),
            ("1000.00", "USD", 100_000),
            ("10", "JPY", 10),
            ("1.234", "BHD", 1234),
            ("999999999999999", "JPY", 999_999_999_999_999),
            ("10000000000000.00", "USD", MAX_AMOUNT),
            ("0.0001", "CLF", 1),
        ] {
            assert_eq!(
                Money::parse(text, currency(code)).map(Money::minor),
                Ok(minor),
                "{text} {code}"
            );
        }
    }

    #[test]
    fn texts_that_rust_decimal_would_take_are_refused() {
        for text in [
            "1e5", "1_000", "-0", ".5", "5.", "+1", "01", "00", "1,0", " 1", "1 ", "", "-1",
            "1.000", "NaN", "\u{661}",
        ] {
            assert!(
                matches!(Money::parse(text, currency("USD")), Err(InvalidAmount::Pattern { .. })),
                "{text:?}"
            );
        }
        assert!(Money::parse("1.0", currency("JPY")).is_err());
        assert_eq!(
            Money::parse("10000000000000.01", currency("USD")),
            Err(InvalidAmount::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(minor in 0..=MAX_AMOUNT, code in "USD|BHD|CLF|AED") {
            let money = Money::from_minor(minor, currency(&code)).unwrap();
            prop_assert_eq!(Money::parse(&money.to_string(), money.currency()), Ok(money));
        }

        #[test]
        fn balances_are_read_back(minor: i64, code in "USD|JPY|BHD") {
            let text = format_minor(minor, currency(&code));
            prop_assert_eq!(parse_signed_minor(&text, currency(&code)), Some(minor));
        }

        #[test]
        fn sums_are_written_as_the_library_writes_decimals(high: i64, low: u16, code in "USD|JPY|BHD|CLF") {
            let (minor, currency) = (i128::from(high) * 256 + i128::from(low), currency(&code));
            let decimal = Decimal::from_i128_with_scale(minor, currency.scale());
            prop_assert_eq!(format_minor(minor, currency), decimal.to_string());
            let decimal = Decimal::from_i128_with_scale(low.into(), currency.scale());
            prop_assert_eq!(format_minor(low, currency), decimal.to_string());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", code in "USD|JPY") {
            let _ = Money::parse(&text, currency(&code));
            let _ = parse_signed_minor(&text, currency(&code));
        }
    }
}
