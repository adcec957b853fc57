//! The contract with those who read events: what a release has promised, the next one keeps.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What `current` breaks of what `released` has promised, each with its place. Readers of the old
/// schema must be able to read what is written by the new one, and readers of the new one what is
/// still in the topics: so fields may be added, and nothing else.
pub fn broken(released: &Value, current: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    compare("", released, current, &mut faults);
    faults
}

fn compare(place: &str, released: &Value, current: &Value, faults: &mut Vec<String>) {
    match (released, current) {
        (Value::Object(released), Value::Object(current)) => {
            objects(place, released, current, faults);
        }
        (Value::Array(released), Value::Array(current)) => {
            lists(place, released, current, faults);
        }
        _ if released == current => {}
        _ => faults.push(format!("{place}: {released} became {current}")),
    }
}

fn objects(
    place: &str,
    released: &Map<String, Value>,
    current: &Map<String, Value>,
    faults: &mut Vec<String>,
) {
    // Words for people, which may get better.
    const WORDS: [&str; 3] = ["description", "title", "$comment"];
    let fields = place.ends_with("/properties") || place.ends_with("/$defs");
    let said = |name: &&String| fields || !WORDS.contains(&name.as_str());
    for (name, before) in released.iter().filter(|(name, _)| said(name)) {
        let place = format!("{place}/{name}");
        match current.get(name) {
            Some(after) => compare(&place, before, after, faults),
            None => faults.push(format!("{place} is gone")),
        }
    }
    for name in current.keys().filter(said).filter(|name| !released.contains_key(*name)) {
        // A new field, or a definition that one needs. Anything else narrows or widens what was
        // promised of an old one.
        if !fields {
            faults.push(format!("{place}/{name} is new"));
        }
    }
}

fn lists(place: &str, released: &[Value], current: &[Value], faults: &mut Vec<String>) {
    let texts =
        |values: &[Value]| -> BTreeSet<String> { values.iter().map(ToString::to_string).collect() };
    let (before, after) = (texts(released), texts(current));
    let gone: Vec<&String> = before.difference(&after).collect();
    let new: Vec<&String> = after.difference(&before).collect();
    // Reasons are an open list, which the schema tells its readers.
    let open = place.ends_with("/reason/enum");
    if !gone.is_empty() || (!new.is_empty() && !open) {
        faults.push(format!("{place}: gone {gone:?}, new {new:?}"));
    }
}
