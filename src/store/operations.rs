//! What operators do and leave behind: the audit log, quarantines, dead letters that were dealt
//! with. Every act is written in the transaction that does it.

use super::chain::ChainPage;
use super::{Store, StoreError, Tx, Work, transact};
use crate::domain::{
    AccountId, Currency, Partition, Shard, StuckTransfer, Suspicion, Timestamp, TransferId,
};
use async_trait::async_trait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::str::FromStr;

/// What can be done by hand, or by Holdfast itself where it has to be answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A transfer was cancelled.
    CancelTransfer,
    /// What holds for a transfer was emitted once more.
    RetryTransfer,
    /// An account was quarantined.
    Quarantine,
    /// A quarantine was ended.
    ReleaseQuarantine,
    /// A dead letter's event was put on the ordinary path again.
    ReplayLetter,
    /// A dead letter was marked as dealt with.
    DiscardLetter,
    /// A projection was made anew from its decision row.
    RebuildProjection,
    /// Both sides of every transfer were made to agree again after a promotion.
    Recover,
    /// Somebody was not let do what they asked for.
    RefuseAccess,
    /// An API key was created.
    CreateKey,
    /// An API key got a successor.
    RotateKey,
    /// An API key was ended.
    RevokeKey,
    /// An account was frozen.
    FreezeAccount,
    /// An account is no longer frozen.
    UnfreezeAccount,
    /// An account was closed.
    CloseAccount,
    /// The limit, the owner or the metadata of an account was changed.
    ChangeAccount,
    /// Somebody proposed an operation that another has to approve.
    CreateProposal,
    /// A proposal was approved.
    ApproveProposal,
    /// A proposal was rejected.
    RejectProposal,
    /// A limit was changed.
    ChangeLimit,
    /// What was approved is done, or could not be.
    ExecuteProposal,
    /// A scope was stopped.
    Pause,
    /// A scope accepts nothing new.
    Drain,
    /// A scope goes on.
    Resume,
    /// Holdfast made data keys, where there were none or one had sealed enough.
    MakeDataKey,
    /// A shard got another data key.
    RotateDataKey,
    /// Data keys were wrapped by another key of the configuration.
    RewrapDataKeys,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::CancelTransfer,
        Self::RetryTransfer,
        Self::Quarantine,
        Self::ReleaseQuarantine,
        Self::ReplayLetter,
        Self::DiscardLetter,
        Self::RebuildProjection,
        Self::Recover,
        Self::RefuseAccess,
        Self::CreateKey,
        Self::RotateKey,
        Self::RevokeKey,
        Self::FreezeAccount,
        Self::UnfreezeAccount,
        Self::CloseAccount,
        Self::ChangeAccount,
        Self::CreateProposal,
        Self::ApproveProposal,
        Self::RejectProposal,
        Self::ChangeLimit,
        Self::ExecuteProposal,
        Self::Pause,
        Self::Drain,
        Self::Resume,
        Self::MakeDataKey,
        Self::RotateDataKey,
        Self::RewrapDataKeys,
    ];

    /// The name in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CancelTransfer => "transfer.cancel",
            Self::RetryTransfer => "transfer.retry",
            Self::Quarantine => "account.quarantine",
            Self::ReleaseQuarantine => "account.release_quarantine",
            Self::ReplayLetter => "dlq.replay",
            Self::DiscardLetter => "dlq.discard",
            Self::RebuildProjection => "projection.rebuild",
            Self::Recover => "reconcile.recover",
            Self::RefuseAccess => "access.refused",
            Self::CreateKey => "key.create",
            Self::RotateKey => "key.rotate",
            Self::RevokeKey => "key.revoke",
            Self::FreezeAccount => "account.freeze",
            Self::UnfreezeAccount => "account.unfreeze",
            Self::CloseAccount => "account.close",
            Self::ChangeAccount => "account.change",
            Self::CreateProposal => "proposal.create",
            Self::ApproveProposal => "proposal.approve",
            Self::RejectProposal => "proposal.reject",
            Self::ChangeLimit => "limit.change",
            Self::ExecuteProposal => "proposal.execute",
            Self::Pause => "pause",
            Self::Drain => "drain",
            Self::Resume => "resume",
            Self::MakeDataKey => "encryption.make",
            Self::RotateDataKey => "encryption.rotate",
            Self::RewrapDataKeys => "encryption.rewrap",
        }
    }
}

impl FromStr for Action {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|action| action.as_str() == text);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|action| action.as_str()).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

/// Who acts, and why. What is longer than the log takes is cut off there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Up to 128 characters.
    pub operator: String,
    /// Up to 1,024 characters.
    pub reason: Option<String>,
    /// What all acts of one command or request have in common; up to 64 ASCII characters.
    pub request: Option<String>,
}

impl Actor {
    /// Holdfast itself.
    pub fn itself() -> Self {
        Self { operator: "holdfast".to_owned(), reason: None, request: None }
    }

    /// An act of theirs. `before` and `after` say what it changed.
    pub fn act(
        &self,
        action: Action,
        target: &impl ToString,
        before: &Value,
        after: &Value,
    ) -> Act {
        Act {
            actor: self.clone(),
            action: action.as_str().to_owned(),
            target: target.to_string(),
            before: before.to_string(),
            after: after.to_string(),
        }
    }
}

/// Who did what to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Who, and why.
    pub actor: Actor,
    /// The name of an [`Action`], perhaps of a later release.
    pub action: String,
    /// The transfer, account or dead letter, or what else it was done to; up to 255 ASCII
    /// characters, others are logged as `?`.
    pub target: String,
    /// What was so before, as JSON.
    pub before: String,
    /// What is so after, as JSON.
    pub after: String,
}

/// A row of a shard's audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAct {
    /// One more than that of the shard's row before.
    pub id: i64,
    /// Database time of the act's transaction.
    pub at: Timestamp,
    /// The act.
    pub act: Act,
}

/// Which acts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActFilter {
    /// Only this action.
    pub action: Option<Action>,
    /// Only on this transfer, account or dead letter.
    pub target: Option<String>,
}

/// An account in quarantine, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The account.
    pub account: AccountId,
    /// Its currency.
    pub currency: Currency,
    /// When it began.
    pub since: Timestamp,
    /// What was found.
    pub suspicion: Suspicion,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// Its event is on the ordinary path again.
    Replayed,
    /// It is dealt with.
    Discarded,
}

impl Handled {
    /// The number that stores keep.
    pub const fn code(self) -> i64 {
        match self {
            Self::Replayed => 1,
            Self::Discarded => 2,
        }
    }

    /// From the number that stores keep.
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            1 => Some(Self::Replayed),
            2 => Some(Self::Discarded),
            _ => None,
        }
    }

    /// The name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// A dead letter that was dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterMark {
    /// Where it stands in the shard's dead-letter topic.
    pub partition: Partition,
    /// Where it stands in that partition.
    pub offset: i64,
    /// What became of it.
    pub handled: Handled,
    /// By whom.
    pub operator: String,
    /// Why.
    pub reason: Option<String>,
    /// When: the transaction's time; ignored on insert.
    pub at: Timestamp,
}

/// Reads of what operators did.
#[async_trait]
pub trait Operations {
    /// Rows of the audit log, newest first, before this time and id.
    async fn acts(
        &self,
        shard: Shard,
        filter: &ActFilter,
        before: (Timestamp, i64),
        limit: u32,
    ) -> Result<Vec<LoggedAct>, StoreError>;

    /// Rows of the audit log as they are stored, in id order after `after`, and the head of their
    /// chain, in one snapshot.
    async fn chained_acts(
        &self,
        shard: Shard,
        after: i64,
        limit: u32,
    ) -> Result<ChainPage, StoreError>;

    /// Accounts in quarantine, in id order, after `after`.
    async fn quarantines(
        &self,
        shard: Shard,
        after: Option<&AccountId>,
        limit: u32,
    ) -> Result<Vec<Quarantined>, StoreError>;

    /// The quarantine of one account.
    async fn quarantine_of(
        &self,
        shard: Shard,
        account: &AccountId,
    ) -> Result<Option<Quarantined>, StoreError>;

    /// Transfers that are not final, accepted before `until`, in id order after `after`: those on
    /// the reconciler's list and those behind which its scan has not come. Writes nothing.
    async fn open_transfers(
        &self,
        shard: Shard,
        after: TransferId,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<StuckTransfer>, StoreError>;

    /// Dead letters of the shard's topic that were dealt with, in one partition from offset `from`
    /// to `to`, both included.
    async fn letter_marks(
        &self,
        shard: Shard,
        partition: Partition,
        from: i64,
        to: i64,
    ) -> Result<Vec<LetterMark>, StoreError>;
}

/// Writes of what operators did, within a transaction.
#[async_trait]
pub trait OperationsTx {
    /// Adds rows to the audit log and to its chain, in order. The chain's head is locked until the
    /// transaction ends: of all that a transaction locks it should be the last.
    async fn record_acts(&mut self, acts: &[Act]) -> Result<(), StoreError>;

    /// Forgets why accounts were quarantined; the mark itself is in their rows.
    async fn forget_quarantines(&mut self, ids: &BTreeSet<AccountId>) -> Result<u64, StoreError>;

    /// Marks dead letters as dealt with. One that is marked already is
    /// [`StoreError::Duplicate`].
    async fn mark_letters(&mut self, marks: &[LetterMark]) -> Result<(), StoreError>;

    /// Makes projections anew from their decision rows, whatever they say. Returns how many.
    async fn rebuild_projections(&mut self, ids: &BTreeSet<AccountId>) -> Result<u64, StoreError>;
}

/// Adds rows to a shard's audit log that belong to no other transaction. Where the COMMIT is not
/// confirmed they may be there, and a caller that repeats it may log them twice.
pub async fn record(store: &dyn Store, shard: Shard, acts: &[Act]) -> Result<(), StoreError> {
    transact(store, shard, &Record { acts }).await
}

struct Record<'a> {
    acts: &'a [Act],
}

#[async_trait]
impl Work for Record<'_> {
    type Output = ();

    async fn run(&self, tx: &mut dyn Tx, _attempt: u32) -> Result<(), StoreError> {
        tx.record_acts(self.acts).await
    }
}

/// Where the audit log is read from to begin with its newest row.
pub const NEWEST: (Timestamp, i64) = (Timestamp::from_micros(i64::MAX), i64::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_actions_read_back() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert!("something".parse::<Action>().unwrap_err().contains("dlq.replay"));
    }
}
