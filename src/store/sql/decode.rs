//! Rows of the statements as rows of the port; columns are taken in the order of `columns`.

use super::credentials::owner;
use super::row::Row;
use crate::domain::{
    AccountId, AccountKind, AccountRow, AccountStatus, Allowance, Cause, Currency, Entry, EntryRow,
    Limit, Money, Period, Reason, Sealed, Side, State, Terms, TransferId, TransferRow, Used,
    Velocity,
};
use crate::store::{
    AccountRecord, BalanceRow, Claim, ClaimKey, SourceFact, StoreError, TransferRecord,
};

pub(super) fn account(row: &mut Row) -> Result<AccountRow, StoreError> {
    Ok(AccountRow {
        id: row.parse()?,
        currency: row.parse()?,
        kind: row.coded(AccountKind::from_code)?,
        status: row.coded(AccountStatus::from_code)?,
        quarantined: row.flag()?,
        overdraft_limit: row.int()?,
        posted: row.int()?,
        held: row.int()?,
        version: row.int()?,
        velocity: Velocity::NONE,
    })
}

/// A row that was locked, and whether it has velocity limits, which are read apart.
pub(super) fn locked_account(row: &mut Row) -> Result<(AccountRow, bool), StoreError> {
    Ok((account(row)?, row.flag()?))
}

pub(super) fn allowance(row: &mut Row) -> Result<(AccountId, Period, Allowance), StoreError> {
    let (account, period) = (row.parse()?, row.coded(Period::from_code)?);
    let limit = Limit::new(row.opt_int()?, row.opt_int()?);
    let limit = limit.ok_or_else(|| row.corrupt("a velocity limit that limits nothing"))?;
    let used = Used { window: row.time()?, count: row.int()?, amount: row.int()? };
    Ok((account, period, Allowance { limit, used }))
}

/// An account, and its metadata where that is sealed.
pub(super) fn account_record(row: &mut Row) -> Result<(AccountRecord, Option<Sealed>), StoreError> {
    let record = AccountRecord {
        row: account(row)?,
        metadata: row.text()?,
        created_at: row.time()?,
        owner: owner(row)?,
    };
    Ok((record, row.opt_bytes()?.map(Sealed::new)))
}

pub(super) fn balance(row: &mut Row) -> Result<BalanceRow, StoreError> {
    Ok(BalanceRow { row: account(row)?, as_of: row.time()? })
}

fn money(row: &Row, minor: i64, currency: Currency) -> Result<Money, StoreError> {
    Money::from_minor(minor, currency).ok_or_else(|| row.corrupt("an amount out of bounds"))
}

/// Seven columns: terms and state.
fn terms_and_state(row: &mut Row) -> Result<(Terms, State), StoreError> {
    let (id, source, destination) = (row.transfer()?, row.parse()?, row.parse()?);
    let (minor, currency) = (row.int()?, row.parse()?);
    let terms = Terms {
        id,
        source,
        destination,
        amount: money(row, minor, currency)?,
        reverses: row.opt_transfer()?,
    };
    Ok((terms, row.coded(State::from_code)?))
}

pub(super) fn transfer(row: &mut Row) -> Result<TransferRow, StoreError> {
    let (terms, state) = terms_and_state(row)?;
    Ok(TransferRow {
        terms,
        state,
        reason: row.opt_coded(Reason::from_code)?,
        requested_at: row.time()?,
        held_at: row.opt_time()?,
        hold_deadline: row.opt_time()?,
        completed_at: row.opt_time()?,
    })
}

pub(super) fn transfer_record(row: &mut Row) -> Result<TransferRecord, StoreError> {
    let transfer = transfer(row)?;
    Ok(TransferRecord {
        claim: ClaimKey {
            source: transfer.terms.source.clone(),
            client: row.parse()?,
            key: row.parse()?,
        },
        row: transfer,
        description: row.opt_text()?,
        reference: row.opt_text()?,
        metadata: row.opt_text()?,
        hold_cause: cause(row)?,
        final_cause: cause(row)?,
        sealed: row.opt_bytes()?.map(Sealed::new),
    })
}

fn cause(row: &mut Row) -> Result<Cause, StoreError> {
    Ok(Cause { offset: row.opt_int()?, attempt: row.number()? })
}

pub(super) fn entry(row: &mut Row) -> Result<EntryRow, StoreError> {
    let (transfer, side) = (row.transfer()?, row.coded(side)?);
    let (account, counterparty, currency) = (row.parse()?, row.parse()?, row.parse()?);
    let (minor, balance_after, version) = (row.int()?, row.opt_int()?, row.opt_int()?);
    let outcome = match (row.opt_coded(Reason::from_code)?, balance_after, version) {
        (Some(reason), None, None) => Err(reason),
        (None, Some(balance_after), Some(version)) => {
            Ok(Entry { amount: money(row, minor, currency)?, balance_after, version })
        }
        _ => return Err(row.corrupt("neither an entry nor a mark")),
    };
    Ok(EntryRow {
        transfer,
        side,
        account,
        counterparty,
        currency,
        outcome,
        at: row.time()?,
        cause: cause(row)?,
    })
}

fn side(code: i64) -> Option<Side> {
    [Side::Debit, Side::Credit].into_iter().find(|side| side.code() == code)
}

pub(super) fn claim(row: &mut Row) -> Result<(ClaimKey, Claim), StoreError> {
    let key = ClaimKey { source: row.parse()?, client: row.parse()?, key: row.parse()? };
    let claim = Claim {
        transfer: row.transfer()?,
        fingerprint: row.array()?,
        fingerprint_version: row.number()?,
    };
    Ok((key, claim))
}

/// A transfer's id beside the claim that it came with.
pub(super) fn claimed(row: &mut Row) -> Result<(ClaimKey, TransferId), StoreError> {
    let key = ClaimKey { source: row.parse()?, client: row.parse()?, key: row.parse()? };
    Ok((key, row.transfer()?))
}

pub(super) fn source_fact(row: &mut Row) -> Result<SourceFact, StoreError> {
    let (terms, state) = terms_and_state(row)?;
    Ok(SourceFact { terms, state, debit: row.opt_int()?, completed_at: row.opt_time()? })
}

/// A map from each row's own id.
pub(super) fn keyed<K, V, M: FromIterator<(K, V)>>(
    rows: Vec<Row>,
    decode: fn(&mut Row) -> Result<V, StoreError>,
    key: fn(&V) -> K,
) -> Result<M, StoreError> {
    let decoded =
        rows.into_iter().map(|mut row| decode(&mut row).map(|value| (key(&value), value)));
    decoded.collect()
}

/// Every row, in order.
pub(super) fn all<T>(
    rows: Vec<Row>,
    decode: fn(&mut Row) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    rows.into_iter().map(|mut row| decode(&mut row)).collect()
}

/// The first row, if there is one.
pub(super) fn first<T>(
    rows: Vec<Row>,
    decode: fn(&mut Row) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    rows.into_iter().next().map(|mut row| decode(&mut row)).transpose()
}
