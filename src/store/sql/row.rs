//! A row as it was read, taken apart column by column in the order of the statement. What cannot
//! be read as what it should be is [`StoreError::Corrupt`], never a default.

use super::driver::Value;
use crate::domain::{Shard, Timestamp, TransferId};
use crate::store::StoreError;
use std::str::FromStr;

pub(super) struct Row {
    shard: Shard,
    values: std::vec::IntoIter<Value>,
    taken: usize,
}

impl Row {
    pub fn new(shard: Shard, values: Vec<Value>) -> Self {
        Self { shard, values: values.into_iter(), taken: 0 }
    }

    /// The fault of the column that was taken last.
    pub fn corrupt(&self, what: &str) -> StoreError {
        StoreError::Corrupt {
            shard: self.shard,
            detail: format!("column {} of a row cannot be read: {what}", self.taken),
        }
    }

    fn next(&mut self) -> Result<Value, StoreError> {
        self.taken += 1;
        self.values.next().ok_or_else(|| self.corrupt("it is missing"))
    }

    /// Whether the next column is NULL.
    pub fn peek_null(&self) -> bool {
        matches!(self.values.as_slice().first(), Some(Value::Null))
    }

    /// Leaves columns out.
    pub fn skip(&mut self, columns: usize) {
        self.taken += columns;
        self.values.by_ref().take(columns).for_each(drop);
    }

    pub fn opt_int(&mut self) -> Result<Option<i64>, StoreError> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(number)),
            Value::Bytes(_) => Err(self.corrupt("not an integer")),
        }
    }

    pub fn int(&mut self) -> Result<i64, StoreError> {
        self.opt_int()?.ok_or_else(|| self.corrupt("NULL"))
    }

    /// An integer of a narrower type.
    pub fn number<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let number = self.int()?;
        T::try_from(number).map_err(|_| self.corrupt("out of range"))
    }

    pub fn flag(&mut self) -> Result<bool, StoreError> {
        Ok(self.int()? != 0)
    }

    pub fn opt_bytes(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        match self.next()? {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Int(_) => Err(self.corrupt("an integer")),
        }
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        self.opt_bytes()?.ok_or_else(|| self.corrupt("NULL"))
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        self.bytes()?.try_into().map_err(|_| self.corrupt("another length"))
    }

    pub fn opt_text(&mut self) -> Result<Option<String>, StoreError> {
        let bytes = self.opt_bytes()?;
        bytes.map(String::from_utf8).transpose().map_err(|_| self.corrupt("not UTF-8"))
    }

    pub fn text(&mut self) -> Result<String, StoreError> {
        self.opt_text()?.ok_or_else(|| self.corrupt("NULL"))
    }

    /// A text that is something.
    pub fn parse<T: FromStr>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        text.parse().map_err(|_| self.corrupt(&text))
    }

    pub fn opt_coded<T>(&mut self, decode: fn(i64) -> Option<T>) -> Result<Option<T>, StoreError> {
        let code = self.opt_int()?;
        code.map(|code| decode(code).ok_or_else(|| self.corrupt("an unknown code"))).transpose()
    }

    pub fn coded<T>(&mut self, decode: fn(i64) -> Option<T>) -> Result<T, StoreError> {
        self.opt_coded(decode)?.ok_or_else(|| self.corrupt("NULL"))
    }

    pub fn opt_time(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.opt_int()?.map(Timestamp::from_micros))
    }

    pub fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.int().map(Timestamp::from_micros)
    }

    pub fn opt_transfer(&mut self) -> Result<Option<TransferId>, StoreError> {
        let bytes = self.opt_bytes()?;
        bytes
            .map(|bytes| bytes.try_into().map(TransferId::from_bytes))
            .transpose()
            .map_err(|_| self.corrupt("not a transfer id"))
    }

    pub fn transfer(&mut self) -> Result<TransferId, StoreError> {
        self.opt_transfer()?.ok_or_else(|| self.corrupt("NULL"))
    }

    /// A sum of 128 bits, as text: `123`, or `high:low` for high * 2^32 + low where the database
    /// cannot add so far itself.
    pub fn sum(&mut self) -> Result<i128, StoreError> {
        let Some(text) = self.opt_text()? else { return Ok(0) };
        let number = |part: &str| part.parse::<i128>().map_err(|_| self.corrupt(&text));
        match text.split_once(':') {
            Some((high, low)) => Ok((number(high)? << 32) + number(low)?),
            None => number(&text),
        }
    }
}
