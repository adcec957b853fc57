//! Step 1, ingress: a request becomes a REQUESTED transfer, its claim and its outbox record, in
//! one transaction on the source's shard; only then it is answered.
//!
//! State before: none. State after: REQUESTED, or nothing at all.

mod accounts;
mod cancel;
mod decide;
mod fingerprint;
mod group_commit;
pub mod http;
mod owners;
mod ownership;
mod patient;
mod pressure;
mod queries;
mod queue;
mod refused;
mod request;
mod reverse;
mod submit;
mod traced;
mod velocity;
mod wait;

pub(crate) use accounts::limit_within;
pub use accounts::{AccountPatch, AccountRequest, Created, minted_account_id};
pub use cancel::Cancelled;
pub use ownership::Part;
pub use queries::{
    ActPosition, Acts, Balance, Direction, Listed, ListedTransfer, Timeline, TimelineEvent,
    TransferListing, TransferPosition, TransferView, ViewState,
};
pub use refused::{Refusals, Refused};
pub use request::{Refusal, Submitted, TransferRequest};
pub use reverse::ReversalRequest;
pub(crate) use velocity::velocity_within;
pub use velocity::{VelocityChange, VelocityView};

use crate::context::Context;
use pressure::Pressure;
use queue::Entrance;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wait::Waiter;

/// The application behind HTTP and the command line. Cheap to clone.
#[derive(Clone)]
pub struct Ingress {
    context: Arc<Context>,
    lanes: Arc<[Entrance]>,
    waiters: Arc<[mpsc::Sender<Waiter>]>,
    ending: CancellationToken,
    owners: owners::Owners,
}

impl Ingress {
    /// Starts what each shard needs: a lane for group commits, a look-out for those who wait, and
    /// the measure of how far the pipeline is behind. All end when the last clone is dropped.
    pub fn new(context: Arc<Context>) -> Self {
        let map = context.store.map();
        let pressure = Arc::new(Pressure::new(map.shards(), context.policy.outbox_limit));
        let lane = |shard| {
            Pressure::watch(&pressure, &context, shard);
            group_commit::start(Arc::clone(&context), shard, Arc::clone(&pressure))
        };
        let lanes = map.all_shards().map(lane).collect();
        let waiters =
            map.all_shards().map(|shard| wait::start(Arc::clone(&context), shard)).collect();
        let (ending, owners) = (CancellationToken::new(), owners::Owners::start(&context));
        Self { context, lanes, waiters, ending, owners }
    }

    /// The ports that it works on.
    pub(crate) fn context(&self) -> &Arc<Context> {
        &self.context
    }
}
