//! Reading a JSON body field by field, with every fault at once.
//!
//! Values keep the text that the caller sent, so that a number never passes through a float; an
//! object is taken apart one level at a time, so that no nesting can exhaust the stack.

use super::problem::{Fault, Place};
use crate::domain::{AccountId, Currency, InvalidAmount, Money};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

/// The largest metadata, in bytes of compact JSON.
pub const MAX_METADATA: usize = 16 * 1024;

/// Names and values of an object in the order sent, duplicates included.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<'de>, A::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The fields of one object; each is read once, what is left at the end is unknown.
pub struct Fields<'a> {
    pointer: String,
    values: BTreeMap<String, &'a RawValue>,
    faults: Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Parses an object that stands at `pointer` of the body; empty for the body itself.
    pub fn parse(text: &'a str, pointer: &str) -> Result<Self, Vec<Fault>> {
        let Pairs(pairs) = serde_json::from_str(text)
            .map_err(|error| vec![Fault::new(Place::Body, pointer, error.to_string())])?;
        let mut fields =
            Self { pointer: pointer.to_owned(), values: BTreeMap::new(), faults: Vec::new() };
        for (name, value) in pairs {
            match fields.values.entry(name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(value);
                }
                Entry::Occupied(taken) => {
                    let name = taken.key().clone();
                    fields.fault(&name, "is given more than once");
                }
            }
        }
        Ok(fields)
    }

    /// Whether a field that was not read yet is there, and not null.
    pub fn has(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|value| value.get() != "null")
    }

    /// A field that must be there.
    pub fn required<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a RawValue) -> Result<T, String>,
    ) -> Option<T> {
        match self.values.remove(name) {
            Some(value) => self.read(name, value, read),
            None => {
                self.fault(name, "is required");
                None
            }
        }
    }

    /// A field that may be left out, or null, which means the same.
    pub fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a RawValue) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.values.remove(name).filter(|value| value.get() != "null")?;
        self.read(name, value, read)
    }

    /// A field that may be left out; null is refused, for it could mean to keep or to clear.
    pub fn present<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&'a RawValue) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.values.remove(name)?;
        self.read(name, value, read)
    }

    /// Optional metadata: an object of strings.
    pub fn metadata(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let value = self.values.remove(name).filter(|value| value.get() != "null")?;
        self.metadata_of(name, value)
    }

    /// Metadata that is to replace what is there; null is refused.
    pub fn new_metadata(&mut self, name: &str) -> Option<BTreeMap<String, String>> {
        let value = self.values.remove(name)?;
        self.metadata_of(name, value)
    }

    fn metadata_of(&mut self, name: &str, value: &'a RawValue) -> Option<BTreeMap<String, String>> {
        match metadata(value, &self.pointer_to(name)) {
            Ok(metadata) => Some(metadata),
            Err(faults) => {
                self.faults.extend(faults);
                None
            }
        }
    }

    fn read<T>(
        &mut self,
        name: &str,
        value: &'a RawValue,
        read: impl FnOnce(&'a RawValue) -> Result<T, String>,
    ) -> Option<T> {
        read(value).map_err(|detail| self.fault(name, detail)).ok()
    }

    /// Adds a fault of a field.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let fault = Fault::new(Place::Body, self.pointer_to(name), detail);
        self.faults.push(fault);
    }

    /// Adds a fault found elsewhere.
    pub fn add(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// All faults; a field that was not read is one.
    pub fn finish(mut self) -> Vec<Fault> {
        let unknown: Vec<String> = self.values.keys().cloned().collect();
        for name in unknown {
            self.fault(&name, "is not a field of this request");
        }
        self.faults
    }

    fn pointer_to(&self, name: &str) -> String {
        format!("{}/{}", self.pointer, name.replace('~', "~0").replace('/', "~1"))
    }
}

/// Any string without the NUL character, which databases and clients cut texts at.
pub fn text(value: &RawValue) -> Result<String, String> {
    if !value.get().starts_with('"') {
        return Err("must be a string".to_owned());
    }
    let text: String = serde_json::from_str(value.get())
        .map_err(|_| "holds an escape that is no Unicode character".to_owned())?;
    if text.contains('\0') {
        return Err("must not contain the NUL character".to_owned());
    }
    Ok(text)
}

/// A string of at most `most` characters.
pub fn text_up_to(value: &RawValue, most: usize) -> Result<String, String> {
    let text = text(value)?;
    match text.chars().count() {
        count if count > most => Err(format!("has {count} characters; at most {most} are allowed")),
        _ => Ok(text),
    }
}

/// True or false.
pub fn flag(value: &RawValue) -> Result<bool, String> {
    match value.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A string that is parsed further.
pub fn parsed<T: FromStr>(value: &RawValue) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text(value)?.parse().map_err(|error: T::Err| error.to_string())
}

/// An account id.
pub fn account_id(value: &RawValue) -> Result<AccountId, String> {
    parsed(value)
}

const AMOUNT_FORM: &str = "must be a decimal string such as \"1000.00\"";

/// The text of a string, or the literal text of a number.
fn amount_text(value: &RawValue) -> Result<String, String> {
    let literal = value.get();
    match literal.as_bytes()[0] {
        b'"' => text(value),
        b'-' | b'0'..=b'9' => Ok(literal.to_owned()),
        _ => Err(AMOUNT_FORM.to_owned()),
    }
}

/// An amount, zero included. Without a currency (which is known later, or a fault of its own) only
/// the form is looked at.
pub fn money(value: &RawValue, currency: Option<Currency>) -> Result<Option<Money>, String> {
    let text = amount_text(value)?;
    if let Some(currency) = currency {
        return Money::parse(&text, currency).map(Some).map_err(|error| error.to_string());
    }
    let widest = "CLF".parse().expect("CLF is a currency, of four decimal places");
    match Money::parse(&text, widest) {
        Err(InvalidAmount::Pattern { .. }) => Err(AMOUNT_FORM.to_owned()),
        Ok(_) | Err(InvalidAmount::TooLarge) => Ok(None),
    }
}

/// An amount over zero.
pub fn amount(value: &RawValue, currency: Option<Currency>) -> Result<Option<Money>, String> {
    let money = money(value, currency)?;
    match amount_text(value)?.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
        true => Ok(money),
        false => Err("must be over zero".to_owned()),
    }
}

/// The elements of an array of at most `most`.
pub fn elements(value: &RawValue, most: usize) -> Result<Vec<&RawValue>, String> {
    if !value.get().starts_with('[') {
        return Err("must be an array".to_owned());
    }
    let elements: Vec<&RawValue> =
        serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
    match elements.len() {
        count if count > most => Err(format!("has {count} elements; at most {most} are allowed")),
        _ => Ok(elements),
    }
}

fn metadata(value: &RawValue, pointer: &str) -> Result<BTreeMap<String, String>, Vec<Fault>> {
    let whole = |detail: String| vec![Fault::new(Place::Body, pointer, detail)];
    if !value.get().starts_with('{') {
        return Err(whole("must be an object of strings".to_owned()));
    }
    let mut fields = Fields::parse(value.get(), pointer)?;
    let mut metadata = BTreeMap::new();
    for (name, value) in std::mem::take(&mut fields.values) {
        if name.contains('\0') {
            fields.fault(&name, "must not contain the NUL character");
        } else if let Some(text) = fields.read(&name, value, text) {
            metadata.insert(name, text);
        }
    }
    let faults = fields.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    let bytes = serde_json::to_string(&metadata).map_or(usize::MAX, |text| text.len());
    if bytes > MAX_METADATA {
        return Err(whole(format!("has {bytes} bytes; at most {MAX_METADATA} are allowed")));
    }
    Ok(metadata)
}
