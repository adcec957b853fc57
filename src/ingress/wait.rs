//! Waiting for a transfer's end: all waiters of a shard share one look at it.

use super::{Ingress, Refusal};
use crate::context::Context;
use crate::domain::{Shard, TransferId};
use crate::store::TransferRecord;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How often the source's shard is asked where no worker of this process told of the ends that were
/// found last. Bounds what waiting adds to a transfer's latency.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The same where one did.
const LOOK_EVERY_TOLD: Duration = Duration::from_millis(25);
/// How long it rests after a look, as a multiple of what the look took: a busy shard is not asked
/// all the time.
const REST: u32 = 2;
/// The longest rest: a look may have hung.
const LONGEST_REST: Duration = Duration::from_millis(100);
/// Transfers that one look asks for.
const MOST: usize = 500;
/// Callers that may wait to be noticed: the look-out takes them in between two looks. How many it
/// has taken in is bounded by the requests that are under way at once.
const UNNOTICED: usize = 4096;

impl Ingress {
    /// The transfer as soon as a final state was read from its source's shard, or as it stands
    /// when `limit` is over. Works whichever process runs the workers.
    pub async fn wait_final(
        &self,
        transfer: TransferRecord,
        limit: Duration,
    ) -> Result<TransferRecord, Refusal> {
        if transfer.row.state.is_final() {
            return Ok(transfer);
        }
        let id = transfer.row.terms.id;
        let shard = self.context.store.map().shard_of_transfer(id);
        let (told, ended) = oneshot::channel();
        // Who finds no room among those who wait is answered at once, as is everybody at the end.
        if self.waiters[usize::from(shard.0)].try_send((id, told)).is_ok() {
            tokio::select! {
                biased;
                Ok(found) = ended => return Ok(found),
                () = tokio::time::sleep(limit) => {}
                () = self.ending.cancelled() => {}
            }
        }
        match self.transfer_record(id).await {
            Ok(found) => Ok(found),
            // Accepted it is: what cannot be read now is answered as it was read last.
            Err(Refusal::ShardUnavailable) => Ok(transfer),
            Err(refusal) => Err(refusal),
        }
    }

    /// From now on nobody waits: those who do are told how their transfers stand. For the end of a
    /// process.
    pub fn end_waiting(&self) {
        self.ending.cancel();
    }
}

/// A waiter and where it wants to be told.
pub(super) type Waiter = (TransferId, oneshot::Sender<TransferRecord>);

/// Starts the task that looks for all waiters of a shard; it ends when the sender is dropped.
pub(super) fn start(context: Arc<Context>, shard: Shard) -> mpsc::Sender<Waiter> {
    let (sender, mut inbox) = mpsc::channel::<Waiter>(UNNOTICED);
    tokio::spawn(async move {
        let mut waiting: BTreeMap<TransferId, Vec<oneshot::Sender<TransferRecord>>> =
            BTreeMap::new();
        let mut finals = context.wake.finals_of(shard);
        let mut look_every = LOOK_EVERY;
        // What it becomes where the next look finds ends: who said when to look tells where they are made.
        let mut look_every_if_found = look_every;
        loop {
            if waiting.is_empty() {
                let Some((id, told)) = inbox.recv().await else { return };
                waiting.entry(id).or_default().push(told);
                look_every_if_found = look_every;
            }
            while let Ok((id, told)) = inbox.try_recv() {
                waiting.entry(id).or_default().push(told);
            }
            // What was told of so far is found by this look.
            finals.mark_unchanged();
            let began = Instant::now();
            if look(&context, shard, &mut waiting).await {
                look_every = look_every_if_found;
            }
            tokio::time::sleep((began.elapsed() * REST).min(LONGEST_REST)).await;
            look_every_if_found = tokio::select! {
                biased;
                _ = finals.changed() => LOOK_EVERY_TOLD,
                () = tokio::time::sleep(look_every) => LOOK_EVERY,
            };
        }
    });
    sender
}

/// Tells those whose transfer is final, if there are any, and forgets those who no longer wait.
async fn look(
    context: &Context,
    shard: Shard,
    waiting: &mut BTreeMap<TransferId, Vec<oneshot::Sender<TransferRecord>>>,
) -> bool {
    let mut found = false;
    waiting.retain(|_, all| {
        all.retain(|told| !told.is_closed());
        !all.is_empty()
    });
    let ids: Vec<TransferId> = waiting.keys().copied().collect();
    for ids in ids.chunks(MOST) {
        let Ok(records) = context.store.transfer_records(shard, ids).await else { return found };
        for record in records.into_iter().filter(|record| record.row.state.is_final()) {
            found = true;
            for told in waiting.remove(&record.row.terms.id).into_iter().flatten() {
                let _ = told.send(record.clone());
            }
        }
    }
    found
}
