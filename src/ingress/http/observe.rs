//! The edge that every request passes: names, a place in the crowd, a task of its own, panics,
//! metrics, problem bodies.

use super::crowd::Crowd;
use super::extract::Call;
use super::headers::{REQUEST_ID, prefer_wait};
use super::problem::{Code, Problem};
use crate::meters::table::HTTP_PROBLEMS;
use crate::meters::{Answered, Requests};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument;

/// What requests meet at the edge. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    crowd: Crowd,
    requests: Arc<Requests>,
}

impl Edge {
    /// Nobody has come yet.
    pub fn new() -> Self {
        Self { crowd: Crowd::none(), requests: Arc::default() }
    }
}

/// Runs the handler as a task of its own: a client that goes away does not stop it, for a database
/// query must not be dropped in the middle.
pub async fn observe(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let call = Call::of(request.headers());
    let method = method_name(request.method());
    let waits = prefer_wait(request.headers()).is_some();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("unmatched", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(call.clone());
    let span = tracing::info_span!(
        "request", request_id = %call.request_id, traceparent = %call.traceparent, method, route
    );
    let response = match edge.crowd.enter(&route, request.headers()) {
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
    let answered = Answered { method, status: response.status().as_u16(), waits };
    edge.requests.count(&route, answered, started.elapsed());
    response
}

/// Writes the problem's body, and the request's id on every answer.
fn finish(mut response: Response, call: &Call) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let (code, retry_after) = (problem.code, problem.retry_after);
        HTTP_PROBLEMS.counter(&[code.as_str()]).increment(1);
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
