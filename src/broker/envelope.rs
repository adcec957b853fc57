//! How an event becomes a record and back: `CloudEvents` 1.0 in Kafka's binary mode.

use super::{Delivered, Family, Headers, Record, Topic};
use crate::domain::{
    DeadLetter, DeadLetterOrigin, DeadReason, Event, EventError, Timestamp, TransferId,
};
use crate::roles::Role;
use crate::routing::{ShardMap, slot_of};
use bytes::BytesMut;

#[cfg(test)]
mod tests;

/// Bytes of a record's value that a dead letter keeps: escaped they grow up to sixfold, and a
/// record takes a million.
const DEAD_VALUE_LIMIT: usize = 128 * 1024;

/// Bytes that a dead letter keeps of each text that a stranger may have written: key, `ce_id`, and
/// the words about what is wrong.
const DEAD_TEXT_LIMIT: usize = 1024;
const CE_ID: &str = "ce_id";
const TRACEPARENT: &str = "traceparent";
/// Bytes of a trace context: its standard form has 55.
const TRACEPARENT_LIMIT: usize = 128;

/// What nearly every record fits into, in bytes.
const USUAL_BYTES: usize = 1536;
/// Records that share a buffer, which is there until the last of them is gone.
const RECORDS_A_BUFFER: usize = 32;

/// Makes the records of a batch, in buffers that they share.
#[derive(Default)]
pub struct Encoder {
    shared: BytesMut,
    value: Vec<u8>,
    /// Bytes of the next buffer.
    room: usize,
}

impl Encoder {
    /// For so many records.
    pub fn of(records: usize) -> Self {
        Self { room: records.clamp(1, RECORDS_A_BUFFER) * USUAL_BYTES, ..Self::default() }
    }

    /// The record that announces an event: on its source's shard and partition, keyed by the source.
    pub fn record(&mut self, event: &Event, map: &ShardMap) -> Record {
        if self.shared.capacity() < USUAL_BYTES {
            self.shared = BytesMut::with_capacity(self.room.max(USUAL_BYTES));
        }
        let slot = slot_of(&event.terms.source);
        self.value.clear();
        event.encode_to(&mut self.value);
        let headers = Headers::put(&mut self.shared, |put| {
            put.header("ce_specversion", "1.0");
            put.written(CE_ID, format_args!("{}/{}", event.terms.id, event.kind.as_str()));
            put.header("ce_type", event.kind.as_str());
            put.written("ce_source", format_args!("/holdfast/{}", event.cluster));
            put.written("ce_time", format_args!("{}", event.at));
            put.header("content-type", "application/json");
            if let Some(trace) = &event.traceparent {
                put.header(TRACEPARENT, trace);
            }
        });
        let mut put = |bytes: &[u8]| {
            self.shared.extend_from_slice(bytes);
            self.shared.split().freeze()
        };
        Record {
            topic: Topic::of(event.kind, map.shard_of_slot(slot)),
            partition: map.partition_of_slot(slot),
            key: put(event.terms.source.as_str().as_bytes()),
            value: put(&self.value),
            headers,
            timestamp: event.at,
        }
    }
}

/// The record that announces an event.
pub fn record(event: &Event, map: &ShardMap) -> Record {
    Encoder::of(1).record(event, map)
}

/// The event that a record announces, with its trace context.
pub fn event(delivered: &Delivered) -> Result<Event, EventError> {
    let mut event = Event::decode(&delivered.value)?;
    event.traceparent = traceparent(&delivered.headers).map(Into::into);
    Ok(event)
}

/// The trace context among a record's headers.
pub fn traceparent(headers: &Headers) -> Option<&str> {
    headers.get(TRACEPARENT).filter(|value| value.len() <= TRACEPARENT_LIMIT)
}

/// Has whoever reads a record go on from this trace context.
pub fn set_traceparent(record: &mut Record, context: &str) {
    record.headers = record.headers.with(TRACEPARENT, context);
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
    let key = String::from_utf8_lossy(&record.key);
    letter(&origin, &key, &record.value, &record.headers, verdict)
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
    headers: &Headers,
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
        key: key.into(),
        value: serde_json::to_vec(&letter)
            .expect("a dead letter holds only strings and integers")
            .into(),
        headers: Headers::put(&mut BytesMut::new(), |put| {
            put.header("ce_specversion", "1.0");
            put.written(CE_ID, format_args!("{ce_id}/{}", verdict.role));
            put.header("ce_type", "transfer.dlq");
            put.header("ce_source", "/holdfast");
            put.written("ce_time", format_args!("{}", verdict.at));
            put.header("content-type", "application/json");
        }),
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

fn ce_id(headers: &Headers) -> &str {
    headers.get(CE_ID).unwrap_or("unknown")
}

/// The transfer that a record's `ce_id` names: found even where the value cannot be read.
pub fn transfer_in(headers: &Headers) -> Option<TransferId> {
    ce_id(headers).split('/').next()?.parse().ok()
}
