//! Secrets, and how values are shown without them.

use super::settings::Secrecy;
use std::fmt;
use url::Url;

/// What is shown in the place of a secret.
pub(super) const MASK: &str = "***";

/// A text that is or contains a secret; it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being printed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the client library that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

/// The text without its secrets.
pub fn masked(secrecy: Secrecy, text: &str) -> String {
    let each = |mask: fn(&str) -> String| {
        text.split(',').map(|part| mask(part.trim())).collect::<Vec<_>>().join(",")
    };
    match secrecy {
        // A URL with a password that was given for another setting by mistake.
        Secrecy::Open if text.contains('@') => MASK.to_owned(),
        Secrecy::Open => text.to_owned(),
        Secrecy::Whole => MASK.to_owned(),
        Secrecy::Urls => each(masked_url),
        Secrecy::Pairs => each(masked_pair),
    }
}

/// A URL without its password. A text that could hide a password elsewhere (one with an `@`, `#`
/// or `?` that was not percent-encoded reads as another URL) is not shown at all.
fn masked_url(text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return MASK.to_owned() };
    let Some(host) = url.host_str() else { return MASK.to_owned() };
    let hidden = [url.path(), url.query().unwrap_or(""), url.fragment().unwrap_or("")];
    if hidden.iter().any(|part| part.contains('@')) || url.fragment().is_some() {
        return MASK.to_owned();
    }
    let user = match (url.username(), url.password()) {
        ("", None) => String::new(),
        (user, None) => format!("{user}@"),
        (user, Some(_)) => format!("{user}:{MASK}@"),
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = url.query().map(|query| format!("?{}", masked_query(query))).unwrap_or_default();
    format!("{}://{user}{host}{port}{}{query}", url.scheme(), url.path())
}

fn masked_query(query: &str) -> String {
    query.split('&').map(masked_pair).collect::<Vec<_>>().join("&")
}

fn masked_pair(text: &str) -> String {
    if text.contains('@') {
        return MASK.to_owned();
    }
    const TELLING: [&str; 5] = ["pass", "secret", "token", "jaas", ".pem"];
    match text.split_once('=') {
        Some((name, _)) if TELLING.iter().any(|word| name.to_ascii_lowercase().contains(word)) => {
            format!("{name}={MASK}")
        }
        Some(_) => text.to_owned(),
        None => MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_not_shown() {
        let shown =
            masked(Secrecy::Urls, "mysql://app:s3cret@db0/h, mysql://app:s3cret@db1:3307/h");
        assert_eq!(shown, "mysql://app:***@db0/h,mysql://app:***@db1:3307/h");
        assert_eq!(
            masked(Secrecy::Urls, "redis://:s3cret@cache:6379/0"),
            "redis://:***@cache:6379/0"
        );
        assert_eq!(masked(Secrecy::Urls, "mysql://root@db/h"), "mysql://root@db/h");
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_shown_either() {
        for text in [
            "s3cret",
            "mysql://app:s3cret#@db/h",
            "mysql://app:33#s3cret@db/h",
            "mysql://app:33/s3cret@db/h",
            "mysql://app:33?s3cret@db/h",
            "mysql://app:s3cret,more@db/h",
        ] {
            assert!(!masked(Secrecy::Urls, text).contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn options_that_speak_of_secrets_are_not_shown() {
        let shown = masked(Secrecy::Pairs, "security.protocol=ssl,sasl.password=s3cret,s3cret");
        assert_eq!(shown, "security.protocol=ssl,sasl.password=***,***");
    }

    #[test]
    fn a_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new("s3cret")), "***");
    }
}
