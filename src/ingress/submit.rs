//! Transfers, alone or many.

use super::Ingress;
use super::request::{Refusal, Submitted, TransferRequest};

impl Ingress {
    /// Accepts one transfer, or finds the one that its key stands for.
    pub async fn submit(&self, _request: TransferRequest) -> Result<Submitted, Refusal> {
        todo!()
    }

    /// Accepts many, each on its own; answers in the order of the requests. Of several with one
    /// source, client and key the first counts, later ones are repeats of it.
    pub async fn submit_many(
        &self,
        _requests: Vec<TransferRequest>,
    ) -> Vec<Result<Submitted, Refusal>> {
        todo!()
    }
}
