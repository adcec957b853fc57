//! Texts into values. An error is dropped in favour of the setting's own words on what is allowed,
//! unless it knows more.

use super::mask::Secret;
use crate::domain::Shard;
use crate::roles::Role;
use crate::sealing::MasterKeys;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// What a parser says: nothing more than "not allowed", or what exactly.
pub(super) type Parsed<T> = Result<T, Option<String>>;

/// The parts of a comma-separated list, trimmed; an empty part is an error.
pub(super) fn list(text: &str) -> Parsed<Vec<&str>> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().any(|part| part.is_empty()) { Err(None) } else { Ok(parts) }
}

/// A duration within bounds; a number without a unit is refused.
pub(super) fn duration(within: RangeInclusive<Duration>) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let value = humantime::parse_duration(text).map_err(|_| None)?;
        if within.contains(&value) { Ok(value) } else { Err(None) }
    }
}

/// A whole number within bounds.
pub(super) fn number<T>(within: RangeInclusive<T>) -> impl Fn(&str) -> Parsed<T>
where
    T: std::str::FromStr + PartialOrd,
{
    move |text| {
        let value = text.parse().map_err(|_| None)?;
        if within.contains(&value) { Ok(value) } else { Err(None) }
    }
}

/// `host:port`; IPv6 addresses in brackets.
pub(super) fn address(text: &str) -> Parsed<String> {
    let (host, port) = text.rsplit_once(':').ok_or(None)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let port_fits = port.parse::<u16>().is_ok();
    if !host.is_empty() && (bracketed || named) && port_fits {
        Ok(text.to_owned())
    } else {
        Err(None)
    }
}

/// Whether an address that was parsed cannot be reached from another machine.
pub(super) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The issuer of tokens: a URL of TLS, or of this machine.
pub(super) fn issuer(text: &str) -> Parsed<String> {
    let url = Url::parse(text).map_err(|_| None)?;
    let host = url.host_str().unwrap_or_default();
    let here = is_loopback(&format!("{host}:0"));
    let secure = url.scheme() == "https" || url.scheme() == "http" && here;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if secure && plain && !host.is_empty() { Ok(text.to_owned()) } else { Err(None) }
}

/// Visible ASCII characters, at least one.
pub(super) fn word(text: &str) -> Parsed<String> {
    let fits = matches!(text.len(), 1..=255) && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(None) }
}

/// Keys by name. What is wrong is said without repeating them.
pub(super) fn master_keys(text: &str) -> Parsed<Arc<MasterKeys>> {
    text.parse().map(Arc::new).map_err(Some)
}

/// Addresses, comma-separated.
pub(super) fn addresses(text: &str) -> Parsed<Vec<String>> {
    list(text)?.into_iter().map(address).collect()
}

/// `all`, or roles, in the order of the pipeline.
pub(super) fn roles(text: &str) -> Parsed<Vec<Role>> {
    if text == "all" {
        return Ok(Role::ALL.to_vec());
    }
    let roles: Result<BTreeSet<Role>, String> = list(text)?.into_iter().map(str::parse).collect();
    roles.map(|roles| roles.into_iter().collect()).map_err(|_| None)
}

/// `all` (none), or shard numbers in order.
pub(super) fn shards(text: &str) -> Parsed<Option<Vec<Shard>>> {
    if text == "all" {
        return Ok(None);
    }
    let shards: Option<BTreeSet<u16>> =
        list(text)?.into_iter().map(|part| part.parse().ok()).collect();
    Ok(Some(shards.ok_or(None)?.into_iter().map(Shard).collect()))
}

/// URLs of databases, each another one.
pub(super) fn mysql_urls(text: &str) -> Parsed<Vec<Secret>> {
    let mut places = BTreeSet::new();
    let mut urls = Vec::new();
    for (index, part) in list(text)?.into_iter().enumerate() {
        let place = mysql_place(part).ok_or_else(|| {
            Some(format!("number {index} is not a URL such as mysql://user:password@host:3306/database, with special characters of the password percent-encoded"))
        })?;
        if let Some(problem) = unknown_option(part) {
            return Err(Some(format!("number {index} {problem}")));
        }
        if !places.insert(place) {
            let words = format!(
                "number {index} is the same database as one before it; each shard needs its own"
            );
            return Err(Some(words));
        }
        urls.push(Secret::new(part));
    }
    Ok(urls)
}

/// Host, port and database of a URL; none where it is not one of MySQL.
fn mysql_place(text: &str) -> Option<(String, u16, String)> {
    let url = Url::parse(text).ok()?;
    let database = url.path().strip_prefix('/')?;
    let named = !database.is_empty() && !database.contains(['/', '@']);
    let shaped = url.scheme() == "mysql" && named && url.fragment().is_none();
    let host = url.host_str().filter(|host| !host.is_empty())?;
    shaped.then(|| (host.to_owned(), url.port().unwrap_or(3306), database.to_owned()))
}

/// What stands behind the `?` of a database's URL.
const MYSQL_OPTIONS: [&str; 8] = [
    "ssl-mode",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "socket",
    "charset",
    "collation",
    "statement-cache-capacity",
];
const SSL_MODES: [&str; 5] = ["DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"];

/// The client library takes no notice of names that it does not know, and a misspelt one could be
/// that which asks for TLS.
fn unknown_option(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    url.query_pairs().find_map(|(name, value)| match &*name {
        "ssl-mode" => {
            let known = SSL_MODES.contains(&value.to_ascii_uppercase().as_str());
            (!known).then(|| format!("has an ssl-mode that is none of {}", SSL_MODES.join(", ")))
        }
        name if MYSQL_OPTIONS.contains(&name) => None,
        _ => Some(format!("has an option that is none of {}", MYSQL_OPTIONS.join(", "))),
    })
}

/// A URL of Redis.
pub(super) fn redis_url(text: &str) -> Parsed<Secret> {
    let url = Url::parse(text).map_err(|_| None)?;
    let shaped = matches!(url.scheme(), "redis" | "rediss")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && url.fragment().is_none()
        && url.path().trim_start_matches('/').bytes().all(|b| b.is_ascii_digit());
    if shaped { Ok(Secret::new(text)) } else { Err(None) }
}

/// `name=value` pairs, comma-separated.
pub(super) fn pairs(text: &str) -> Parsed<Vec<(String, Secret)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').ok_or(None)?;
        let known = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.');
        if known { Ok((name.to_owned(), Secret::new(value))) } else { Err(None) }
    };
    list(text)?.into_iter().map(pair).collect()
}

/// Up to `most` of the characters that `allowed` takes.
pub(super) fn text(most: usize, allowed: fn(u8) -> bool) -> impl Fn(&str) -> Parsed<String> {
    move |text| {
        let fits = text.len() <= most && text.bytes().all(allowed);
        if fits { Ok(text.to_owned()) } else { Err(None) }
    }
}

/// `on` or `off`.
pub(super) fn on_or_off(text: &str) -> Parsed<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(None),
    }
}

/// Whatever reads itself.
pub(super) fn any<T: std::str::FromStr>(text: &str) -> Parsed<T> {
    text.parse().map_err(|_| None)
}
