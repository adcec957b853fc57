//! What must be true of a bearer token before it is believed.

use super::authenticator::Denied;
use super::principal::Principal;
use super::scope::{Role, Scopes};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, TokenData, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Algorithms that may be pinned: signatures with a public key only. With a shared secret, the
/// provider's public key would do as one.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// What is asked of every token.
#[derive(Clone, Debug)]
pub struct Demands {
    /// Its `iss`, to the letter.
    pub issuer: String,
    /// One of its `aud`.
    pub audience: String,
    /// Its `alg` is one of these, whatever the key would allow.
    pub algorithms: Vec<Algorithm>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Where roles are: names of members, from the outside in.
    pub roles_claim: Vec<String>,
}

/// The claims of a token that passed.
#[derive(Debug, Deserialize)]
pub struct Claims {
    sub: String,
    exp: u64,
    nbf: Option<u64>,
    iat: Option<u64>,
    scope: Option<String>,
    typ: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Types of tokens that are no access tokens although the provider signs them too.
const OTHER_TOKENS: [&str; 3] = ["ID", "Refresh", "Logout"];

impl Demands {
    /// The header, if it names an algorithm that is pinned and a key.
    pub fn header(&self, token: &str) -> Result<(Header, String), Denied> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| {
            Denied::Invalid("the token cannot be read as a JWT of a known algorithm")
        })?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Denied::Invalid("the token's algorithm is not one that is taken here"));
        }
        let kind = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        if !matches!(kind.as_str(), "jwt" | "at+jwt" | "application/at+jwt") {
            return Err(Denied::Invalid("the token is not an access token"));
        }
        match header.kid.clone() {
            Some(kid) => Ok((header, kid)),
            None => Err(Denied::Invalid("the token names no key (kid)")),
        }
    }

    /// The claims, if the signature is that key's and all that is demanded is so.
    pub fn claims(&self, token: &str, algorithm: Algorithm, key: &Jwk) -> Result<Claims, Denied> {
        let key = usable(key, algorithm).ok_or(Denied::Invalid("the token's key does not fit"))?;
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let TokenData { claims, .. } = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(|error| words(&error))?;
        self.began(&claims)?;
        if claims.typ.as_deref().is_some_and(|kind| OTHER_TOKENS.contains(&kind)) {
            return Err(Denied::Invalid("the token is not an access token"));
        }
        Ok(claims)
    }

    /// A token says from when on it holds, be it by when it was issued, for many providers leave
    /// `nbf` out where the two are the same.
    fn began(&self, claims: &Claims) -> Result<(), Denied> {
        let from = claims.nbf.into_iter().chain(claims.iat).max();
        let from = from.ok_or(Denied::Invalid("the token does not say from when on it holds"))?;
        if from > now().saturating_add(self.leeway.as_secs()) {
            return Err(Denied::Invalid("the token does not hold yet"));
        }
        Ok(())
    }

    /// Who a token stands for.
    pub fn principal(&self, claims: &Claims) -> Result<Principal, Denied> {
        let client = claims.sub.parse().map_err(|_| {
            Denied::Invalid("the token's subject is not 1 to 64 visible ASCII characters")
        })?;
        let roles: Vec<Role> =
            self.roles_of(claims).iter().filter_map(|name| name.parse().ok()).collect();
        Ok(Principal::new(client, &roles, claims.limit()))
    }

    fn roles_of<'a>(&self, claims: &'a Claims) -> Vec<&'a str> {
        let Some((first, rest)) = self.roles_claim.split_first() else { return Vec::new() };
        let mut found = claims.rest.get(first);
        for name in rest {
            found = found.and_then(|value| value.get(name));
        }
        match found {
            Some(Value::String(names)) => names.split([' ', ',']).collect(),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

impl Claims {
    /// For how long it holds.
    pub fn good_for(&self, leeway: Duration) -> Duration {
        Duration::from_secs(self.exp.saturating_sub(now())) + leeway
    }

    /// The scopes of ours that it names, where it names any: what its subject lets its bearer do.
    fn limit(&self) -> Option<Scopes> {
        let names = self.scope.as_deref().unwrap_or_default();
        let ours: Vec<_> = names.split(' ').filter_map(|name| name.parse().ok()).collect();
        (!ours.is_empty()).then(|| Scopes::of(&ours))
    }
}

/// A public key for signatures by this algorithm.
fn usable(key: &Jwk, algorithm: Algorithm) -> Option<DecodingKey> {
    let for_signatures =
        key.common.public_key_use.as_ref().is_none_or(|kind| *kind == PublicKeyUse::Signature);
    let same = key.common.key_algorithm.is_none_or(|named| named == algorithm.into());
    let public = !matches!(key.algorithm, AlgorithmParameters::OctetKey(_));
    if !(for_signatures && same && public) {
        return None;
    }
    DecodingKey::from_jwk(key).ok()
}

fn words(error: &jsonwebtoken::errors::Error) -> Denied {
    Denied::Invalid(match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token does not hold yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of iss, aud, exp, sub",
        ErrorKind::InvalidSignature => "the token's signature is not the issuer's",
        _ => "the token is not valid",
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
