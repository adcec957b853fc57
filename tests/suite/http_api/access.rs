//! Who may do what over the API: every route, every role, own and foreign; keys; tokens.

mod issuer;
mod keys;
mod limits;
mod matrix;
mod owasp;
mod tokens;

use super::world::{Answer, World, json};
use axum::body::Body;
use axum::http::Request;
use holdfast::access::{self, Authenticator, Gate, KeyRequest, Role, Scopes};
use holdfast::store::{Actor, Store};
use std::sync::Arc;

/// Behind a gate that takes API keys and nothing else.
pub async fn world() -> World {
    World::guarded(|store| Gate::Guarded(Arc::new(Authenticator::new(Some(store), None)))).await
}

/// A key of a principal.
pub async fn key(store: &dyn Store, principal: &str, roles: &[Role]) -> String {
    limited_key(store, principal, roles, None).await
}

pub async fn limited_key(
    store: &dyn Store,
    principal: &str,
    roles: &[Role],
    scopes: Option<Scopes>,
) -> String {
    let request = KeyRequest {
        name: "of a test".to_owned(),
        principal: principal.parse().unwrap(),
        roles: roles.to_vec(),
        scopes,
        expires_in: None,
    };
    access::create(store, &request, &Actor::itself()).await.unwrap().1.text
}

impl World {
    /// A request with a credential, or without one.
    pub async fn ask(
        &self,
        credential: Option<&str>,
        method: &str,
        path: &str,
        body: &str,
    ) -> Answer {
        let bearer = credential.map(|credential| format!("Bearer {credential}"));
        let headers: Vec<(&str, &str)> =
            bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        if !body.is_empty() {
            return self.send(json(method, path, &headers, body)).await;
        }
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// An account of an owner.
    pub async fn owned_account(&self, admin: &str, id: &str, owner: &str) {
        let body = format!(r#"{{"id":"{id}","currency":"USD","owner":"{owner}"}}"#);
        self.ask(Some(admin), "POST", "/v1/accounts", &body).await.expect(201);
    }

    /// The id of a transfer that was accepted.
    pub async fn asked_transfer(&self, admin: &str, key: &str, from: &str, to: &str) -> String {
        let body = transfer(key, from, to);
        let answer = self.ask(Some(admin), "POST", "/v1/transfers", &body).await.expect(202);
        answer["id"].as_str().unwrap().to_owned()
    }
}

pub fn transfer(key: &str, from: &str, to: &str) -> String {
    format!(
        r#"{{"source":"{from}","destination":"{to}","amount":"1.00","currency":"USD","idempotency_key":"{key}"}}"#
    )
}
