//! Stub.
use super::pressure::Pressure;
use crate::context::Context;
use crate::domain::Shard;
use std::sync::Arc;
pub(super) struct GroupCommit;
impl GroupCommit {
    pub(super) fn start(_: Arc<Context>, _: Shard, _: Arc<Pressure>) -> Self {
        Self
    }
}
