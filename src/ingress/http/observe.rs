//! The edge that every request passes: names, a place in the crowd, a task of its own, panics,
//! metrics, problem bodies.

use super::crowd::Crowd;
use super::extract::Call;
use super::headers::{REQUEST_ID, prefer_wait};
use super::problem::{Code, Problem};
use crate::meters::table::HTTP_PROBLEMS;
use crate::meters::{Answered, Requests};
use crate::trace::{Kind, Moment, Span, Traces};
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Instant;
use tracing::Instrument;

/// Paths that are asked all day by machines: nobody wants to see each time.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What requests meet at the edge. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    crowd: Crowd,
    requests: Arc<Requests>,
    traces: Traces,
}

impl Edge {
    /// Nobody has come yet; spans of requests go there.
    pub fn new(traces: Traces) -> Self {
        Self { crowd: Crowd::none(), requests: Arc::default(), traces }
    }
}

/// Runs the handler as a task of its own: a client that goes away does not stop it, for a database
/// query must not be dropped in the middle.
pub async fn observe(State(edge): State<Edge>, mut request: Request, next: Next) -> Response {
    let (started, began) = (Instant::now(), tokio::time::Instant::now());
    let call = Call::of(request.headers(), &edge.traces);
    let method = method_name(request.method());
    let waits = prefer_wait(request.headers()).is_some();
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.map_or("unmatched", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(call.clone());
    let span = tracing::info_span!(
        "request", request_id = %call.request_id, trace_id = %call.trace.trace_id(), method, route
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
    let (response, code) = finish(response, &call);
    let done = Done { method, route: &route, status: response.status().as_u16(), code };
    trace(&edge.traces, &call, &done, began);
    let answered = Answered { method, status: done.status, waits };
    edge.requests.count(&route, answered, started.elapsed());
    response
}

/// What a request was and how it ended.
struct Done<'a> {
    method: &'static str,
    route: &'a str,
    status: u16,
    code: Option<Code>,
}

/// The span of a request that somebody follows, or that failed in a way that is ours to explain. The
/// path is left out: it names accounts.
fn trace(traces: &Traces, call: &Call, done: &Done<'_>, began: tokio::time::Instant) {
    if !traces.are_on() || UNTRACED.contains(&done.route) {
        return;
    }
    let ours = matches!(done.code, Some(Code::InternalError | Code::OutcomeUnknown));
    // Where the caller's context was passed on as it is, it names the caller's span.
    let (own, parent) = match call.caller {
        Some(caller) if !caller.is_sampled() => (caller.child(), caller.span_id()),
        caller => (call.trace, caller.map_or(0, |caller| caller.span_id())),
    };
    if !call.trace.is_sampled() && !ours {
        return;
    }
    traces.send(|| {
        let name = format!("{} {}", done.method, done.route);
        let span = Span::new(name, Kind::Server, &own, parent, Moment::since(began))
            .text("http.request.method", done.method)
            .text("http.route", done.route)
            .number("http.response.status_code", done.status)
            .text("holdfast.request_id", &*call.request_id);
        let span = match done.code {
            Some(code) => span.text("holdfast.problem", code.as_str()),
            None => span,
        };
        match done.code {
            Some(code) if done.status >= 500 => span.failed(code.as_str()),
            _ => span,
        }
    });
}

/// Writes the problem's body, and the request's id on every answer; says which problem it was.
fn finish(mut response: Response, call: &Call) -> (Response, Option<Code>) {
    let mut problem_code = None;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let (code, retry_after) = (problem.code, problem.retry_after);
        HTTP_PROBLEMS.counter(&[code.as_str()]).increment(1);
        problem_code = Some(code);
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
    (response, problem_code)
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
