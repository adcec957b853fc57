//! Reading a query, with every fault at once.

use super::problem::{Fault, Place, Problem};
use crate::domain::hex;
use crate::domain::{AccountId, ProposalId, TransferId};
use crate::ingress::TransferPosition;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// Items of a list where the caller does not say.
const DEFAULT_LIMIT: u32 = 50;
/// Most items of a list.
const MAX_LIMIT: u32 = 500;

/// The parameters of a query; each is read once, what is left at the end is unknown.
pub struct Params {
    values: BTreeMap<String, String>,
    faults: Vec<Fault>,
}

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let mut params = Self { values: BTreeMap::new(), faults: Vec::new() };
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if value.contains('\u{fffd}') {
                params.fault(&name, "is not UTF-8");
            }
            if params.values.insert(name.to_string(), value.into_owned()).is_some() {
                params.fault(&name, "is given more than once");
            }
        }
        Ok(params)
    }
}

impl Params {
    /// Whether a parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A parameter as it is.
    pub fn text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// A parameter that is parsed.
    pub fn parsed<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        let text = self.values.remove(name)?;
        text.parse().map_err(|error: T::Err| self.fault(name, error.to_string())).ok()
    }

    /// A parameter that must be there.
    pub fn required<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        if !self.values.contains_key(name) {
            self.fault(name, "is required");
        }
        self.parsed(name)
    }

    /// `limit`: 1 to 500, 50 where it is left out.
    pub fn limit(&mut self) -> u32 {
        let Some(text) = self.values.remove("limit") else { return DEFAULT_LIMIT };
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(limit @ 1..=MAX_LIMIT) if digits => limit,
            _ => {
                self.fault("limit", format!("must be a number from 1 to {MAX_LIMIT}"));
                DEFAULT_LIMIT
            }
        }
    }

    /// `cursor`: where an earlier part of the same list ended.
    pub fn cursor<P: Position>(&mut self) -> Option<P> {
        let text = self.values.remove("cursor")?;
        let position = decode(&text);
        if position.is_none() {
            self.fault("cursor", "is not a cursor of this list: take next_cursor as it was given");
        }
        position
    }

    /// Adds a fault of a parameter.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        self.faults.push(Fault::new(Place::Query, format!("/{name}"), detail));
    }

    /// The problem, if there is any; a parameter that was not read is one.
    pub fn finish(mut self) -> Result<(), Problem> {
        for name in std::mem::take(&mut self.values).into_keys() {
            self.fault(&name, "is not a parameter of this request");
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}

/// A place in a list that a cursor can name.
pub trait Position: Sized {
    /// Tells the lists apart, and later formats from this one.
    const TAG: &'static str;

    /// As text.
    fn write(&self) -> String;

    /// From its text.
    fn read(text: &str) -> Option<Self>;
}

impl Position for AccountId {
    const TAG: &'static str = "a1.";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Position for TransferId {
    const TAG: &'static str = "t1.";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Position for ProposalId {
    const TAG: &'static str = "p1.";

    fn write(&self) -> String {
        self.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The version of the account that a ledger entry made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryVersion(pub i64);

impl Position for EntryVersion {
    const TAG: &'static str = "e1.";

    fn write(&self) -> String {
        self.0.to_string()
    }

    fn read(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| digits).map(Self)
    }
}

/// `{id}|{version}`, either left out where its list has not begun.
impl Position for TransferPosition {
    const TAG: &'static str = "m1.";

    fn write(&self) -> String {
        let id = self.outgoing.map(|id| id.to_string()).unwrap_or_default();
        let version = self.incoming.map(|version| version.to_string()).unwrap_or_default();
        format!("{id}|{version}")
    }

    fn read(text: &str) -> Option<Self> {
        let (id, version) = text.split_once('|')?;
        let outgoing = if id.is_empty() { None } else { Some(TransferId::read(id)?) };
        let incoming = if version.is_empty() { None } else { Some(EntryVersion::read(version)?.0) };
        Some(Self { outgoing, incoming })
    }
}

/// The cursor for what follows a position: hexadecimal, so that nobody builds on what is in it.
pub fn cursor<P: Position>(position: &P) -> String {
    let text = format!("{}{}", P::TAG, position.write());
    hex::encode(text.as_bytes())
}

/// The position that [`cursor`] was made of; none where it is of another list.
pub fn decode<P: Position>(cursor: &str) -> Option<P> {
    let nibble = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
    let (pairs, rest) = cursor.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| Some(((nibble(*high)? << 4) | nibble(*low)?) as u8))
        .collect();
    let text = String::from_utf8(bytes.filter(|_| rest.is_empty())?).ok()?;
    P::read(text.strip_prefix(P::TAG)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_in_its_own_list_only() {
        let account: AccountId = "alice".parse().unwrap();
        let text = cursor(&account);
        assert_eq!(decode(&text), Some(account));
        assert_eq!(decode::<EntryVersion>(&text), None);
        assert_eq!(decode::<EntryVersion>(&cursor(&EntryVersion(12))), Some(EntryVersion(12)));
        let id = "018bcfe5-687f-7abc-9def-0123456789ab".parse().unwrap();
        for (outgoing, incoming) in [(None, None), (Some(id), None), (Some(id), Some(7))] {
            let place = TransferPosition { outgoing, incoming };
            assert_eq!(decode(&cursor(&place)), Some(place));
        }
    }

    #[test]
    fn what_is_no_cursor_is_none() {
        for text in ["", "0", "zz", "6", "AB", "61312e", "61312e2f", "\u{e4}"] {
            assert_eq!(decode::<AccountId>(text), None, "{text}");
        }
    }
}
