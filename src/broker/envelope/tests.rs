//! Records against the schemas that the outside relies on.

use super::*;
use crate::broker::Position;
use crate::domain::testing::any_event;
use crate::domain::{EventType, Partition, Shard};
use boon::{Compiler, SchemaIndex, Schemas};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

const EVENT: &str = include_str!("../../../schemas/transfer-event.v1.json");
const DEAD_LETTER: &str = include_str!("../../../schemas/dead-letter.v1.json");

/// A compiled schema.
struct Schema {
    schemas: Schemas,
    index: SchemaIndex,
}

impl Schema {
    fn of(text: &str) -> Self {
        let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
        compiler.enable_format_assertions();
        compiler.add_resource("file:///schema.json", serde_json::from_str(text).unwrap()).unwrap();
        let index = compiler.compile("file:///schema.json", &mut schemas).unwrap();
        Self { schemas, index }
    }

    fn faults(&self, value: &Value) -> Option<String> {
        self.schemas.validate(value, self.index).err().map(|error| format!("{error:#}\n{value:#}"))
    }
}

fn map() -> ShardMap {
    ShardMap::lay_out(2, 8)
}

/// A record as it is read again, at some offset.
fn delivered(record: Record) -> Delivered {
    let position = Position { topic: record.topic, partition: record.partition, offset: 17 };
    let Record { key, value, headers, timestamp, .. } = record;
    Delivered { position, key, value, headers, timestamp }
}

fn verdict(reason: DeadReason) -> Verdict<'static> {
    Verdict {
        reason,
        detail: "a sentence",
        role: Role::Hold,
        at: Timestamp::from_micros(1_700_000_000_000_001),
    }
}

proptest! {
    // Compiling a schema takes longer than anything that is validated by it.
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_valid_by_its_schema_and_read_back(
        events in proptest::collection::vec(any_event(), 30),
    ) {
        let schema = Schema::of(EVENT);
        for sent in events {
            let record = record(&sent, &map());
            prop_assert_eq!(schema.faults(&serde_json::from_slice(&record.value).unwrap()), None);
            prop_assert_eq!(event(&delivered(record)), Ok(sent));
        }
    }

    #[test]
    fn every_dead_letter_is_valid_by_its_schema(
        sent in any_event(), garbage: Vec<u8>, cut: bool,
    ) {
        use DeadReason as Why;
        let schema = Schema::of(DEAD_LETTER);
        let reasons = [Why::Malformed, Why::ForeignCluster, Why::NoRow, Why::Contradiction,
            Why::TooLarge, Why::Invariant];
        let mut record = record(&sent, &map());
        let unsent = dead_letter_unsent(&record, &verdict(Why::TooLarge));
        if cut {
            record.value = garbage.into();
            record.headers = Headers::default();
        }
        let read = delivered(record);
        let of_read = reasons.map(|reason| dead_letter(&read, &verdict(reason)));
        for letter in of_read.into_iter().chain([unsent]) {
            prop_assert_eq!(schema.faults(&serde_json::from_slice(&letter.value).unwrap()), None);
            let known = read_dead_letter(&delivered(letter)).unwrap().transfer;
            prop_assert!(cut || known == Some(sent.terms.id));
        }
    }
}

/// A text of so many bytes, of characters that JSON escapes, or of some that take several bytes.
fn any_text(longest: usize) -> impl Strategy<Value = String> {
    let character = prop::sample::select(vec!['\u{1}', '"', '\\', 'a', 'é', '€', '😀', '\u{fffd}']);
    let wanted = prop_oneof![Just(0), 1..2 * DEAD_TEXT_LIMIT, Just(longest)];
    (character, wanted, 0_usize..4).prop_map(|(character, wanted, shift)| {
        let filled: String =
            std::iter::repeat_n(character, wanted / character.len_utf8()).collect();
        "x".repeat(shift) + &filled
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_record_of_any_size_and_shape_fits_into_its_dead_letter(
        key in any_text(900_000), value in any_text(2_000_000), detail in any_text(500_000),
        ce_id in any_text(900_000), trace in any_text(900_000), binary: bool,
    ) {
        let topic = Topic::of(EventType::Held, Shard(1));
        let position = Position { topic, partition: Partition(3), offset: 17 };
        let (mut key, mut value) = (key.into_bytes(), value.into_bytes());
        if binary {
            key.iter_mut().chain(&mut value).for_each(|byte| *byte |= 0x80);
        }
        let headers = [("ce_id", ce_id), ("traceparent", trace)].into_iter().collect();
        let (key, value) = (key.into(), value.into());
        let strange = Delivered { position, key, value, headers, timestamp: Timestamp::from_micros(1) };
        let verdict = Verdict { detail: &detail, ..verdict(DeadReason::Malformed) };
        let letter = dead_letter(&strange, &verdict);
        prop_assert!(letter.bytes() <= crate::broker::MAX_RECORD_BYTES, "{} bytes", letter.bytes());
        let read = read_dead_letter(&delivered(letter)).unwrap();
        prop_assert!(detail.starts_with(&read.detail));
        prop_assert!(String::from_utf8_lossy(&strange.key).starts_with(&read.key));
        let kept = read.value.trim_end_matches(char::REPLACEMENT_CHARACTER);
        prop_assert!(String::from_utf8_lossy(&strange.value).starts_with(kept));
    }
}

#[test]
fn a_trace_context_that_is_too_long_is_none() {
    use crate::domain::testing::{stamp, terms};
    let mut sent = stamp().event(EventType::Held, &terms(1, "a", "b", 5));
    for (length, kept) in [(TRACEPARENT_LIMIT, true), (TRACEPARENT_LIMIT + 1, false)] {
        sent.traceparent = Some("0".repeat(length).into());
        let read = event(&delivered(record(&sent, &map()))).unwrap();
        assert_eq!(read.traceparent.is_some(), kept);
    }
}

#[test]
fn fields_that_a_later_release_adds_are_valid() {
    for (schema, value) in [(EVENT, an_event()), (DEAD_LETTER, a_dead_letter())] {
        let schema = Schema::of(schema);
        let mut value = value;
        value["later"] = json!({"anything": [1, null]});
        for part in ["transfer", "account", "origin"] {
            if value[part].is_object() {
                value[part]["later"] = json!(1);
            }
        }
        assert_eq!(schema.faults(&value), None);
    }
}

#[test]
fn what_a_schema_describes_otherwise_is_not_valid() {
    let event = Schema::of(EVENT);
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/type", json!("transfer.dlq")),
        ("/cluster", json!("here")),
        ("/attempt", json!(0)),
        ("/at", json!("2026-01-31T12:00:00Z")),
        ("/transfer/id", json!("f47ac10b-58cc-4372-a567-0e02b2c3d479")),
        ("/transfer/amount", json!(10)),
        ("/transfer/amount", json!("-1.00")),
        ("/transfer/source", json!(".a")),
        ("/account/version", json!(0)),
        ("/account/posted", json!(5)),
        ("/reason", json!("no_reason")),
    ] {
        let mut value = an_event();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(event.faults(&value).is_some(), "{pointer}");
    }
    let letter = Schema::of(DEAD_LETTER);
    for (pointer, wrong) in [
        ("/reason", json!("because")),
        ("/role", json!("somebody")),
        ("/origin/topic", json!("transfer.held")),
        ("/origin/offset", json!("17")),
    ] {
        let mut value = a_dead_letter();
        *value.pointer_mut(pointer).unwrap() = wrong;
        assert!(letter.faults(&value).is_some(), "{pointer}");
    }
}

fn an_event() -> Value {
    use crate::domain::testing::{account, stamp, terms};
    let event = Event {
        reason: Some(crate::domain::Reason::HoldTimeout),
        account: Some((&account("a", 5)).into()),
        ..stamp().event(EventType::Cancelled, &terms(1, "a", "b", 5))
    };
    serde_json::from_slice(&record(&event, &map()).value).unwrap()
}

fn a_dead_letter() -> Value {
    let topic = Topic::of(EventType::Held, Shard(1));
    let position = Position { topic, partition: Partition(3), offset: 17 };
    let timestamp = Timestamp::from_micros(1);
    let (key, value, headers) = (Bytes::new(), vec![0xff].into(), Headers::default());
    let delivered = Delivered { position, key, value, headers, timestamp };
    serde_json::from_slice(&dead_letter(&delivered, &verdict(DeadReason::Malformed)).value).unwrap()
}

/// The records of a batch share buffers, and are what they are alone.
#[test]
fn records_of_a_batch_are_those_of_its_events() {
    use crate::domain::testing::{stamp, terms};
    let events = (0..200).map(|number| {
        let source = "s".repeat(1 + number as usize % 64);
        stamp().event(EventType::Held, &terms(number, &source, "b", 5))
    });
    let mut encoder = Encoder::of(200);
    for event in events {
        assert_eq!(encoder.record(&event, &map()), record(&event, &map()));
    }
}
