//! W3C trace context: which trace, which span of it, and whether somebody looks.

use crate::domain::{Event, TransferId};
use crate::random;
use std::fmt;

/// The longest text that is read: later versions may add to the 55 characters of this one.
const LONGEST: usize = 128;

/// The id of a trace; prints as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl TraceId {
    /// As it is exported.
    pub(super) fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// A place in a trace; prints as a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: TraceId,
    /// 0 where the trace has no span yet.
    span: u64,
    sampled: bool,
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl TraceContext {
    /// Reads a `traceparent`: version 00, or a later one that begins as 00 does; ids are not all
    /// zeros.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32).filter(|trace| *trace != 0)?;
        let span = hex(parts.next()?, 16).filter(|span| *span != 0)?;
        let flags = hex(parts.next()?, 2)?;
        let longer = parts.next().is_some();
        if version == 0xff || longer && version == 0 || text.len() > LONGEST {
            return None;
        }
        let span = u64::try_from(span).expect("16 hexadecimal digits");
        Some(Self { trace: TraceId(trace), span, sampled: flags & 1 == 1 })
    }

    /// Of a new trace, which is among the `share` of all that are sampled or is not. The last 56
    /// bits of its id say which, so that whoever else samples by them decides alike.
    pub fn begin(share: f64) -> Self {
        let trace = ((u128::from(random::bits()) << 64) | u128::from(random::bits())).max(1);
        Self { trace: TraceId(trace), span: span_id(), sampled: falls(trace, share) }
    }

    /// Of what is said about a transfer by nobody's request, such as what drives it on: the trace
    /// whose id is the transfer's own. It has no span yet and nobody looks.
    pub fn of_transfer(id: TransferId) -> Self {
        Self { trace: TraceId(u128::from_be_bytes(id.bytes())), span: 0, sampled: false }
    }

    /// Of an event: what it came with, or its transfer's own.
    pub fn of(event: &Event) -> Self {
        let given = event.traceparent.as_deref().and_then(Self::parse);
        given.unwrap_or_else(|| Self::of_transfer(event.terms.id))
    }

    /// A new span of this trace that somebody looks at.
    pub fn child(&self) -> Self {
        Self { trace: self.trace, span: span_id(), sampled: true }
    }

    /// The trace.
    pub fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// The span; 0 for none.
    pub fn span_id(&self) -> u64 {
        self.span
    }

    /// Whether somebody looks.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

fn span_id() -> u64 {
    random::bits().max(1)
}

fn falls(trace: u128, share: f64) -> bool {
    const RANGE: u64 = 1 << 56;
    let place = u64::try_from(trace & u128::from(RANGE - 1)).expect("56 bits");
    (place as f64) >= (1.0 - share) * RANGE as f64
}

/// So many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let fits = text.len() == digits && text.bytes().all(lower);
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::EventType;
    use crate::domain::testing::{stamp, terms};

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_written_again() {
        let read = TraceContext::parse(VALID).unwrap();
        assert_eq!(read.to_string(), VALID);
        assert_eq!(read.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(read.is_sampled());
        let begun = TraceContext::begin(0.5);
        assert_eq!(TraceContext::parse(&begun.to_string()), Some(begun));
        let later = "7e-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more";
        assert!(!TraceContext::parse(later).unwrap().is_sampled());
    }

    #[test]
    fn what_is_no_trace_context_is_not_read() {
        for text in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "x",
            "",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
        let long = format!("01{}-{}", &VALID[2..], "x".repeat(LONGEST));
        assert_eq!(TraceContext::parse(&long), None);
    }

    #[test]
    fn the_share_of_sampled_traces_is_the_one_that_was_asked_for() {
        crate::random::seed_thread(7);
        let sampled =
            |share: f64| (0..10_000).filter(|_| TraceContext::begin(share).is_sampled()).count();
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 10_000));
        let tenth = sampled(0.1);
        assert!((800..1200).contains(&tenth), "{tenth} of 10000");
    }

    #[test]
    fn an_event_without_a_context_is_in_the_trace_of_its_transfer() {
        let mut event = stamp().event(EventType::Held, &terms(1, "a", "b", 5));
        let own = TraceContext::of(&event);
        assert_eq!(own.trace_id().to_string(), event.terms.id.hex());
        assert!(own.span_id() == 0 && !own.is_sampled());
        assert!(own.child().span_id() != 0 && own.child().is_sampled());
        event.traceparent = Some("not one".into());
        assert_eq!(TraceContext::of(&event), own);
        event.traceparent = Some(VALID.into());
        assert_eq!(TraceContext::of(&event).to_string(), VALID);
    }
}
