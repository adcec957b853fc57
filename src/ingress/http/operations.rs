//! For those who run it: liveness, readiness, metrics.

use super::extras::{DependencyStatus, Health, HttpExtras};
use super::problem::{Code, Problem, ProblemBody};
use super::schemas::{PlainErrors, ReadinessErrors};
use super::{Call, TAG_OPERATIONS};
use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Liveness and readiness; every process serves them, whatever its roles.
pub fn probes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    HttpExtras: FromRef<S>,
{
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz))
}

/// The metrics.
pub fn metrics_route<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    HttpExtras: FromRef<S>,
{
    OpenApiRouter::default().routes(routes!(metrics))
}

/// That the process answers.
#[derive(Serialize, ToSchema)]
struct Alive {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the process is alive
#[utoipa::path(
    get, path = "/healthz", tag = TAG_OPERATIONS,
    responses((status = 200, description = "It is.", body = Alive), PlainErrors)
)]
async fn healthz() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// A dependency of the process.
#[derive(Serialize, ToSchema)]
struct Dependency {
    #[schema(example = "mysql.0")]
    name: String,
    /// `up`, `degraded` or `down`.
    status: &'static str,
    /// How long it took to answer, or to give up.
    latency_ms: f64,
    /// Whether the process is not ready while it is down.
    required: bool,
    /// What is wrong.
    detail: Option<String>,
}

impl From<DependencyStatus> for Dependency {
    fn from(status: DependencyStatus) -> Self {
        Self {
            name: status.name,
            status: status.health.as_str(),
            latency_ms: status.latency.as_secs_f64() * 1000.0,
            required: status.required,
            detail: status.detail,
        }
    }
}

/// That the process can do its work.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// Always `ready`.
    status: &'static str,
    dependencies: Vec<Dependency>,
}

/// That it cannot: a problem document with the dependencies.
#[derive(Serialize)]
struct NotReady {
    #[serde(flatten)]
    problem: ProblemBody,
    dependencies: Vec<Dependency>,
}

/// Whether nothing that the process needs is down.
pub fn is_ready(dependencies: &[DependencyStatus]) -> bool {
    !dependencies.iter().any(|each| each.required && each.health == Health::Down)
}

/// Whether the process can do its work
///
/// 503 while a dependency that one of its roles needs is down; the problem document then lists
/// the dependencies too.
#[utoipa::path(
    get, path = "/readyz", tag = TAG_OPERATIONS,
    responses((status = 200, description = "It can.", body = Ready), ReadinessErrors)
)]
async fn readyz(State(extras): State<HttpExtras>, call: Call) -> Response {
    let statuses = (extras.readiness)().await;
    let ready = is_ready(&statuses);
    let dependencies: Vec<Dependency> = statuses.into_iter().map(Dependency::from).collect();
    if ready {
        return Json(Ready { status: "ready", dependencies }).into_response();
    }
    let down = dependencies.iter().filter(|each| each.required && each.status == "down");
    let names: Vec<&str> = down.map(|each| each.name.as_str()).collect();
    let problem = Problem::new(Code::NotReady, format!("down: {}", names.join(", ")));
    let headers = [(CONTENT_TYPE, "application/problem+json"), (RETRY_AFTER, "1")];
    let body = NotReady { problem: problem.into_body(&call.request_id), dependencies };
    (StatusCode::SERVICE_UNAVAILABLE, headers, Json(body)).into_response()
}

/// Metrics as Prometheus text
#[utoipa::path(
    get, path = "/metrics", tag = TAG_OPERATIONS,
    responses((status = 200, description = "All metrics of the process.", body = String,
        content_type = "text/plain"), PlainErrors)
)]
async fn metrics(State(extras): State<HttpExtras>) -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (headers, (extras.metrics)()).into_response()
}
