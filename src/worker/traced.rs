//! The spans of a batch: one of its own, and one for each event of it that somebody is to see.
//!
//! An event is followed where the head of its trace was sampled. So is one that was driven on or
//! replayed, and one of a transfer that does not go the usual way: refused, ended without having
//! been committed, let go, dead. What comes after it is then followed too.

use super::batch::Batch;
use super::lane::LaneContext;
use crate::broker::Position;
use crate::domain::{Event, EventType, Outcome, Reason, Shard};
use crate::roles::Role;
use crate::trace::{Kind, Moment, Span, TraceContext, Traces};
use tokio::time::Instant;

/// A batch whose outcomes are known.
pub struct Spans<'a> {
    traces: &'a Traces,
    role: Role,
    lane: Shard,
    batch: &'a Batch,
    own: TraceContext,
    followed: usize,
}

impl<'a> Spans<'a> {
    /// Of a batch; none where traces are off.
    pub fn of(context: &'a LaneContext, lane: Shard, batch: &'a Batch) -> Option<Self> {
        let traces = &context.context.traces;
        traces.are_on().then(|| Self {
            traces,
            role: context.step.role(),
            lane,
            batch,
            own: TraceContext::begin(1.0),
            followed: 0,
        })
    }

    /// The span of an event, if it is followed: what it is announced with goes on from there.
    pub fn event(&mut self, index: usize, outcome: &Outcome) -> Option<TraceContext> {
        let (event, taken) = (&self.batch.inputs[index].event, self.batch.taken[index]);
        let position = self.batch.delivered[index].position;
        let stage = Stage { role: self.role, lane: self.lane, event, position, taken };
        let own = stage.span(self.traces, outcome, Some(&self.own))?;
        self.followed += 1;
        Some(own)
    }

    /// The span of the batch, if any of its events was followed.
    pub fn end(self) {
        if self.followed == 0 {
            return;
        }
        self.traces.send(|| {
            let began = Moment::since(self.batch.began);
            Span::new(format!("{} batch", name(self.role)), Kind::Internal, &self.own, 0, began)
                .number("holdfast.shard", self.lane.0)
                .text("holdfast.role", self.role.as_str())
                .number("holdfast.rows", self.batch.inputs.len())
                .number("holdfast.followed", self.followed)
        });
    }
}

/// One event at one step.
pub struct Stage<'a> {
    pub role: Role,
    pub lane: Shard,
    pub event: &'a Event,
    pub position: Position,
    /// When it was taken from the broker: what it waited for a transaction is part of the span.
    pub taken: Instant,
}

impl Stage<'_> {
    /// Sends its span, if it is followed.
    pub fn span(
        &self,
        traces: &Traces,
        outcome: &Outcome,
        batch: Option<&TraceContext>,
    ) -> Option<TraceContext> {
        if !traces.are_on() {
            return None;
        }
        let context = TraceContext::of(self.event);
        if !context.is_sampled() && !is_worth_a_look(self.event, outcome) {
            return None;
        }
        let own = context.child();
        traces.send(|| self.made(&own, context.span_id(), outcome, batch));
        Some(own)
    }

    fn made(
        &self,
        own: &TraceContext,
        parent: u64,
        outcome: &Outcome,
        batch: Option<&TraceContext>,
    ) -> Span {
        let (position, since) = (self.position, Moment::since(self.taken));
        let (word, reason, failed) = words(outcome);
        let mut span = Span::new(name(self.role), Kind::Consumer, own, parent, since)
            .text("messaging.system", "kafka")
            .text("messaging.operation.type", "process")
            .text("messaging.operation.name", name(self.role))
            .text("messaging.destination.name", position.topic.to_string())
            .text("messaging.destination.partition.id", position.partition.to_string())
            .number("messaging.kafka.offset", position.offset)
            .number("holdfast.shard", self.lane.0)
            .text("holdfast.transfer", self.event.terms.id.to_string())
            .number("holdfast.attempt", self.event.attempt)
            .text("holdfast.outcome", word);
        if let Some(reason) = reason {
            span = span.text("holdfast.reason", reason.as_str());
        }
        if let Some(batch) = batch {
            span = span.linked(batch);
        }
        match failed {
            Some(kind) => span.failed(kind),
            None => span,
        }
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Projector => "project",
        role => role.as_str(),
    }
}

/// What became of an event, why, and what kind of error that is, if it is one. A refusal is none: it
/// is what was asked of the step.
fn words(outcome: &Outcome) -> (&'static str, Option<Reason>, Option<&'static str>) {
    match outcome {
        Outcome::Emit(event) => {
            let word = event.kind.as_str();
            (word.strip_prefix("transfer.").unwrap_or(word), event.reason, None)
        }
        Outcome::Done => ("done", None, None),
        Outcome::LetGo(_) => ("let_go", None, Some("let_go")),
        Outcome::Dead { reason, .. } => ("dead", None, Some(reason.as_str())),
    }
}

fn is_worth_a_look(event: &Event, outcome: &Outcome) -> bool {
    let unusual = |kind: EventType| match kind {
        EventType::Refused | EventType::Rejected | EventType::Cancelled => true,
        EventType::Requested | EventType::Held | EventType::Credited | EventType::Committed => {
            false
        }
    };
    let became = match outcome {
        Outcome::Emit(next) => unusual(next.kind),
        Outcome::Done => false,
        Outcome::LetGo(_) | Outcome::Dead { .. } => true,
    };
    event.attempt > 1 || unusual(event.kind) || became
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{stamp, terms};

    #[test]
    fn what_does_not_go_the_usual_way_is_worth_a_look() {
        let terms = terms(1, "a", "b", 5);
        let event = |kind| stamp().event(kind, &terms);
        let emits = |kind| Outcome::Emit(event(kind));
        use EventType::{Cancelled, Committed, Held, Refused, Rejected, Requested};
        assert!(!is_worth_a_look(&event(Requested), &emits(Held)));
        assert!(!is_worth_a_look(&event(Committed), &Outcome::Done));
        assert!(is_worth_a_look(&event(Requested), &emits(Rejected)));
        assert!(is_worth_a_look(&event(Held), &emits(Refused)));
        assert!(is_worth_a_look(&event(Held), &Outcome::LetGo("it is away")));
        assert!(is_worth_a_look(&event(Cancelled), &Outcome::Done));
        let driven = Event { attempt: 2, ..event(Requested) };
        assert!(is_worth_a_look(&driven, &emits(Held)));
    }
}
