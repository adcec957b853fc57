//! The outbox's payload: the records of one transaction as a JSON array, written and read whole.

use super::SqlStore;
use super::driver::{Arg, Driver};
use super::row::Row;
use crate::broker::{Record, Topic};
use crate::domain::{Partition, Shard, Timestamp};
use crate::store::{OutboxRow, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A record as it is stored. An event is JSON itself and is kept as it is; what is not canonical
/// JSON is kept as text.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    topic: Cow<'a, str>,
    partition: u32,
    key: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    at: i64,
}

impl<D: Driver> SqlStore<D> {
    pub(super) async fn delete_outbox(&self, shard: Shard, ids: &[u64]) -> Result<(), StoreError> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        let mut tx = self.write(shard).await?;
        let batch = Arg::rows(ids.into_iter().map(|id| (id,)));
        tx.execute(D::STATEMENTS.outbox_sent, &[batch]).await?;
        tx.finish().await
    }
}

pub(super) fn encode(shard: Shard, records: &[Record]) -> Result<Vec<u8>, StoreError> {
    let stored: Option<Vec<Stored<'_>>> = records.iter().map(stored).collect();
    let stored = stored.ok_or_else(|| StoreError::Failed {
        shard,
        detail: "an outbox record's value is not UTF-8".to_owned(),
    })?;
    Ok(serde_json::to_vec(&stored).expect("records are strings, integers and valid JSON"))
}

fn stored(record: &Record) -> Option<Stored<'_>> {
    let text = std::str::from_utf8(&record.value).ok()?;
    let raw: Option<&RawValue> = serde_json::from_str(text).ok();
    let value = raw.filter(|raw| raw.get() == text && text != "null");
    Some(Stored {
        topic: record.topic.to_string().into(),
        partition: record.partition.0,
        key: record.key.as_str().into(),
        text: value.is_none().then(|| text.into()),
        value,
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str().into(), value.as_str().into()))
            .collect(),
        at: record.timestamp.micros(),
    })
}

/// A row that cannot be read does not stop the rows after it: its fault is handed on.
pub(super) fn decode(row: &mut Row) -> Result<OutboxRow, StoreError> {
    let (id, at, payload) = (row.number()?, row.time()?, row.bytes()?);
    let records = records(&payload).map_err(|fault| {
        let begin: String = String::from_utf8_lossy(&payload).chars().take(1000).collect();
        format!("{fault}: {begin}")
    });
    Ok(OutboxRow { id, at, records })
}

fn records(payload: &[u8]) -> Result<Vec<Record>, String> {
    let stored: Vec<Stored<'_>> =
        serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    stored.into_iter().map(record).collect()
}

fn record(stored: Stored<'_>) -> Result<Record, String> {
    let value = match (stored.value, stored.text) {
        (Some(raw), None) => raw.get().as_bytes().to_vec(),
        (None, Some(text)) => text.into_owned().into_bytes(),
        _ => return Err("a record without a value".to_owned()),
    };
    Ok(Record {
        topic: Topic::parse(&stored.topic).ok_or_else(|| format!("no topic {}", stored.topic))?,
        partition: Partition(stored.partition),
        key: stored.key.into_owned(),
        value,
        headers: stored
            .headers
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect(),
        timestamp: Timestamp::from_micros(stored.at),
    })
}
