//! Rows to be inserted, as the columns of their statements.

use super::driver::Hex;
use crate::domain::{Client, Sealed, State, Timestamp};
use crate::routing::slot_of;
use crate::store::{AccountRecord, ClaimKey, NewTransfer};
use serde::Serialize;
use std::borrow::Cow;

pub(super) fn account_columns<'a>(
    account: &'a AccountRecord,
    (metadata, sealed): &'a (Cow<'_, str>, Option<Sealed>),
    at: Timestamp,
) -> impl Serialize + Ord + 'a {
    let row = &account.row;
    (
        row.id.as_str(),
        slot_of(&row.id).number(),
        row.currency.as_str(),
        row.kind.code(),
        row.status.code(),
        i64::from(row.quarantined),
        row.overdraft_limit,
        metadata.as_ref(),
        at.micros(),
        account.owner.as_ref().map_or("", Client::as_str),
        sealed.as_ref().map(Hex),
    )
}

pub(super) fn claim_key_columns(key: &ClaimKey) -> impl Serialize + '_ {
    (key.source.as_str(), key.client.as_str(), key.key.as_str())
}

pub(super) fn claim_columns(transfer: &NewTransfer) -> impl Serialize + '_ {
    let claim = &transfer.claim;
    (
        claim.source.as_str(),
        claim.client.as_str(),
        claim.key.as_str(),
        Hex::from(transfer.terms.id),
        Hex(&transfer.fingerprint),
        transfer.fingerprint_version,
    )
}

/// What is sealed stands nowhere else.
fn plain<'a>(transfer: &NewTransfer, field: Option<&'a str>) -> Option<&'a str> {
    field.filter(|_| transfer.sealed.is_none())
}

pub(super) fn transfer_columns(transfer: &NewTransfer) -> impl Serialize + '_ {
    let terms = &transfer.terms;
    (
        Hex::from(terms.id),
        terms.source.as_str(),
        terms.destination.as_str(),
        terms.amount.minor(),
        terms.amount.currency(),
        State::Requested.code(),
        terms.reverses.map(Hex::from),
        transfer.claim.client.as_str(),
        transfer.claim.key.as_str(),
        plain(transfer, transfer.description.as_deref()),
        plain(transfer, transfer.reference.as_deref()),
        plain(transfer, transfer.metadata.as_deref()),
        transfer.at.micros(),
        transfer.sealed.as_ref().map(Hex),
    )
}
