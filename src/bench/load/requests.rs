//! Requests as bytes, and what their answers say, without making objects of either.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What transfers have in common.
#[derive(Clone, Debug)]
pub struct Names {
    /// Begins the names of accounts.
    pub accounts: String,
    /// Begins the keys, so that runs do not meet.
    pub keys: String,
    /// Currency code.
    pub currency: String,
}

impl Names {
    /// Name of an account.
    pub fn account(&self, number: u32) -> String {
        format!("{}-{number:07}", self.accounts)
    }
}

/// One transfer.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// Number within the run.
    pub number: u64,
    /// Number of the account that pays.
    pub source: u32,
    /// Number of the account that is paid.
    pub destination: u32,
    /// Whole units of the currency.
    pub amount: u32,
}

/// Composes bodies in one buffer.
pub struct Composer {
    names: Names,
    buffer: BytesMut,
}

impl Composer {
    /// An empty one.
    pub fn new(names: Names) -> Self {
        Self { names, buffer: BytesMut::new() }
    }

    /// The body for one transfer. The buffer is used again once this was dropped.
    pub fn single(&mut self, transfer: Moved) -> Bytes {
        self.transfer(transfer);
        self.buffer.split().freeze()
    }

    /// The body for many, and where each stands in it.
    pub fn batch(
        &mut self,
        transfers: impl Iterator<Item = Moved>,
    ) -> (Bytes, Vec<std::ops::Range<usize>>) {
        let mut places = Vec::with_capacity(transfers.size_hint().0);
        self.put(r#"{"transfers":["#);
        for transfer in transfers {
            if !places.is_empty() {
                self.put(",");
            }
            let from = self.buffer.len();
            self.transfer(transfer);
            places.push(from..self.buffer.len());
        }
        self.put("]}");
        (self.buffer.split().freeze(), places)
    }

    fn put(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    /// Names of accounts and keys are made of characters that JSON takes as they are.
    fn transfer(&mut self, transfer: Moved) {
        let Moved { number, source, destination, amount } = transfer;
        let Names { accounts, keys, currency } = &self.names;
        write!(
            self.buffer,
            r#"{{"idempotency_key":"{keys}-{number}","source":"{accounts}-{source:07}","destination":"{accounts}-{destination:07}","amount":"{amount}","currency":"{currency}"}}"#
        )
        .expect("a buffer in memory takes everything");
    }
}

/// How many items of a batch were accepted: each says so with its status, a number. A transfer in
/// it has a status too, which is a word.
pub fn accepted_items(answer: &[u8]) -> usize {
    memmem::find_iter(answer, br#""status":20"#).count()
}

/// Whether a transfer has come to its end, by the body of its answer.
pub fn is_final(answer: &[u8]) -> bool {
    let statuses: [&[u8]; 3] =
        [br#""status":"committed""#, br#""status":"rejected""#, br#""status":"cancelled""#];
    statuses.iter().any(|status| memmem::find(answer, status).is_some())
}

#[derive(Deserialize)]
struct Problem {
    code: String,
}

#[derive(Deserialize)]
struct Item {
    status: u16,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Batch {
    results: Vec<Item>,
}

/// The code of a refusal; its status where it has none.
pub fn code(status: u16, body: &[u8]) -> String {
    serde_json::from_slice(body)
        .map_or_else(|_| status.to_string(), |problem: Problem| problem.code)
}

/// Refused items of a batch, by code.
pub fn refused_items(body: &[u8]) -> BTreeMap<String, u64> {
    let mut refused = BTreeMap::new();
    let Ok(batch) = serde_json::from_slice::<Batch>(body) else {
        return BTreeMap::from([("unreadable".to_owned(), 1)]);
    };
    for item in batch.results.into_iter().filter(|item| item.status >= 300) {
        let code = item.error.map_or_else(|| item.status.to_string(), |problem| problem.code);
        *refused.entry(code).or_default() += 1;
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn composer() -> Composer {
        Composer::new(Names {
            accounts: "bench".to_owned(),
            keys: "run".to_owned(),
            currency: "USD".to_owned(),
        })
    }

    fn moved(number: u64) -> Moved {
        Moved { number, source: 1, destination: 23, amount: 4 }
    }

    #[test]
    fn bodies_are_what_the_api_takes() {
        let expected = json!({
            "idempotency_key": "run-7", "source": "bench-0000001", "destination": "bench-0000023",
            "amount": "4", "currency": "USD",
        });
        let mut composer = composer();
        let single = composer.single(moved(7));
        assert_eq!(serde_json::from_slice::<Value>(&single).unwrap(), expected);
        let (batch, places) = composer.batch((6..8).map(moved));
        let whole: Value = serde_json::from_slice(&batch).unwrap();
        assert_eq!(whole["transfers"][1], expected);
        let second = batch.slice(places[1].clone());
        assert_eq!(serde_json::from_slice::<Value>(&second).unwrap(), expected);
    }

    #[test]
    fn items_are_counted_by_their_own_status() {
        let body = json!({"results": [
            {"status": 202, "transfer": {"id": "1", "status": "requested"}},
            {"status": 200, "transfer": {"id": "2", "status": "committed"}},
            {"status": 503, "error": {"status": 503, "code": "overloaded"}},
            {"status": 503, "error": {"status": 503, "code": "overloaded"}},
            {"status": 422},
        ]});
        let body = body.to_string();
        assert_eq!(accepted_items(body.as_bytes()), 2);
        let refused = refused_items(body.as_bytes());
        assert_eq!(refused, [("422".to_owned(), 1), ("overloaded".to_owned(), 2)].into());
        assert_eq!(refused_items(b"nonsense")["unreadable"], 1);
    }

    #[test]
    fn ends_and_codes_are_read() {
        assert!(is_final(br#"{"id":"1","status":"committed","reason":null}"#));
        assert!(!is_final(br#"{"id":"1","status":"held"}"#));
        assert_eq!(code(503, br#"{"status":503,"code":"overloaded"}"#), "overloaded");
        assert_eq!(code(502, b"<html>"), "502");
    }
}
