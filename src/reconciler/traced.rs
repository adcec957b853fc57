//! The span `drive` of a transfer that stood still.

use crate::domain::{Shard, State, TransferId};
use crate::trace::{Kind, Moment, Span, TraceContext, Traces};

/// What was done about a transfer.
pub(super) struct Driven {
    pub shard: Shard,
    pub transfer: TransferId,
    pub state: State,
    /// How often that was done by now.
    pub attempt: u32,
    pub action: &'static str,
}

impl Driven {
    /// Sends its span, where traces are on. Rows do not know the trace of the request, so that this
    /// begins the one whose id is the transfer's; the steps that follow go on from there, and are
    /// all followed.
    pub(super) fn traced(&self, traces: &Traces) -> Option<TraceContext> {
        if !traces.are_on() {
            return None;
        }
        let own = TraceContext::of_transfer(self.transfer).child();
        traces.send(|| {
            Span::new("drive", Kind::Internal, &own, 0, Moment::now())
                .number("holdfast.shard", self.shard.0)
                .text("holdfast.transfer", self.transfer.to_string())
                .number("holdfast.attempt", self.attempt)
                .text("holdfast.state", self.state.as_str())
                .text("holdfast.outcome", self.action)
        });
        Some(own)
    }
}
