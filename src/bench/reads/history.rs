//! An account's history, walked from the newest entry to the oldest before anything is measured: so
//! that it is known how long it is, where its pages begin and which transfers it has.

use crate::bench::wire::{Target, Wire};
use anyhow::{Context as _, bail};
use http::StatusCode;
use memchr::memmem;
use serde::Deserialize;

/// Entries of a page that is measured.
pub const PAGE: u64 = 100;
/// Entries of a page while walking: as many as one answer may have.
const STRIDE: u64 = 500;

/// All of it.
pub struct History {
    /// How many entries there are.
    pub entries: u64,
    /// Where pages begin, each with at least [`PAGE`] entries behind it.
    pub cursors: Vec<String>,
    /// Transfers by id; at least one.
    pub transfers: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    transfer_id: String,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Entry>,
    next_cursor: Option<String>,
}

/// The path of a page.
pub fn page(account: &str, limit: u64, cursor: Option<&str>) -> String {
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    format!("/v1/accounts/{account}/entries?limit={limit}{cursor}")
}

/// How many entries an answer has: each says which version of the account it made.
pub fn entries_in(answer: &[u8]) -> usize {
    memmem::find_iter(answer, br#""version":"#).count()
}

impl History {
    /// Walks it.
    pub async fn walk(target: &Target, account: &str) -> anyhow::Result<Self> {
        let mut wire = Wire::new(target);
        let mut history = Self { entries: 0, cursors: Vec::new(), transfers: Vec::new() };
        let mut cursor: Option<String> = None;
        loop {
            let path = page(account, STRIDE, cursor.as_deref());
            let answer = wire.get(&path).await.with_context(|| {
                format!("{} does not answer (is Holdfast running there?)", target.address())
            })?;
            match answer.status {
                StatusCode::OK => {}
                StatusCode::NOT_FOUND => bail!("there is no account {account}"),
                status => bail!("GET {path} was answered with {}", status.as_u16()),
            }
            let page: Page = serde_json::from_slice(answer.body)?;
            let found = page.data.len() as u64;
            if let Some(at) = cursor.take()
                && found >= PAGE
            {
                history.cursors.push(at);
            }
            history.entries += found;
            history.transfers.extend(page.data.into_iter().map(|entry| entry.transfer_id));
            let Some(next) = page.next_cursor else { break };
            cursor = Some(next);
        }
        if history.entries == 0 {
            bail!("account {account} has no entries: let `holdfast bench` make some");
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_for_and_counted_as_the_api_has_them() {
        assert_eq!(page("alice", 100, None), "/v1/accounts/alice/entries?limit=100");
        let further = page("alice", 500, Some("0aff"));
        assert_eq!(further, "/v1/accounts/alice/entries?limit=500&cursor=0aff");
        let body = br#"{"data":[{"transfer_id":"1","version":3},{"transfer_id":"2","version":2}]}"#;
        assert_eq!((entries_in(body), entries_in(b"{}")), (2, 0));
    }
}
