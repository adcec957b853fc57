//! The edge that every request passes: names, a place in the crowd, a task of its own, panics,
//! metrics, problem bodies.

use super::crowd::Crowd;
use super::extract::Call;
use super::headers::REQUEST_ID;
use super::problem::{Code, Problem};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Instant;
use tracing::Instrument;

/// Runs the handler as a task of its own: a client that goes away does not stop it, for a database
/// query must not be dropped in the middle.
pub async fn observe(State(crowd): State<Crowd>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let call = Call::of(request.headers());
    let method = method_name(request.method());
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("unmatched", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(call.clone());
    let span = tracing::info_span!(
        "request", request_id = %call.request_id, traceparent = %call.traceparent, method, route
    );
    let response = match crowd.enter(&route, request.headers()) {
        Err(problem) => problem.into_response(),
        Ok(place) => {
            let handled = next.run(request).instrument(span.clone());
            let handler = async move {
                let _place = place;
                handled.await
            };
            tokio::spawn(handler).await.unwrap_or_else(|error| {
                span.in_scope(|| tracing::error!(%error, "a handler panicked"));
                let detail = "the request failed inside; what became of it is logged under its id";
                Problem::new(Code::InternalError, detail).into_response()
            })
        }
    };
    let response = finish(response, &call);
    let status = response.status().as_str().to_owned();
    metrics::histogram!("holdfast_http_request_seconds", "route" => route.clone())
        .record(started.elapsed().as_secs_f64());
    metrics::counter!("holdfast_http_requests_total",
        "route" => route, "method" => method, "status" => status)
    .increment(1);
    response
}

/// Writes the problem's body, and the request's id on every answer.
fn finish(mut response: Response, call: &Call) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let (code, retry_after) = (problem.code, problem.retry_after);
        let body = serde_json::to_vec(&problem.into_body(&call.request_id));
        *response.body_mut() = Body::from(body.expect("strings and numbers only"));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"holdfast\""));
        }
        if let Some(seconds) = retry_after.or(code.retry_after()) {
            headers.insert(RETRY_AFTER, seconds.into());
        }
    }
    let id = HeaderValue::from_str(&call.request_id).expect("visible ASCII only");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// A label from a fixed set: a caller may invent methods.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PATCH => "PATCH",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
