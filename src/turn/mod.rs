//! Taking turns at a shard: whatever waits to be decided about accounts of one shard, by whichever
//! of this process's steps, shares one transaction.
//!
//! Hold, credit and commit lock the same rows, so that their transactions would only wait for each
//! other, and a transaction costs as much as tens of transfers. Here they meet: the rows of all are
//! locked in one order, each decides on what the one before it left, all is written together and
//! committed once. A shard has one such transaction under way in a process; what is asked for
//! meanwhile is the next one. After it the shard rests, the longer the more was in it and at most as long again, so
//! that a busy machine makes few large transactions and not many small ones; whoever finds it at
//! rest is let in at the end, whoever finds it idle does not wait.

mod projections;
mod queue;
mod shared;
mod turns;

pub use projections::{Projections, newest};
pub use turns::Turns;

use crate::domain::{AccountId, AccountRow, Input, Pivot, Plan, Stamp, TransferId, TransferRow};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The rows that a decision is made on where it was not right to take every transfer for new.
#[derive(Debug, Default)]
pub struct Stored {
    /// Transfers of this shard's accounts, locked.
    pub transfers: HashMap<TransferId, TransferRow>,
    /// Pivots on this shard.
    pub pivots: HashMap<TransferId, Pivot>,
}

/// What is read for a decision about transfers that are not all new.
#[derive(Debug, Default)]
pub struct Reads {
    /// Those whose source is on this shard: their rows.
    pub transfers: Vec<TransferId>,
    /// Those whose destination is: their pivots.
    pub pivots: Vec<TransferId>,
}

/// What is to be decided about a batch of transfers, each there once.
pub trait Decision: Send + Sync + 'static {
    /// The accounts whose rows it may change; locked in id order.
    fn accounts(&self) -> BTreeSet<AccountId>;

    /// The transfers.
    fn transfers(&self) -> Vec<TransferId>;

    /// What it goes by where they are not new.
    fn reads(&self) -> Reads;

    /// Decides, changing the rows: what else is written, and what is said, with one outcome for each
    /// event. Without
    /// `stored` nothing was read and every transfer is taken for new; the counts of the writes tell
    /// where that was wrong, and it is decided again with the rows.
    fn decide(
        &self,
        rows: &mut BTreeMap<AccountId, AccountRow>,
        stored: Option<&Stored>,
        stamp: &Stamp,
    ) -> Plan;
}

/// The transfers of a batch of events.
pub fn transfers_of(batch: &[Input]) -> Vec<TransferId> {
    batch.iter().map(|input| input.event.terms.id).collect()
}
