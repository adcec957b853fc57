//! How things stand when something is proposed: for whoever decides, and to be held against how
//! they stand when it is done.

use super::{ProposalError, Proposals};
use crate::domain::{
    AccountKind, AccountRow, Currency, Limit, Operation, Period, format_minor, told_limits,
};
use crate::ingress::Refusal;
use crate::operator::letters::{self, Blocked};
use crate::operator::{Examined, examine, quarantined};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Proposals<'_> {
    /// How things stand, as far as the operation has to do with them; or why it cannot be done.
    pub(super) async fn seen(&self, operation: &Operation) -> Result<Value, ProposalError> {
        match operation {
            Operation::CancelTransfer(id) => {
                self.ingress.would_cancel(*id).await?;
                let transfer = self.ingress.transfer_record(*id).await?.row;
                let terms = &transfer.terms;
                Ok(json!({
                    "status": transfer.state.as_str(),
                    "source": terms.source,
                    "destination": terms.destination,
                    "amount": terms.amount.to_string(),
                    "currency": terms.amount.currency(),
                }))
            }
            Operation::ReleaseQuarantine { account, .. } => {
                let examined = examine(self.context(), account).await?;
                let examined = examined
                    .ok_or_else(|| impossible("account", "the account is not in quarantine"))?;
                let mut seen = quarantined(examined.quarantine.as_ref());
                seen["still_wrong"] = still_wrong(&examined);
                Ok(seen)
            }
            Operation::DiscardLetter(id) => {
                let letter = letters::letter(self.context(), *id).await?;
                if letter.mark.is_some() {
                    return Err(impossible("letter", "the dead letter is dealt with already"));
                }
                let blocks = match &letter.blocked {
                    Blocked::Money(_, amount) => Some(format!("{amount} {}", amount.currency())),
                    Blocked::Final(_) | Blocked::NoTransfer => Some("0".to_owned()),
                    Blocked::Unknown(_) => None,
                };
                let reason =
                    letter.content.as_ref().map_or("unreadable", |dead| dead.reason.as_str());
                Ok(json!({ "reason": reason, "transfer": letter.transfer(), "blocks": blocks }))
            }
            Operation::ChangeLimit { account, limit } => {
                let row = self.ingress.account(account).await?.row;
                if row.currency != limit.currency() {
                    return Err(impossible("currency", "is not the account's"));
                }
                Ok(limit_of(&row))
            }
            Operation::ChangeVelocity { account, currency, .. } => {
                let seen = self.ingress.velocity(account).await?;
                if seen.currency != *currency {
                    return Err(impossible("currency", "is not the account's"));
                }
                let limits = seen.limits.into_iter().map(|(period, kept)| (period, kept.limit));
                Ok(velocity_of(&limits.collect(), *currency))
            }
            Operation::Adjust { source, destination, amount, .. } => {
                let pays = self.ingress.account(source).await?.row;
                let is_paid = self.ingress.account(destination).await?.row;
                if pays.kind != AccountKind::External {
                    let detail = "must be an external account: an adjustment is the world's money";
                    return Err(impossible("source", detail));
                }
                if [pays.currency, is_paid.currency] != [amount.currency(); 2] {
                    return Err(impossible("currency", "must be that of both accounts"));
                }
                let posted = format_minor(is_paid.posted, is_paid.currency);
                Ok(json!({ "destination_posted": posted }))
            }
        }
    }
}

fn impossible(field: &'static str, detail: &str) -> ProposalError {
    ProposalError::Impossible { field, detail: detail.to_owned() }
}

/// What an account's books still say against each other.
pub(super) fn still_wrong(examined: &Examined) -> Value {
    examined.findings.iter().map(|finding| finding.what).collect()
}

/// An account's limit, in the form that is kept.
pub(super) fn limit_of(row: &AccountRow) -> Value {
    let limit = format_minor(row.overdraft_limit, row.currency);
    json!({ "overdraft_limit": limit, "currency": row.currency })
}

/// An account's velocity limits, in the form that is kept.
pub(super) fn velocity_of(limits: &BTreeMap<Period, Limit>, currency: Currency) -> Value {
    json!({ "limits": told_limits(limits, currency), "currency": currency })
}

/// The refusal's code, for what is kept of it.
pub(super) fn code_of(refusal: &Refusal) -> &'static str {
    crate::ingress::http::Problem::from(refusal.clone()).code.as_str()
}
