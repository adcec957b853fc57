//! From a credential to a principal. What was found out is remembered for moments: a key that is
//! revoked ends within them.

use super::key::{self, hash};
use super::keys;
use super::oidc::Oidc;
use super::principal::Principal;
use crate::domain::Client;
use crate::store::{Store, StoreError};
use moka::Expiry;
use moka::future::Cache;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Credentials that are remembered.
const REMEMBERED: u64 = 100_000;
/// How long it is remembered that one is not known.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It says nothing of itself.
    Missing,
    /// What it says is not so; the words are for it to read.
    Invalid(&'static str),
    /// It cannot be told now.
    Unavailable(String),
}

impl From<StoreError> for Denied {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Who is let in.
#[derive(Clone)]
pub enum Gate {
    /// Everybody, as this principal.
    Open(Arc<Principal>),
    /// Who can show a credential.
    Guarded(Arc<Authenticator>),
}

impl Gate {
    /// Lets everybody in as one principal that may do everything.
    pub fn open(client: Client) -> Self {
        Self::Open(Arc::new(Principal::anybody(client)))
    }

    /// Who a request comes from, by its bearer credential.
    pub async fn admit(&self, bearer: Option<&str>) -> Result<Arc<Principal>, Denied> {
        match self {
            Self::Open(principal) => Ok(Arc::clone(principal)),
            Self::Guarded(guard) => guard.admit(bearer.ok_or(Denied::Missing)?).await,
        }
    }
}

/// Knows callers by API keys, by tokens of an OpenID provider, or by both.
pub struct Authenticator {
    /// Where keys are, if keys are taken.
    keys: Option<Arc<dyn Store>>,
    oidc: Option<Oidc>,
    known: Cache<[u8; 32], Known>,
}

/// What a credential was found to be.
#[derive(Clone)]
struct Known {
    verdict: Result<Arc<Principal>, Denied>,
    good_for: Duration,
}

struct AsLongAsItSays;

impl Expiry<[u8; 32], Known> for AsLongAsItSays {
    fn expire_after_create(&self, _: &[u8; 32], known: &Known, _: Instant) -> Option<Duration> {
        Some(known.good_for)
    }
}

impl Authenticator {
    /// By keys that are stored there, and by tokens of a provider; what is found out about a key
    /// is remembered for `remember`.
    pub fn new(keys: Option<Arc<dyn Store>>, oidc: Option<Oidc>) -> Self {
        let known = Cache::builder().max_capacity(REMEMBERED).expire_after(AsLongAsItSays).build();
        Self { keys, oidc, known }
    }

    /// Many who come with one credential at once are found out about once.
    async fn admit(&self, text: &str) -> Result<Arc<Principal>, Denied> {
        let found = self.known.try_get_with(hash(text), self.find_out(text)).await;
        match found {
            Ok(known) => known.verdict,
            Err(denied) => Err((*denied).clone()),
        }
    }

    async fn find_out(&self, text: &str) -> Result<Known, Denied> {
        let found =
            if key::is_key(text) { self.by_key(text).await } else { self.by_token(text).await };
        match found {
            Ok((principal, good_for)) => Ok(Known { verdict: Ok(Arc::new(principal)), good_for }),
            Err(denied @ (Denied::Missing | Denied::Invalid(_))) => {
                Ok(Known { verdict: Err(denied), good_for: REFUSED_FOR })
            }
            Err(denied @ Denied::Unavailable(_)) => Err(denied),
        }
    }

    async fn by_key(&self, text: &str) -> Result<(Principal, Duration), Denied> {
        let Some(store) = &self.keys else {
            return Err(Denied::Invalid("API keys are not taken here; send a token"));
        };
        let unknown = Denied::Invalid("the API key is not known, has expired or was revoked");
        let Some(id) = key::id_of(text) else {
            return Err(Denied::Invalid("the API key is mistyped: its checksum does not fit"));
        };
        // A task of its own: a query must not be dropped in the middle.
        let (store, now) = (Arc::clone(store), keys::wall_clock());
        let found = tokio::spawn(async move { keys::find(&*store, &id).await }).await;
        let key = found.map_err(|error| Denied::Unavailable(error.to_string()))??;
        let key = key.ok_or_else(|| unknown.clone())?;
        let principal = key.principal(text, now).ok_or(unknown)?;
        let left = key.row.expires_at.map(|end| end.since(now));
        Ok((principal, left.map_or(KEY_FOR, |left| left.min(KEY_FOR))))
    }

    async fn by_token(&self, text: &str) -> Result<(Principal, Duration), Denied> {
        match &self.oidc {
            Some(oidc) => oidc.principal(text).await,
            None => Err(Denied::Invalid("the credential is not an API key of this service")),
        }
    }
}

/// How long it is remembered that a key holds: it is refused that long after it was revoked, at
/// most.
const KEY_FOR: Duration = Duration::from_secs(2);
