//! Proposals.

use super::driver::{Arg, Driver};
use super::row::Row;
use super::sealing::proposal_description;
use super::tx::SqlTx;
use super::{SqlStore, decode, statements};
use crate::domain::{
    Client, Decision, Ended, IdempotencyKey, Operation, Proposal, ProposalId, ProposalState,
    Sealed, Shard, Timestamp,
};
use crate::store::{Proposals, ProposalsTx, StoreError};
use async_trait::async_trait;

#[async_trait]
impl<D: Driver> Proposals for SqlStore<D> {
    async fn proposal(&self, shard: Shard, id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        let rows = self.read(shard, statements::PROPOSAL, &[id_arg(id)]).await?;
        Ok(self.open_proposals(shard, decode::all(rows, proposal)?).await?.pop())
    }

    async fn claimed_proposal(
        &self,
        shard: Shard,
        by: &Client,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError> {
        let args = [by.as_str().into(), target.into(), key.as_str().into()];
        let rows = self.read(shard, statements::PROPOSAL_OF, &args).await?;
        Ok(self.open_proposals(shard, decode::all(rows, proposal)?).await?.pop())
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
        let rows = self.read(shard, statements::PROPOSALS, &args).await?;
        self.open_proposals(shard, decode::all(rows, proposal)?).await
    }
}

#[async_trait]
impl<D: Driver> ProposalsTx for SqlTx<D> {
    async fn lock_proposal(&mut self, id: ProposalId) -> Result<Option<Proposal>, StoreError> {
        // An update that changes nothing locks the row in both databases, and what is read after it
        // is what was committed by then.
        self.execute(statements::LOCK_PROPOSAL, &[id_arg(id)]).await?;
        let rows = self.fetch(statements::PROPOSAL, &[id_arg(id)]).await?;
        self.open_proposal(decode::first(rows, proposal)?).await
    }

    async fn proposal_of(
        &mut self,
        by: &Client,
        target: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<Proposal>, StoreError> {
        let args = [by.as_str().into(), target.into(), key.as_str().into()];
        let rows = self.fetch(statements::PROPOSAL_OF, &args).await?;
        self.open_proposal(decode::first(rows, proposal)?).await
    }

    async fn insert_proposal(&mut self, proposal: &Proposal) -> Result<(), StoreError> {
        let args = [
            id_arg(proposal.id),
            proposal.operation.kind().as_str().into(),
            Arg::Text(proposal.operation.target()),
            Arg::Text(self.parameters(proposal)?),
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

/// A proposal, and its description where that is sealed.
fn proposal(row: &mut Row) -> Result<(Proposal, Option<Sealed>), StoreError> {
    let id = ProposalId::from_bytes(row.array()?);
    let (kind, target, parameters) = (row.parse()?, row.text()?, row.parse()?);
    let operation = Operation::read(kind, &target, &parameters)
        .ok_or_else(|| row.corrupt("parameters that are not the kind's"))?;
    let sealed =
        proposal_description(&parameters).map_err(|_| row.corrupt("a sealed text that is none"))?;
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
    let proposal = Proposal {
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
    };
    Ok((proposal, sealed))
}
