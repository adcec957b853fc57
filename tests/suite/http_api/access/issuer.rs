//! An OpenID provider in this process: its discovery document, its keys, what it says of tokens.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use holdfast::access::{Introspection, Oidc, OidcSettings};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

pub const AUDIENCE: &str = "holdfast";

/// A key to sign with, and its name.
#[derive(Clone)]
pub struct SigningKey {
    pub kid: String,
    pub private: EncodingKey,
}

impl SigningKey {
    pub fn new(kid: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        Self { kid: kid.to_owned(), private: EncodingKey::from_ec_der(pkcs8.unwrap().as_ref()) }
    }

    pub fn public(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.private, Algorithm::ES256).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        jwk
    }

    /// A token with these claims, signed by this key.
    pub fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &self.private).unwrap()
    }
}

/// What it answers now.
#[derive(Default)]
struct Told {
    keys: Vec<Jwk>,
    revoked: Vec<String>,
    fetched: usize,
    away: bool,
}

#[derive(Clone)]
pub struct Issuer {
    pub url: String,
    told: Arc<Mutex<Told>>,
}

impl Issuer {
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let issuer = Self { url, told: Arc::default() };
        issuer.publish(keys);
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys_of))
            .route("/introspect", post(introspect))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        issuer
    }

    /// These are its keys from now on.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.told.lock().unwrap().keys = keys.iter().map(|key| key.public()).collect();
    }

    pub fn revoke(&self, token: &str) {
        self.told.lock().unwrap().revoked.push(token.to_owned());
    }

    /// How often its keys were fetched.
    pub fn fetched(&self) -> usize {
        self.told.lock().unwrap().fetched
    }

    pub fn go_away(&self) {
        self.told.lock().unwrap().away = true;
    }

    pub fn settings(&self) -> OidcSettings {
        OidcSettings {
            issuer: self.url.clone(),
            audience: AUDIENCE.to_owned(),
            algorithms: vec![Algorithm::ES256],
            leeway: Duration::from_secs(5),
            roles_claim: "realm_access.roles".to_owned(),
            introspection: None,
        }
    }

    pub fn asking_every_second(&self) -> OidcSettings {
        let introspection = Introspection {
            client: "holdfast".to_owned(),
            secret: holdfast::config::Secret::new("s3cret"),
            every: Duration::from_secs(1),
        };
        OidcSettings { introspection: Some(introspection), ..self.settings() }
    }

    /// Claims that pass, of a subject with these roles.
    pub fn claims(&self, subject: &str, roles: &[&str]) -> Value {
        json!({
            "iss": self.url, "aud": ["account", AUDIENCE], "sub": subject, "exp": now() + 300,
            "nbf": now() - 1, "iat": now() - 1, "realm_access": { "roles": roles },
        })
    }
}

pub fn oidc(settings: OidcSettings) -> Oidc {
    Oidc::new(settings).unwrap()
}

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn discovery(State(issuer): State<Issuer>) -> Result<Json<Value>, axum::http::StatusCode> {
    if issuer.told.lock().unwrap().away {
        return Err(axum::http::StatusCode::BAD_GATEWAY);
    }
    let url = &issuer.url;
    Ok(Json(json!({
        "issuer": url, "jwks_uri": format!("{url}/keys"),
        "introspection_endpoint": format!("{url}/introspect"),
    })))
}

async fn keys_of(State(issuer): State<Issuer>) -> Json<JwkSet> {
    let mut told = issuer.told.lock().unwrap();
    told.fetched += 1;
    Json(JwkSet { keys: told.keys.clone() })
}

async fn introspect(State(issuer): State<Issuer>, body: String) -> Json<Value> {
    let revoked = issuer.told.lock().unwrap().revoked.iter().any(|token| body.contains(token));
    Json(json!({ "active": !revoked }))
}
