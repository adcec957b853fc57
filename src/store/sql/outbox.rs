//! The outbox's payload: the records of one transaction, written and read whole.
//!
//! `FORMAT`, then each record: partition and timestamp, then topic, key and value, then how many
//! headers it has and their names and values. Numbers are little-endian; texts and values come
//! after their length, a `u32`.

use super::SqlStore;
use super::driver::Driver;
use super::row::Row;
use crate::broker::{Headers, Record, Topic};
use crate::domain::{Partition, Shard, Timestamp};
use crate::store::{OutboxRow, StoreError};
use bytes::Bytes;

const FORMAT: u8 = 1;
/// Bytes of a payload that cannot be read that its dead letter shows.
const SHOWN: usize = 1000;

impl<D: Driver> SqlStore<D> {
    pub(super) async fn delete_outbox(&self, shard: Shard, ids: &[u64]) -> Result<(), StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut tx = self.write(shard).await?;
        let batch = D::rows(ids.into_iter().map(|id| (id,)));
        tx.execute(D::STATEMENTS.outbox_sent, &[batch]).await?;
        tx.finish().await
    }
}

pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let mut out =
        Vec::with_capacity(1 + records.iter().map(|one| one.bytes() + 128).sum::<usize>());
    out.push(FORMAT);
    for record in records {
        out.extend(record.partition.0.to_le_bytes());
        out.extend(record.timestamp.micros().to_le_bytes());
        put(&mut out, record.topic.to_string().as_bytes());
        put(&mut out, &record.key);
        put(&mut out, &record.value);
        put_length(&mut out, record.headers.len());
        out.extend_from_slice(record.headers.packed());
    }
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a record has at most a million bytes");
    out.extend(length.to_le_bytes());
}

/// A row that cannot be read does not stop the rows after it: its fault is handed on.
pub(super) fn decode(row: &mut Row) -> Result<OutboxRow, StoreError> {
    let (id, at, payload) = (row.number()?, row.time()?, Bytes::from(row.bytes()?));
    let records = records(&payload).ok_or_else(|| {
        let shown = &payload[..payload.len().min(SHOWN)];
        format!("not the records of an outbox: {}", String::from_utf8_lossy(shown))
    });
    Ok(OutboxRow { id, at, records })
}

fn records(payload: &Bytes) -> Option<Vec<Record>> {
    let (format, rest) = payload.split_first()?;
    let mut payload = Payload { whole: payload, rest };
    let mut records = Vec::new();
    while *format == FORMAT && !payload.rest.is_empty() {
        records.push(payload.record()?);
    }
    (*format == FORMAT).then_some(records)
}

/// A payload, and what is left of it; the records are parts of it.
struct Payload<'a> {
    whole: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Payload<'a> {
    fn record(&mut self) -> Option<Record> {
        let partition = Partition(u32::from_le_bytes(self.array()?));
        let timestamp = Timestamp::from_micros(i64::from_le_bytes(self.array()?));
        let topic = Topic::parse(std::str::from_utf8(self.bytes()?).ok()?)?;
        let (key, value) =
            (self.whole.slice_ref(self.bytes()?), self.whole.slice_ref(self.bytes()?));
        let headers = Headers::take(self.length()?, self.whole, &mut self.rest)?;
        Some(Record { topic, partition, key, value, headers, timestamp })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn length(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.length()?).ok()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes)
    }
}
