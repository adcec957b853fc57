//! Accounts: creation and settings, each in one transaction on the account's shard.
//!
//! All of it may be done twice with the same result, so an unconfirmed COMMIT is followed by
//! another run, which finds what became of the first.

use super::{Ingress, Refusal};
use crate::domain::{
    AccountId, AccountKind, AccountRow, AccountStatus, Client, Currency, Shard, Timestamp,
    Velocity, format_minor,
};
use crate::store::{
    AccountRecord, AccountSettings, Action, Actor, BalanceRow, StoreError, Tx, UNREADABLE, Work,
    expect_rows, transact,
};
use async_trait::async_trait;
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// An account as the caller asked for it, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRequest {
    /// Its id; [`minted_account_id`] where the request named none.
    pub id: AccountId,
    /// Its currency.
    pub currency: Currency,
    /// Customer or external.
    pub kind: AccountKind,
    /// Minor units, not negative.
    pub overdraft_limit: i64,
    /// Strings by name.
    pub metadata: BTreeMap<String, String>,
    /// Whose it is to be.
    pub owner: Option<Client>,
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
    /// Gives it to another owner.
    pub owner: Option<Client>,
}

/// An id for an account whose owner named none: `acct-` and the 128 random bits as 26 lower-case
/// base-32 digits (Crockford's alphabet).
pub fn minted_account_id(random: u128) -> AccountId {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digit = |place: u32| char::from(DIGITS[(random >> (5 * place)) as usize & 31]);
    let text: String = "acct-".chars().chain((0..26).rev().map(digit)).collect();
    text.parse().expect("letters, digits and a hyphen, 31 characters")
}

impl Ingress {
    /// Creates accounts, one transaction a shard; answers in the order of the requests. Of several
    /// with one id the first counts, later ones find it there.
    pub async fn create_accounts(
        &self,
        requests: Vec<AccountRequest>,
    ) -> Vec<Result<Created, Refusal>> {
        let mut shares = BTreeMap::<Shard, Vec<usize>>::new();
        for (index, request) in requests.iter().enumerate() {
            shares.entry(self.context.store.map().shard_of(&request.id)).or_default().push(index);
        }
        let shares = shares.into_iter().map(|(shard, indices)| {
            let work = Create { requests: indices.iter().map(|at| &requests[*at]).collect() };
            async move { (indices, self.settle(shard, &work).await) }
        });
        let mut answers = BTreeMap::new();
        for (indices, outcome) in join_all(shares).await {
            let share = match outcome {
                Ok(share) => share,
                Err(refusal) => vec![Err(refusal); indices.len()],
            };
            answers.extend(indices.into_iter().zip(share));
        }
        assert_eq!(answers.len(), requests.len(), "every request is answered");
        answers.into_values().collect()
    }

    /// Changes limit and metadata.
    pub async fn patch_account(
        &self,
        id: &AccountId,
        patch: AccountPatch,
        by: &Actor,
    ) -> Result<AccountRecord, Refusal> {
        self.change_account(id, &Change::Patch(patch), by).await
    }

    /// Stops new holds and credits; a repeat changes nothing.
    pub async fn freeze_account(
        &self,
        id: &AccountId,
        by: &Actor,
    ) -> Result<AccountRecord, Refusal> {
        self.change_account(id, &Change::Freeze, by).await
    }

    /// Lets a frozen account take part again; a repeat changes nothing.
    pub async fn unfreeze_account(
        &self,
        id: &AccountId,
        by: &Actor,
    ) -> Result<AccountRecord, Refusal> {
        self.change_account(id, &Change::Unfreeze, by).await
    }

    /// Closes an account whose posted and held are zero; a repeat changes nothing.
    pub async fn close_account(
        &self,
        id: &AccountId,
        by: &Actor,
    ) -> Result<AccountRecord, Refusal> {
        self.change_account(id, &Change::Close, by).await
    }

    async fn change_account(
        &self,
        id: &AccountId,
        change: &Change,
        by: &Actor,
    ) -> Result<AccountRecord, Refusal> {
        let shard = self.context.store.map().shard_of(id);
        let settled = self.settle(shard, &Settle { id, change, by }).await??;
        // It may have another owner now; other processes learn of it within half a minute.
        self.owners.forget(id);
        if let Some(as_of) = settled.changed_at {
            self.cache_balance(BalanceRow { row: settled.account.row.clone(), as_of });
        }
        Ok(settled.account)
    }

    /// Runs work that may be done twice; once more where its COMMIT was not confirmed.
    pub(crate) async fn settle<W: Work>(
        &self,
        shard: Shard,
        work: &W,
    ) -> Result<W::Output, Refusal> {
        let store = self.context.store.as_ref();
        match transact(store, shard, work).await {
            Err(StoreError::CommitUnknown { .. }) => Ok(transact(store, shard, work).await?),
            outcome => Ok(outcome?),
        }
    }

    /// Writes a balance to Redis behind the caller's back: what it misses expires there. It lasts
    /// half a second at most, and where Redis is silent its breaker ends it at once.
    pub(crate) fn cache_balance(&self, balance: BalanceRow) {
        let context = self.context.clone();
        tokio::spawn(async move {
            let Some(cache) = &context.cache else { return };
            if let Err(error) = cache.set_newer(&[balance]).await {
                tracing::debug!(%error, "a balance was not written to Redis");
            }
        });
    }
}

/// Metadata as stores keep it.
fn metadata_text(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("a map of strings is always JSON")
}

/// Metadata as it was stored; any other text is told apart from every map.
fn metadata_of(record: &AccountRecord) -> Option<BTreeMap<String, String>> {
    serde_json::from_str(&record.metadata).ok()
}

struct Create<'a> {
    requests: Vec<&'a AccountRequest>,
}

#[async_trait]
impl Work for Create<'_> {
    type Output = Vec<Result<Created, Refusal>>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        let ids: BTreeSet<AccountId> = self.requests.iter().map(|each| each.id.clone()).collect();
        let mut stored = tx.account_records(&ids).await?;
        let mut unclaimed = BTreeMap::new();
        for request in self.requests.iter().filter(|each| !stored.contains_key(&each.id)) {
            unclaimed.entry(&request.id).or_insert_with(|| new_record(request, tx.now()));
        }
        if !unclaimed.is_empty() {
            let records: Vec<AccountRecord> = unclaimed.values().cloned().collect();
            let inserted = tx.insert_accounts(&records).await?;
            expect_rows(tx.shard(), "accounts", records.len(), inserted)?;
            stored = tx.account_records(&ids).await?;
        }
        let answer = |request: &&AccountRequest| {
            let new = unclaimed.remove(&request.id).is_some();
            let account = stored.get(&request.id).cloned().ok_or_else(|| StoreError::Corrupt {
                shard: tx.shard(),
                detail: format!(
                    "account {} is gone in the transaction that made it",
                    request.id.masked()
                ),
            })?;
            Ok(matching(request, account, new))
        };
        self.requests.iter().map(answer).collect()
    }
}

fn new_record(request: &AccountRequest, now: Timestamp) -> AccountRecord {
    AccountRecord {
        row: AccountRow {
            id: request.id.clone(),
            currency: request.currency,
            kind: request.kind,
            status: AccountStatus::Active,
            quarantined: false,
            overdraft_limit: request.overdraft_limit,
            posted: 0,
            held: 0,
            version: 1,
            velocity: Velocity::NONE,
        },
        metadata: metadata_text(&request.metadata),
        created_at: now,
        owner: request.owner.clone(),
    }
}

/// The account, if it is what was asked for.
fn matching(
    request: &AccountRequest,
    account: AccountRecord,
    new: bool,
) -> Result<Created, Refusal> {
    let row = &account.row;
    let stored = metadata_of(&account);
    // What cannot be read now cannot be told apart from what is asked for.
    let unlike = account.metadata != UNREADABLE && stored.as_ref() != Some(&request.metadata);
    let differing = [
        ("currency", row.currency != request.currency),
        ("kind", row.kind != request.kind),
        ("overdraft_limit", row.overdraft_limit != request.overdraft_limit),
        ("metadata", unlike),
        ("owner", account.owner != request.owner),
    ];
    let names: Vec<&str> =
        differing.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(Created { account, new });
    }
    let difference = format!("another {}", names.join(", "));
    Err(Refusal::AccountExists { id: request.id.clone(), difference })
}

enum Change {
    Patch(AccountPatch),
    Freeze,
    Unfreeze,
    Close,
}

impl Change {
    fn action(&self) -> Action {
        match self {
            Self::Patch(_) => Action::ChangeAccount,
            Self::Freeze => Action::FreezeAccount,
            Self::Unfreeze => Action::UnfreezeAccount,
            Self::Close => Action::CloseAccount,
        }
    }
}

struct Settle<'a> {
    id: &'a AccountId,
    change: &'a Change,
    by: &'a Actor,
}

struct Settled {
    account: AccountRecord,
    changed_at: Option<Timestamp>,
}

#[async_trait]
impl Work for Settle<'_> {
    type Output = Result<Settled, Refusal>;

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<Self::Output, StoreError> {
        change_within(tx, self.id, self.change, self.by).await
    }
}

/// Gives an account another overdraft limit, in minor units, within a transaction of its shard; the
/// account as it is then.
pub(crate) async fn limit_within(
    tx: &mut dyn Tx,
    id: &AccountId,
    limit: i64,
    by: &Actor,
) -> Result<Result<AccountRow, Refusal>, StoreError> {
    let change =
        Change::Patch(AccountPatch { overdraft_limit: Some(limit), ..AccountPatch::default() });
    Ok(change_within(tx, id, &change, by).await?.map(|settled| settled.account.row))
}

async fn change_within(
    tx: &mut dyn Tx,
    id: &AccountId,
    change: &Change,
    by: &Actor,
) -> Result<Result<Settled, Refusal>, StoreError> {
    let ids = BTreeSet::from([id.clone()]);
    let locked = tx.lock_accounts(&ids).await?.remove(id);
    let record = tx.account_records(&ids).await?.remove(id);
    let (Some(row), Some(record)) = (locked, record) else {
        return Ok(Err(Refusal::AccountNotFound(id.clone())));
    };
    checked(tx.shard(), &row)?;
    let mut account = AccountRecord { row, ..record };
    let settings = match decide(&account, change) {
        Ok(Some(settings)) => settings,
        Ok(None) => return Ok(Ok(Settled { account, changed_at: None })),
        Err(refusal) => return Ok(Err(refusal)),
    };
    checked(tx.shard(), &settings.row)?;
    expect_rows(tx.shard(), "account settings", 1, tx.write_settings(&settings).await?)?;
    let before = standing(&account);
    account.row = settings.row;
    account.metadata = settings.metadata.unwrap_or(account.metadata);
    account.owner = settings.owner.or(account.owner);
    let after = standing(&account);
    if before != after {
        let act = by.act(change.action(), id, &before, &after);
        tx.record_acts(&[act]).await?;
    }
    Ok(Ok(Settled { account, changed_at: Some(tx.now()) }))
}

/// What the audit log has of an account's settings: all that decides about its money and whose it
/// is.
fn standing(account: &AccountRecord) -> Value {
    let row = &account.row;
    json!({
        "status": row.status, "owner": account.owner,
        "overdraft_limit": format_minor(row.overdraft_limit, row.currency),
    })
}

pub(super) fn checked(shard: Shard, row: &AccountRow) -> Result<(), StoreError> {
    row.check().map_err(|fault| StoreError::Corrupt {
        shard,
        detail: format!("account {}: {fault}", row.id.masked()),
    })
}

/// What the change makes of the account; nothing where it is so already.
fn decide(account: &AccountRecord, change: &Change) -> Result<Option<AccountSettings>, Refusal> {
    let before = &account.row;
    let closed = before.status == AccountStatus::Closed;
    if closed && !matches!(change, Change::Close) {
        return Err(Refusal::AccountClosed(before.id.clone()));
    }
    let mut row = before.clone();
    let (mut metadata, mut owner) = (None, None);
    match change {
        Change::Freeze => row.status = AccountStatus::Frozen,
        Change::Unfreeze => row.status = AccountStatus::Active,
        Change::Close if closed || is_empty(before) => row.status = AccountStatus::Closed,
        Change::Close => return Err(not_empty(before)),
        Change::Patch(patch) => {
            row.overdraft_limit = new_limit(before, patch.overdraft_limit)?;
            let wanted = patch.metadata.as_ref();
            metadata =
                wanted.filter(|_| wanted != metadata_of(account).as_ref()).map(metadata_text);
            owner = patch.owner.clone().filter(|owner| Some(owner) != account.owner.as_ref());
        }
    }
    if row == *before && metadata.is_none() && owner.is_none() {
        return Ok(None);
    }
    row.version += 1;
    Ok(Some(AccountSettings { row, version_before: before.version, metadata, owner }))
}

fn is_empty(row: &AccountRow) -> bool {
    row.posted == 0 && row.held == 0
}

fn not_empty(row: &AccountRow) -> Refusal {
    Refusal::AccountNotEmpty {
        id: row.id.clone(),
        posted: format_minor(row.posted, row.currency),
        held: format_minor(row.held, row.currency),
    }
}

/// A limit is lowered only as far as it is unused; external accounts use none.
fn new_limit(row: &AccountRow, wanted: Option<i64>) -> Result<i64, Refusal> {
    let Some(limit) = wanted else { return Ok(row.overdraft_limit) };
    let used = match row.kind {
        AccountKind::Customer => (row.held - row.posted).max(0),
        AccountKind::External => 0,
    };
    if limit < row.overdraft_limit && limit < used {
        let lowest = format_minor(used, row.currency);
        return Err(Refusal::LimitInUse { id: row.id.clone(), lowest });
    }
    Ok(limit)
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
