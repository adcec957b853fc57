//! The span `drive` of a transfer that stood still.

use crate::domain::Shard;
use crate::store::StuckTransfer;
use crate::trace::{Kind, Moment, Span, TraceContext, Traces};

/// Sends it, where traces are on. Rows do not know the trace of the request, so that this begins the
/// one whose id is the transfer's; the steps that follow go on from there, and are all followed.
pub(super) fn driven(
    traces: &Traces,
    shard: Shard,
    stuck: &StuckTransfer,
    action: &'static str,
) -> Option<TraceContext> {
    if !traces.are_on() {
        return None;
    }
    let id = stuck.row.terms.id;
    let own = TraceContext::of_transfer(id).child();
    traces.send(|| {
        Span::new("drive", Kind::Internal, &own, 0, Moment::now())
            .number("holdfast.shard", shard.0)
            .text("holdfast.transfer", id.to_string())
            .number("holdfast.attempt", stuck.attempts + 1)
            .text("holdfast.state", stuck.row.state.as_str())
            .text("holdfast.outcome", action)
    });
    Some(own)
}
