//! Whose accounts are whose: a principal sees and debits its own, unless a role of its has a scope
//! for all. What it must not see looks as if it were not there, in words and in what is done to
//! find out.

use super::{Ingress, Refusal, ReversalRequest, Submitted, TransferRequest};
use crate::access::{Principal, Scope};
use crate::domain::{AccountId, TransferId};
use std::collections::{BTreeMap, BTreeSet};

/// Which part of a transfer a principal must own to have to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Source or destination.
    Either,
    /// The source: who pays may stop it.
    Source,
    /// The destination: who was paid may pay back.
    Destination,
}

impl Ingress {
    /// Nothing, if the principal may have to do with an account; else what an account that does not
    /// exist would be refused with.
    pub async fn sees_account(
        &self,
        principal: &Principal,
        scope: Scope,
        id: &AccountId,
    ) -> Result<(), Refusal> {
        if principal.may_on_all(scope) {
            return Ok(());
        }
        let owns = self.owners.owns(&principal.client, BTreeSet::from([id.clone()])).await;
        if own(&owns, id)? { Ok(()) } else { Err(Refusal::AccountNotFound(id.clone())) }
    }

    /// The same of a transfer. One that the principal sees and has no such part in is refused as
    /// [`Refusal::NotYours`].
    pub async fn sees_transfer(
        &self,
        principal: &Principal,
        scope: Scope,
        part: Part,
        id: TransferId,
    ) -> Result<(), Refusal> {
        if principal.may_on_all(scope) {
            return Ok(());
        }
        let found = self.transfer_record(id).await;
        let (source, destination) = match &found {
            Ok(record) => {
                let terms = &record.row.terms;
                (terms.source.clone(), terms.destination.clone())
            }
            // As much is looked for as of one that is somebody else's.
            Err(Refusal::TransferNotFound(_)) => (nobodys("a"), nobodys("b")),
            Err(refusal) => return Err(refusal.clone()),
        };
        let accounts = BTreeSet::from([source.clone(), destination.clone()]);
        let owns = self.owners.owns(&principal.client, accounts).await;
        let (pays, is_paid) = (own(&owns, &source), own(&owns, &destination));
        // Who owns one of the two need not wait for the other's shard to say so.
        let sees = matches!(pays, Ok(true)) || matches!(is_paid, Ok(true));
        if found.is_err() || !(sees || pays.clone()? || is_paid.clone()?) {
            return Err(Refusal::TransferNotFound(id));
        }
        let has = match part {
            Part::Either => true,
            Part::Source => pays?,
            Part::Destination => is_paid?,
        };
        if has { Ok(()) } else { Err(Refusal::NotYours(id)) }
    }

    /// Accepts a transfer from an account that the principal may debit.
    pub async fn submit_as(
        &self,
        principal: &Principal,
        request: TransferRequest,
    ) -> Result<Submitted, Refusal> {
        self.sees_account(principal, Scope::TransfersWrite, &request.source).await?;
        self.submit(request).await
    }

    /// Accepts a reversal, which is paid by the original's destination.
    pub async fn reverse_as(
        &self,
        principal: &Principal,
        request: ReversalRequest,
    ) -> Result<Submitted, Refusal> {
        let (scope, part) = (Scope::TransfersWrite, Part::Destination);
        self.sees_transfer(principal, scope, part, request.original).await?;
        self.reverse(request).await
    }

    /// Accepts many, each on its own.
    pub async fn submit_many_as(
        &self,
        principal: &Principal,
        requests: Vec<TransferRequest>,
    ) -> Vec<Result<Submitted, Refusal>> {
        if principal.may_on_all(Scope::TransfersWrite) {
            return self.submit_many(requests).await;
        }
        let sources = requests.iter().map(|request| request.source.clone()).collect();
        let owns = self.owners.owns(&principal.client, sources).await;
        let mut answers = Vec::with_capacity(requests.len());
        let mut allowed = Vec::with_capacity(requests.len());
        for request in requests {
            match own(&owns, &request.source) {
                Ok(true) => {
                    answers.push(None);
                    allowed.push(request);
                }
                Ok(false) => answers.push(Some(Err(Refusal::AccountNotFound(request.source)))),
                Err(refusal) => answers.push(Some(Err(refusal))),
            }
        }
        let mut submitted = self.submit_many(allowed).await.into_iter();
        let next = |refused: Option<_>| {
            refused.unwrap_or_else(|| submitted.next().expect("every request is answered"))
        };
        answers.into_iter().map(next).collect()
    }
}

/// Of one of the accounts that were asked about.
fn own(owns: &BTreeMap<AccountId, Result<bool, Refusal>>, id: &AccountId) -> Result<bool, Refusal> {
    owns.get(id).cloned().unwrap_or(Ok(false))
}

/// An account that may exist and is not the one that is meant.
fn nobodys(name: &str) -> AccountId {
    name.parse().expect("a letter is an id")
}
