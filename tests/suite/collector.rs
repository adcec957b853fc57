//! A collector of traces: OTLP over HTTP, as the real ones take it.

use crate::wait::DEADLINE;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What arrived.
#[derive(Clone, Default)]
pub struct Collector {
    seen: Arc<Mutex<Vec<Seen>>>,
    address: String,
}

/// A span; ids are hexadecimal.
#[derive(Clone, Debug)]
pub struct Seen {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub attributes: BTreeMap<String, String>,
    pub links: Vec<(String, String)>,
    /// Nanoseconds.
    pub time: (u64, u64),
    /// The process that it came from.
    pub resource: BTreeMap<String, String>,
    /// The credential that came with it.
    pub authorization: String,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let collector = Self { address, ..Self::default() };
        let app = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        collector
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The spans of a trace.
    pub fn of(&self, trace: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|span| span.trace == trace).collect()
    }

    /// The spans of a trace, once they are these and no others.
    pub async fn exactly(&self, trace: &str, edges: &[(&str, &str)]) -> Vec<Seen> {
        let spans = self.until(trace, edges).await;
        assert_eq!(parents(&spans).len(), edges.len(), "{spans:#?}");
        spans
    }

    /// The spans of a trace, once these are among them: each with the name of its parent, or the id
    /// of one that was never sent.
    pub async fn until(&self, trace: &str, edges: &[(&str, &str)]) -> Vec<Seen> {
        let expected: BTreeSet<(String, String)> =
            edges.iter().map(|(name, parent)| ((*name).to_owned(), (*parent).to_owned())).collect();
        let deadline = Instant::now() + DEADLINE;
        loop {
            let spans = self.of(trace);
            let found = parents(&spans);
            if expected.is_subset(&found) {
                return spans;
            }
            assert!(Instant::now() < deadline, "{trace} has {found:?} and not {expected:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn parents(spans: &[Seen]) -> BTreeSet<(String, String)> {
    let name = |id: &String| {
        spans.iter().find(|span| span.id == *id).map_or(id.clone(), |span| span.name.clone())
    };
    spans.iter().map(|span| (span.name.clone(), name(&span.parent))).collect()
}

async fn take(State(collector): State<Collector>, headers: HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut seen = collector.seen.lock().unwrap();
    for of_resource in request.resource_spans {
        let resource = attributes(&of_resource.resource.unwrap().attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
            let (resource, authorization) = (resource.clone(), authorization.to_owned());
            seen.push(Seen { resource, authorization, ..Seen::from(span) });
        }
    }
    StatusCode::OK
}

impl From<Span> for Seen {
    fn from(span: Span) -> Self {
        let link = |trace: &[u8], id: &[u8]| (hex(trace), hex(id));
        Self {
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            kind: span.kind(),
            failed: span.status.is_some_and(|status| status.code() == SpanStatus::Error),
            attributes: attributes(&span.attributes),
            links: span.links.iter().map(|to| link(&to.trace_id, &to.span_id)).collect(),
            time: (span.start_time_unix_nano, span.end_time_unix_nano),
            name: span.name,
            resource: BTreeMap::new(),
            authorization: String::new(),
        }
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", pair.key),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
