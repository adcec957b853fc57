//! A running `dev` that takes the tokens of a real OpenID provider, Keycloak: login, call, new
//! keys, sessions that end, tokens of others.

mod keycloak;

use crate::cli::program::{Program, Running};
use crate::wait::{DEADLINE, within};
use keycloak::{APP, AUDIENCE, HASTY_APP, OTHER_APP, OURSELVES, Realm, secret_of};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `dev`, for the tokens of one realm and for API keys.
struct Dev {
    program: Program,
    address: String,
    http: reqwest::Client,
    _running: Running,
}

fn program(realm: &Realm) -> Program {
    Program::new()
        .with("HOLDFAST_AUTH", "keys,oidc")
        .with("HOLDFAST_OIDC_ISSUER", &realm.issuer())
        .with("HOLDFAST_OIDC_AUDIENCE", AUDIENCE)
        .with("HOLDFAST_OIDC_ROLES_CLAIM", "realm_access.roles")
        .with("HOLDFAST_OIDC_LEEWAY", "0s")
}

/// The same, and it asks about tokens every second.
fn asking_program(realm: &Realm) -> Program {
    program(realm)
        .with("HOLDFAST_OIDC_CLIENT_ID", OURSELVES)
        .with("HOLDFAST_OIDC_CLIENT_SECRET", &secret_of(OURSELVES))
        .with("HOLDFAST_OIDC_INTROSPECTION_INTERVAL", "1s")
}

impl Dev {
    fn start(program: Program) -> Self {
        let mut running = program.start(&["dev", "--listen", "127.0.0.1:0"]);
        let first = running.line_of_stdout("Holdfast listens on http://");
        let address = first.split_whitespace().nth(3).unwrap().to_owned();
        Self { program, address, http: reqwest::Client::new(), _running: running }
    }

    /// Asks, and again where it is told to: a provider on a busy machine may not answer in time.
    async fn ask(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let url = format!("{}{path}", self.address);
            let request = self.http.request(method.clone(), url).bearer_auth(token);
            let request = if let Some(body) = &body { request.json(body) } else { request };
            let answer = within(path, request.send()).await.unwrap();
            let (status, answer) =
                (answer.status(), answer.json::<Value>().await.unwrap_or_default());
            let again = answer["code"] == "authentication_unavailable";
            if !again || Instant::now() > deadline {
                return (status, answer);
            }
        }
    }

    async fn get(&self, token: &str, path: &str) -> (StatusCode, Value) {
        self.ask(token, Method::GET, path, None).await
    }

    async fn takes(&self, token: &str) {
        let (status, answer) = self.get(token, "/v1/accounts").await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn refuses(&self, token: &str, words: &str) {
        let (status, answer) = self.get(token, "/v1/accounts").await;
        assert_eq!(status, 401, "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains(words), "{detail}, not {words}");
    }

    /// Waits until a token does not hold any more, and looks at why.
    async fn comes_to_refuse(&self, token: &str, words: &str) {
        let deadline = Instant::now() + DEADLINE;
        while self.get(token, "/v1/accounts").await.0 != 401 {
            assert!(Instant::now() < deadline, "the token still holds after {DEADLINE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.refuses(token, words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_logs_in_may_do_what_its_roles_say() {
    let realm = Realm::new().await;
    let dev = Dev::start(program(&realm));
    for (token, role, opened, metrics) in [
        (realm.login(APP, "alice").await.access, "customer", 403_u16, 403_u16),
        (realm.login(APP, "olga").await.access, "auditor", 403, 200),
        (realm.service(APP).await, "merchant", 201, 403),
    ] {
        dev.takes(&token).await;
        let body = Some(json!({ "currency": "USD" }));
        let (status, answer) = dev.ask(&token, Method::POST, "/v1/accounts", body).await;
        assert_eq!(status, opened, "{role}: {answer}");
        assert_eq!(dev.get(&token, "/metrics").await.0, metrics, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_principal_is_the_subject_of_the_token() {
    let realm = Realm::new().await;
    let dev = Dev::start(program(&realm));
    let token = realm.service(APP).await;
    let body = Some(json!({ "currency": "USD" }));
    let (_, opened) = dev.ask(&token, Method::POST, "/v1/accounts", body).await;
    let subject = claims(&token)["sub"].as_str().unwrap().to_owned();
    assert_eq!(opened["owner"], subject, "{opened}");
    let path = format!("/v1/accounts/{}", opened["id"].as_str().unwrap());
    // Another token of the same subject, an API key of the same principal; and somebody else.
    let key = ["key", "create", "--principal", &subject, "--role", "merchant"];
    let made = dev.program.json(&[&key[..], &["--name", "till"]].concat());
    let again = realm.service(APP).await;
    for credential in [again.as_str(), made["key"].as_str().unwrap()] {
        assert_eq!(dev.get(credential, &path).await.0, 200);
    }
    let alice = realm.login(APP, "alice").await.access;
    assert_eq!(dev.get(&alice, &path).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_as_soon_as_the_provider_signs_with_it_and_until_it_is_disabled() {
    let realm = Realm::new().await;
    let dev = Dev::start(program(&realm));
    let before = realm.login(APP, "alice").await.access;
    dev.takes(&before).await;
    realm.add_key().await;
    let after = realm.login(APP, "alice").await.access;
    assert_ne!(header(&before)["kid"], header(&after)["kid"]);
    dev.takes(&after).await;
    dev.takes(&before).await;
    realm.disable_first_key().await;
    dev.comes_to_refuse(&before, "key is not known").await;
    dev.takes(&after).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ended_is_refused_where_the_provider_is_asked() {
    let realm = Realm::new().await;
    let dev = Dev::start(asking_program(&realm));
    let (alice, olga) = (realm.login(APP, "alice").await, realm.login(APP, "olga").await);
    let service = realm.service(APP).await;
    for token in [&alice.access, &olga.access, &service] {
        dev.takes(token).await;
    }
    realm.log_out("alice").await;
    dev.comes_to_refuse(&alice.access, "revoked").await;
    // Those of others are asked about too, and hold.
    for token in [&olga.access, &service] {
        dev.takes(token).await;
    }
    dev.takes(&realm.login(APP, "alice").await.access).await;
}

/// As docs/ACCESS.md says: a token cannot be called back by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_its_session_where_the_provider_is_not_asked() {
    let realm = Realm::new().await;
    let dev = Dev::start(program(&realm));
    let alice = realm.login(APP, "alice").await;
    realm.log_out("alice").await;
    dev.takes(&alice.access).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_when_it_says() {
    let realm = Realm::new().await;
    let dev = Dev::start(program(&realm));
    let token = realm.service(HASTY_APP).await;
    dev.comes_to_refuse(&token, "expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_meant_for_us_is_refused() {
    let (realm, other_realm) = (Realm::new().await, Realm::new().await);
    let dev = Dev::start(program(&realm));
    let alice = realm.login(APP, "alice").await;
    dev.takes(&alice.access).await;
    // Signed by keys that are not the realm's.
    dev.refuses(&other_realm.login(APP, "alice").await.access, "key is not known").await;
    dev.refuses(&realm.service(OTHER_APP).await, "").await;
    dev.refuses(&realm.login(OTHER_APP, "alice").await.access, "").await;
    dev.refuses(&alice.id, "another audience").await;
    dev.refuses(&alice.refresh, "algorithm").await;
}

/// An ID token is for the client that asked for it; that this client is named as we are makes no
/// access token of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_id_token_is_refused_also_where_its_audience_would_do() {
    let realm = Realm::new().await;
    let dev = Dev::start(program(&realm).with("HOLDFAST_OIDC_AUDIENCE", APP));
    dev.refuses(&realm.login(APP, "alice").await.id, "not an access token").await;
}

/// The header of a token, which nobody has checked.
fn header(token: &str) -> Value {
    part(token, 0)
}

/// Its claims, likewise.
fn claims(token: &str) -> Value {
    part(token, 1)
}

fn part(token: &str, number: usize) -> Value {
    use base64::Engine as _;
    let text = token.split('.').nth(number).unwrap();
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
