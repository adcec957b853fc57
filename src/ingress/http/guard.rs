//! Lets a request through to its handler, or not: who it comes from, and whether that may do this.

use super::extract::Call;
use super::permissions::{About, Need, Permissions};
use super::problem::{Code, Problem};
use crate::access::{Denied, Gate, Principal, Scope};
use crate::ingress::Ingress;
use crate::store::Actor;
use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// What it looks into.
#[derive(Clone)]
pub struct Guard {
    gate: Gate,
    ingress: Ingress,
    permissions: Arc<Permissions>,
}

impl Guard {
    /// At this gate, in front of this application.
    pub fn new(gate: Gate, ingress: Ingress) -> Self {
        Self { gate, ingress, permissions: Arc::new(Permissions::of_table()) }
    }

    async fn admit(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        params: &RawPathParams,
    ) -> Result<Option<Arc<Principal>>, Problem> {
        // Whatever is not routed is answered by the fallbacks, which look at nothing.
        let Some(Need::Scope(scope, about)) = self.permissions.need(method, path) else {
            return Ok(None);
        };
        let principal = self.gate.admit(bearer(headers)?).await?;
        if !principal.may(scope) {
            let detail =
                format!("the scope {scope} is needed, which this credential does not have");
            return Err(Problem::new(Code::Forbidden, detail));
        }
        self.sees(&principal, scope, about, params).await?;
        Ok(Some(principal))
    }

    async fn sees(
        &self,
        principal: &Principal,
        scope: Scope,
        about: About,
        params: &RawPathParams,
    ) -> Result<(), Problem> {
        let id = params.iter().next().map_or("batch", |(_, id)| id);
        // What is no id is the handler's to refuse: it stands for nothing that could be seen.
        match about {
            About::Nothing => {}
            About::Account => {
                if let Ok(id) = id.parse() {
                    self.ingress.sees_account(principal, scope, &id).await?;
                }
            }
            About::Transfer(part) => {
                if let Ok(id) = id.parse() {
                    self.ingress.sees_transfer(principal, scope, part, id).await?;
                }
            }
        }
        Ok(())
    }
}

/// The credential of `Authorization: Bearer …`.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let told = value.to_str().ok().and_then(|text| text.split_once(' '));
    match told {
        Some((scheme, text))
            if scheme.eq_ignore_ascii_case("bearer") && values.next().is_none() =>
        {
            Ok(Some(text.trim()))
        }
        _ => {
            let detail = "Authorization must be given once, as Bearer and an API key or a token";
            Err(Problem::new(Code::Unauthenticated, detail))
        }
    }
}

/// In front of every handler.
pub async fn guard(
    State(guard): State<Guard>,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or("", MatchedPath::as_str);
    match guard.admit(request.method(), path, request.headers(), &params).await {
        Ok(Some(principal)) => {
            request.extensions_mut().insert(Who(principal));
            next.run(request).await
        }
        Ok(None) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::new(
                Code::Unauthenticated,
                "say who you are: Authorization: Bearer, and an API key or a token",
            ),
            Denied::Invalid(why) => Self::new(Code::Unauthenticated, why),
            Denied::Unavailable(why) => {
                tracing::warn!(why, "callers cannot be told apart");
                let detail = "it cannot be found out now who you are; nothing was done";
                Self::new(Code::AuthenticationUnavailable, detail)
            }
        }
    }
}

/// Who a request comes from.
#[derive(Clone, Debug)]
pub struct Who(pub Arc<Principal>);

impl Who {
    /// For the audit log.
    pub fn actor(&self, call: &Call) -> Actor {
        let request = call.request_id.chars().take(64).collect();
        Actor { operator: self.0.client.to_string(), reason: None, request: Some(request) }
    }

    /// A problem, unless it has this scope on accounts that it does not own.
    pub fn needs_on_all(&self, scope: Scope, what: &str) -> Result<(), Problem> {
        if self.0.may_on_all(scope) {
            return Ok(());
        }
        let detail = format!("{what} needs the scope {scope}, which this credential does not have");
        Err(Problem::new(Code::Forbidden, detail))
    }
}

impl<S: Sync> FromRequestParts<S> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let missing = || Problem::new(Code::Unauthenticated, "this call needs a credential");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}
