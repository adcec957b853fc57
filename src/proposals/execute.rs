//! Doing what was approved, once.
//!
//! What stays on the proposal's shard is done in the transaction that writes what became of it, under
//! the lock of the proposal's row. Cancelling may write a pivot on another shard, and an adjustment
//! goes the way of every transfer: both are done first and written down after, and doing them again
//! changes nothing, for a cancelled transfer stays so, and an adjustment is known by its key and its
//! reference.

use super::seen::{code_of, limit_of, still_wrong, velocity_of};
use super::{ProposalError, Proposals};
use crate::context::Context;
use crate::domain::{
    AccountId, AccountRow, Client, Ended, IdempotencyKey, Limit, Operation, Period, Proposal,
    ProposalId, ProposalState, Shard, Timestamp, TransferId,
};
use crate::ingress::{Refusal, TransferRequest, VelocityChange, limit_within, velocity_within};
use crate::operator::letters::{self, Letter};
use crate::operator::{Examined, OperatorError, discard_within, examine, release_within};
use crate::store::{
    Action, Actor, BalanceRow, StoreError, TransferFilter, Tx, Work, expect_rows, transact,
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// How much before its approval an adjustment is looked for: clocks are set.
const BEFORE: Duration = Duration::from_secs(60);

/// What became of it.
#[derive(Clone, Debug)]
struct Outcome {
    state: ProposalState,
    told: Value,
}

impl Outcome {
    fn done(told: Value) -> Self {
        Self { state: ProposalState::Executed, told }
    }

    fn failed(code: &str, detail: impl Into<String>) -> Self {
        let told = json!({ "code": code, "detail": detail.into() });
        Self { state: ProposalState::Failed, told }
    }

    /// Of what is refused for good; what may be different later is the caller's.
    fn refused(refusal: &Refusal) -> Result<Self, Refusal> {
        match refusal {
            Refusal::ShardUnavailable
            | Refusal::Overloaded
            | Refusal::Paused(_)
            | Refusal::OutcomeUnknown
            | Refusal::Internal => Err(refusal.clone()),
            Refusal::TransferNotFound(_)
            | Refusal::AccountNotFound(_)
            | Refusal::NotYours(_)
            | Refusal::AccountExists { .. }
            | Refusal::AccountNotEmpty { .. }
            | Refusal::AccountClosed(_)
            | Refusal::LimitInUse { .. }
            | Refusal::KeyReused
            | Refusal::TransferFinal(_)
            | Refusal::TransferCredited(_)
            | Refusal::TransferNotCommitted(_)
            | Refusal::ReversalExceedsOriginal { .. } => {
                Ok(Self::failed(code_of(refusal), refusal.to_string()))
            }
        }
    }
}

/// What is left to be done in the transaction that ends a proposal.
enum Left {
    Nothing(Outcome),
    Limit { account: AccountId, minor: i64 },
    Velocity { account: AccountId, limits: BTreeMap<Period, Limit> },
    Release { account: AccountId, examined: Examined },
    Discard(Box<Letter>),
}

impl Proposals<'_> {
    /// Does what an approved proposal says; the proposal as it is then. `actor` is who has it done:
    /// the acts are the proposer's.
    pub(super) async fn perform(
        &self,
        proposal: Proposal,
        actor: &Actor,
    ) -> Result<Proposal, ProposalError> {
        let by = acting(&proposal, actor);
        let left = self.begin(&proposal, &by).await?;
        let ended = self.end(&proposal, left, &by).await;
        match (ended, &proposal.operation) {
            // Somebody else has dealt with the letter meanwhile.
            (Err(StoreError::Duplicate { .. }), Operation::DiscardLetter(_)) => {
                let left = self.begin(&proposal, &by).await?;
                Ok(self.end(&proposal, left, &by).await?)
            }
            (ended, _) => Ok(ended?),
        }
    }

    /// Does what another shard or another transaction has to do with.
    async fn begin(&self, proposal: &Proposal, by: &Actor) -> Result<Left, ProposalError> {
        match &proposal.operation {
            Operation::CancelTransfer(id) => {
                let outcome = match self.ingress.cancel_by(*id, by).await {
                    Ok(cancelled) => Outcome::done(json!({
                        "cancelled": id, "status": cancelled.transfer.row.state.as_str(),
                    })),
                    Err(refusal) => Outcome::refused(&refusal)?,
                };
                Ok(Left::Nothing(outcome))
            }
            Operation::Adjust { .. } => {
                let outcome = match self.adjust(proposal).await {
                    Ok(transfer) => Outcome::done(json!({ "transfer": transfer })),
                    Err(refusal) => Outcome::refused(&refusal)?,
                };
                Ok(Left::Nothing(outcome))
            }
            Operation::ChangeLimit { account, limit } => {
                Ok(Left::Limit { account: account.clone(), minor: limit.minor() })
            }
            Operation::ChangeVelocity { account, limits, .. } => {
                Ok(Left::Velocity { account: account.clone(), limits: limits.clone() })
            }
            Operation::DiscardLetter(id) => {
                let letter = match letters::letter(self.context(), *id).await {
                    // Topics forget.
                    Err(gone @ OperatorError::NoLetter(_)) => {
                        return Ok(Left::Nothing(Outcome::failed(
                            "changed_meanwhile",
                            gone.to_string(),
                        )));
                    }
                    found => found?,
                };
                Ok(match &letter.mark {
                    None => Left::Discard(Box::new(letter)),
                    Some(mark) => Left::Nothing(Outcome::failed(
                        "changed_meanwhile",
                        format!("the dead letter was {} before", mark.handled.as_str()),
                    )),
                })
            }
            Operation::ReleaseQuarantine { account, force } => {
                let Some(examined) = examine(self.context(), account).await? else {
                    return Ok(Left::Nothing(no_such_quarantine()));
                };
                if examined.findings.is_empty() || *force {
                    return Ok(Left::Release { account: account.clone(), examined });
                }
                let wrong = still_wrong(&examined);
                let detail = format!("its books do not agree: repair them first: {wrong}");
                Ok(Left::Nothing(Outcome::failed("books_disagree", detail)))
            }
        }
    }

    /// The transfer that the adjustment is, made now or before. Its key ends with the retention of
    /// keys; its reference does not.
    async fn adjust(&self, proposal: &Proposal) -> Result<TransferId, Refusal> {
        let Operation::Adjust { source, destination, amount, description } = &proposal.operation
        else {
            return Err(Refusal::Internal);
        };
        let client: Client = "holdfast".parse().expect("eight letters");
        let key: IdempotencyKey =
            format!("proposal-{}", proposal.id).parse().expect("hexadecimal digits and hyphens");
        let reference = proposal.id.to_string();
        let decided = proposal.decision.as_ref().map_or(proposal.created_at, |known| known.at);
        let filter = TransferFilter {
            reference: Some(reference.clone()),
            from: Some(decided.minus(BEFORE)),
            ..TransferFilter::default()
        };
        let shard = self.store().map().shard_of(source);
        let known = self.store().outgoing(shard, source, &filter, None, 100).await?;
        let ours = known.iter().find(|one| one.claim.client == client && one.claim.key == key);
        if let Some(transfer) = ours {
            return Ok(transfer.row.terms.id);
        }
        let request = TransferRequest {
            client,
            key,
            source: source.clone(),
            destination: destination.clone(),
            amount: *amount,
            currency_given: true,
            description: description.clone(),
            reference: Some(reference),
            metadata: None,
            reverses: None,
            traceparent: None,
        };
        Ok(self.ingress.submit(request).await?.transfer.row.terms.id)
    }

    /// Does what is left and writes down what became of it, in one transaction. Once more where its
    /// COMMIT was not confirmed: what is done is then found so.
    async fn end(
        &self,
        proposal: &Proposal,
        left: Left,
        by: &Actor,
    ) -> Result<Proposal, StoreError> {
        let shard = proposal.id.shard();
        let work = End { context: self.context(), id: proposal.id, left, by };
        let store = self.store();
        let ended = match transact(store, shard, &work).await {
            Err(StoreError::CommitUnknown { .. }) => transact(store, shard, &work).await,
            ended => ended,
        };
        let (proposal, changed) = ended?;
        if let Some((row, as_of)) = changed {
            self.ingress.cache_balance(BalanceRow { row, as_of });
        }
        Ok(proposal)
    }
}

/// The proposer, who acts by leave of whoever approved.
fn acting(proposal: &Proposal, actor: &Actor) -> Actor {
    let approved = proposal.decision.as_ref().map_or("nobody", |decision| decision.by.as_str());
    let reason = format!("proposal {}, approved by {approved}: {}", proposal.id, proposal.reason);
    Actor {
        operator: proposal.proposed_by.to_string(),
        reason: Some(reason),
        request: actor.request.clone(),
    }
}

fn no_such_quarantine() -> Outcome {
    let detail = "the quarantine that was to be ended has ended, or there is another";
    Outcome::failed("changed_meanwhile", detail)
}

struct End<'a> {
    context: &'a Context,
    id: ProposalId,
    left: Left,
    by: &'a Actor,
}

#[async_trait]
impl Work for End<'_> {
    type Output = (Proposal, Option<(AccountRow, Timestamp)>);

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let known = tx.lock_proposal(self.id).await?.ok_or_else(|| StoreError::Corrupt {
            shard: tx.shard(),
            detail: format!("proposal {} is gone", self.id),
        })?;
        if known.state != ProposalState::Approved {
            return Ok((known, None));
        }
        let mut changed = None;
        let outcome = match &self.left {
            Left::Nothing(outcome) => outcome.clone(),
            Left::Limit { account, minor } => {
                let set = self.set_limit(tx, &known, account, *minor).await?;
                changed = set.as_ref().ok().map(|row| (row.clone(), tx.now()));
                set.map_or_else(|refused| refused, |row| Outcome::done(limit_of(&row)))
            }
            Left::Velocity { account, limits } => {
                let set = self.set_velocity(tx, &known, account, limits).await?;
                changed = set.as_ref().ok().map(|row| (row.clone(), tx.now()));
                let done = |row: AccountRow| velocity_of(&row.velocity.limits(), row.currency);
                set.map_or_else(|refused| refused, |row| Outcome::done(done(row)))
            }
            Left::Release { account, examined } => {
                self.release(tx, &known, account, examined).await?
            }
            Left::Discard(letter) => {
                discard_within(tx, self.context, letter, self.by).await?;
                Outcome::done(json!({ "discarded": letter.id.to_string() }))
            }
        };
        let (before, shard) = (json!({ "state": known.state.as_str() }), tx.shard());
        let after = json!({ "state": outcome.state.as_str(), "outcome": outcome.told });
        let ended = Some(Ended { at: tx.now(), outcome: outcome.told.to_string() });
        let proposal = Proposal { state: outcome.state, ended, ..known };
        expect_rows(shard, "proposals", 1, tx.write_proposal(&proposal).await?)?;
        let act = self.by.act(Action::ExecuteProposal, &self.id, &before, &after);
        tx.record_acts(&[act]).await?;
        Ok((proposal, changed))
    }
}

impl End<'_> {
    /// The account with its new limit, where the one it has is the one that was seen.
    async fn set_limit(
        &self,
        tx: &mut dyn Tx,
        proposal: &Proposal,
        account: &AccountId,
        minor: i64,
    ) -> Result<Result<AccountRow, Outcome>, StoreError> {
        let locked = tx.lock_accounts(&[account.clone()].into()).await?;
        if let Some(row) = locked.get(account)
            && limit_of(row) != before(tx.shard(), proposal)?
        {
            let detail = format!("the limit is {} now", limit_of(row));
            return Ok(Err(Outcome::failed("changed_meanwhile", detail)));
        }
        settled(tx.shard(), limit_within(tx, account, minor, self.by).await?)
    }

    /// The account with its new velocity limits, where those that it has are the ones that were seen.
    async fn set_velocity(
        &self,
        tx: &mut dyn Tx,
        proposal: &Proposal,
        account: &AccountId,
        limits: &BTreeMap<Period, Limit>,
    ) -> Result<Result<AccountRow, Outcome>, StoreError> {
        let locked = tx.lock_accounts(&[account.clone()].into()).await?;
        if let Some(row) = locked.get(account)
            && velocity_of(&row.velocity.limits(), row.currency) != before(tx.shard(), proposal)?
        {
            let detail = "the velocity limits are others now";
            return Ok(Err(Outcome::failed("changed_meanwhile", detail)));
        }
        let change = VelocityChange::Replace(limits.clone());
        let set = velocity_within(tx, account, &change, self.by).await?;
        settled(tx.shard(), set.map(|(row, _)| row))
    }

    /// Ends the quarantine that was seen, and no other. Its reason is written under the lock of the
    /// account, so that it is read while that is held.
    async fn release(
        &self,
        tx: &mut dyn Tx,
        proposal: &Proposal,
        account: &AccountId,
        examined: &Examined,
    ) -> Result<Outcome, StoreError> {
        tx.lock_accounts(&[account.clone()].into()).await?;
        let known = self.context.store.quarantine_of(tx.shard(), account).await?;
        let since = json!(known.map(|known| known.since));
        if since != before(tx.shard(), proposal)?["since"]
            || !release_within(tx, account, examined, self.by).await?
        {
            return Ok(no_such_quarantine());
        }
        Ok(Outcome::done(json!({ "released": account, "still_wrong": still_wrong(examined) })))
    }
}

/// What is refused for good is what became of the proposal.
fn settled(
    shard: Shard,
    set: Result<AccountRow, Refusal>,
) -> Result<Result<AccountRow, Outcome>, StoreError> {
    match set {
        Ok(row) => Ok(Ok(row)),
        Err(refusal) => match Outcome::refused(&refusal) {
            Ok(outcome) => Ok(Err(outcome)),
            Err(_) => Err(StoreError::Failed { shard, detail: refusal.to_string() }),
        },
    }
}

/// How things stood when it was proposed.
fn before(shard: Shard, proposal: &Proposal) -> Result<Value, StoreError> {
    serde_json::from_str(&proposal.before).map_err(|error| StoreError::Corrupt {
        shard,
        detail: format!("what proposal {} was made on: {error}", proposal.id),
    })
}
