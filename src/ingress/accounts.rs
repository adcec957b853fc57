//! Accounts: creation and settings, each in one transaction on the account's shard.

use super::{Ingress, Refusal};
use crate::domain::{AccountId, AccountKind, Currency};
use crate::store::AccountRecord;
use std::collections::BTreeMap;

/// An account as the caller asked for it, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRequest {
    /// Its id; minted by the caller of this function where the request named none.
    pub id: AccountId,
    /// Its currency.
    pub currency: Currency,
    /// Customer or external.
    pub kind: AccountKind,
    /// Minor units, not negative.
    pub overdraft_limit: i64,
    /// Strings by name.
    pub metadata: BTreeMap<String, String>,
}

/// An account that exists now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// As it is stored.
    pub account: AccountRecord,
    /// Whether this request made it, or it was there with the same attributes.
    pub new: bool,
}

/// Changes to an account; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountPatch {
    /// Minor units, not negative.
    pub overdraft_limit: Option<i64>,
    /// Replaces all metadata.
    pub metadata: Option<BTreeMap<String, String>>,
}

impl Ingress {
    /// Creates accounts, one transaction a shard; answers in the order of the requests.
    pub async fn create_accounts(
        &self,
        _requests: Vec<AccountRequest>,
    ) -> Vec<Result<Created, Refusal>> {
        todo!()
    }

    /// Changes limit and metadata.
    pub async fn patch_account(
        &self,
        _id: &AccountId,
        _patch: AccountPatch,
    ) -> Result<AccountRecord, Refusal> {
        todo!()
    }

    /// Stops new holds and credits; a repeat changes nothing.
    pub async fn freeze_account(&self, _id: &AccountId) -> Result<AccountRecord, Refusal> {
        todo!()
    }

    /// Lets a frozen account take part again; a repeat changes nothing.
    pub async fn unfreeze_account(&self, _id: &AccountId) -> Result<AccountRecord, Refusal> {
        todo!()
    }

    /// Closes an account whose posted and held are zero; a repeat changes nothing.
    pub async fn close_account(&self, _id: &AccountId) -> Result<AccountRecord, Refusal> {
        todo!()
    }
}
