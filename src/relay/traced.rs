//! The spans `publish` of records that are followed.

use crate::broker::{Record, Topic, envelope};
use crate::domain::{Event, Partition, Shard, TransferId};
use crate::trace::{Kind, Moment, Span, TraceContext, Traces};
use tokio::time::Instant;

/// Sends the span of a record that the broker never takes, whether or not its trace is followed.
pub(super) fn given_up(traces: &Traces, shard: Shard, record: &Record) {
    let transfer = envelope::transfer_in(&record.headers);
    let given = envelope::traceparent(&record.headers).and_then(TraceContext::parse);
    let Some(context) = given.or_else(|| transfer.map(TraceContext::of_transfer)) else { return };
    traces.send(|| {
        let (own, parent) = (context.child(), context.span_id());
        let span = Span::new("dead_letter", Kind::Internal, &own, parent, Moment::now())
            .text("messaging.destination.name", record.topic.to_string())
            .number("holdfast.shard", shard.0)
            .text("holdfast.outcome", "dead")
            .failed("too_large");
        match transfer {
            Some(id) => span.text("holdfast.transfer", id.to_string()),
            None => span,
        }
    });
}

/// Records on their way to the broker.
pub(super) struct Publishing<'a> {
    traces: &'a Traces,
    shard: Shard,
    began: Instant,
    sent: Vec<Sent>,
}

struct Sent {
    own: TraceContext,
    parent: u64,
    topic: Topic,
    partition: Partition,
    transfer: Option<TransferId>,
    attempt: Option<u32>,
}

impl<'a> Publishing<'a> {
    /// Has the records of those that are followed go on from the spans that are made of them here.
    pub(super) fn begin(traces: &'a Traces, shard: Shard, records: &mut [Record]) -> Self {
        let mut sent = Vec::new();
        for record in records.iter_mut().filter(|_| traces.are_on()) {
            let context = envelope::traceparent(&record.headers).and_then(TraceContext::parse);
            let Some(context) = context.filter(|context| traces.follow(context)) else { continue };
            let own = context.child();
            envelope::set_traceparent(record, &own.to_string());
            sent.push(Sent {
                own,
                parent: context.span_id(),
                topic: record.topic,
                partition: record.partition,
                transfer: envelope::transfer_in(&record.headers),
                attempt: Event::decode(&record.value).ok().map(|event| event.attempt),
            });
        }
        Self { traces, shard, began: Instant::now(), sent }
    }

    /// They are acknowledged, or the producer broke and they are published again.
    pub(super) fn end(self, acknowledged: bool) {
        for sent in self.sent {
            let began = Moment::since(self.began);
            let shard = self.shard.0;
            self.traces.send(|| {
                let topic = sent.topic.to_string();
                let mut span = Span::new("publish", Kind::Producer, &sent.own, sent.parent, began)
                    .text("messaging.system", "kafka")
                    .text("messaging.operation.type", "send")
                    .text("messaging.operation.name", "publish")
                    .text("messaging.destination.name", topic)
                    .text("messaging.destination.partition.id", sent.partition.to_string())
                    .number("holdfast.shard", shard);
                if let Some(id) = sent.transfer {
                    span = span.text("holdfast.transfer", id.to_string());
                }
                if let Some(attempt) = sent.attempt {
                    span = span.number("holdfast.attempt", attempt);
                }
                match acknowledged {
                    true => span.text("holdfast.outcome", "published"),
                    false => span.text("holdfast.outcome", "again").failed("broker"),
                }
            });
        }
    }
}
