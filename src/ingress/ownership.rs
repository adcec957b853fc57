//! Whose accounts are whose: a principal sees and debits its own, unless a role of its has a scope
//! for all. What it must not see looks as if it were not there, in words and in what is done to
//! find out.

use super::{Ingress, Refusal, ReversalRequest, Submitted, TransferRequest};
use crate::access::{Principal, Scope};
use crate::domain::{AccountId, Client, Shard, TransferId};
use crate::store::StoreError;
use moka::sync::Cache;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Owners that are remembered.
const REMEMBERED: u64 = 100_000;
/// How long: an account that is given to somebody else is that one's for sure after this.
const FOR: Duration = Duration::from_secs(30);

/// Owners of accounts, as far as they are remembered.
pub(super) type Owners = Cache<AccountId, Client>;

pub(super) fn nobody_remembered() -> Owners {
    Cache::builder().max_capacity(REMEMBERED).time_to_live(FOR).build()
}

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
        let owned = self.owned(principal, &BTreeSet::from([id.clone()])).await?;
        if owned.contains(id) { Ok(()) } else { Err(Refusal::AccountNotFound(id.clone())) }
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
        let owned = self.owned(principal, &accounts).await?;
        if owned.is_empty() || found.is_err() {
            return Err(Refusal::TransferNotFound(id));
        }
        let has = match part {
            Part::Either => true,
            Part::Source => owned.contains(&source),
            Part::Destination => owned.contains(&destination),
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
        let owned = match self.owned(principal, &sources).await {
            Ok(owned) => owned,
            Err(refusal) => return vec![Err(refusal); requests.len()],
        };
        let mut answers = Vec::with_capacity(requests.len());
        let mut allowed = Vec::with_capacity(requests.len());
        for request in requests {
            if owned.contains(&request.source) {
                answers.push(None);
                allowed.push(request);
            } else {
                answers.push(Some(Err(Refusal::AccountNotFound(request.source))));
            }
        }
        let mut submitted = self.submit_many(allowed).await.into_iter();
        let next = |refused: Option<_>| {
            refused.unwrap_or_else(|| submitted.next().expect("every request is answered"))
        };
        answers.into_iter().map(next).collect()
    }

    /// Those of the accounts that the principal owns. Only what is remembered as its own is not
    /// read again: an account of somebody else is looked for just as one that does not exist.
    async fn owned(
        &self,
        principal: &Principal,
        accounts: &BTreeSet<AccountId>,
    ) -> Result<BTreeSet<AccountId>, Refusal> {
        let is_own = |owner: Option<Client>| owner.as_ref() == Some(&principal.client);
        let mut owned = BTreeSet::new();
        let mut unknown = BTreeMap::<Shard, BTreeSet<AccountId>>::new();
        for id in accounts {
            if is_own(self.owners.get(id)) {
                owned.insert(id.clone());
            } else {
                let shard = self.context.store.map().shard_of(id);
                unknown.entry(shard).or_default().insert(id.clone());
            }
        }
        let reads = unknown.iter().map(|(shard, ids)| self.context.store.owners(*shard, ids));
        let answers: Vec<Result<_, StoreError>> = futures::future::join_all(reads).await;
        for answer in answers {
            for (id, owner) in answer? {
                if is_own(owner) {
                    self.owners.insert(id.clone(), principal.client.clone());
                    owned.insert(id);
                }
            }
        }
        Ok(owned)
    }
}

/// An account that may exist and is not the one that is meant.
fn nobodys(name: &str) -> AccountId {
    name.parse().expect("a letter is an id")
}
