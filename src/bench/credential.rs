//! What the load shows of itself where Holdfast asks.

use anyhow::Context as _;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use std::path::Path;

/// A bearer credential, or none.
#[derive(Clone, Debug, Default)]
pub struct Credential(Option<HeaderValue>);

impl Credential {
    /// The first line of a file: an API key or a token.
    pub fn of_file(file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(file) = file else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("--key-file {} cannot be read", file.display()))?;
        let mut value = HeaderValue::from_str(&format!("Bearer {}", text.trim()))
            .with_context(|| format!("--key-file {} holds no credential", file.display()))?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// Adds it to a request.
    pub fn show(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.0 {
            headers.insert(AUTHORIZATION, value.clone());
        }
    }

    /// A client that shows it with every request.
    pub fn client(&self) -> reqwest::ClientBuilder {
        let mut headers = HeaderMap::new();
        self.show(&mut headers);
        reqwest::Client::builder().no_proxy().default_headers(headers)
    }
}
