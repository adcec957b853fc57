//! A realm of a real Keycloak, made and changed through its administration API.

use crate::services::{keycloak, unique};
use crate::wait::DEADLINE;
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// What tokens are for.
pub const AUDIENCE: &str = "holdfast";
/// This service at the provider, where it asks about tokens.
pub const OURSELVES: &str = AUDIENCE;
/// A client whose tokens are for us.
pub const APP: &str = "app";
/// One whose tokens are for somebody else.
pub const OTHER_APP: &str = "other-app";
/// One whose tokens hold for two seconds.
pub const HASTY_APP: &str = "hasty-app";

/// One realm, of one test.
pub struct Realm {
    server: String,
    name: String,
    http: Client,
}

/// What a login gives.
pub struct Login {
    pub access: String,
    pub id: String,
    pub refresh: String,
}

impl Realm {
    /// With the users `alice`, a customer, and `olga`, an auditor; as a service, [`APP`] is a
    /// merchant.
    pub async fn new() -> Self {
        let server = keycloak().await.to_owned();
        let http = Client::builder().timeout(DEADLINE).build().unwrap();
        let realm = Self { server, name: unique(), http };
        let roles = ["customer", "merchant", "auditor"].map(|role| json!({ "name": role }));
        let body = json!({
            "realm": realm.name,
            "enabled": true,
            "roles": { "realm": roles },
            "clients": [
                client(APP, true, &json!({})),
                client(OTHER_APP, false, &json!({})),
                client(HASTY_APP, true, &json!({ "access.token.lifespan": "2" })),
                client(OURSELVES, false, &json!({})),
            ],
            "users": [
                user("alice", "customer"),
                user("olga", "auditor"),
                { "username": format!("service-account-{APP}"), "enabled": true,
                    "serviceAccountClientId": APP, "realmRoles": ["merchant"] },
            ],
        });
        realm.administer(Method::POST, "/admin/realms", Some(body)).await;
        realm
    }

    /// What its tokens' `iss` is.
    pub fn issuer(&self) -> String {
        format!("{}/realms/{}", self.server, self.name)
    }

    /// What a user's password gives.
    pub async fn login(&self, client: &str, user: &str) -> Login {
        let password = secret_of(user);
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", &password),
            ("scope", "openid"),
        ];
        let given = self.tokens(&self.name, client, Some(secret_of(client)), &form).await;
        let token =
            |name: &str| given[name].as_str().unwrap_or_else(|| panic!("{given}")).to_owned();
        Login {
            access: token("access_token"),
            id: token("id_token"),
            refresh: token("refresh_token"),
        }
    }

    /// The token that a client gets for itself.
    pub async fn service(&self, client: &str) -> String {
        let form = [("grant_type", "client_credentials")];
        let given = self.tokens(&self.name, client, Some(secret_of(client)), &form).await;
        given["access_token"].as_str().unwrap_or_else(|| panic!("{given}")).to_owned()
    }

    /// Ends all sessions of a user.
    pub async fn log_out(&self, user: &str) {
        let found = self.get(&format!("/users?username={user}&exact=true")).await;
        let id = found[0]["id"].as_str().unwrap();
        self.post(&format!("/users/{id}/logout"), json!({})).await;
    }

    /// Adds a key that tokens are signed with from now on.
    pub async fn add_key(&self) {
        let realm = self.get("").await;
        let config = json!({ "priority": ["1000"], "enabled": ["true"], "active": ["true"],
            "algorithm": ["RS256"], "keySize": ["2048"] });
        let key = json!({ "name": "next", "providerId": "rsa-generated",
            "providerType": KEYS, "parentId": realm["id"], "config": config });
        self.post("/components", key).await;
    }

    /// Takes away the key that it had at first.
    pub async fn disable_first_key(&self) {
        let keys = self.get(&format!("/components?type={KEYS}&name=rsa-generated")).await;
        let mut key = keys[0].clone();
        key["config"]["enabled"] = json!(["false"]);
        key["config"]["active"] = json!(["false"]);
        let path = format!("/components/{}", key["id"].as_str().unwrap());
        self.administer(Method::PUT, &self.path(&path), Some(key)).await;
    }

    async fn get(&self, path: &str) -> Value {
        self.administer(Method::GET, &self.path(path), None).await
    }

    async fn post(&self, path: &str, body: Value) {
        self.administer(Method::POST, &self.path(path), Some(body)).await;
    }

    fn path(&self, below: &str) -> String {
        format!("/admin/realms/{}{below}", self.name)
    }

    async fn administer(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let form = [("grant_type", "password"), ("username", "admin"), ("password", "admin")];
        let given = self.tokens("master", "admin-cli", None, &form).await;
        let token = given["access_token"].as_str().unwrap_or_else(|| panic!("{given}"));
        let url = format!("{}{path}", self.server);
        let mut request = self.http.request(method, &url).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{url}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn tokens(
        &self,
        realm: &str,
        client: &str,
        secret: Option<String>,
        form: &[(&str, &str)],
    ) -> Value {
        let url = format!("{}/realms/{realm}/protocol/openid-connect/token", self.server);
        let mut form = form.to_vec();
        form.push(("client_id", client));
        form.extend(secret.as_deref().map(|secret| ("client_secret", secret)));
        self.http.post(url).form(&form).send().await.unwrap().json().await.unwrap()
    }
}

/// What providers of keys are called among a realm's components.
const KEYS: &str = "org.keycloak.keys.KeyProvider";

/// The secret of a client, and the password of a user.
pub fn secret_of(name: &str) -> String {
    format!("{name}-secret")
}

fn user(name: &str, role: &str) -> Value {
    json!({
        "username": name, "enabled": true, "firstName": name, "lastName": name,
        "email": format!("{name}@example.com"), "emailVerified": true, "realmRoles": [role],
        "credentials": [{ "type": "password", "value": secret_of(name), "temporary": false }],
    })
}

fn client(name: &str, for_us: bool, attributes: &Value) -> Value {
    let audience = json!({
        "name": "audience", "protocol": "openid-connect",
        "protocolMapper": "oidc-audience-mapper",
        "config": { "included.custom.audience": AUDIENCE, "access.token.claim": "true",
            "introspection.token.claim": "true" },
    });
    let mappers = if for_us { vec![audience] } else { Vec::new() };
    json!({
        "clientId": name, "secret": secret_of(name), "publicClient": false,
        "standardFlowEnabled": false, "directAccessGrantsEnabled": true,
        "serviceAccountsEnabled": true, "protocolMappers": mappers, "attributes": attributes,
    })
}
