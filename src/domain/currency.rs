//! ISO 4217 currencies and their minor-unit scales.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A currency of ISO 4217 by its alphabetic code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency {
    code: [u8; 3],
    /// Follows from the code.
    scale: u8,
}

/// Currencies with another scale than 2 (ISO 4217 list one; codes without a minor unit, such as
/// gold, are left out).
const OTHER_SCALES: &[(&[u8; 3], u8)] = &[
    (b"BHD", 3),
    (b"BIF", 0),
    (b"CLF", 4),
    (b"CLP", 0),
    (b"DJF", 0),
    (b"GNF", 0),
    (b"IQD", 3),
    (b"ISK", 0),
    (b"JOD", 3),
    (b"JPY", 0),
    (b"KMF", 0),
    (b"KRW", 0),
    (b"KWD", 3),
    (b"LYD", 3),
    (b"OMR", 3),
    (b"PYG", 0),
    (b"RWF", 0),
    (b"TND", 3),
    (b"UGX", 0),
    (b"UYI", 0),
    (b"UYW", 4),
    (b"VND", 0),
    (b"VUV", 0),
    (b"XAF", 0),
    (b"XOF", 0),
    (b"XPF", 0),
];

/// Currencies with two decimal places.
const SCALE_2: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL \
    BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB \
    EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW \
    KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD \
    NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE \
    SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST \
    XCD XCG YER ZAR ZMW ZWG";

/// Both lists are in alphabetical order.
fn other_scale(code: [u8; 3]) -> Option<u8> {
    let found = OTHER_SCALES.binary_search_by_key(&&code, |(other, _)| *other);
    found.ok().map(|place| OTHER_SCALES[place].1)
}

fn two_places(code: [u8; 3]) -> bool {
    let (mut from, mut to) = (0, SCALE_2.len().div_ceil(4));
    while from < to {
        let middle = usize::midpoint(from, to);
        match SCALE_2.as_bytes()[4 * middle..4 * middle + 3].cmp(&code) {
            std::cmp::Ordering::Less => from = middle + 1,
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Greater => to = middle,
        }
    }
    false
}

/// The text is no currency code of ISO 4217.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an ISO 4217 currency code such as USD")]
pub struct UnknownCurrency;

impl Currency {
    /// The codes of all.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        let others = OTHER_SCALES.iter().filter_map(|(code, _)| std::str::from_utf8(*code).ok());
        SCALE_2.split(' ').chain(others)
    }

    /// Number of decimal places of the minor unit: JPY 0, USD 2, BHD 3.
    pub fn scale(self) -> u32 {
        self.scale.into()
    }

    /// The three-letter code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.code).expect("the code was parsed from three ASCII letters")
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, UnknownCurrency> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| UnknownCurrency)?;
        let scale = if two_places(code) { Some(2) } else { other_scale(code) };
        scale.map(|scale| Self { code, scale }).ok_or(UnknownCurrency)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::text::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_are_in_order_and_every_code_is_found() {
        let others: Vec<&[u8; 3]> = OTHER_SCALES.iter().map(|(code, _)| *code).collect();
        assert!(others.is_sorted());
        let listed: Vec<&str> = SCALE_2.split(' ').collect();
        assert!(listed.is_sorted());
        for code in listed {
            assert_eq!(code.parse::<Currency>().unwrap().scale(), 2, "{code}");
        }
        for (code, scale) in OTHER_SCALES {
            let code = std::str::from_utf8(*code).unwrap();
            assert_eq!(code.parse::<Currency>().unwrap().scale(), u32::from(*scale), "{code}");
        }
        for unknown in ["AAA", "ZZZ", "USE", "usd", "XAU"] {
            assert!(unknown.parse::<Currency>().is_err(), "{unknown}");
        }
    }

    #[test]
    fn scales_are_those_of_iso_4217() {
        let scale = |code: &str| code.parse::<Currency>().map(Currency::scale);
        assert_eq!(scale("JPY"), Ok(0));
        assert_eq!(scale("USD"), Ok(2));
        assert_eq!(scale("AED"), Ok(2));
        assert_eq!(scale("ZWG"), Ok(2));
        assert_eq!(scale("BHD"), Ok(3));
        assert_eq!(scale("CLF"), Ok(4));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        for text in ["", "US", "usd", "USDX", "XXX", "D A", "\u{20ac}"] {
            assert_eq!(text.parse::<Currency>(), Err(UnknownCurrency), "{text}");
        }
    }

    #[test]
    fn every_listed_code_has_three_letters() {
        assert!(SCALE_2.split_whitespace().all(|code| code.len() == 3));
        assert!(SCALE_2.split_whitespace().all(|code| code.parse::<Currency>().is_ok()));
    }
}
