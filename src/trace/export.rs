//! Spans to a collector: OTLP as protobuf over HTTP, many at a time, from a task of its own.
//!
//! An exporter of a library would do, were it not that none counts what it drops, and that each
//! takes settings from variables of its own beside those of `holdfast config`.

use super::span::attribute;
use super::{Resource, Span, TraceSettings, dropped};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource as ExportedResource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Most spans of one request.
const MOST: usize = 1024;
/// How long a span waits for others to go with it.
const GATHERING: Duration = Duration::from_secs(1);
/// How long the collector may take to answer, and how often it is asked.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The task that sends spans.
pub struct Exporting {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Exporting {
    /// Sends what waits, once, and ends; what comes later is dropped.
    pub async fn finish(self) {
        self.stop.cancel();
        // It does not panic, and nothing depends on it.
        let _ = self.task.await;
    }
}

/// Why spans did not arrive.
enum Failed {
    /// The collector may take them later.
    Passing(String),
    /// It never will.
    Lasting(String),
}

pub(super) struct Exporter {
    client: reqwest::Client,
    url: Url,
    resource: ExportedResource,
    inbox: mpsc::Receiver<Span>,
    stop: CancellationToken,
}

impl Exporter {
    pub fn new(
        settings: &TraceSettings,
        resource: &Resource,
        inbox: mpsc::Receiver<Span>,
    ) -> Result<Self, reqwest::Error> {
        let headers: HeaderMap = settings.headers.iter().cloned().collect();
        let client = reqwest::Client::builder()
            .default_headers(headers)
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let mut url = settings.endpoint.clone();
        url.set_path(&format!("{}/v1/traces", url.path().trim_end_matches('/')));
        let words = [
            ("service.name", "holdfast"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", &resource.instance),
            ("holdfast.roles", &resource.roles),
        ];
        let attributes =
            words.map(|(key, text)| attribute(key, Value::StringValue(text.to_owned())));
        let resource =
            ExportedResource { attributes: attributes.into(), ..ExportedResource::default() };
        Ok(Self { client, url, resource, inbox, stop: CancellationToken::new() })
    }

    pub fn start(self) -> Exporting {
        let stop = self.stop.clone();
        Exporting { task: tokio::spawn(self.run()), stop }
    }

    async fn run(mut self) {
        let mut spans = Vec::with_capacity(MOST);
        while self.gather(&mut spans).await {
            self.export(std::mem::take(&mut spans)).await;
        }
    }

    /// Waits for spans and a little for more; false once there will be none.
    async fn gather(&mut self, spans: &mut Vec<Span>) -> bool {
        let mut until = None;
        while spans.len() < MOST {
            let more = MOST - spans.len();
            let enough = until.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = self.stop.cancelled(), if !self.inbox.is_closed() => self.inbox.close(),
                () = tokio::time::sleep_until(enough), if until.is_some() => break,
                // Closed, it still hands out what is in it, and then nothing.
                got = self.inbox.recv_many(spans, more) => match got {
                    0 => break,
                    _ => until = until.or_else(|| Some(Instant::now() + GATHERING)),
                },
            }
        }
        !spans.is_empty()
    }

    async fn export(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = Bytes::from(self.request(spans).encode_to_vec());
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match self.post(body.clone()).await {
                Ok(0) => return,
                Ok(refused) => return dropped("refused", refused, "the collector refused some"),
                Err(Failed::Lasting(words)) => return dropped("refused", count, &words),
                Err(Failed::Passing(words)) if attempt == ATTEMPTS || self.stop.is_cancelled() => {
                    return dropped("not_sent", count, &words);
                }
                Err(Failed::Passing(_)) => {}
            }
            attempt += 1;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => pause *= 2,
            }
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let scope = InstrumentationScope {
            name: "holdfast".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = spans.into_iter().map(Span::into_exported).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(self.resource.clone());
        let resource_spans =
            vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }

    /// How many spans the collector refused of a request that it took.
    async fn post(&self, body: Bytes) -> Result<u64, Failed> {
        let request = self.client.post(self.url.clone()).body(body);
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let away = |error: reqwest::Error| Failed::Passing(error.without_url().to_string());
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        if !status.is_success() {
            let words = format!("the collector answers {status}");
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => Failed::Passing(words),
                _ => Failed::Lasting(words),
            });
        }
        // They arrived, whatever stands in the answer.
        let said = answer.bytes().await.unwrap_or_default();
        let said = ExportTraceServiceResponse::decode(said).unwrap_or_default();
        let refused = said.partial_success.map_or(0, |partial| partial.rejected_spans);
        Ok(u64::try_from(refused).unwrap_or(0))
    }
}
