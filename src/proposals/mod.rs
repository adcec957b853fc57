//! Four eyes: manual operations that have to do with money are proposed by one principal and
//! approved by another.
//!
//! State before: none, or PENDING. State after: PENDING; or APPROVED and then EXECUTED or FAILED; or
//! REJECTED. To approve is a transaction of its own, which says who and when; what was approved is
//! done after it, once. A process that dies in between leaves it APPROVED, and the next approval by
//! the same principal, or `holdfast proposal execute`, completes it.

mod decide;
mod execute;
mod seen;

pub use decide::{NotTheirs, Verdict, decide};

use crate::context::Context;
use crate::domain::{
    Client, IdempotencyKey, Operation, Proposal, ProposalId, ProposalState, Shard,
};
use crate::ingress::{Ingress, Refusal};
use crate::operator::OperatorError;
use crate::random;
use crate::store::{Action, Actor, Store, StoreError, Tx, Work, expect_rows};
use async_trait::async_trait;
use serde_json::json;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The proposer.
    pub by: Client,
    /// The proposer's name of the request, one for each target.
    pub key: IdempotencyKey,
    /// What is proposed.
    pub operation: Operation,
    /// Why; up to 1,024 characters.
    pub reason: String,
}

/// A proposal as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// As it is stored.
    pub proposal: Proposal,
    /// How far it has come by database time.
    pub state: ProposalState,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ProposalError {
    /// No such proposal.
    #[error("there is no proposal {0}")]
    NotFound(ProposalId),
    /// Whoever proposed something has no say in it.
    #[error("you proposed this yourself: somebody else has to decide")]
    Own,
    /// Its time is over.
    #[error("the time of this proposal is over; propose it anew")]
    Expired,
    /// It was decided otherwise, or by somebody else.
    #[error("this proposal is {} already, and that stands", .0.as_str())]
    Decided(ProposalState),
    /// Only what was approved is done.
    #[error("this proposal is {}; only what was approved is done", .0.as_str())]
    NotApproved(ProposalState),
    /// The key stands for another proposal about the same target.
    #[error("this idempotency key was used for another proposal about the same; use a new one")]
    KeyReused,
    /// It could not be done as things stand, or never.
    #[error("{field}: {detail}")]
    Impossible {
        /// Of the request.
        field: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// It is approved, and what it says is not done yet.
    #[error(
        "it is approved and not done yet; approve it once more, which changes nothing else: {0}"
    )]
    Unfinished(Refusal),
    /// As for any other request.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<StoreError> for ProposalError {
    fn from(error: StoreError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<OperatorError> for ProposalError {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::Store(error) => error.into(),
            OperatorError::Broker(error) => {
                tracing::warn!(%error, "dead letters cannot be read");
                Self::Refused(Refusal::Overloaded)
            }
            OperatorError::NoTransfer(id) => Self::Refused(Refusal::TransferNotFound(id)),
            OperatorError::NoAccount(id) => Self::Refused(Refusal::AccountNotFound(id)),
            OperatorError::NoLetter(_) => {
                Self::Impossible { field: "letter", detail: error.to_string() }
            }
        }
    }
}

/// What is proposed, decided and done.
pub struct Proposals<'a> {
    ingress: &'a Ingress,
}

impl<'a> Proposals<'a> {
    /// Over the application.
    pub fn new(ingress: &'a Ingress) -> Self {
        Self { ingress }
    }

    fn context(&self) -> &'a Context {
        self.ingress.context()
    }

    fn store(&self) -> &'a dyn Store {
        &*self.context().store
    }

    /// Proposes something, or finds what was proposed under the same key; whether it is new.
    pub async fn propose(
        &self,
        asked: Asked,
        actor: &Actor,
    ) -> Result<(View, bool), ProposalError> {
        let shard = self.shard_of(&asked.operation)?;
        let target = asked.operation.target();
        let known = self.store().claimed_proposal(shard, &asked.by, &target, &asked.key).await?;
        let (proposal, new) = match known {
            Some(known) => (known, false),
            None => {
                let before = self.seen(&asked.operation).await?.to_string();
                let expiry = self.context().policy.proposal_expiry;
                let work = Create { asked: &asked, before, expiry, actor };
                self.ingress.settle(shard, &work).await?
            }
        };
        if proposal.operation != asked.operation || proposal.reason != asked.reason {
            return Err(ProposalError::KeyReused);
        }
        Ok((self.view(proposal).await?, new))
    }

    /// One proposal.
    pub async fn show(&self, id: ProposalId) -> Result<View, ProposalError> {
        let shard = self.exists(id)?;
        let found = self.store().proposal(shard, id).await?;
        self.view(found.ok_or(ProposalError::NotFound(id))?).await
    }

    /// Proposals of all shards, newest first, before `before`; and the last of them if more may
    /// follow.
    pub async fn list(
        &self,
        state: Option<ProposalState>,
        before: Option<ProposalId>,
        limit: u32,
    ) -> Result<(Vec<View>, Option<ProposalId>), ProposalError> {
        let mut found = Vec::new();
        for shard in self.store().map().all_shards() {
            let now = self.store().now(shard).await?;
            let wanted = state.map(|state| (state, now));
            let part =
                self.store().proposals(shard, wanted, before, limit.saturating_add(1)).await?;
            let view = |proposal: Proposal| View { state: proposal.state_at(now), proposal };
            found.extend(part.into_iter().map(view));
        }
        found.sort_by_key(|view| std::cmp::Reverse(view.proposal.id));
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let last = found.last().filter(|_| more).map(|view| view.proposal.id);
        Ok((found, last))
    }

    /// Says yes or no, or finds that the same principal has said so. What is approved is done, or
    /// found done, before this returns.
    pub async fn decide(
        &self,
        id: ProposalId,
        who: &Client,
        verdict: &Verdict,
        actor: &Actor,
    ) -> Result<View, ProposalError> {
        let shard = self.exists(id)?;
        let work = Decide { id, who, verdict, actor };
        let decided = self.ingress.settle(shard, &work).await?;
        let proposal = decided.ok_or(ProposalError::NotFound(id))?.map_err(|why| match why {
            NotTheirs::Own => ProposalError::Own,
            NotTheirs::Expired => ProposalError::Expired,
            NotTheirs::Decided(state) => ProposalError::Decided(state),
        })?;
        self.complete(proposal, actor).await
    }

    /// Does what was approved and is not done yet: for when a process died in between.
    pub async fn execute(&self, id: ProposalId, actor: &Actor) -> Result<View, ProposalError> {
        let View { proposal, state } = self.show(id).await?;
        match state {
            ProposalState::Approved | ProposalState::Executed | ProposalState::Failed => {
                self.complete(proposal, actor).await
            }
            ProposalState::Pending | ProposalState::Rejected | ProposalState::Expired => {
                Err(ProposalError::NotApproved(state))
            }
        }
    }

    async fn complete(&self, proposal: Proposal, actor: &Actor) -> Result<View, ProposalError> {
        let proposal = match proposal.state {
            ProposalState::Approved => match self.perform(proposal, actor).await {
                Err(ProposalError::Refused(refusal)) => {
                    return Err(ProposalError::Unfinished(refusal));
                }
                performed => performed?,
            },
            ProposalState::Pending
            | ProposalState::Executed
            | ProposalState::Failed
            | ProposalState::Rejected
            | ProposalState::Expired => proposal,
        };
        self.view(proposal).await
    }

    /// The shard that the proposal's act is on, or begins on.
    fn shard_of(&self, operation: &Operation) -> Result<Shard, ProposalError> {
        let map = self.store().map();
        Ok(match operation {
            Operation::CancelTransfer(transfer) => map.shard_of_transfer(*transfer),
            Operation::ReleaseQuarantine { account, .. }
            | Operation::ChangeLimit { account, .. }
            | Operation::ChangeVelocity { account, .. } => map.shard_of(account),
            Operation::Adjust { source, .. } => map.shard_of(source),
            Operation::DiscardLetter(letter) => {
                let known = map.all_shards().find(|shard| *shard == letter.shard);
                known.ok_or(OperatorError::NoLetter(*letter))?
            }
        })
    }

    fn exists(&self, id: ProposalId) -> Result<Shard, ProposalError> {
        let known = self.store().map().all_shards().find(|shard| *shard == id.shard());
        known.ok_or(ProposalError::NotFound(id))
    }

    async fn view(&self, proposal: Proposal) -> Result<View, ProposalError> {
        let now = self.store().now(proposal.id.shard()).await?;
        Ok(View { state: proposal.state_at(now), proposal })
    }
}

struct Create<'a> {
    asked: &'a Asked,
    before: String,
    expiry: std::time::Duration,
    actor: &'a Actor,
}

#[async_trait]
impl Work for Create<'_> {
    type Output = (Proposal, bool);

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let Asked { by, key, operation, reason } = self.asked;
        if let Some(known) = tx.proposal_of(by, &operation.target(), key).await? {
            return Ok((known, false));
        }
        let now = tx.now();
        let proposal = Proposal {
            id: ProposalId::mint(now, tx.shard(), random::bits()),
            operation: operation.clone(),
            before: self.before.clone(),
            proposed_by: by.clone(),
            reason: reason.clone(),
            key: key.clone(),
            created_at: now,
            expires_at: now.plus(self.expiry),
            state: ProposalState::Pending,
            decision: None,
            ended: None,
        };
        tx.insert_proposal(&proposal).await?;
        let actor = Actor { reason: Some(reason.clone()), ..self.actor.clone() };
        let after = told(&proposal, ProposalState::Pending);
        let act = actor.act(Action::CreateProposal, &proposal.id, &json!(null), &after);
        tx.record_acts(&[act]).await?;
        Ok((proposal, true))
    }
}

struct Decide<'a> {
    id: ProposalId,
    who: &'a Client,
    verdict: &'a Verdict,
    actor: &'a Actor,
}

#[async_trait]
impl Work for Decide<'_> {
    type Output = Option<Result<Proposal, NotTheirs>>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let Some(known) = tx.lock_proposal(self.id).await? else { return Ok(None) };
        let decided = match decide(&known, self.who, self.verdict, tx.now()) {
            Ok(Some(decided)) => decided,
            Ok(None) => return Ok(Some(Ok(known))),
            Err(why) => return Ok(Some(Err(why))),
        };
        expect_rows(tx.shard(), "proposals", 1, tx.write_proposal(&decided).await?)?;
        let action = match self.verdict {
            Verdict::Approve => Action::ApproveProposal,
            Verdict::Reject(_) => Action::RejectProposal,
        };
        let reason = decided.decision.as_ref().and_then(|decision| decision.reason.clone());
        let reason = reason.or_else(|| self.actor.reason.clone());
        let actor = Actor { reason, ..self.actor.clone() };
        let before = json!({ "state": known.state.as_str() });
        let act = actor.act(action, &self.id, &before, &told(&decided, decided.state));
        tx.record_acts(&[act]).await?;
        Ok(Some(Ok(decided)))
    }
}

/// A proposal as the audit log has it: without the description, which may be personal, and which the
/// log could never lose again. The proposal has it.
fn told(proposal: &Proposal, state: ProposalState) -> serde_json::Value {
    let operation = &proposal.operation;
    let mut parameters = operation.parameters();
    if let Some(parameters) = parameters.as_object_mut() {
        parameters.remove("description");
    }
    json!({
        "state": state.as_str(),
        "kind": operation.kind().as_str(),
        "target": operation.target(),
        "parameters": parameters,
    })
}
