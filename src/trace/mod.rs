//! Traces for `OpenTelemetry`: a transfer is one trace, from the request to the projections.
//!
//! A span is made where a step ends, once its outcome is known, and only if somebody is to see it:
//! the head of the trace was sampled, or what became of the transfer is worth a look. The ids travel
//! as W3C `traceparent` in the events, so that each step finds its parent there. Nothing here can
//! hold up or fail what it tells of: what does not fit the queue is dropped and counted.

mod context;
mod export;
mod span;

pub use context::{TraceContext, TraceId};
pub use export::Exporting;
pub use span::{Kind, Moment, Span};

use crate::meters::table::SPANS_DROPPED;
use crate::seldom::Seldom;
use export::Exporter;
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use tokio::sync::mpsc;
use url::Url;

/// Spans that may wait to be sent; each takes about a kilobyte.
const WAITING: usize = 8192;

/// Where traces go and how many.
#[derive(Clone, Debug)]
pub struct TraceSettings {
    /// The collector; `/v1/traces` is added to its path.
    pub endpoint: Url,
    /// Sent along with every request; values are secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The share of traces, from 0 to 1, that is exported of those that begin here.
    pub share: f64,
}

/// What a process says of itself with every span.
#[derive(Clone, Debug)]
pub struct Resource {
    /// Its name among others.
    pub instance: String,
    /// Its roles, comma-separated.
    pub roles: String,
}

/// The way of spans out of the process. Cheap to clone; without settings it leads nowhere and costs
/// nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Way>>);

#[derive(Debug)]
struct Way {
    queue: mpsc::Sender<Span>,
    share: f64,
}

impl Traces {
    /// Begins to send spans; the other value ends that.
    pub fn start(
        settings: &TraceSettings,
        resource: &Resource,
    ) -> Result<(Self, Exporting), reqwest::Error> {
        let (queue, inbox) = mpsc::channel(WAITING);
        let exporting = Exporter::new(settings, resource, inbox)?.start();
        Ok((Self(Some(Arc::new(Way { queue, share: settings.share }))), exporting))
    }

    /// Whether spans go anywhere.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a span of this trace is to be made although nothing unusual happened.
    pub fn follow(&self, context: &TraceContext) -> bool {
        context.is_sampled() && self.are_on()
    }

    /// The context of a request that came with this one: what the caller decided about sampling
    /// holds, and where there was no caller who did, the configured share does.
    pub fn enter(&self, caller: Option<TraceContext>) -> TraceContext {
        match (caller, &self.0) {
            (Some(caller), Some(_)) if caller.is_sampled() => caller.child(),
            (Some(caller), _) => caller,
            (None, Some(way)) => TraceContext::begin(way.share),
            (None, None) => TraceContext::begin(0.0),
        }
    }

    /// Sends a span, which is made only where there is room for it.
    pub fn send(&self, span: impl FnOnce() -> Span) {
        let Some(way) = &self.0 else { return };
        match way.queue.try_reserve() {
            Ok(room) => room.send(span()),
            Err(_) => dropped("no_room", 1, "the queue is full"),
        }
    }
}

/// Counts spans that nobody will see, and says so now and then.
fn dropped(why: &'static str, spans: u64, words: &str) {
    static SAID: Seldom = Seldom::unsaid();
    SPANS_DROPPED.counter(&[why]).increment(spans);
    if let Some(left_out) = SAID.due() {
        tracing::warn!(why, spans, error = words, left_out, "spans of traces are dropped");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(room: usize, share: f64) -> (Traces, mpsc::Receiver<Span>) {
        let (queue, inbox) = mpsc::channel(room);
        (Traces(Some(Arc::new(Way { queue, share }))), inbox)
    }

    fn span() -> Span {
        Span::new("hold", Kind::Internal, &TraceContext::begin(1.0), 0, Moment::now())
    }

    #[test]
    fn a_span_that_has_no_room_is_not_even_made() {
        let (traces, mut inbox) = way(1, 1.0);
        traces.send(span);
        traces.send(|| panic!("it is made though nobody can see it"));
        assert!(inbox.try_recv().is_ok() && inbox.try_recv().is_err());
        Traces::default().send(|| panic!("it is made though traces are off"));
    }

    #[test]
    fn what_the_caller_decided_holds() {
        let (all, _inbox) = way(1, 1.0);
        let (none, _inbox) = way(1, 0.0);
        let sampled = TraceContext::begin(1.0);
        let unsampled = TraceContext::begin(0.0);
        let entered = none.enter(Some(sampled));
        assert_eq!(entered.trace_id(), sampled.trace_id());
        assert!(entered.is_sampled() && entered.span_id() != sampled.span_id());
        assert_eq!(all.enter(Some(unsampled)), unsampled);
        assert!(all.enter(None).is_sampled() && !none.enter(None).is_sampled());
        assert_eq!(Traces::default().enter(Some(sampled)), sampled, "it is only passed on");
        assert!(!Traces::default().enter(None).is_sampled());
    }
}
