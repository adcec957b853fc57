//! Bodies about proposals, and the shape of a proposal.

use super::json::{self, Fields};
use super::limits::{SetLimit, limits};
use super::problem::{Code, Place, Problem};
use super::schemas;
use super::transfer_body::{Caller, Key};
use crate::domain::{
    AccountId, Currency, IdempotencyKey, LetterId, Money, Operation, OperationKind, ProposalId,
    Timestamp, TransferId,
};
use crate::proposals::View;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// What is proposed. `cancel_transfer` needs `transfer`; `release_quarantine` needs `account` and
/// takes `force`; `discard_letter` needs `letter`; `change_limit` needs `account` and
/// `overdraft_limit`; `change_velocity` needs `account` and `limits`; `adjust` needs `source`, an external account, `destination`, `amount` and
/// `currency`, and takes `description`.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that `Proposing` reads")]
pub struct CreateProposal {
    #[schema(schema_with = schemas::operation_kind)]
    kind: String,
    /// Why, for whoever decides and for the audit log.
    #[schema(min_length = 1, max_length = 1024)]
    reason: String,
    #[schema(schema_with = schemas::transfer_id, required = false)]
    transfer: String,
    #[schema(schema_with = schemas::account_id, required = false)]
    account: String,
    /// Shard, partition and offset of a dead letter.
    #[schema(example = "0.3.17", required = false)]
    letter: String,
    /// Also while the account's books do not agree.
    force: Option<bool>,
    /// In the account's currency.
    #[schema(schema_with = schemas::amount, required = false)]
    overdraft_limit: String,
    /// The velocity limits that the account is to have, and no others.
    #[schema(max_items = 3, required = false)]
    limits: Vec<SetLimit>,
    /// The external account that pays.
    #[schema(schema_with = schemas::account_id, required = false)]
    source: String,
    /// The account that is paid.
    #[schema(schema_with = schemas::account_id, required = false)]
    destination: String,
    #[schema(schema_with = schemas::amount, required = false)]
    amount: String,
    #[schema(schema_with = schemas::currency, required = false)]
    currency: String,
    #[schema(max_length = 255)]
    description: Option<String>,
    /// In place of the header `Idempotency-Key`.
    #[schema(max_length = 255)]
    idempotency_key: Option<String>,
}

/// Why not.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that `rejection` reads")]
pub struct RejectProposal {
    #[schema(min_length = 1, max_length = 1024)]
    reason: String,
}

/// Fields that only some kinds take, and those that need them.
const FIELDS: [(&str, &[OperationKind], &[OperationKind]); 11] = {
    use OperationKind::{
        Adjust, CancelTransfer, ChangeLimit, ChangeVelocity, DiscardLetter, ReleaseQuarantine,
    };
    [
        ("transfer", &[CancelTransfer], &[]),
        ("account", &[ReleaseQuarantine, ChangeLimit, ChangeVelocity], &[]),
        ("letter", &[DiscardLetter], &[]),
        ("force", &[], &[ReleaseQuarantine]),
        ("overdraft_limit", &[ChangeLimit], &[]),
        ("limits", &[ChangeVelocity], &[]),
        ("source", &[Adjust], &[]),
        ("destination", &[Adjust], &[]),
        ("amount", &[Adjust], &[]),
        ("currency", &[Adjust], &[]),
        ("description", &[], &[Adjust]),
    ]
};

/// A proposal whose limit waits for the account's currency.
pub struct Proposing<'a> {
    /// The proposer's name of the request.
    pub key: IdempotencyKey,
    /// Why.
    pub reason: String,
    said: Said<'a>,
}

enum Said<'a> {
    Whole(Operation),
    Limit { account: AccountId, limit: &'a RawValue },
    Velocity { account: AccountId, limits: &'a RawValue },
}

impl<'a> Proposing<'a> {
    /// Reads all that can be read without knowing the currency of an account.
    pub fn parse(text: &'a str, caller: &Caller) -> Result<Self, Problem> {
        const KEY: &str = "idempotency_key";
        let mut fields = Fields::parse(text, "").map_err(Problem::invalid)?;
        let given: Vec<bool> = FIELDS.iter().map(|(name, ..)| fields.has(name)).collect();
        let kind: Option<OperationKind> = fields.required("kind", json::parsed);
        let reason = fields.required("reason", reason);
        let transfer: Option<TransferId> = fields.optional("transfer", json::parsed);
        let account = fields.optional("account", json::account_id);
        let letter: Option<LetterId> = fields.optional("letter", json::parsed);
        let force = fields.optional("force", json::flag).unwrap_or(false);
        let limit =
            fields.optional("overdraft_limit", |value| json::money(value, None).map(|_| value));
        let velocity: Option<&RawValue> = fields.optional("limits", Ok);
        // Its faults are told now; its amounts are read when the currency is known.
        let faults = velocity.and_then(|given| limits(given, None).err());
        faults.into_iter().flatten().for_each(|fault| fields.add(fault));
        let source = fields.optional("source", json::account_id);
        let destination = fields.optional("destination", json::account_id);
        if source.is_some() && source == destination {
            fields.fault("destination", "must be another account than the source");
        }
        let currency: Option<Currency> = fields.optional("currency", json::parsed);
        let amount = fields.optional("amount", |value| json::amount(value, currency)).flatten();
        let description = fields.optional("description", |value| json::text_up_to(value, 255));
        for ((name, needed, taken), given) in FIELDS.into_iter().zip(given) {
            let Some(kind) = kind else { break };
            if needed.contains(&kind) && !given {
                fields.fault(name, format!("is required to propose {}", kind.as_str()));
            } else if given && !needed.contains(&kind) && !taken.contains(&kind) {
                fields.fault(name, format!("has nothing to do with {}", kind.as_str()));
            }
        }
        let key = Key::read(&mut fields, KEY, &caller.key).finish(fields, KEY)?;
        let said = match kind {
            None => None,
            Some(OperationKind::CancelTransfer) => {
                transfer.map(|transfer| Said::Whole(Operation::CancelTransfer(transfer)))
            }
            Some(OperationKind::DiscardLetter) => {
                letter.map(|letter| Said::Whole(Operation::DiscardLetter(letter)))
            }
            Some(OperationKind::ReleaseQuarantine) => {
                account.map(|account| Said::Whole(Operation::ReleaseQuarantine { account, force }))
            }
            Some(OperationKind::ChangeLimit) => {
                account.zip(limit).map(|(account, limit)| Said::Limit { account, limit })
            }
            Some(OperationKind::ChangeVelocity) => {
                account.zip(velocity).map(|(account, limits)| Said::Velocity { account, limits })
            }
            Some(OperationKind::Adjust) => {
                source.zip(destination).zip(amount).map(|((source, destination), amount)| {
                    Said::Whole(Operation::Adjust { source, destination, amount, description })
                })
            }
        };
        let (Some(said), Some(reason)) = (said, reason) else {
            return Err(Problem::new(Code::InternalError, "a field that was read is gone"));
        };
        Ok(Self { key, reason, said })
    }

    /// The account whose currency is needed.
    pub fn account(&self) -> Option<&AccountId> {
        match &self.said {
            Said::Whole(_) => None,
            Said::Limit { account, .. } | Said::Velocity { account, .. } => Some(account),
        }
    }

    /// The operation; `currency` is that of the account, where it is needed.
    pub fn operation(self, currency: Option<Currency>) -> Result<Operation, Problem> {
        let unknown = |pointer| Problem::fault(Place::Body, pointer, "has no currency".to_owned());
        match self.said {
            Said::Whole(operation) => Ok(operation),
            Said::Limit { account, limit } => {
                const POINTER: &str = "/overdraft_limit";
                let fault = |detail| Problem::fault(Place::Body, POINTER, detail);
                let limit: Option<Money> = json::money(limit, currency).map_err(fault)?;
                let limit = limit.ok_or_else(|| unknown(POINTER))?;
                Ok(Operation::ChangeLimit { account, limit })
            }
            Said::Velocity { account, limits: given } => {
                let currency = currency.ok_or_else(|| unknown("/limits"))?;
                let limits = limits(given, Some(currency)).map_err(Problem::invalid)?;
                Ok(Operation::ChangeVelocity { account, currency, limits })
            }
        }
    }
}

/// The reason of a rejection.
pub fn rejection(text: &str) -> Result<String, Problem> {
    let mut fields = Fields::parse(text, "").map_err(Problem::invalid)?;
    let reason = fields.required("reason", reason);
    let faults = fields.finish();
    reason.filter(|_| faults.is_empty()).ok_or_else(|| Problem::invalid(faults))
}

fn reason(value: &RawValue) -> Result<String, String> {
    let text = json::text_up_to(value, 1024)?;
    if text.trim().is_empty() { Err("must say why".to_owned()) } else { Ok(text) }
}

/// A proposal.
#[derive(Serialize, ToSchema)]
#[schema(as = Proposal)]
pub struct ProposalAnswer {
    /// Made by Holdfast.
    #[schema(schema_with = schemas::transfer_id)]
    pub id: ProposalId,
    #[schema(schema_with = schemas::operation_kind)]
    kind: &'static str,
    /// How far it has come.
    #[schema(schema_with = schemas::proposal_status)]
    pub status: &'static str,
    /// The transfer, account or dead letter that it is about.
    target: String,
    /// The rest of what is proposed.
    #[schema(value_type = Object)]
    parameters: serde_json::Value,
    /// How things stood when it was proposed.
    #[schema(value_type = Object)]
    before: Option<Box<RawValue>>,
    reason: String,
    /// A principal.
    proposed_by: String,
    #[schema(schema_with = schemas::time)]
    created_at: Timestamp,
    /// Nobody can approve it from then on.
    #[schema(schema_with = schemas::time)]
    expires_at: Timestamp,
    /// Another principal.
    decided_by: Option<String>,
    #[schema(schema_with = schemas::optional_time)]
    decided_at: Option<Timestamp>,
    /// Why it was rejected.
    decision_reason: Option<String>,
    #[schema(schema_with = schemas::optional_time)]
    ended_at: Option<Timestamp>,
    /// What was done, or a code and why it could not be.
    #[schema(value_type = Option<Object>)]
    outcome: Option<Box<RawValue>>,
}

impl From<View> for ProposalAnswer {
    fn from(View { proposal, state }: View) -> Self {
        let (decision, ended) = (proposal.decision, proposal.ended);
        let json = |text: String| RawValue::from_string(text).ok();
        Self {
            id: proposal.id,
            kind: proposal.operation.kind().as_str(),
            status: state.as_str(),
            target: proposal.operation.target(),
            parameters: proposal.operation.parameters(),
            before: json(proposal.before),
            reason: proposal.reason,
            proposed_by: proposal.proposed_by.to_string(),
            created_at: proposal.created_at,
            expires_at: proposal.expires_at,
            decided_by: decision.as_ref().map(|decision| decision.by.to_string()),
            decided_at: decision.as_ref().map(|decision| decision.at),
            decision_reason: decision.and_then(|decision| decision.reason),
            ended_at: ended.as_ref().map(|ended| ended.at),
            outcome: ended.and_then(|ended| json(ended.outcome)),
        }
    }
}
