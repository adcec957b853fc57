//! The reconciler reads the dead letters of its shard: a transfer that will never be held because
//! its event is there is cancelled, so that nothing accepted stays open.

use super::traced::Driven;
use crate::broker::{BrokerError, Delivered, Family, Group, Incoming, Position, Topic, envelope};
use crate::cancel::cancel_requested;
use crate::context::Context;
use crate::domain::{Reason, Shard, State};
use crate::roles::Role;
use crate::store::StoreError;
use crate::trace::TraceContext;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const BATCH: usize = 100;
const PAUSE: Duration = Duration::from_secs(1);

/// Reads until `stop`, through every outage.
pub async fn run(context: Arc<Context>, shard: Shard, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = read(&context, shard, &stop).await {
            tracing::debug!(%shard, %error, "dead letters are read again");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

async fn read(context: &Context, shard: Shard, stop: &CancellationToken) -> Result<(), ReadError> {
    let topic = Topic { family: Family::DeadLetter, shard };
    let group = Group { role: Role::Reconciler.as_str(), shard };
    let mut consumer = context.broker.consumer(&group, &[topic]).await?;
    loop {
        let incoming = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            incoming = consumer.next(BATCH) => incoming?,
        };
        // What was read is acted on when the role goes on.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = context.pauses.running(Role::Reconciler, shard) => {}
        }
        // Nothing is in flight between two calls, so a revoked partition is drained already.
        let Incoming::Records(records) = incoming else { continue };
        for delivered in &records {
            settle(context, shard, delivered).await?;
        }
        let done: Vec<Position> = records.iter().map(after).collect();
        consumer.commit(&done);
    }
}

fn after(delivered: &Delivered) -> Position {
    Position { offset: delivered.position.offset + 1, ..delivered.position }
}

/// Cancels the letter's transfer if it is still REQUESTED; anything else has a way of its own.
async fn settle(context: &Context, shard: Shard, delivered: &Delivered) -> Result<(), StoreError> {
    let Some(letter) = envelope::read_dead_letter(delivered) else { return Ok(()) };
    let Some(id) = letter.transfer else { return Ok(()) };
    if letter.role != Role::Hold.as_str() && letter.role != Role::Relay.as_str() {
        return Ok(());
    }
    for record in context.store.transfer_records(shard, &[id]).await? {
        if record.row.state == State::Requested {
            cancel_requested(context, &record.row.terms, Reason::Undeliverable, None).await?;
            let (state, action) = (State::Requested, "undeliverable");
            let driven = Driven { shard, transfer: id, state, attempt: 1, action };
            driven.traced(&context.traces);
            let given = envelope::traceparent(&delivered.headers).and_then(TraceContext::parse);
            let trace_id = given.unwrap_or_else(|| TraceContext::of_transfer(id)).trace_id();
            tracing::warn!(transfer = %id, %trace_id, reason = letter.reason, "cancelled: its event is in the dead letters");
        }
    }
    Ok(())
}
