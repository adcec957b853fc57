//! Stub.

mod decide;

use crate::context::Context;
use crate::domain::Shard;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs the role for one shard until `stop`, through every outage.
pub async fn run(_context: Arc<Context>, _shard: Shard, _stop: CancellationToken) {
    todo!()
}
