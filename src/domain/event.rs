//! Events: what a step announces after its transaction, as JSON with a version.
//!
//! The value's shape is fixed by `schemas/transfer-event.v1.json`; amounts are decimal strings.

use super::account::{AccountKind, AccountRow, AccountStatus, coded};
use super::claim::NewTransfer;
use super::currency::Currency;
use super::hex;
use super::ids::{
    AccountId, Client, ClusterId, Generation, IdempotencyKey, Partition, Shard, TransferId,
};
use super::money::{Money, format_minor, parse_signed_minor};
use super::sealed::Sealed;
use super::time::Timestamp;
use super::transfer::{Reason, State, Terms};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

/// The version of the event format that this release writes, and the newest that it reads.
pub const EVENT_VERSION: u32 = 1;

/// What happened; each has a topic family of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// Accepted.
    Requested,
    /// The source's row is HELD.
    Held,
    /// The pivot is CREDITED.
    Credited,
    /// The pivot is REFUSED. Internal: not a final event.
    Refused,
    /// Final.
    Committed,
    /// Final.
    Rejected,
    /// Final.
    Cancelled,
}

coded!(EventType {
    Requested = 1, "transfer.requested"; Held = 2, "transfer.held"; Credited = 3, "transfer.credited";
    Refused = 4, "transfer.refused"; Committed = 5, "transfer.committed";
    Rejected = 6, "transfer.rejected"; Cancelled = 7, "transfer.cancelled";
});

impl EventType {
    /// The event that announces a stored state.
    pub const fn announcing(state: State) -> Self {
        match state {
            State::Requested => Self::Requested,
            State::Held => Self::Held,
            State::Committed => Self::Committed,
            State::Rejected => Self::Rejected,
            State::Cancelled => Self::Cancelled,
        }
    }
}

/// What ingress was asked for beyond the terms; carried by `transfer.requested` alone, so that a
/// transfer and its claim can be recreated from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestDetails {
    /// Who asked.
    pub client: Client,
    /// Under which key.
    pub idempotency_key: IdempotencyKey,
    /// Fingerprint of what was asked, in hexadecimal.
    pub fingerprint: String,
    /// How it was computed.
    #[serde(default = "first_version")]
    pub fingerprint_version: u8,
    /// The caller's text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub description: Option<String>,
    /// The caller's reference.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reference: Option<String>,
    /// The caller's metadata, a JSON object of strings, as text.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metadata: Option<String>,
    /// These three, where they are encrypted at rest; each is left out then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sealed: Option<Sealed>,
}

const fn first_version() -> u8 {
    1
}

impl RequestDetails {
    /// What is published of a request.
    pub fn of(transfer: &NewTransfer) -> Self {
        let plain = |field: &Option<String>| field.clone().filter(|_| transfer.sealed.is_none());
        Self {
            client: transfer.claim.client.clone(),
            idempotency_key: transfer.claim.key.clone(),
            fingerprint: hex::encode(&transfer.fingerprint),
            fingerprint_version: transfer.fingerprint_version,
            description: plain(&transfer.description),
            reference: plain(&transfer.reference),
            metadata: plain(&transfer.metadata),
            sealed: transfer.sealed.clone(),
        }
    }

    /// The fingerprint's 32 bytes, if it is one.
    pub fn fingerprint_bytes(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        if self.fingerprint.len() != 64 || !self.fingerprint.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.fingerprint[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(bytes)
    }
}

/// The account row as it stood in the transaction that read or wrote it; projections are made of
/// these. Amounts are minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountSnapshot {
    /// Its id.
    pub id: AccountId,
    /// Its currency.
    pub currency: Currency,
    /// Customer or external.
    pub kind: AccountKind,
    /// Active, frozen or closed.
    pub status: AccountStatus,
    /// Minor units.
    pub overdraft_limit: i64,
    /// Minor units.
    pub posted: i64,
    /// Minor units.
    pub held: i64,
    /// Number of changes so far.
    pub version: i64,
}

impl From<&AccountRow> for AccountSnapshot {
    fn from(row: &AccountRow) -> Self {
        Self {
            id: row.id.clone(),
            currency: row.currency,
            kind: row.kind,
            status: row.status,
            overdraft_limit: row.overdraft_limit,
            posted: row.posted,
            held: row.held,
            version: row.version,
        }
    }
}

/// One event about one transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventType,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// That cluster's generation when it was emitted.
    pub generation: Generation,
    /// 1, and one more for each time the reconciler drove this stage again.
    pub attempt: u32,
    /// Database time of the transaction that wrote or read what is announced.
    pub at: Timestamp,
    /// The transfer.
    pub terms: Terms,
    /// Why, for refused, rejected and cancelled.
    pub reason: Option<Reason>,
    /// The account row that the step changed, if it changed one.
    pub account: Option<AccountSnapshot>,
    /// With an end, the destination's row where the same transaction paid it.
    pub destination_account: Option<AccountSnapshot>,
    /// With `transfer.requested` only.
    pub request: Option<RequestDetails>,
    /// W3C trace context; travels as a header, not in the value.
    pub traceparent: Option<Arc<str>>,
}

/// Why a value is no event that this release can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Written by a later release: wait for the upgrade, never drop it.
    #[error(
        "event version {0} is newer than this release reads ({EVENT_VERSION}): upgrade this process"
    )]
    Newer(u32),
    /// It can never be read.
    #[error("not a transfer event: {0}")]
    Malformed(String),
}

#[derive(Serialize, Deserialize)]
struct WireTransfer<'a> {
    id: TransferId,
    source: AccountId,
    destination: AccountId,
    #[serde(borrow)]
    amount: Cow<'a, str>,
    currency: Currency,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reverses: Option<TransferId>,
}

#[derive(Serialize, Deserialize)]
struct WireAccount<'a> {
    id: AccountId,
    currency: Currency,
    kind: AccountKind,
    status: AccountStatus,
    #[serde(borrow)]
    overdraft_limit: Cow<'a, str>,
    #[serde(borrow)]
    posted: Cow<'a, str>,
    #[serde(borrow)]
    held: Cow<'a, str>,
    version: i64,
}

#[derive(Serialize, Deserialize)]
struct WireEvent<'a> {
    version: u32,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    cluster: ClusterId,
    generation: Generation,
    attempt: u32,
    at: Timestamp,
    #[serde(borrow)]
    transfer: WireTransfer<'a>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reason: Option<Reason>,
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    account: Option<WireAccount<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", default, borrow)]
    destination_account: Option<WireAccount<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    request: Option<Cow<'a, RequestDetails>>,
}

#[derive(Deserialize)]
struct WireVersion {
    version: u32,
}

impl Event {
    /// `{transfer id}/{type}`: the same on every repeat of this event.
    pub fn ce_id(&self) -> String {
        format!("{}/{}", self.terms.id, self.kind.as_str())
    }

    /// The account rows that it carries.
    pub fn accounts(&self) -> impl Iterator<Item = &AccountSnapshot> {
        self.account.iter().chain(&self.destination_account)
    }

    /// Appends the record's value.
    pub fn encode_to(&self, value: &mut Vec<u8>) {
        let terms = &self.terms;
        let wire = WireEvent {
            version: EVENT_VERSION,
            kind: self.kind.as_str().into(),
            cluster: self.cluster,
            generation: self.generation,
            attempt: self.attempt,
            at: self.at,
            transfer: WireTransfer {
                id: terms.id,
                source: terms.source.clone(),
                destination: terms.destination.clone(),
                amount: terms.amount.to_string().into(),
                currency: terms.amount.currency(),
                reverses: terms.reverses,
            },
            reason: self.reason,
            account: self.account.as_ref().map(WireAccount::from),
            destination_account: self.destination_account.as_ref().map(WireAccount::from),
            request: self.request.as_ref().map(Cow::Borrowed),
        };
        serde_json::to_writer(value, &wire).expect("an event holds only strings and integers");
    }

    /// Reads a record's value. The trace context is the caller's to add from the headers.
    pub fn decode(value: &[u8]) -> Result<Self, EventError> {
        let wire: WireEvent = match serde_json::from_slice(value) {
            Ok(wire) => wire,
            Err(error) => return Err(newer_or_malformed(value, &error.to_string())),
        };
        if wire.version != EVENT_VERSION {
            return Err(newer_or_malformed(value, "unknown version"));
        }
        let malformed = |what: &str| EventError::Malformed(what.to_owned());
        let snapshot = |account: WireAccount<'_>| {
            account.into_snapshot().ok_or_else(|| malformed("account amounts"))
        };
        let transfer = wire.transfer;
        let amount = Money::parse(&transfer.amount, transfer.currency)
            .map_err(|error| EventError::Malformed(error.to_string()))?;
        if amount.minor() == 0 {
            return Err(malformed("amount is zero"));
        }
        if transfer.source == transfer.destination {
            return Err(malformed("source equals destination"));
        }
        Ok(Self {
            kind: wire.kind.parse().map_err(EventError::Malformed)?,
            cluster: wire.cluster,
            generation: wire.generation,
            attempt: wire.attempt,
            at: wire.at,
            terms: Terms {
                id: transfer.id,
                source: transfer.source,
                destination: transfer.destination,
                amount,
                reverses: transfer.reverses,
            },
            reason: wire.reason,
            account: wire.account.map(snapshot).transpose()?,
            destination_account: wire.destination_account.map(snapshot).transpose()?,
            request: wire.request.map(Cow::into_owned),
            traceparent: None,
        })
    }
}

fn newer_or_malformed(value: &[u8], error: &str) -> EventError {
    match serde_json::from_slice::<WireVersion>(value) {
        Ok(WireVersion { version }) if version > EVENT_VERSION => EventError::Newer(version),
        _ => EventError::Malformed(error.to_owned()),
    }
}

impl From<&AccountSnapshot> for WireAccount<'_> {
    fn from(account: &AccountSnapshot) -> Self {
        let amount = |minor: i64| format_minor(minor, account.currency).into();
        Self {
            id: account.id.clone(),
            currency: account.currency,
            kind: account.kind,
            status: account.status,
            overdraft_limit: amount(account.overdraft_limit),
            posted: amount(account.posted),
            held: amount(account.held),
            version: account.version,
        }
    }
}

impl WireAccount<'_> {
    fn into_snapshot(self) -> Option<AccountSnapshot> {
        let amount = |text: &str| parse_signed_minor(text, self.currency);
        Some(AccountSnapshot {
            overdraft_limit: amount(&self.overdraft_limit)?,
            posted: amount(&self.posted)?,
            held: amount(&self.held)?,
            id: self.id,
            currency: self.currency,
            kind: self.kind,
            status: self.status,
            version: self.version,
        })
    }
}

/// Where a dead letter came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterOrigin {
    /// The topic's name.
    pub topic: String,
    /// The source's shard.
    pub shard: Shard,
    /// The partition.
    pub partition: Partition,
    /// The offset; none where the broker never took the record.
    pub offset: Option<i64>,
}

/// A record that a role could not act on, kept with all that is needed to replay it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Format version, 1.
    pub version: u32,
    /// A stable word: `malformed`, `foreign_cluster`, `no_row`, `contradiction`, `too_large`,
    /// `invariant`.
    pub reason: String,
    /// One sentence for the operator.
    pub detail: String,
    /// The role that gave it up.
    pub role: String,
    /// The event's attempt, if it could be read.
    pub attempt: u32,
    /// Where it was read.
    pub origin: DeadLetterOrigin,
    /// When it was given up.
    pub at: Timestamp,
    /// The transfer, if it could be read.
    pub transfer: Option<TransferId>,
    /// The record's key.
    pub key: String,
    /// The record's value; bytes that are not UTF-8 are replaced.
    pub value: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Slot;
    use proptest::prelude::*;
    use uuid::Uuid;

    pub(crate) fn event(kind: EventType, minor: i64, attempt: u32) -> Event {
        let currency: Currency = "USD".parse().unwrap();
        let at = Timestamp::from_micros(1_700_000_000_123_456);
        Event {
            kind,
            cluster: ClusterId(Uuid::from_u128(7)),
            generation: Generation(1),
            attempt,
            at,
            terms: Terms {
                id: TransferId::mint(at, Slot::new(77).unwrap(), 3, 42),
                source: "alice".parse().unwrap(),
                destination: "bob".parse().unwrap(),
                amount: Money::from_minor(minor, currency).unwrap(),
                reverses: None,
            },
            reason: None,
            account: Some(AccountSnapshot {
                id: "alice".parse().unwrap(),
                currency,
                kind: AccountKind::External,
                status: AccountStatus::Active,
                overdraft_limit: 0,
                posted: -minor,
                held: minor,
                version: 9,
            }),
            destination_account: None,
            request: None,
            traceparent: None,
        }
    }

    fn encoded(event: &Event) -> Vec<u8> {
        let mut value = Vec::new();
        event.encode_to(&mut value);
        value
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(minor in 1..=crate::domain::MAX_AMOUNT, code in 1_i64..=7, attempt: u32, both: bool) {
            let mut event = event(EventType::from_code(code).unwrap(), minor, attempt);
            event.destination_account = event.account.clone().filter(|_| both);
            prop_assert_eq!(Event::decode(&encoded(&event)), Ok(event));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = Event::decode(&bytes);
        }
    }

    #[test]
    fn an_event_of_the_next_release_is_told_apart_from_a_broken_one() {
        let newer = br#"{"version":2,"something":"else"}"#;
        assert_eq!(Event::decode(newer), Err(EventError::Newer(2)));
        assert!(matches!(Event::decode(br#"{"version":1}"#), Err(EventError::Malformed(_))));
        assert!(matches!(Event::decode(b"\xff"), Err(EventError::Malformed(_))));
    }

    #[test]
    fn fields_that_a_later_release_adds_are_ignored() {
        let event = event(EventType::Held, 5, 1);
        let mut value: serde_json::Value = serde_json::from_slice(&encoded(&event)).unwrap();
        value["transfer"]["later"] = 1.into();
        assert_eq!(Event::decode(&serde_json::to_vec(&value).unwrap()), Ok(event));
    }
}
