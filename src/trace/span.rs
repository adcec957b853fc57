//! One span, as it is exported.

use super::TraceContext;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span as Exported, Status};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// What a span is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work inside of the process.
    Internal,
    /// A request that somebody waits for.
    Server,
    /// A record that is sent.
    Producer,
    /// A record that is acted on.
    Consumer,
}

/// A moment on the wall clock, for spans only: deadlines and money go by other clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(u64);

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self::since(Instant::now())
    }

    /// When that was.
    pub fn since(instant: Instant) -> Self {
        let at = SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(UNIX_EPOCH);
        let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A span that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Span(Exported);

impl Span {
    /// From a moment until now; `parent` is the id of a span of the same trace, 0 for none.
    pub fn new(
        name: impl Into<String>,
        kind: Kind,
        own: &TraceContext,
        parent: u64,
        began: Moment,
    ) -> Self {
        let kind = match kind {
            Kind::Internal => SpanKind::Internal,
            Kind::Server => SpanKind::Server,
            Kind::Producer => SpanKind::Producer,
            Kind::Consumer => SpanKind::Consumer,
        };
        Self(Exported {
            trace_id: own.trace_id().bytes().to_vec(),
            span_id: own.span_id().to_be_bytes().to_vec(),
            parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
            flags: 1,
            name: name.into(),
            kind: kind.into(),
            start_time_unix_nano: began.0,
            end_time_unix_nano: Moment::now().0.max(began.0),
            ..Exported::default()
        })
    }

    /// With an attribute that is a text.
    #[must_use]
    pub fn text(self, key: &str, value: impl Into<String>) -> Self {
        self.with(key, Value::StringValue(value.into()))
    }

    /// With an attribute that is a number.
    #[must_use]
    pub fn number(self, key: &str, value: impl TryInto<i64>) -> Self {
        self.with(key, Value::IntValue(value.try_into().unwrap_or(i64::MAX)))
    }

    /// With a link to another trace's span.
    #[must_use]
    pub fn linked(mut self, to: &TraceContext) -> Self {
        self.0.links.push(Link {
            trace_id: to.trace_id().bytes().to_vec(),
            span_id: to.span_id().to_be_bytes().to_vec(),
            flags: 1,
            ..Link::default()
        });
        self
    }

    /// Which ended in an error of this kind.
    #[must_use]
    pub fn failed(mut self, kind: &str) -> Self {
        self.0.status = Some(Status { message: String::new(), code: StatusCode::Error.into() });
        self.text("error.type", kind)
    }

    pub(super) fn into_exported(self) -> Exported {
        self.0
    }

    fn with(mut self, key: &str, value: Value) -> Self {
        self.0.attributes.push(attribute(key, value));
        self
    }
}

/// A name and what it stands for.
pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
