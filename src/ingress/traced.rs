//! The spans of a group commit: one of its own, and `accept` for each request that is followed.

use super::queue::{Answer, Waiting};
use crate::domain::Shard;
use crate::trace::{Kind, Moment, Span, TraceContext, Traces};
use tokio::time::Instant;

/// A group commit in which somebody looks at some requests.
pub(super) struct Accepting {
    traces: Traces,
    shard: Shard,
    began: Moment,
    rows: usize,
    members: Vec<Member>,
}

/// A request: its place in the batch, its span and that of its caller, and since when it waited.
struct Member {
    index: usize,
    own: TraceContext,
    parent: u64,
    since: Instant,
}

impl Accepting {
    /// Has the events of those that are followed go on from the spans that are made of them here.
    pub(super) fn begin(traces: &Traces, shard: Shard, batch: &mut [Waiting]) -> Option<Self> {
        if !traces.are_on() {
            return None;
        }
        let rows = batch.len();
        let mut members = Vec::new();
        for (index, waiting) in batch.iter_mut().enumerate() {
            let since = waiting.since();
            let traceparent = waiting.traceparent();
            let context = traceparent.as_deref().and_then(TraceContext::parse);
            let Some(context) = context.filter(|context| traces.follow(context)) else { continue };
            let own = context.child();
            *traceparent = Some(own.to_string().into());
            members.push(Member { index, own, parent: context.span_id(), since });
        }
        let began = Moment::now();
        (!members.is_empty()).then(|| Self { traces: traces.clone(), shard, began, rows, members })
    }

    /// It is done: what became of each.
    pub(super) fn end(self, answers: &[Answer]) {
        let batch = TraceContext::begin(1.0);
        let (shard, rows) = (self.shard.0, self.rows);
        self.traces.send(|| {
            let accepted = answers.iter().flatten().filter(|answer| !answer.replayed).count();
            Span::new("group_commit", Kind::Internal, &batch, 0, self.began)
                .number("holdfast.shard", shard)
                .number("holdfast.rows", rows)
                .number("holdfast.accepted", accepted)
        });
        for member in self.members {
            let since = Moment::since(member.since);
            self.traces.send(|| {
                let span = Span::new("accept", Kind::Internal, &member.own, member.parent, since)
                    .number("holdfast.shard", shard)
                    .linked(&batch);
                match &answers[member.index] {
                    Ok(submitted) => span
                        .text("holdfast.transfer", submitted.transfer.row.terms.id.to_string())
                        .text("holdfast.outcome", outcome(submitted.replayed)),
                    // Why is on the span of the request.
                    Err(_) => span.text("holdfast.outcome", "refused"),
                }
            });
        }
    }
}

fn outcome(replayed: bool) -> &'static str {
    if replayed { "replayed" } else { "accepted" }
}
