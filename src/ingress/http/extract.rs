//! What handlers take from a request: ids of the path, the body's text, the call itself.

use super::headers;
use super::params::Params;
use super::problem::{Code, Place, Problem};
use crate::domain::{AccountId, ProposalId, TransferId};
use crate::trace::{TraceContext, Traces};
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::EXPECT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request as HttpRequest};
use futures::StreamExt;
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// The largest body but for batches, and the largest item of a batch.
pub const MAX_BODY: usize = 64 * 1024;
/// The largest body of a batch.
pub const MAX_BATCH_BODY: usize = 2 * 1024 * 1024;
/// How much of a body that is too large is read and thrown away, so that a client that sends
/// first and reads later gets the answer.
const MAX_DISCARDED: usize = 8 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The names of one request among all: set at the edge, there for every handler.
#[derive(Clone, Debug)]
pub struct Call {
    /// In the answer's `X-Request-Id`.
    pub request_id: Arc<str>,
    /// W3C trace context, of which the request's span is a part.
    pub traceparent: Arc<str>,
    /// The same, read.
    pub trace: TraceContext,
    /// The caller's, where there is one.
    pub caller: Option<TraceContext>,
}

impl Call {
    /// From the headers of a request, or minted.
    pub fn of(headers: &HeaderMap, traces: &Traces) -> Self {
        let caller = headers::traceparent(headers);
        let trace = traces.enter(caller);
        let request_id = headers::request_id(headers);
        Self { request_id, traceparent: trace.to_string().into(), trace, caller }
    }
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let call = parts.extensions.get::<Self>().cloned();
        Ok(call.unwrap_or_else(|| Self::of(&parts.headers, &Traces::default())))
    }
}

/// The account id of the path.
pub struct AccountPath(pub AccountId);

impl<S: Send + Sync> FromRequestParts<S> for AccountPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_of_path(parts, state).await.map(Self)
    }
}

/// The transfer id of the path.
pub struct TransferPath(pub TransferId);

impl<S: Send + Sync> FromRequestParts<S> for TransferPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_of_path(parts, state).await.map(Self)
    }
}

/// The proposal id of the path.
pub struct ProposalPath(pub ProposalId);

impl<S: Send + Sync> FromRequestParts<S> for ProposalPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_of_path(parts, state).await.map(Self)
    }
}

async fn id_of_path<T, S>(parts: &mut Parts, state: &S) -> Result<T, Problem>
where
    T: FromStr,
    T::Err: std::fmt::Display,
    S: Send + Sync,
{
    let fault = |detail: String| Problem::fault(Place::Path, "/id", detail);
    let Path(text) = Path::<String>::from_request_parts(parts, state)
        .await
        .map_err(|_| fault("is not UTF-8".to_owned()))?;
    text.parse().map_err(|error: T::Err| fault(error.to_string()))
}

/// The text of a JSON body of at most `LIMIT` bytes; not parsed yet.
pub struct JsonText<const LIMIT: usize = MAX_BODY>(pub String);

impl<S: Send + Sync, const LIMIT: usize> FromRequest<S> for JsonText<LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        if !headers::is_json(request.headers()) {
            return Err(Problem::new(
                Code::UnsupportedMediaType,
                "the body must come with Content-Type: application/json, in UTF-8 and without a \
                 content encoding",
            ));
        }
        let bytes = read_body(request, LIMIT).await?;
        let text = String::from_utf8(bytes).map_err(|_| body_fault("is not UTF-8"))?;
        if text.trim_ascii().is_empty() {
            return Err(body_fault("is empty; a JSON object is expected"));
        }
        Ok(Self(text))
    }
}

/// A body that says nothing: none at all, or an empty JSON object.
pub struct NoBody;

impl<S: Send + Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = read_body(request, MAX_BODY).await?;
        let empty = bytes.trim_ascii();
        let object = empty.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
        if empty.is_empty() || object.is_some_and(|inner| inner.trim_ascii().is_empty()) {
            return Ok(Self);
        }
        Err(body_fault("this request takes no body"))
    }
}

fn body_fault(detail: &str) -> Problem {
    Problem::fault(Place::Body, "", detail)
}

/// The whole body. A length that is announced too large is refused before anything is read.
async fn read_body(request: Request, limit: usize) -> Result<Vec<u8>, Problem> {
    let (mut parts, body) = HttpRequest::into_parts(request);
    // Requests with a body take no parameters.
    let Ok(params) = Params::from_request_parts(&mut parts, &()).await;
    params.finish()?;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit && parts.headers.contains_key(EXPECT) {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(body, announced.min(limit), limit)).await {
        Ok(read) => read,
        Err(_) => Err(body_fault("did not arrive in time")),
    }
}

async fn collect(body: Body, expected: usize, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::with_capacity(expected);
    let mut chunks = body.into_data_stream();
    let mut seen = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| body_fault("ended early"))?;
        seen += chunk.len();
        if seen <= limit {
            bytes.extend_from_slice(&chunk);
        } else if seen > limit + MAX_DISCARDED {
            break;
        }
    }
    if seen > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::BodyTooLarge, format!("the body is over {limit} bytes"))
}
