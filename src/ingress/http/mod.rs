//! The REST API: requests are parsed here once, and answered here; what happens in between is the
//! application's and knows nothing of HTTP.

mod account_body;
mod accounts;
mod acts;
mod answers;
mod batches;
mod compatibility;
mod crowd;
mod described;
mod docs;
mod extract;
mod extras;
mod guard;
mod headers;
mod histories;
mod json;
mod limits;
mod observe;
mod operations;
mod params;
mod permissions;
mod problem;
mod proposal_body;
mod proposals;
mod schemas;
mod transfer_body;
mod transfers;

pub use acts::ActAnswer;
pub use answers::{AccountAnswer, BalanceAnswer, TimelineAnswer, TransferAnswer};
pub use extras::{DependencyStatus, Health, HttpExtras, Readiness};
pub use limits::LimitsAnswer;
pub use params::{Position, cursor, decode as position};
pub use permissions::{About, Need, PERMISSIONS, Permission};
pub use problem::Problem;
pub use proposal_body::ProposalAnswer;
pub use transfer_body::{Caller, Shape, transfer as read_transfer};

use super::Ingress;
use crate::access::Gate;
use crate::limits::Limiter;
use crate::trace::Traces;
use axum::Router;
use axum::extract::FromRef;
use axum::middleware::from_fn_with_state;
use extract::Call;
use guard::Guard;
use observe::Edge;
use problem::{Code, Fault, Place, ProblemBody};
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa::openapi::extensions::Extensions;
use utoipa_axum::router::OpenApiRouter;

const TAG_ACCOUNTS: &str = "Accounts";
const TAG_TRANSFERS: &str = "Transfers";
const TAG_PROPOSALS: &str = "Proposals";
const TAG_OPERATIONS: &str = "Operations";
const TAG_COMPATIBILITY: &str = "Compatibility";

/// What every handler is given.
#[derive(Clone)]
struct Api {
    ingress: Ingress,
    extras: HttpExtras,
    document: Arc<str>,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Holdfast", description = include_str!("docs.md")),
    components(schemas(ProblemBody, Fault, Place, schemas::CurrencyCode)),
    tags(
        (name = TAG_ACCOUNTS, description = "Accounts, balances, ledgers"),
        (name = TAG_TRANSFERS, description = "Transfers and what becomes of them"),
        (name = TAG_PROPOSALS, description = "What one principal proposes and another approves"),
        (name = TAG_OPERATIONS, description = "For those who run it"),
        (name = TAG_COMPATIBILITY,
            description = "Paths of an older system: the same behaviour in another shape")
    )
)]
struct Description;

/// The whole API, for those whom the gate lets in, as often as the limiter says. Every error it
/// answers is a problem document.
pub fn router(
    ingress: Ingress,
    extras: HttpExtras,
    gate: Gate,
    limiter: Option<Limiter>,
) -> Router {
    let (routes, mut openapi) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(accounts::routes())
        .merge(histories::routes())
        .merge(limits::routes())
        .merge(transfers::routes())
        .merge(batches::routes())
        .merge(acts::routes())
        .merge(proposals::routes())
        .merge(compatibility::routes())
        .merge(operations::probes())
        .merge(operations::metrics_route())
        .merge(docs::routes())
        .split_for_parts();
    permissions::describe(&mut openapi);
    described::describe(&mut openapi);
    openapi.extensions = Some(Extensions::builder().add("x-error-codes", error_codes()).build());
    let edge = Edge::new(ingress.context().traces.clone());
    let document = openapi.to_json().expect("the description is made of strings and numbers");
    routes
        .route("/v1/accounts/batch", accounts::named_batch())
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(Guard::new(gate, limiter, ingress.clone()), guard::guard))
        .layer(from_fn_with_state(edge, observe::observe))
        .with_state(Api { ingress, extras, document: document.into() })
}

impl FromRef<Api> for HttpExtras {
    fn from_ref(api: &Api) -> Self {
        api.extras.clone()
    }
}

/// What a process serves that does not serve the API: `/healthz`, `/readyz` and `/metrics`. Where
/// the API is `expected` any other path is answered with 503, so that callers repeat it; so are the
/// metrics, for which a credential may be needed that cannot be looked at yet.
pub fn probes(extras: HttpExtras, expected: bool) -> Router {
    let probes = OpenApiRouter::new().merge(operations::probes());
    let (routes, _) = match expected {
        true => probes.split_for_parts(),
        false => probes.merge(operations::metrics_route()).split_for_parts(),
    };
    let edge = Edge::new(Traces::default());
    let routes = if expected { routes.fallback(not_yet) } else { routes.fallback(unknown_path) };
    routes
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(edge, observe::observe))
        .with_state(extras)
}

async fn not_yet() -> Problem {
    Problem::new(
        Code::ShardUnavailable,
        "the process is starting; nothing was accepted, repeat the request with the same key",
    )
}

/// Every code with its meaning: what `type` of a problem document refers to on the docs page.
fn error_codes() -> serde_json::Value {
    let describe = |code: &Code| {
        serde_json::json!({
            "code": code.as_str(), "status": code.status(), "title": code.title(),
            "advice": code.advice(),
        })
    };
    Code::ALL.iter().map(describe).collect()
}

async fn unknown_path() -> Problem {
    Problem::new(Code::NotFound, "there is nothing at this path; see /docs")
}

async fn unknown_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "this path takes the methods that Allow lists")
}
