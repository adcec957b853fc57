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
mod pressure;
mod queries;
mod request;
mod reverse;
mod submit;
mod wait;

pub use accounts::{AccountPatch, AccountRequest, Created};
pub use cancel::Cancelled;
pub use queries::{Balance, TimelineEvent, TransferView, ViewState};
pub use request::{Refusal, Submitted, TransferRequest};
pub use reverse::ReversalRequest;

use crate::context::Context;
use group_commit::GroupCommit;
use pressure::Pressure;
use std::sync::Arc;

/// The application behind HTTP and the command line. Cheap to clone.
#[derive(Clone)]
pub struct Ingress {
    context: Arc<Context>,
    lanes: Arc<[GroupCommit]>,
    pressure: Arc<Pressure>,
}

impl Ingress {
    /// Starts one group-commit lane a shard; they end when the last clone is dropped.
    pub fn new(context: Arc<Context>) -> Self {
        let pressure = Arc::new(Pressure::new(context.store.map().shards()));
        let lanes = context
            .store
            .map()
            .all_shards()
            .map(|shard| GroupCommit::start(Arc::clone(&context), shard, Arc::clone(&pressure)))
            .collect();
        Self { context, lanes, pressure }
    }
}
