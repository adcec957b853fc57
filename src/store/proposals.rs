//! What one principal proposes and another decides on.

use super::StoreError;
use crate::domain::{
    Client, IdempotencyKey, Proposal, ProposalId, ProposalState, Shard, Timestamp,
};
use async_trait::async_trait;

/// Reads of proposals.
#[async_trait]
pub trait Proposals {
    /// One proposal.
    async fn proposal(&self, shard: Shard, id: ProposalId) -> Result<Option<Proposal>, StoreError>;

    /// The proposal about a target that a principal made under a key.
    async fn claimed_proposal(
        &self,
        shard: Shard,
        by: &Client,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError>;

    /// Proposals of the shard, newest first, before `before`; those that are in this state at this
    /// time where one is given.
    async fn proposals(
        &self,
        shard: Shard,
        state: Option<(ProposalState, Timestamp)>,
        before: Option<ProposalId>,
        limit: u32,
    ) -> Result<Vec<Proposal>, StoreError>;
}

/// Writes of proposals, within a transaction.
#[async_trait]
pub trait ProposalsTx {
    /// Locks a proposal and reads it. It is the first row that a transaction locks.
    async fn lock_proposal(&mut self, id: ProposalId) -> Result<Option<Proposal>, StoreError>;

    /// The proposal about a target that a principal made under a key; not locked.
    async fn proposal_of(
        &mut self,
        by: &Client,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError>;

    /// Inserts a pending proposal. Where the principal has one about the target under the same key
    /// it is [`super::Constraint::Claim`].
    async fn insert_proposal(&mut self, proposal: &Proposal) -> Result<(), StoreError>;

    /// Writes the state of a proposal, who decided and what became of it.
    async fn write_proposal(&mut self, proposal: &Proposal) -> Result<u64, StoreError>;
}
