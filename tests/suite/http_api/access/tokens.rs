//! Bearer tokens of an OpenID provider: those that hold, and every way not to.

use super::super::world::World;
use super::issuer::{AUDIENCE, Issuer, SigningKey, now, oidc};
use super::{key, transfer};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast::access::{Authenticator, Gate, OidcSettings, Role};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::sync::Arc;

struct Setting {
    world: World,
    issuer: Issuer,
    signer: SigningKey,
}

impl Setting {
    async fn new() -> Self {
        Self::with(Issuer::settings).await
    }

    async fn with(settings: fn(&Issuer) -> OidcSettings) -> Self {
        let signer = SigningKey::new("first");
        let issuer = Issuer::start(&[&signer]).await;
        let settings = settings(&issuer);
        let world = World::guarded(|store| {
            Gate::Guarded(Arc::new(Authenticator::new(Some(store), Some(oidc(settings)))))
        })
        .await;
        Self { world, issuer, signer }
    }

    fn claims(&self) -> Value {
        self.issuer.claims("auditor-7", &["auditor", "offline_access"])
    }

    /// The claims with one of them otherwise; null takes it out.
    fn otherwise(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    async fn is_refused(&self, token: &str, words: &str) {
        let answer = self.world.ask(Some(token), "GET", "/v1/accounts", "").await;
        let problem = answer.refused(401, "unauthenticated");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}, not {words}");
    }

    async fn is_taken(&self, token: &str) {
        self.world.ask(Some(token), "GET", "/v1/accounts", "").await.expect(200);
    }
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[tokio::test]
async fn a_token_that_holds_is_taken_beside_keys() {
    let at = Setting::new().await;
    at.is_taken(&at.signer.sign(&at.claims())).await;
    let admin = key(&*at.world.store, "root", &[Role::Admin]).await;
    at.is_taken(&admin).await;
    assert_eq!(at.issuer.fetched(), 1);
}

#[tokio::test]
async fn the_subject_owns_accounts_and_keys_of_idempotency() {
    let at = Setting::new().await;
    let admin = key(&*at.world.store, "root", &[Role::Admin]).await;
    at.world.owned_account(&admin, "wallet", "alice-sub").await;
    let token = at.signer.sign(&at.issuer.claims("alice-sub", &["customer"]));
    let body = transfer("rent", "wallet", "elsewhere");
    let made = at.world.ask(Some(&token), "POST", "/v1/transfers", &body).await.expect(202);
    // Another token of hers, and a key of hers: the same transfer.
    let mut claims = at.issuer.claims("alice-sub", &["customer"]);
    claims["jti"] = json!("another");
    let own_key = key(&*at.world.store, "alice-sub", &[Role::Customer]).await;
    for credential in [at.signer.sign(&claims), own_key] {
        let again = at.world.ask(Some(&credential), "POST", "/v1/transfers", &body).await;
        assert_eq!(again.expect(200)["id"], made["id"]);
    }
    let other = at.signer.sign(&at.issuer.claims("bob-sub", &["customer"]));
    at.world
        .ask(Some(&other), "GET", "/v1/accounts/wallet", "")
        .await
        .refused(404, "account_not_found");
}

#[tokio::test]
async fn a_forged_token_is_refused() {
    let at = Setting::new().await;
    // By another key of the same name.
    at.is_refused(&SigningKey::new("first").sign(&at.claims()), "signature").await;
    // With claims that were changed after it was signed.
    let token = at.signer.sign(&at.claims());
    let mut parts: Vec<&str> = token.split('.').collect();
    let raised = encode(&at.issuer.claims("auditor-7", &["admin"]).to_string());
    parts[1] = &raised;
    at.is_refused(&parts.join("."), "signature").await;
    parts[2] = "";
    at.is_refused(&parts.join("."), "").await;
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let at = Setting::new().await;
    at.is_refused(&at.signer.sign(&at.otherwise("exp", json!(now() - 10))), "expired").await;
    at.is_taken(&at.signer.sign(&at.otherwise("exp", json!(now() - 2)))).await;
}

#[tokio::test]
async fn a_token_that_does_not_hold_yet_is_refused() {
    let at = Setting::new().await;
    at.is_refused(&at.signer.sign(&at.otherwise("nbf", json!(now() + 60))), "not hold yet").await;
    at.is_refused(&at.signer.sign(&at.otherwise("iat", json!(now() + 60))), "not hold yet").await;
    let mut neither = at.otherwise("nbf", Value::Null);
    at.is_taken(&at.signer.sign(&neither)).await;
    neither.as_object_mut().unwrap().remove("iat");
    at.is_refused(&at.signer.sign(&neither), "from when on").await;
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() {
    let at = Setting::new().await;
    at.is_refused(&at.signer.sign(&at.otherwise("aud", json!("other"))), "audience").await;
    at.is_refused(&at.signer.sign(&at.otherwise("aud", Value::Null)), "lacks").await;
    at.is_taken(&at.signer.sign(&at.otherwise("aud", json!(AUDIENCE)))).await;
}

#[tokio::test]
async fn a_token_of_another_issuer_is_refused() {
    let at = Setting::new().await;
    for issuer in [json!("https://elsewhere.example"), json!(format!("{}/", at.issuer.url))] {
        at.is_refused(&at.signer.sign(&at.otherwise("iss", issuer)), "issuer").await;
    }
    at.is_refused(&at.signer.sign(&at.otherwise("iss", Value::Null)), "lacks").await;
}

#[tokio::test]
async fn a_token_that_lacks_a_claim_is_refused() {
    let at = Setting::new().await;
    for claim in ["exp", "sub"] {
        at.is_refused(&at.signer.sign(&at.otherwise(claim, Value::Null)), "").await;
    }
    at.is_refused(&at.signer.sign(&at.otherwise("sub", json!("two words"))), "subject").await;
}

#[tokio::test]
async fn alg_none_is_refused() {
    let at = Setting::new().await;
    for algorithm in ["none", "None", "NONE", ""] {
        let header = json!({ "alg": algorithm, "typ": "JWT", "kid": "first" }).to_string();
        let token = format!("{}.{}.", encode(&header), encode(&at.claims().to_string()));
        at.is_refused(&token, "").await;
    }
}

/// Algorithm confusion: the provider's public key, which everybody has, as a shared secret.
#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let at = Setting::new().await;
    let public = serde_json::to_vec(&at.signer.public()).unwrap();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let header = Header { kid: Some("first".to_owned()), ..Header::new(algorithm) };
        let secret = EncodingKey::from_secret(&public);
        let token = jsonwebtoken::encode(&header, &at.claims(), &secret).unwrap();
        at.is_refused(&token, "algorithm").await;
    }
}

/// One that the library knows and the key would do for, but that is not pinned.
#[tokio::test]
async fn an_algorithm_that_is_not_pinned_is_refused() {
    let mut settings = Vec::new();
    let signer = SigningKey::new("first");
    let issuer = Issuer::start(&[&signer]).await;
    settings.push(OidcSettings { algorithms: vec![Algorithm::RS256], ..issuer.settings() });
    let world = World::guarded(|_| {
        let oidc = oidc(settings.remove(0));
        Gate::Guarded(Arc::new(Authenticator::new(None, Some(oidc))))
    })
    .await;
    let token = signer.sign(&issuer.claims("auditor-7", &["auditor"]));
    let answer = world.ask(Some(&token), "GET", "/v1/accounts", "").await;
    let problem = answer.refused(401, "unauthenticated");
    assert!(problem["detail"].as_str().unwrap().contains("algorithm"));
}

#[tokio::test]
async fn a_token_of_an_unknown_key_is_refused_and_does_not_make_it_fetch_for_each() {
    let at = Setting::new().await;
    at.is_taken(&at.signer.sign(&at.claims())).await;
    let unknown = SigningKey::new("unknown");
    for number in 0..20 {
        let mut claims = at.claims();
        claims["jti"] = json!(number);
        at.is_refused(&unknown.sign(&claims), "key is not known").await;
    }
    let nameless =
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &at.claims(), &at.signer.private);
    at.is_refused(&nameless.unwrap(), "names no key").await;
    assert!(at.issuer.fetched() <= 2, "{}", at.issuer.fetched());
}

#[tokio::test]
async fn the_key_that_follows_is_fetched_when_it_is_first_used() {
    let at = Setting::new().await;
    let next = SigningKey::new("second");
    at.issuer.publish(&[&at.signer, &next]);
    at.is_taken(&next.sign(&at.claims())).await;
    at.is_taken(&at.signer.sign(&at.claims())).await;
}

#[tokio::test]
async fn a_token_that_was_revoked_is_refused_where_the_provider_is_asked() {
    let at = Setting::with(Issuer::asking_every_second).await;
    let token = at.signer.sign(&at.claims());
    at.is_taken(&token).await;
    at.issuer.revoke(&token);
    let refused = async {
        while at.world.ask(Some(&token), "GET", "/v1/accounts", "").await.status != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::wait::DEADLINE, refused).await.expect("within a second or two");
    at.is_refused(&token, "revoked").await;
}

#[tokio::test]
async fn who_cannot_be_told_because_the_provider_is_away_is_asked_to_come_again() {
    let at = Setting::new().await;
    at.issuer.go_away();
    let token = at.signer.sign(&at.claims());
    let answer = at.world.ask(Some(&token), "GET", "/v1/accounts", "").await;
    answer.refused(503, "authentication_unavailable");
    assert_ne!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn a_token_that_is_no_access_token_is_refused() {
    let at = Setting::new().await;
    for kind in ["ID", "Refresh", "Logout"] {
        at.is_refused(&at.signer.sign(&at.otherwise("typ", json!(kind))), "access token").await;
    }
    let header = Header {
        typ: Some("logout+jwt".to_owned()),
        kid: Some("first".to_owned()),
        ..Header::new(Algorithm::ES256)
    };
    let token = jsonwebtoken::encode(&header, &at.claims(), &at.signer.private).unwrap();
    at.is_refused(&token, "access token").await;
}

#[tokio::test]
async fn roles_that_are_not_ours_allow_nothing() {
    let at = Setting::new().await;
    let token = at.signer.sign(&at.issuer.claims("x", &["uma_authorization", "king"]));
    at.world.ask(Some(&token), "GET", "/v1/accounts", "").await.refused(403, "forbidden");
}

#[tokio::test]
async fn scopes_of_ours_limit_a_token_and_others_do_not() {
    let at = Setting::new().await;
    at.is_taken(&at.signer.sign(&at.otherwise("scope", json!("openid profile")))).await;
    let limited = at.signer.sign(&at.otherwise("scope", json!("openid metrics:read")));
    at.world.ask(Some(&limited), "GET", "/v1/accounts", "").await.refused(403, "forbidden");
    at.world.ask(Some(&limited), "GET", "/metrics", "").await;
}
