//! Reads of transfers, alone and in lists.

use super::{Ingress, Listed, Refusal};
use crate::domain::{AccountId, Client, IdempotencyKey, State, Timestamp, TransferId};
use crate::store::{EntryRow, TransferFilter, TransferRecord};
use serde::Serialize;
use std::str::FromStr;

/// The state that the API shows: the stored one, or `credited` where the pivot says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the contract's and say it all")]
pub enum ViewState {
    Requested,
    Held,
    Credited,
    Committed,
    Rejected,
    Cancelled,
}

impl ViewState {
    /// The name in requests and answers.
    pub const fn as_str(self) -> &'static str {
        match self.stored() {
            Some(state) => state.as_str(),
            None => "credited",
        }
    }

    /// The stored state that is shown so; none for `credited`, which no source stores.
    pub const fn stored(self) -> Option<State> {
        match self {
            Self::Requested => Some(State::Requested),
            Self::Held => Some(State::Held),
            Self::Credited => None,
            Self::Committed => Some(State::Committed),
            Self::Rejected => Some(State::Rejected),
            Self::Cancelled => Some(State::Cancelled),
        }
    }
}

impl From<State> for ViewState {
    fn from(state: State) -> Self {
        match state {
            State::Requested => Self::Requested,
            State::Held => Self::Held,
            State::Committed => Self::Committed,
            State::Rejected => Self::Rejected,
            State::Cancelled => Self::Cancelled,
        }
    }
}

impl FromStr for ViewState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "credited" => Ok(Self::Credited),
            _ => State::from_str(text).map(Self::from).map_err(|names| format!("{names} credited")),
        }
    }
}

/// A transfer as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferView {
    /// As it is stored.
    pub transfer: TransferRecord,
    /// The state to be shown.
    pub state: ViewState,
    /// When it got there, by the database time of the shard that it happened on.
    pub updated_at: Timestamp,
}

impl From<TransferRecord> for TransferView {
    /// The stored state, as lists show it.
    fn from(transfer: TransferRecord) -> Self {
        let row = &transfer.row;
        let updated_at = row.completed_at.or(row.held_at).unwrap_or(row.requested_at);
        Self { state: row.state.into(), updated_at, transfer }
    }
}

/// Which way money goes, seen from an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The account pays.
    Out,
    /// The account is paid.
    In,
}

impl FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "out" => Ok(Self::Out),
            "in" => Ok(Self::In),
            _ => Err("one of out in".to_owned()),
        }
    }
}

/// Which transfers of an account to list; all of them by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferListing {
    /// Only one way.
    pub direction: Option<Direction>,
    /// Only one state: `credited` are incoming ones, every other is stored with outgoing ones.
    pub status: Option<ViewState>,
    /// Accepted at or after.
    pub from: Option<Timestamp>,
    /// Accepted before.
    pub to: Option<Timestamp>,
    /// Where the part before ended.
    pub before: TransferPosition,
}

/// A place in an account's list. It is merged of two lists, each in an order of its own: outgoing
/// transfers by id, incoming ones by the version of the account that the credit made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferPosition {
    /// Outgoing ones below this id.
    pub outgoing: Option<TransferId>,
    /// Incoming ones below this version.
    pub incoming: Option<i64>,
}

impl TransferPosition {
    /// The place after `transfer`, which is the next one in its list.
    fn pass(&mut self, transfer: &ListedTransfer) {
        match transfer {
            ListedTransfer::Outgoing(record) => self.outgoing = Some(record.row.terms.id),
            ListedTransfer::Incoming(entry) => {
                self.incoming = entry.outcome.ok().map(|money| money.version).or(self.incoming);
            }
        }
    }
}

impl TransferListing {
    fn wants(&self, direction: Direction) -> bool {
        let by_status = match self.status {
            None => true,
            Some(ViewState::Credited) => direction == Direction::In,
            Some(_) => direction == Direction::Out,
        };
        by_status && self.direction.is_none_or(|wanted| wanted == direction)
    }

    fn filter(&self) -> TransferFilter {
        TransferFilter {
            state: self.status.and_then(ViewState::stored),
            reference: None,
            from: self.from,
            to: self.to,
        }
    }
}

/// A transfer in an account's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListedTransfer {
    /// Out of the account, as its shard stores it.
    Outgoing(Box<TransferRecord>),
    /// Into the account, with what its ledger entry knows.
    Incoming(EntryRow),
}

impl ListedTransfer {
    /// When it came to the account: an outgoing one when it was accepted, an incoming one when it
    /// was credited.
    fn at(&self) -> Timestamp {
        match self {
            Self::Outgoing(record) => record.row.requested_at,
            Self::Incoming(entry) => entry.at,
        }
    }
}

impl Ingress {
    /// The transfer as it is stored at its source's shard.
    pub async fn transfer_record(&self, id: TransferId) -> Result<TransferRecord, Refusal> {
        let shard = self.context.store.map().shard_of_transfer(id);
        let found = self.context.store.transfer_records(shard, &[id]).await?;
        found.into_iter().next().ok_or(Refusal::TransferNotFound(id))
    }

    /// The transfer with the state to be shown: a HELD one is `credited` where the destination's
    /// shard says so in time.
    pub async fn transfer(&self, id: TransferId) -> Result<TransferView, Refusal> {
        let mut view = TransferView::from(self.transfer_record(id).await?);
        if view.transfer.row.state == State::Held
            && let Ok(Some(pivot)) = self.pivot_row(&view.transfer).await
            && pivot.outcome.is_ok()
        {
            view.state = ViewState::Credited;
            view.updated_at = pivot.at;
        }
        Ok(view)
    }

    /// Transfers out of and into an account, newest first, at most `limit`, and where they end if
    /// more follow; as of a moment ago where they are read from a replica.
    pub async fn account_transfers(
        &self,
        id: &AccountId,
        listing: &TransferListing,
        limit: u32,
    ) -> Result<(Vec<ListedTransfer>, Option<TransferPosition>), Refusal> {
        let reads = &self.context.reads;
        let shard = self.context.store.map().shard_of(id);
        let (filter, mut end) = (listing.filter(), listing.before);
        let mut transfers = Vec::new();
        if listing.wants(Direction::Out) {
            let rows = reads.outgoing(shard, id, &filter, end.outgoing, limit + 1).await?;
            transfers.extend(rows.into_iter().map(Box::new).map(ListedTransfer::Outgoing));
        }
        if listing.wants(Direction::In) {
            let rows = reads.incoming(shard, id, &filter, end.incoming, limit + 1).await?;
            transfers = merge(transfers, rows.into_iter().map(ListedTransfer::Incoming).collect());
        }
        if transfers.is_empty() {
            self.account(id).await?;
        }
        let listed = Listed::of(transfers, limit);
        listed.items.iter().for_each(|transfer| end.pass(transfer));
        Ok((listed.items, listed.more.then_some(end)))
    }

    /// Transfers out of an account that carry a reference, newest first, at most `limit`. Never from a
    /// replica: whoever does not find theirs asks for it again.
    pub async fn transfers_by_reference(
        &self,
        source: &AccountId,
        reference: String,
        before: Option<TransferId>,
        limit: u32,
    ) -> Result<Listed<TransferRecord>, Refusal> {
        let shard = self.context.store.map().shard_of(source);
        let filter = TransferFilter { reference: Some(reference), ..TransferFilter::default() };
        let rows = self.context.store.outgoing(shard, source, &filter, before, limit + 1).await?;
        Ok(Listed::of(rows, limit))
    }

    /// The transfer that a client's key stands for, if it was accepted.
    pub async fn transfer_by_key(
        &self,
        client: &Client,
        source: &AccountId,
        key: &IdempotencyKey,
    ) -> Result<Option<TransferRecord>, Refusal> {
        let shard = self.context.store.map().shard_of(source);
        match self.context.store.claimed_transfer(shard, client, source, key).await? {
            Some(id) => self.transfer_record(id).await.map(Some),
            None => Ok(None),
        }
    }
}

/// Merges two lists, newest first; each keeps its own order, so that a position in it stays one.
fn merge(one: Vec<ListedTransfer>, other: Vec<ListedTransfer>) -> Vec<ListedTransfer> {
    let (mut one, mut other) = (one.into_iter().peekable(), other.into_iter().peekable());
    let next = || match (one.peek(), other.peek()) {
        (Some(left), Some(right)) if left.at() < right.at() => other.next(),
        (None, _) => other.next(),
        (Some(_), _) => one.next(),
    };
    std::iter::from_fn(next).collect()
}
