//! Where traces go.

use super::parse::{self, Parsed};
use super::reader::Reader;
use crate::trace::TraceSettings;
use http::{HeaderName, HeaderValue};
use url::Url;

pub(super) fn read(reader: &mut Reader) -> Option<TraceSettings> {
    let share = reader.get("trace_sample", share);
    let headers = reader.get_optional("otlp_headers", headers).unwrap_or_default();
    let endpoint = reader.get_optional("otlp_endpoint", endpoint);
    let Some(endpoint) = endpoint else {
        if !headers.is_empty() {
            reader.refuse("otlp_headers", "needs otlp_endpoint");
        }
        return None;
    };
    let here = parse::is_loopback(&format!("{}:0", endpoint.host_str().unwrap_or_default()));
    if !headers.is_empty() && endpoint.scheme() != "https" && !here {
        let words = "would be sent unencrypted: needs an otlp_endpoint that begins with https://";
        reader.refuse("otlp_headers", words);
    }
    Some(TraceSettings { endpoint, headers, share })
}

fn endpoint(text: &str) -> Parsed<Url> {
    let url = Url::parse(text).map_err(|_| None)?;
    let named = url.host_str().is_some_and(|host| !host.is_empty());
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && named && plain { Ok(url) } else { Err(None) }
}

fn headers(text: &str) -> Parsed<Vec<(HeaderName, HeaderValue)>> {
    let header = |part: &str| {
        let (name, value) = part.split_once('=').ok_or(None)?;
        let name: HeaderName = name.trim().parse().map_err(|_| None)?;
        let mut value: HeaderValue = value.trim().parse().map_err(|_| None)?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    parse::list(text)?.into_iter().map(header).collect()
}

fn share(text: &str) -> Parsed<f64> {
    let share: f64 = text.parse().map_err(|_| None)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(None) }
}
