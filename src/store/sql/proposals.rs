//! Proposals.

use super::driver::{Arg, Driver};
use super::row::Row;
use super::tx::SqlTx;
use super::{SqlStore, decode, statements};
use crate::domain::{
    Client, Decision, Ended, IdempotencyKey, Operation, Proposal, ProposalId, ProposalState, Shard,
    Timestamp,
};
use crate::store::{Proposals, ProposalsTx, StoreError};
use async_trait::async_trait;

#[async_trait]
impl<D: Driver> Proposals for SqlStore<D> {
    async fn proposal(&self, shard: Shard, id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        decode::first(self.read(shard, statements::PROPOSAL, &[id_arg(id)]).await?, proposal)
    }

    async fn claimed_proposal(
        &self,
        shard: Shard,
        by: &Client,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError> {
        let args = [by.as_str().into(), target.into(), key.as_str().into()];
        decode::first(self.read(shard, statements::PROPOSAL_OF, &args).await?, proposal)
    }

    async fn proposals(
        &self,
        shard: Shard,
        state: Option<(ProposalState, Timestamp)>,
        before: Option<ProposalId>,
        limit: u32,
    ) -> Result<Vec<Proposal>, StoreError> {
        const ALWAYS: (i64, i64) = (i64::MIN, i64::MAX);
        let (code, (over, until)) = match state {
            None => (0, ALWAYS),
            Some((ProposalState::Pending, now)) => {
                (ProposalState::Pending.code(), (now.micros(), i64::MAX))
            }
            Some((ProposalState::Expired, now)) => {
                (ProposalState::Pending.code(), (i64::MIN, now.micros()))
            }
            Some((state, _)) => (state.code(), ALWAYS),
        };
        let args = [
            id_arg(before.unwrap_or(ProposalId::from_bytes([0xff; 16]))),
            code.into(),
            code.into(),
            over.into(),
            until.into(),
            i64::from(limit).into(),
        ];
        decode::all(self.read(shard, statements::PROPOSALS, &args).await?, proposal)
    }
}

#[async_trait]
impl<D: Driver> ProposalsTx for SqlTx<D> {
    async fn lock_proposal(&mut self, id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        // An update that changes nothing locks the row in both databases, and what is read after it
        // is what was committed by then.
        self.execute(statements::LOCK_PROPOSAL, &[id_arg(id)]).await?;
        decode::first(self.fetch(statements::PROPOSAL, &[id_arg(id)]).await?, proposal)
    }

    async fn proposal_of(
        &mut self,
        by: &Client,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError> {
        let args = [by.as_str().into(), target.into(), key.as_str().into()];
        decode::first(self.fetch(statements::PROPOSAL_OF, &args).await?, proposal)
    }

    async fn insert_proposal(&mut self, proposal: &Proposal) -> Result<(), StoreError> {
        let args = [
            id_arg(proposal.id),
            proposal.operation.kind().as_str().into(),
            Arg::Text(proposal.operation.target()),
            Arg::Text(proposal.operation.parameters().to_string()),
            proposal.before.as_str().into(),
            proposal.proposed_by.as_str().into(),
            proposal.reason.as_str().into(),
            proposal.key.as_str().into(),
            proposal.created_at.into(),
            proposal.expires_at.into(),
            proposal.state.code().into(),
        ];
        self.execute(statements::INSERT_PROPOSAL, &args).await.map(drop)
    }

    async fn write_proposal(&mut self, proposal: &Proposal) -> Result<u64, StoreError> {
        let (decision, ended) = (proposal.decision.as_ref(), proposal.ended.as_ref());
        let args = [
            proposal.state.code().into(),
            decision.map(|decision| decision.by.as_str()).into(),
            decision.map(|decision| decision.at).into(),
            decision.and_then(|decision| decision.reason.as_deref()).into(),
            ended.map(|ended| ended.at).into(),
            ended.map(|ended| ended.outcome.as_str()).into(),
            id_arg(proposal.id),
        ];
        self.execute(statements::WRITE_PROPOSAL, &args).await
    }
}

fn id_arg(id: ProposalId) -> Arg {
    Arg::Bytes(id.bytes().to_vec())
}

fn proposal(row: &mut Row) -> Result<Proposal, StoreError> {
    let id = ProposalId::from_bytes(row.array()?);
    let (kind, target, parameters) = (row.parse()?, row.text()?, row.parse()?);
    let operation = Operation::read(kind, &target, &parameters)
        .ok_or_else(|| row.corrupt("parameters that are not the kind's"))?;
    let (before, proposed_by, reason) = (row.text()?, row.parse()?, row.text()?);
    let (key, created_at, expires_at) = (row.parse()?, row.time()?, row.time()?);
    let state = row.coded(ProposalState::from_code)?;
    let (by, at, why) = (row.opt_text()?, row.opt_time()?, row.opt_text()?);
    let decision = match by.zip(at) {
        None => None,
        Some((by, at)) => {
            let by = by.parse().map_err(|_| row.corrupt("a principal that is none"))?;
            Some(Decision { by, at, reason: why })
        }
    };
    let (at, outcome) = (row.opt_time()?, row.opt_text()?);
    let ended = at.zip(outcome).map(|(at, outcome)| Ended { at, outcome });
    Ok(Proposal {
        id,
        operation,
        before,
        proposed_by,
        reason,
        key,
        created_at,
        expires_at,
        state,
        decision,
        ended,
    })
}
