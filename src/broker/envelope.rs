//! How an event becomes a record and back: `CloudEvents` 1.0 in Kafka's binary mode.

use super::{Delivered, Family, Header, Record, Topic};
use crate::domain::{
    DeadLetter, DeadLetterOrigin, DeadReason, Event, EventError, Timestamp, TransferId,
};
use crate::roles::Role;
use crate::routing::{ShardMap, slot_of};

#[cfg(test)]
mod tests;

/// Bytes of a record's value that a dead letter keeps: escaped they grow up to sixfold, and a
/// record takes a million.
const DEAD_VALUE_LIMIT: usize = 128 * 1024;

/// Bytes that a dead letter keeps of each text that a stranger may have written: key, `ce_id`, and
/// the words about what is wrong.
const DEAD_TEXT_LIMIT: usize = 1024;
const TRACEPARENT: &str = "traceparent";
/// Bytes of a trace context: its standard form has 55.
const TRACEPARENT_LIMIT: usize = 128;

/// The record that announces an event: on its source's shard and partition, keyed by the source.
pub fn record(event: &Event, map: &ShardMap) -> Record {
    let slot = slot_of(&event.terms.source);
    let mut headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", event.ce_id()),
        header("ce_type", event.kind.as_str()),
        header("ce_source", format!("/holdfast/{}", event.cluster)),
        header("ce_time", event.at.to_string()),
        header("content-type", "application/json"),
    ];
    headers.extend(event.traceparent.as_ref().map(|trace| header(TRACEPARENT, trace.to_string())));
    Record {
        topic: Topic::of(event.kind, map.shard_of_slot(slot)),
        partition: map.partition_of_slot(slot),
        key: event.terms.source.to_string(),
        value: event.encode(),
        headers,
        timestamp: event.at,
    }
}

/// The event that a record announces, with its trace context.
pub fn event(delivered: &Delivered) -> Result<Event, EventError> {
    let mut event = Event::decode(&delivered.value)?;
    event.traceparent = traceparent(&delivered.headers).map(Into::into);
    Ok(event)
}

/// The trace context among a record's headers.
pub fn traceparent(headers: &[Header]) -> Option<&str> {
    let is = |(name, value): &&Header| name == TRACEPARENT && value.len() <= TRACEPARENT_LIMIT;
    headers.iter().find(is).map(|(_, value)| value.as_str())
}

/// Has whoever reads a record go on from this trace context.
pub fn set_traceparent(record: &mut Record, context: String) {
    record.headers.retain(|(name, _)| name != TRACEPARENT);
    record.headers.push(header(TRACEPARENT, context));
}

/// Why a record is given up, by whom and when.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    /// A stable word.
    pub reason: DeadReason,
    /// One sentence for the operator.
    pub detail: &'a str,
    /// Who gave it up.
    pub role: Role,
    /// When.
    pub at: Timestamp,
}

/// A record with no more of its headers than its dead letter needs.
pub fn for_dead_letter(mut delivered: Delivered) -> Delivered {
    delivered.headers.retain(|(name, _)| name == "ce_id");
    delivered.headers.shrink_to_fit();
    delivered
}

/// The dead letter of a record that was read.
pub fn dead_letter(delivered: &Delivered, verdict: &Verdict<'_>) -> Record {
    let position = delivered.position;
    let origin = Origin {
        offset: Some(position.offset),
        topic: position.topic,
        partition: position.partition,
    };
    let key = String::from_utf8_lossy(&delivered.key);
    letter(&origin, &key, &delivered.value, &delivered.headers, verdict)
}

/// The dead letter of a record that the broker never took.
pub fn dead_letter_unsent(record: &Record, verdict: &Verdict<'_>) -> Record {
    let origin = Origin { offset: None, topic: record.topic, partition: record.partition };
    letter(&origin, &record.key, &record.value, &record.headers, verdict)
}

/// The dead letter in a record of a dead-letter topic.
pub fn read_dead_letter(delivered: &Delivered) -> Option<DeadLetter> {
    serde_json::from_slice(&delivered.value).ok()
}

struct Origin {
    topic: Topic,
    partition: crate::domain::Partition,
    offset: Option<i64>,
}

fn letter(
    origin: &Origin,
    key: &str,
    value: &[u8],
    headers: &[Header],
    verdict: &Verdict<'_>,
) -> Record {
    let event = Event::decode(value).ok();
    let (key, ce_id) = (capped(key).to_owned(), capped(ce_id(headers)));
    let kept = &value[..value.len().min(DEAD_VALUE_LIMIT)];
    let letter = DeadLetter {
        version: 1,
        reason: verdict.reason.as_str().to_owned(),
        detail: capped(verdict.detail).to_owned(),
        role: verdict.role.as_str().to_owned(),
        attempt: event.as_ref().map_or(0, |event| event.attempt),
        origin: DeadLetterOrigin {
            topic: origin.topic.to_string(),
            shard: origin.topic.shard,
            partition: origin.partition,
            offset: origin.offset,
        },
        at: verdict.at,
        transfer: event.map(|event| event.terms.id).or_else(|| transfer_in(headers)),
        key: key.clone(),
        value: String::from_utf8_lossy(kept).into_owned(),
    };
    Record {
        topic: Topic { family: Family::DeadLetter, shard: origin.topic.shard },
        partition: origin.partition,
        key,
        value: serde_json::to_vec(&letter).expect("a dead letter holds only strings and integers"),
        headers: vec![
            header("ce_specversion", "1.0"),
            header("ce_id", format!("{ce_id}/{}", verdict.role)),
            header("ce_type", "transfer.dlq"),
            header("ce_source", "/holdfast"),
            header("ce_time", verdict.at.to_string()),
            header("content-type", "application/json"),
        ],
        timestamp: verdict.at,
    }
}

/// The beginning of a text, whole characters of it.
fn capped(text: &str) -> &str {
    let mut end = text.len().min(DEAD_TEXT_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn ce_id(headers: &[Header]) -> &str {
    headers.iter().find(|(name, _)| name == "ce_id").map_or("unknown", |(_, value)| value)
}

/// The transfer that a record's `ce_id` names: found even where the value cannot be read.
pub fn transfer_in(headers: &[Header]) -> Option<TransferId> {
    ce_id(headers).split('/').next()?.parse().ok()
}

fn header(name: &'static str, value: impl Into<String>) -> Header {
    (name.into(), value.into())
}
