//! An OpenID provider: its keys, fetched and kept, and whether it has taken a token back.

use super::authenticator::Denied;
use super::principal::Principal;
use super::token::{ALGORITHMS, Demands};
use crate::config::Secret;
use jsonwebtoken::Algorithm;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;
use url::Url;

/// How long the provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Keys are fetched anew so often: one that the provider has given up is refused from then on.
const FRESH: Duration = Duration::from_secs(60);
/// While the provider does not answer, its keys are kept for so long.
const KEPT: Duration = Duration::from_secs(3600);
/// Tokens that name unknown keys make it fetch no more often than this.
const BETWEEN: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// Which provider, and what its tokens must be.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// Its `issuer`, to the letter; `/.well-known/openid-configuration` is below it.
    pub issuer: String,
    /// What tokens must be for.
    pub audience: String,
    /// Names from [`ALGORITHMS`].
    pub algorithms: Vec<Algorithm>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Where a token has its roles: names of members, with dots between them.
    pub roles_claim: String,
    /// Where tokens are asked about at the provider: as whom, and how often.
    pub introspection: Option<Introspection>,
}

/// Asking the provider whether it has taken a token back (RFC 7662).
#[derive(Clone, Debug)]
pub struct Introspection {
    /// This service at the provider.
    pub client: String,
    /// Its secret.
    pub secret: Secret,
    /// How long an answer is believed.
    pub every: Duration,
}

/// Why the provider could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// It does not answer as it should.
    #[error("the OpenID provider at {at} does not answer as it should: {why}")]
    Answer {
        /// Which address.
        at: Url,
        /// What was wrong; no token.
        why: String,
    },
    /// It was to be asked about tokens.
    #[error("the OpenID provider {0} has no introspection endpoint")]
    NoIntrospection(String),
    /// Configuration lets none through.
    #[error("the issuer {0} is no URL")]
    NoUrl(String),
    /// The client library cannot be set up.
    #[error("no HTTP client for the OpenID provider: {0}")]
    Client(reqwest::Error),
}

impl From<OidcError> for Denied {
    fn from(error: OidcError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A provider whose tokens are believed.
pub struct Oidc {
    settings: OidcSettings,
    demands: Demands,
    http: reqwest::Client,
    keys: RwLock<Option<Arc<Keys>>>,
    /// Held while keys are fetched; when that was last done for an unknown key or in vain.
    fetching: Mutex<Option<Instant>>,
}

struct Keys {
    by_id: HashMap<String, Jwk>,
    introspection: Option<Url>,
    fetched: Instant,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
    introspection_endpoint: Option<Url>,
}

#[derive(Deserialize)]
struct Introspected {
    active: bool,
}

impl Oidc {
    /// Of a provider that is not asked before there is a token.
    pub fn new(settings: OidcSettings) -> Result<Self, OidcError> {
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(OidcError::Client)?;
        let demands = Demands {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            algorithms: settings.algorithms.clone(),
            leeway: settings.leeway,
            roles_claim: settings.roles_claim.split('.').map(str::to_owned).collect(),
        };
        let (keys, fetching) = (RwLock::new(None), Mutex::new(None));
        Ok(Self { settings, demands, http, keys, fetching })
    }

    /// Who a token stands for, and for how long that may be believed.
    pub(super) async fn principal(&self, token: &str) -> Result<(Principal, Duration), Denied> {
        let (header, kid) = self.demands.header(token)?;
        let keys = self.keys_with(&kid).await?;
        let key = keys.by_id.get(&kid).ok_or(Denied::Invalid("the token's key is not known"))?;
        let claims = self.demands.claims(token, header.alg, key)?;
        let principal = self.demands.principal(&claims)?;
        let mut good_for = claims.good_for(self.settings.leeway).min(keys.good_for());
        if let Some(introspection) = &self.settings.introspection {
            self.ask_about(token, introspection, &keys).await?;
            good_for = good_for.min(introspection.every);
        }
        Ok((principal, good_for))
    }

    /// Keys that are fresh enough, fetched anew where one is named that is not among them.
    async fn keys_with(&self, kid: &str) -> Result<Arc<Keys>, Denied> {
        let kept = self.keys.read().await.clone();
        match kept {
            Some(keys) if keys.is_enough_for(kid) => Ok(keys),
            _ => self.fetched(kid).await,
        }
    }

    async fn fetched(&self, kid: &str) -> Result<Arc<Keys>, Denied> {
        let mut last = self.fetching.lock().await;
        // Somebody else may have fetched them meanwhile, or just tried to.
        let kept = self.keys.read().await.clone();
        if let Some(keys) = kept.as_ref().filter(|keys| keys.is_enough_for(kid)) {
            return Ok(Arc::clone(keys));
        }
        let soon = last.is_some_and(|last| last.elapsed() < BETWEEN);
        if soon {
            let away = || Denied::Unavailable("the OpenID provider does not answer".to_owned());
            return kept.filter(|keys| keys.fetched.elapsed() < KEPT).ok_or_else(away);
        }
        // One because they have grown old does not put off one for a key that has come since.
        let early = kept.as_ref().is_some_and(|keys| keys.fetched.elapsed() < FRESH);
        let fetched = self.fetch().await;
        if early || fetched.is_err() {
            *last = Some(Instant::now());
        }
        match fetched {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.keys.write().await = Some(Arc::clone(&keys));
                Ok(keys)
            }
            Err(error) => match kept.filter(|keys| keys.fetched.elapsed() < KEPT) {
                Some(keys) => {
                    tracing::warn!(%error, "the keys of before are used on");
                    Ok(keys)
                }
                None => Err(error.into()),
            },
        }
    }

    async fn fetch(&self) -> Result<Keys, OidcError> {
        let issuer = &self.settings.issuer;
        let at = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let at: Url = at.parse().map_err(|_| OidcError::NoUrl(issuer.clone()))?;
        let discovery: Discovery = self.read(self.http.get(Url::clone(&at)), &at).await?;
        if discovery.issuer != *issuer {
            return Err(wrong(&at, "it names another issuer"));
        }
        let secure = |url: &Url| url.scheme() == at.scheme() || url.scheme() == "https";
        if !secure(&discovery.jwks_uri) {
            return Err(wrong(&at, "it has its keys where there is no TLS"));
        }
        let jwks = &discovery.jwks_uri;
        // Keys of kinds that are not known here are left out, not the whole set.
        let set: JwkSet = self.read(self.http.get(jwks.clone()), jwks).await?;
        let named = |key: Jwk| Some((key.common.key_id.clone()?, key));
        Ok(Keys {
            by_id: set.keys.into_iter().filter_map(named).collect(),
            introspection: discovery.introspection_endpoint.filter(secure),
            fetched: Instant::now(),
        })
    }

    async fn ask_about(
        &self,
        token: &str,
        as_whom: &Introspection,
        keys: &Keys,
    ) -> Result<(), Denied> {
        let Some(at) = &keys.introspection else {
            return Err(OidcError::NoIntrospection(self.settings.issuer.clone()).into());
        };
        let request = self.http.post(at.clone());
        let request = request.basic_auth(&as_whom.client, Some(as_whom.secret.expose()));
        let answer: Introspected = self.read(request.form(&[("token", token)]), at).await?;
        if answer.active { Ok(()) } else { Err(Denied::Invalid("the token was revoked")) }
    }

    async fn read<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        at: &Url,
    ) -> Result<T, OidcError> {
        let failed = |error: reqwest::Error| wrong(at, &error.without_url().to_string());
        let mut answer =
            request.send().await.map_err(failed)?.error_for_status().map_err(failed)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST_ANSWER {
                return Err(wrong(at, "its answer is too long"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| wrong(at, &error.to_string()))
    }
}

impl Keys {
    fn is_enough_for(&self, kid: &str) -> bool {
        self.fetched.elapsed() < FRESH && self.by_id.contains_key(kid)
    }

    /// For how long a token of one of them is believed without being looked at again: until they
    /// are fetched anew, so that a key that is gone then takes its tokens with it.
    fn good_for(&self) -> Duration {
        FRESH.saturating_sub(self.fetched.elapsed()).max(BETWEEN)
    }
}

fn wrong(at: &Url, why: &str) -> OidcError {
    OidcError::Answer { at: at.clone(), why: why.to_owned() }
}

/// The algorithms of these names.
pub(crate) fn algorithms(names: &[&str]) -> Option<Vec<Algorithm>> {
    let known = |name: &&str| ALGORITHMS.iter().find(|(known, _)| known == name).map(|(_, it)| *it);
    names.iter().map(known).collect()
}
