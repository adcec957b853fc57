//! Secrets that are kept in Vault. A value `vault:PATH#FIELD` stands for a field of a secret in a
//! key-value store of version 2; it is read when the configuration is, and not again.

use super::fault::Fault;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, StatusCode, redirect};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use url::{Host, Url};

/// What a reference begins with.
pub(super) const PREFIX: &str = "vault:";
/// How long Vault may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read.
const MAX_ANSWER: usize = 1024 * 1024;

/// A place in Vault.
pub(super) struct Reference {
    /// Below `/v1/`, such as `secret/data/holdfast`.
    pub path: String,
    /// Of the secret there.
    pub field: String,
}

impl Reference {
    /// From `PATH#FIELD`.
    pub fn of(text: &str) -> Option<Self> {
        let (path, field) = text.split_once('#')?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
        let plain = path.bytes().all(allowed)
            && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        (plain && !field.is_empty())
            .then(|| Self { path: path.to_owned(), field: field.to_owned() })
    }
}

/// A Vault, and whom it is to take us for.
pub(super) struct Vault {
    address: Url,
    headers: HeaderMap,
    ca: Option<Vec<Certificate>>,
}

type Env = BTreeMap<String, String>;
/// What is at a path, or why it cannot be had.
type Answer = Result<Value, String>;

impl Vault {
    /// From the variables that Vault's own programs take, or everything that is wrong with them.
    pub fn of(env: &Env) -> Result<Self, Vec<Fault>> {
        let (address, headers, ca) = (address(env), headers(env), authorities(env));
        match (address, headers, ca) {
            (Ok(address), Ok(headers), Ok(ca)) => Ok(Self { address, headers, ca }),
            (address, headers, ca) => {
                Err([address.err(), headers.err(), ca.err()].into_iter().flatten().collect())
            }
        }
    }

    /// Reads what is at these paths. The configuration is read before anything runs, and by callers
    /// that do not wait: so it is asked from a thread of its own.
    pub fn read(&self, paths: Vec<String>) -> BTreeMap<String, Answer> {
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the system gives a thread its timers").block_on(self.ask(paths))
        };
        std::thread::scope(|scope| scope.spawn(ask).join()).expect("asking does not panic")
    }

    async fn ask(&self, paths: Vec<String>) -> BTreeMap<String, Answer> {
        let mut answers = BTreeMap::new();
        let client = self.client();
        for path in paths {
            let answer = match &client {
                Ok(client) => self.ask_one(client, &path).await,
                Err(words) => Err(words.clone()),
            };
            answers.insert(path, answer);
        }
        answers
    }

    /// Neither a proxy nor whoever a redirection names is to see the token.
    fn client(&self) -> Result<Client, String> {
        let builder = Client::builder()
            .default_headers(self.headers.clone())
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none())
            .no_proxy();
        let builder = match &self.ca {
            None => builder,
            Some(ca) => {
                ca.iter().cloned().fold(builder.tls_built_in_root_certs(false), |builder, one| {
                    builder.add_root_certificate(one)
                })
            }
        };
        builder.build().map_err(|error| format!("Vault cannot be asked: {}", words(error)))
    }

    async fn ask_one(&self, client: &Client, path: &str) -> Answer {
        let url = format!("{}/v1/{path}", self.address.as_str().trim_end_matches('/'));
        let silent = |error| format!("Vault at {} does not answer: {}", self.address, words(error));
        let mut answer = client.get(url).send().await.map_err(silent)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(refusal(status, path));
        }
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(silent)? {
            text.extend_from_slice(&chunk);
            if text.len() > MAX_ANSWER {
                return Err(format!("what Vault has at {path} is too large for a secret"));
            }
        }
        // The parser's own words could quote the secret.
        let body: Value = serde_json::from_slice(&text)
            .map_err(|_| format!("what answers at {} is not Vault", self.address))?;
        match body.pointer("/data/data") {
            Some(secret @ Value::Object(_)) => Ok(secret.clone()),
            _ => Err(format!(
                "{path} is not a secret of a key-value store of version 2, whose paths have `data` \
                 behind the name of the store"
            )),
        }
    }
}

fn refusal(status: StatusCode, path: &str) -> String {
    match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
            format!("Vault does not let this token read {path}, or does not know it any more")
        }
        StatusCode::NOT_FOUND => format!(
            "Vault has nothing at {path}; in a key-value store of version 2 `data` stands behind \
             the name of the store"
        ),
        StatusCode::SERVICE_UNAVAILABLE => "Vault is sealed or in maintenance".to_owned(),
        other => format!("Vault answers {other} for {path}"),
    }
}

/// An error of the client with its causes, without the address, which is said already.
fn words(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

fn given<'a>(env: &'a Env, name: &str) -> Option<&'a str> {
    env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn fault(name: &str, problem: impl Into<String>) -> Fault {
    Fault { name: name.to_owned(), value: None, problem: problem.into() }
}

fn address(env: &Env) -> Result<Url, Fault> {
    let refused = |problem: &str| Err(fault("VAULT_ADDR", problem));
    let Some(text) = given(env, "VAULT_ADDR") else {
        return refused("must be set where a value begins with vault:");
    };
    let Ok(url) = Url::parse(text) else {
        return refused("must be a URL such as https://vault:8200");
    };
    let named = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return refused("must be a URL such as https://vault:8200"),
    };
    match url.scheme() {
        _ if named => refused("must be a URL of scheme, host and port alone"),
        "https" => Ok(url),
        "http" if here => Ok(url),
        "http" => refused(
            "must begin with https://, but for this machine itself: everybody on the way would see the token and the secrets",
        ),
        _ => refused("must be a URL such as https://vault:8200"),
    }
}

fn headers(env: &Env) -> Result<HeaderMap, Fault> {
    let (name, token) = match (given(env, "VAULT_TOKEN"), given(env, "VAULT_TOKEN_FILE")) {
        (Some(_), Some(_)) => {
            return Err(fault("VAULT_TOKEN_FILE", "VAULT_TOKEN is set too; set one of the two"));
        }
        (Some(token), None) => ("VAULT_TOKEN", token.to_owned()),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                fault("VAULT_TOKEN_FILE", format!("must be a file that can be read: {error}"))
            })?;
            ("VAULT_TOKEN_FILE", text.trim().to_owned())
        }
        (None, None) => {
            return Err(fault(
                "VAULT_TOKEN",
                "or VAULT_TOKEN_FILE must be set where a value begins with vault:",
            ));
        }
    };
    let refused = |name| fault(name, "must be visible ASCII characters");
    let mut headers = HeaderMap::new();
    let mut token = HeaderValue::from_str(&token).map_err(|_| refused(name))?;
    token.set_sensitive(true);
    headers.insert("x-vault-token", token);
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    if let Some(namespace) = given(env, "VAULT_NAMESPACE") {
        let value = HeaderValue::from_str(namespace).map_err(|_| refused("VAULT_NAMESPACE"))?;
        headers.insert("x-vault-namespace", value);
    }
    Ok(headers)
}

/// Who vouches for Vault, where that is not somebody whom browsers trust.
fn authorities(env: &Env) -> Result<Option<Vec<Certificate>>, Fault> {
    let Some(path) = given(env, "VAULT_CACERT") else { return Ok(None) };
    let text = std::fs::read(path).map_err(|error| {
        fault("VAULT_CACERT", format!("must be a file that can be read: {error}"))
    })?;
    match Certificate::from_pem_bundle(&text) {
        Ok(found) if !found.is_empty() => Ok(Some(found)),
        Ok(_) | Err(_) => Err(fault("VAULT_CACERT", "must hold certificates in PEM")),
    }
}
