//! Proposals: no process of the simulation makes any.

use super::SimStore;
use super::session::SimTx;
use async_trait::async_trait;
use holdfast::domain::{
    Client, IdempotencyKey, Proposal, ProposalId, ProposalState, Shard, Timestamp,
};
use holdfast::store::{Proposals, ProposalsTx, StoreError};

#[async_trait]
impl Proposals for SimStore {
    async fn proposal(
        &self,
        shard: Shard,
        _id: ProposalId,
    ) -> Result<Option<Proposal>, StoreError> {
        self.read("proposal", shard, |_| None).await
    }

    async fn claimed_proposal(
        &self,
        shard: Shard,
        _by: &Client,
        _target: &str,
        _key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError> {
        self.read("claimed proposal", shard, |_| None).await
    }

    async fn proposals(
        &self,
        shard: Shard,
        _state: Option<(ProposalState, Timestamp)>,
        _before: Option<ProposalId>,
        _limit: u32,
    ) -> Result<Vec<Proposal>, StoreError> {
        self.read("proposals", shard, |_| Vec::new()).await
    }
}

#[async_trait]
impl ProposalsTx for SimTx {
    async fn lock_proposal(&mut self, _id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        unreachable!("no process of the simulation makes proposals")
    }

    async fn proposal_of(
        &mut self,
        _by: &Client,
        _target: &str,
        _key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError> {
        unreachable!("no process of the simulation makes proposals")
    }

    async fn insert_proposal(&mut self, _proposal: &Proposal) -> Result<(), StoreError> {
        unreachable!("no process of the simulation makes proposals")
    }

    async fn write_proposal(&mut self, _proposal: &Proposal) -> Result<u64, StoreError> {
        unreachable!("no process of the simulation makes proposals")
    }
}
