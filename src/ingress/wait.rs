//! Waiting for a transfer's end.

use super::{Ingress, Refusal};
use crate::store::TransferRecord;
use std::time::Duration;

impl Ingress {
    /// The transfer as soon as a final state was read from its source's shard, or as it stands
    /// when `limit` is over. Works whichever process runs the workers.
    pub async fn wait_final(
        &self,
        _transfer: TransferRecord,
        _limit: Duration,
    ) -> Result<TransferRecord, Refusal> {
        todo!()
    }
}
