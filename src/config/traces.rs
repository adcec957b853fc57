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

#[cfg(test)]
mod tests {
    use crate::config::{Config, Faults, Sources, load};
    use std::collections::BTreeMap;

    fn read(env: &[(&str, &str)]) -> Result<Config, Faults> {
        let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let env: BTreeMap<String, String> = env.collect();
        load(&Sources { env, ..Sources::default() }).config
    }

    const ENDPOINT: &str = "HOLDFAST_OTLP_ENDPOINT";
    const HEADERS: &str = "HOLDFAST_OTLP_HEADERS";
    const SAMPLE: &str = "HOLDFAST_TRACE_SAMPLE";

    #[test]
    fn traces_are_off_until_somebody_says_where_they_go() {
        assert!(read(&[(SAMPLE, "1")]).unwrap().traces.is_none());
        let read = read(&[
            (ENDPOINT, "https://collector:4318/tenant"),
            (HEADERS, "authorization=Bearer a=b, x-scope=c"),
        ]);
        let traces = read.unwrap().traces.unwrap();
        assert_eq!(traces.share, 0.01);
        assert_eq!(traces.headers.len(), 2);
        assert_eq!(traces.headers[0].1, "Bearer a=b");
        assert!(!format!("{traces:?}").contains("Bearer"), "{traces:?}");
    }

    #[test]
    fn what_cannot_be_sent_or_would_be_seen_by_others_is_refused() {
        let secret = (HEADERS, "authorization=s3cret");
        for (env, named) in [
            (&[(ENDPOINT, "collector:4318")][..], ENDPOINT),
            (&[(ENDPOINT, "http://user:s3cret@collector")], ENDPOINT),
            (&[(ENDPOINT, "http://collector/?tenant=a")], ENDPOINT),
            (&[(SAMPLE, "1.5")], SAMPLE),
            (&[(SAMPLE, "NaN")], SAMPLE),
            (&[(SAMPLE, "-0.1")], SAMPLE),
            (&[secret], HEADERS),
            (&[secret, (ENDPOINT, "http://collector:4318")], HEADERS),
            (&[(HEADERS, "s3cret"), (ENDPOINT, "https://collector")], HEADERS),
        ] {
            let faults = read(env).unwrap_err();
            assert_eq!(faults.0.len(), 1, "{faults}");
            assert_eq!(faults.0[0].name, named);
            assert!(!faults.to_string().contains("s3cret"), "{faults}");
        }
        assert!(read(&[secret, (ENDPOINT, "http://127.0.0.1:4318")]).is_ok());
    }
}
