//! The contract with those who read events: what a release has promised, the next one keeps.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;

/// What `current` breaks of what `released` has promised, each with its place. Readers of the old
/// schema must be able to read what is written by the new one, and readers of the new one what is
/// still in the topics: so fields may be added, and nothing else.
fn broken(released: &Value, current: &Value) -> Vec<String> {
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

/// Schemas as they were released are kept in `schemas/released/`, one folder a release, and never
/// changed: whoever reads events has them.
#[test]
fn the_schemas_keep_what_every_release_has_promised() {
    let read = |path: &str| -> serde_json::Value {
        let text = fs::read_to_string(super::root().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let mut faults = Vec::new();
    let mut compared = 0;
    for release in fs::read_dir(super::root().join("schemas/released")).unwrap() {
        let release = release.unwrap().file_name().into_string().unwrap();
        for schema in fs::read_dir(super::root().join("schemas/released").join(&release)).unwrap() {
            let name = schema.unwrap().file_name().into_string().unwrap();
            let released = read(&format!("schemas/released/{release}/{name}"));
            let broken = broken(&released, &read(&format!("schemas/{name}")));
            faults.extend(broken.into_iter().map(|fault| format!("{release} {name}: {fault}")));
            compared += 1;
        }
    }
    assert!(compared > 1, "nothing is released");
    super::none_of(&faults);
}

/// The comparison itself finds each way to break a reader.
#[test]
fn a_schema_that_breaks_its_readers_is_found() {
    let released = json!({
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": { "type": "string", "description": "words" },
            "kind": { "enum": ["x", "y"] },
            "reason": { "enum": ["r"] },
        },
        "$defs": { "reason": { "enum": ["r"] } },
    });
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut current = released.clone();
        change(&mut current);
        broken(&released, &current)
    };
    let fine: [&dyn Fn(&mut serde_json::Value); 4] = [
        &|_| {},
        &|schema| schema["properties"]["new"] = json!({ "type": "string" }),
        &|schema| schema["properties"]["a"]["description"] = json!("better words"),
        &|schema| schema["properties"]["reason"]["enum"] = json!(["r", "s"]),
    ];
    for change in fine {
        assert_eq!(with(change), [] as [&str; 0]);
    }
    let breaks: [&dyn Fn(&mut serde_json::Value); 8] = [
        &|schema| drop(schema["properties"].as_object_mut().unwrap().remove("a")),
        &|schema| schema["required"] = json!([]),
        &|schema| schema["required"] = json!(["a", "kind"]),
        &|schema| schema["properties"]["a"]["type"] = json!("integer"),
        &|schema| schema["properties"]["a"]["maxLength"] = json!(3),
        &|schema| schema["properties"]["kind"]["enum"] = json!(["x", "y", "z"]),
        &|schema| schema["properties"]["reason"]["enum"] = json!(["s"]),
        &|schema| schema["additionalProperties"] = json!(false),
    ];
    for (number, change) in breaks.into_iter().enumerate() {
        assert_eq!(with(change).len(), 1, "break {number}");
    }
}
