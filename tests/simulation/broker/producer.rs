//! A producer: idempotent, in order in each partition, dead after its first failed delivery.

use super::{Place, unavailable};
use crate::gate::Gate;
use crate::world::State;
use futures::FutureExt;
use futures::future::{self, BoxFuture};
use holdfast::broker::{BrokerError, MAX_RECORD_BYTES, Producer, Record};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, oneshot};

struct Call {
    records: Vec<Record>,
    done: oneshot::Sender<()>,
}

pub struct SimProducer {
    queue: mpsc::UnboundedSender<Call>,
    dead: Arc<AtomicBool>,
}

impl SimProducer {
    pub fn start(gate: Gate) -> Self {
        let (queue, calls) = mpsc::unbounded_channel();
        let dead = Arc::new(AtomicBool::new(false));
        tokio::spawn(deliver(gate, calls, dead.clone()));
        Self { queue, dead }
    }
}

fn broken() -> BrokerError {
    BrokerError::Broken("a delivery failed".to_owned())
}

impl Producer for SimProducer {
    fn send(&self, records: Vec<Record>) -> BoxFuture<'static, Result<(), BrokerError>> {
        if self.dead.load(Ordering::SeqCst) {
            return future::ready(Err(broken())).boxed();
        }
        if let Some(index) = records.iter().position(|record| record.bytes() > MAX_RECORD_BYTES) {
            let detail = "too large".to_owned();
            return future::ready(Err(BrokerError::Refused { index, detail })).boxed();
        }
        let (done, acknowledged) = oneshot::channel();
        let queued = self.queue.send(Call { records, done }).is_ok();
        async move { if queued && acknowledged.await.is_ok() { Ok(()) } else { Err(broken()) } }
            .boxed()
    }
}

impl Drop for SimProducer {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

/// Writes calls in their order until one fails or the producer is dropped; what is queued then is
/// thrown away. What was on its way may still be written, in part.
async fn deliver(gate: Gate, mut calls: mpsc::UnboundedReceiver<Call>, dead: Arc<AtomicBool>) {
    while let Some(call) = calls.recv().await {
        let entered = gate.enter("produce", None).await.map_err(|_| unavailable());
        {
            let mut state = gate.world.lock();
            let state = &mut *state;
            let dropped = dead.load(Ordering::SeqCst);
            let fails = !state.faults.over && state.dice.chance(state.faults.produce);
            if entered.is_err() || dropped || fails || state.log.down {
                dead.store(true, Ordering::SeqCst);
                state.counts.add("failed delivery");
                let records = match state.log.down {
                    true => Vec::new(),
                    false => prefixes(state, call.records),
                };
                gate.world.publish(state, gate.process, &records);
                return;
            }
            gate.world.publish(state, gate.process, &call.records);
        }
        if gate.leave("produce", None).await.is_err() {
            dead.store(true, Ordering::SeqCst);
            return;
        }
        // The caller may have gone.
        let _ = call.done.send(());
    }
}

/// Of each partition a prefix, of any length: what a broker may have taken of a failed call.
fn prefixes(state: &mut State, records: Vec<Record>) -> Vec<Record> {
    let mut left: BTreeMap<Place, usize> = BTreeMap::new();
    for record in &records {
        *left.entry((record.topic, record.partition)).or_default() += 1;
    }
    for length in left.values_mut() {
        *length = state.dice.index(*length + 1);
    }
    let mut written = Vec::new();
    for record in records {
        let left = left.get_mut(&(record.topic, record.partition)).expect("counted above");
        if *left > 0 {
            *left -= 1;
            written.push(record);
        }
    }
    written
}
