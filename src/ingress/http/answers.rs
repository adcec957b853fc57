//! The shapes of answers.

use super::super::{Balance, ListedTransfer, TimelineEvent, TransferView, ViewState};
use super::schemas;
use crate::domain::{
    AccountId, AccountKind, AccountStatus, Currency, Reason, Timestamp, TransferId, format_minor,
};
use crate::meters::table::UNREADABLE_FIELDS;
use crate::seldom::Seldom;
use crate::store::{AccountRecord, EntryRow, UNREADABLE};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A part of a list.
#[derive(Serialize, ToSchema)]
pub struct Page<T> {
    /// In the list's order.
    pub data: Vec<T>,
    /// For `?cursor=`; null at the end.
    pub next_cursor: Option<String>,
}

/// An account.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountAnswer {
    #[schema(schema_with = schemas::account_id)]
    id: AccountId,
    #[schema(schema_with = schemas::currency)]
    currency: Currency,
    #[schema(schema_with = schemas::account_kind)]
    kind: AccountKind,
    #[schema(schema_with = schemas::account_status)]
    status: AccountStatus,
    /// Whether new holds are refused because its books are in doubt.
    quarantined: bool,
    /// In the currency's full scale.
    #[schema(example = "0.00")]
    overdraft_limit: String,
    #[schema(value_type = BTreeMap<String, String>)]
    metadata: Option<Box<RawValue>>,
    /// There where the metadata is encrypted and cannot be read now: it is null then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    unreadable: Option<bool>,
    #[schema(schema_with = schemas::time)]
    created_at: Timestamp,
    /// Whose it is; null where it is nobody's.
    #[schema(required = true)]
    owner: Option<String>,
}

impl From<AccountRecord> for AccountAnswer {
    fn from(record: AccountRecord) -> Self {
        Self {
            overdraft_limit: format_minor(record.row.overdraft_limit, record.row.currency),
            id: record.row.id,
            currency: record.row.currency,
            kind: record.row.kind,
            status: record.row.status,
            quarantined: record.row.quarantined,
            unreadable: told(record.metadata == UNREADABLE),
            metadata: if record.metadata == UNREADABLE { None } else { json(record.metadata) },
            created_at: record.created_at,
            owner: record.owner.map(|owner| owner.to_string()),
        }
    }
}

/// Whether fields are missing because they cannot be read. Whoever answers with a list of them would
/// have the log say the same of each.
fn told(unreadable: bool) -> Option<bool> {
    static UNREAD: Seldom = Seldom::unsaid();
    if unreadable {
        UNREADABLE_FIELDS.counter(&[]).increment(1);
        if let Some(left_out) = UNREAD.due() {
            tracing::error!(
                left_out,
                "encrypted fields cannot be read: see `holdfast encryption status`"
            );
        }
    }
    unreadable.then_some(true)
}

/// Stored JSON as it is; null where it is none, which the log then says.
fn json(text: String) -> Option<Box<RawValue>> {
    RawValue::from_string(text)
        .inspect_err(|error| tracing::error!(%error, "stored metadata is not JSON"))
        .ok()
}

/// A balance; all amounts in the currency's full scale.
#[derive(Serialize, ToSchema)]
#[schema(as = Balance)]
pub struct BalanceAnswer {
    /// Whose.
    #[schema(schema_with = schemas::account_id)]
    pub account_id: AccountId,
    /// In which.
    #[schema(schema_with = schemas::currency)]
    pub currency: Currency,
    /// Sum of the ledger.
    #[schema(example = "1000.00")]
    pub posted: String,
    /// Held for transfers that are not final.
    #[schema(example = "25.00")]
    pub held: String,
    /// `posted - held + overdraft_limit`; null for external accounts.
    #[schema(example = "975.00")]
    pub available: Option<String>,
    /// Number of changes of the account so far.
    pub version: i64,
    /// When it was so, by the database time of the account's shard.
    #[schema(schema_with = schemas::time)]
    pub as_of: Timestamp,
}

impl From<Balance> for BalanceAnswer {
    fn from(Balance { balance }: Balance) -> Self {
        let row = balance.row;
        Self {
            posted: format_minor(row.posted, row.currency),
            held: format_minor(row.held, row.currency),
            available: row.available().map(|minor| format_minor(minor, row.currency)),
            account_id: row.id,
            currency: row.currency,
            version: row.version,
            as_of: balance.as_of,
        }
    }
}

/// A ledger entry.
#[derive(Serialize, ToSchema)]
#[schema(as = Entry)]
pub struct EntryAnswer {
    #[schema(schema_with = schemas::transfer_id)]
    transfer_id: TransferId,
    #[schema(schema_with = schemas::entry_direction)]
    direction: &'static str,
    #[schema(example = "25.00")]
    amount: String,
    /// `posted` after it.
    #[schema(example = "975.00")]
    balance_after: String,
    /// The account's version that it made.
    version: i64,
    /// The other account.
    #[schema(schema_with = schemas::account_id)]
    counterparty: AccountId,
    #[schema(schema_with = schemas::time)]
    at: Timestamp,
}

impl EntryAnswer {
    /// The entry; none for a REFUSED mark, which moved no money.
    pub fn of(row: EntryRow) -> Option<Self> {
        let entry = row.outcome.ok()?;
        Some(Self {
            transfer_id: row.transfer,
            direction: row.side.as_str(),
            amount: entry.amount.to_string(),
            balance_after: format_minor(entry.balance_after, row.currency),
            version: entry.version,
            counterparty: row.counterparty,
            at: row.at,
        })
    }
}

/// A transfer. In an account's list, an incoming one has what its ledger entry knows: other fields
/// are null there.
#[derive(Serialize, ToSchema)]
#[schema(as = Transfer)]
pub struct TransferAnswer {
    /// Made by Holdfast.
    #[schema(schema_with = schemas::transfer_id)]
    pub id: TransferId,
    #[schema(schema_with = schemas::account_id)]
    source: AccountId,
    #[schema(schema_with = schemas::account_id)]
    destination: AccountId,
    #[schema(example = "25.00")]
    amount: String,
    #[schema(schema_with = schemas::currency)]
    currency: Currency,
    /// How far it has come.
    #[schema(schema_with = schemas::transfer_status)]
    pub status: ViewState,
    /// Why it was rejected or cancelled.
    #[schema(schema_with = schemas::reason)]
    pub reason: Option<Reason>,
    description: Option<String>,
    reference: Option<String>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    metadata: Option<Box<RawValue>>,
    /// There where description, reference and metadata are encrypted and cannot be read now: they are
    /// null then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    unreadable: Option<bool>,
    /// The transfer that this one reverses.
    #[schema(schema_with = schemas::optional_transfer_id)]
    reverses: Option<TransferId>,
    #[schema(schema_with = schemas::optional_time)]
    created_at: Option<Timestamp>,
    #[schema(schema_with = schemas::time)]
    updated_at: Timestamp,
    #[schema(schema_with = schemas::optional_time)]
    completed_at: Option<Timestamp>,
}

impl From<TransferView> for TransferAnswer {
    fn from(TransferView { transfer, state, updated_at }: TransferView) -> Self {
        let (row, terms) = (&transfer.row, &transfer.row.terms);
        Self {
            id: terms.id,
            source: terms.source.clone(),
            destination: terms.destination.clone(),
            amount: terms.amount.to_string(),
            currency: terms.amount.currency(),
            status: state,
            reason: row.reason,
            reverses: terms.reverses,
            created_at: Some(row.requested_at),
            updated_at,
            completed_at: row.completed_at,
            unreadable: told(transfer.is_unreadable()),
            description: transfer.description,
            reference: transfer.reference,
            metadata: transfer.metadata.and_then(json),
        }
    }
}

impl TransferAnswer {
    /// One in an account's list; none for a REFUSED mark, which is not incoming.
    pub fn listed(transfer: ListedTransfer) -> Option<Self> {
        let entry = match transfer {
            ListedTransfer::Outgoing(record) => return Some(TransferView::from(*record).into()),
            ListedTransfer::Incoming(entry) => entry,
        };
        let money = entry.outcome.ok()?;
        Some(Self {
            id: entry.transfer,
            source: entry.counterparty,
            destination: entry.account,
            amount: money.amount.to_string(),
            currency: entry.currency,
            status: ViewState::Credited,
            reason: None,
            description: None,
            reference: None,
            metadata: None,
            unreadable: None,
            reverses: None,
            created_at: None,
            updated_at: entry.at,
            completed_at: None,
        })
    }
}

/// One thing that happened to a transfer.
#[derive(Serialize, ToSchema)]
#[schema(as = TimelineEvent)]
pub struct TimelineAnswer {
    #[schema(example = "held")]
    event: &'static str,
    #[schema(schema_with = schemas::time)]
    at: Timestamp,
    /// The role that did it.
    #[schema(example = "hold")]
    stage: &'static str,
    /// The shard that it happened on.
    shard: u16,
    /// Topic, partition and offset of the event that caused it; null where none did.
    #[schema(example = "transfer.requested.0")]
    topic: Option<String>,
    partition: Option<u32>,
    offset: Option<i64>,
    /// 1, and one more for each time the reconciler drove it again.
    attempt: u32,
    /// Why, where it was refused.
    #[schema(schema_with = schemas::reason)]
    detail: Option<Reason>,
}

impl From<TimelineEvent> for TimelineAnswer {
    fn from(event: TimelineEvent) -> Self {
        Self {
            event: event.event,
            at: event.at,
            stage: event.stage,
            shard: event.shard.0,
            topic: event.topic.map(|topic| topic.to_string()),
            partition: event.partition,
            offset: event.offset,
            attempt: event.attempt,
            detail: event.detail,
        }
    }
}

/// A transfer's timeline, oldest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Timeline)]
pub struct TimelinePage {
    pub data: Vec<TimelineAnswer>,
    /// False while the destination's shard does not answer: its step is missing then.
    pub complete: bool,
}
