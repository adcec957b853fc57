//! The API's own description: the OpenAPI document and a page that shows it.

use super::schemas::PlainErrors;
use super::{Api, TAG_OPERATIONS};
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// One file, which loads nothing but `/openapi.json`.
const PAGE: &str = include_str!("docs.html");
/// Holds the page to that.
const PAGE_POLICY: &str = "default-src 'none'; connect-src 'self'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(openapi)).routes(routes!(docs))
}

/// The OpenAPI 3.1 document of this API
#[utoipa::path(
    get, path = "/openapi.json", tag = TAG_OPERATIONS,
    responses((status = 200, description = "The document.", body = Object), PlainErrors)
)]
async fn openapi(State(api): State<Api>) -> Response {
    ([(CONTENT_TYPE, "application/json")], api.document.to_string()).into_response()
}

/// This API in a browser
#[utoipa::path(
    get, path = "/docs", tag = TAG_OPERATIONS,
    responses((status = 200, description = "A page.", body = String, content_type = "text/html"),
        PlainErrors)
)]
async fn docs() -> Response {
    let headers =
        [(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, PAGE_POLICY)];
    (headers, PAGE).into_response()
}
