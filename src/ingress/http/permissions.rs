//! Who may call what: one table, from which the guard, the description and the test of every role
//! on every route are made. A route that is not in it does not start, nor does a line without a
//! route.

use super::problem::Code;
use super::schemas;
use crate::access::Scope;
use crate::ingress::Part;
use axum::http::Method;
use std::collections::{BTreeSet, HashMap};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, HttpMethod, OpenApi};

/// What a call is about that its path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Nothing, or things that its body or query name: the handler looks whose they are.
    Nothing,
    /// An account, which the caller must own or see all of.
    Account,
    /// A transfer, in which it must have such a part.
    Transfer(Part),
}

/// What a caller needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// No credential.
    Nothing,
    /// A scope, for what the call is about.
    Scope(Scope, About),
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Permission {
    /// The method, in upper case.
    pub method: &'static str,
    /// The path, as it is routed.
    pub path: &'static str,
    /// What a caller needs.
    pub need: Need,
}

macro_rules! table {
    ($($method:ident $path:literal => $need:expr;)+) => {
        &[$(Permission { method: stringify!($method), path: $path, need: $need },)+]
    };
}

const fn scope(scope: Scope) -> Need {
    Need::Scope(scope, About::Nothing)
}

const fn account(scope: Scope) -> Need {
    Need::Scope(scope, About::Account)
}

const fn transfer(scope: Scope, part: Part) -> Need {
    Need::Scope(scope, About::Transfer(part))
}

/// Every route.
pub const PERMISSIONS: &[Permission] = table! {
    POST "/v1/accounts" => scope(Scope::AccountsWrite);
    POST "/v1/accounts/batch" => scope(Scope::AccountsWrite);
    GET "/v1/accounts" => scope(Scope::AccountsRead);
    GET "/v1/accounts/{id}" => account(Scope::AccountsRead);
    PATCH "/v1/accounts/{id}" => account(Scope::AccountsWrite);
    GET "/v1/accounts/{id}/balance" => account(Scope::AccountsRead);
    GET "/v1/accounts/{id}/entries" => account(Scope::AccountsRead);
    GET "/v1/accounts/{id}/transfers" => account(Scope::AccountsRead);
    GET "/v1/accounts/{id}/limits" => account(Scope::AccountsRead);
    PUT "/v1/accounts/{id}/limits" => account(Scope::LimitsWrite);
    POST "/v1/accounts/{id}/freeze" => account(Scope::AccountsControl);
    POST "/v1/accounts/{id}/unfreeze" => account(Scope::AccountsControl);
    POST "/v1/accounts/{id}/close" => account(Scope::AccountsControl);
    POST "/v1/transfers" => scope(Scope::TransfersWrite);
    GET "/v1/transfers" => scope(Scope::TransfersRead);
    POST "/v1/transfers/batch" => scope(Scope::TransfersWrite);
    GET "/v1/transfers/{id}" => transfer(Scope::TransfersRead, Part::Either);
    GET "/v1/transfers/{id}/timeline" => transfer(Scope::TransfersRead, Part::Either);
    POST "/v1/transfers/{id}/cancel" => transfer(Scope::TransfersWrite, Part::Source);
    POST "/v1/transfers/{id}/reverse" => transfer(Scope::TransfersWrite, Part::Destination);
    GET "/v1/audit" => scope(Scope::AuditRead);
    POST "/api/v1/payments/transfer" => scope(Scope::TransfersWrite);
    GET "/api/v1/payments/accounts/{id}/balance" => account(Scope::AccountsRead);
    GET "/api/v1/payments/transactions/{txId}/status" =>
        transfer(Scope::TransfersRead, Part::Either);
    GET "/api/v1/actuator/health" => Need::Nothing;
    GET "/healthz" => Need::Nothing;
    GET "/readyz" => Need::Nothing;
    GET "/metrics" => scope(Scope::MetricsRead);
    GET "/openapi.json" => Need::Nothing;
    GET "/docs" => Need::Nothing;
    POST "/v1/proposals" => scope(Scope::ProposalsWrite);
    GET "/v1/proposals" => scope(Scope::ProposalsRead);
    GET "/v1/proposals/{id}" => scope(Scope::ProposalsRead);
    POST "/v1/proposals/{id}/approve" => scope(Scope::ProposalsDecide);
    POST "/v1/proposals/{id}/reject" => scope(Scope::ProposalsDecide);
};

/// The account that is named `batch`, which the batch route would hide: the same as of any other.
const NAMED_BATCH: (&str, &str) = ("/v1/accounts/batch", "/v1/accounts/{id}");

/// What callers need, by method and routed path.
#[derive(Clone, Debug)]
pub struct Permissions(HashMap<(&'static str, &'static str), Need>);

impl Permissions {
    /// Those of the table.
    pub fn of_table() -> Self {
        let line = |one: &Permission| ((one.method, one.path), one.need);
        let mut needs: HashMap<_, _> = PERMISSIONS.iter().map(line).collect();
        assert_eq!(needs.len(), PERMISSIONS.len(), "a route has one line");
        let (hidden, like) = NAMED_BATCH;
        for method in ["GET", "PATCH"] {
            needs.insert((method, hidden), needs[&(method, like)]);
        }
        Self(needs)
    }

    /// What a request needs; nothing is told of a method that the path does not take, for that is
    /// answered without looking at anything.
    pub fn need(&self, method: &Method, path: &str) -> Option<Need> {
        let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
        // Both texts are the table's own where there is such a line.
        self.0.iter().find(|((m, p), _)| *m == method && *p == path).map(|(_, need)| *need)
    }
}

/// Writes into the description who may call what, and what is answered to others. Fails where a
/// call is described that the table does not know, or the other way round.
pub fn describe(openapi: &mut OpenApi) {
    let mut described = BTreeSet::new();
    for (path, item) in &mut openapi.paths.paths {
        let methods = [
            (HttpMethod::Get, &mut item.get),
            (HttpMethod::Post, &mut item.post),
            (HttpMethod::Patch, &mut item.patch),
            (HttpMethod::Put, &mut item.put),
            (HttpMethod::Delete, &mut item.delete),
        ];
        for (method, operation) in methods {
            let Some(operation) = operation else { continue };
            let method = match method {
                HttpMethod::Get => "GET",
                HttpMethod::Post => "POST",
                HttpMethod::Patch => "PATCH",
                HttpMethod::Put => "PUT",
                _ => "DELETE",
            };
            let line = PERMISSIONS.iter().find(|one| one.method == method && one.path == path);
            let line = line.unwrap_or_else(|| panic!("{method} {path} has no line in the table"));
            described.insert((line.method, line.path));
            describe_one(operation, line.need);
        }
    }
    let lines: BTreeSet<_> = PERMISSIONS.iter().map(|one| (one.method, one.path)).collect();
    assert_eq!(described, lines, "every line of the table has a route");
    let components = openapi.components.get_or_insert_with(Components::new);
    components.add_security_scheme(
        SCHEME,
        SecurityScheme::Http(
            Http::builder()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(
                    "An API key (hf_…) or an access token of the configured OpenID provider.",
                ))
                .build(),
        ),
    );
}

const SCHEME: &str = "bearer";

fn describe_one(operation: &mut Operation, need: Need) {
    let Need::Scope(scope, _) = need else {
        operation.security = Some(Vec::new());
        return;
    };
    operation.security = Some(vec![SecurityRequirement::new(SCHEME, [scope.as_str()])]);
    let codes = [
        Code::Unauthenticated,
        Code::Forbidden,
        Code::RateLimited,
        Code::AuthenticationUnavailable,
        Code::Overloaded,
    ];
    schemas::add_errors(&mut operation.responses, &codes);
}
