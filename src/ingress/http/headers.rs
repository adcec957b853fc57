//! What the API reads from headers.

use super::problem::{Fault, Place};
use crate::domain::IdempotencyKey;
use crate::trace::TraceContext;
use axum::http::{HeaderMap, HeaderName, header};
use std::sync::Arc;

/// The caller's or our name of one request, in every answer and log line.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Says that the answer is about a transfer that an earlier request had made.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Says which preference was applied (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest wait of `Prefer: wait=N`, in seconds.
pub const MAX_WAIT: u64 = 30;

/// The caller's request id where it is 1 to 128 visible ASCII characters; else a new one.
pub fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if matches!(id.len(), 1..=128) && id.bytes().all(|b| b.is_ascii_graphic()) => {
            id.into()
        }
        _ => format!("{:032x}", rand::random::<u128>()).into(),
    }
}

/// The caller's W3C trace context, where it is valid.
pub fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(TraceContext::parse)
}

/// The header `Idempotency-Key`, if it is there.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Fault> {
    let fault = |detail: String| Fault::new(Place::Header, "/idempotency_key", detail);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(fault("the header is given more than once".to_owned()));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse().map(Some).map_err(|error: crate::domain::InvalidId| fault(error.to_string()))
}

/// Seconds of `Prefer: wait=N`, at most [`MAX_WAIT`]. As RFC 7240 says, the first `wait` counts
/// and what cannot be read is ignored.
pub fn prefer_wait(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let preferences = lines.flat_map(|line| line.split(','));
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().trim_matches('"'))
    });
    let digits = waits.next()?;
    let whole = matches!(digits.len(), 1..=18) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| whole).map(|seconds| seconds.min(MAX_WAIT))
}

/// Whether the body is JSON in UTF-8 and not encoded further.
pub fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let encoded = text(header::CONTENT_ENCODING)
        .is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"));
    let mut parts = text(header::CONTENT_TYPE).unwrap_or_default().split(';').map(str::trim);
    let json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.filter(|part| !part.is_empty()).all(|part| {
        part.split_once('=').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("charset")
                && value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        })
    });
    json && utf8 && !encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_a_wait_that_can_be_read_is_applied() {
        for (values, seconds) in [
            (&["wait=10"][..], Some(10)),
            (&["WAIT = \"5\"; foo=bar"], Some(5)),
            (&["respond-async, wait=7"], Some(7)),
            (&["respond-async", "wait=2"], Some(2)),
            (&["wait=3, wait=9"], Some(3)),
            (&["wait=0"], Some(0)),
            (&["wait=31"], Some(30)),
            (&["wait=999999999999999999"], Some(30)),
            (&["wait=-1"], None),
            (&["wait=1.5"], None),
            (&["wait="], None),
            (&["wait"], None),
            (&["return=minimal"], None),
        ] {
            assert_eq!(prefer_wait(&headers(&PREFER, values)), seconds, "{values:?}");
        }
    }

    #[test]
    fn json_may_say_its_charset_and_nothing_else() {
        for (text, json) in [
            ("application/json", true),
            ("Application/JSON; charset=UTF-8", true),
            ("application/json;charset=\"utf-8\"", true),
            ("application/json; charset=latin1", false),
            ("application/json; boundary=x", false),
            ("application/problem+json", false),
            ("text/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(&headers(&header::CONTENT_TYPE, &[text])), json, "{text}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
