//! Rows that have sealed fields.
//!
//! What cannot be opened is no error where a row is read: it is read without its fields, for what
//! decides about money does not need them. A proposal is: half of it must not be decided on.

use super::super::driver::{Arg, Driver};
use super::super::tx::SqlTx;
use super::super::{SqlStore, statements};
use super::Seals;
use crate::domain::{AccountId, Operation, Proposal, Sealed, Shard};
use crate::sealing::{Fields, Of};
use crate::store::{AccountRecord, NewTransfer, StoreError, TransferRecord, UNREADABLE};
use std::borrow::Cow;

/// An account as it was read, and its metadata where that is sealed.
type ReadAccount = (AccountRecord, Option<Sealed>);
/// A proposal as it was read, and its description where that is sealed.
type ReadProposal = (Proposal, Option<Sealed>);

impl<D: Driver> SqlStore<D> {
    /// Transfers with what can be read of them.
    pub(in super::super) async fn open_transfers_read(
        &self,
        shard: Shard,
        mut records: Vec<TransferRecord>,
    ) -> Result<Vec<TransferRecord>, StoreError> {
        self.get_ready(shard, records.iter().filter_map(|record| record.sealed.as_ref())).await?;
        for record in records.iter_mut().filter(|record| record.sealed.is_some()) {
            open_transfer(self.seals.as_deref(), shard, record);
        }
        Ok(records)
    }

    pub(in super::super) async fn open_accounts(
        &self,
        shard: Shard,
        records: Vec<ReadAccount>,
    ) -> Result<Vec<AccountRecord>, StoreError> {
        self.get_ready(shard, records.iter().filter_map(|(_, sealed)| sealed.as_ref())).await?;
        let seals = self.seals.as_deref();
        Ok(records.into_iter().map(|read| open_account(seals, shard, read)).collect())
    }

    pub(in super::super) async fn open_proposals(
        &self,
        shard: Shard,
        read: Vec<ReadProposal>,
    ) -> Result<Vec<Proposal>, StoreError> {
        self.get_ready(shard, read.iter().filter_map(|(_, sealed)| sealed.as_ref())).await?;
        let seals = self.seals.as_deref();
        read.into_iter().map(|read| open_proposal(seals, shard, read)).collect()
    }

    /// Reads keys where one of these needs one that was not read. The fields are left out where that
    /// fails, as where they cannot be opened.
    async fn get_ready(
        &self,
        shard: Shard,
        sealed: impl Iterator<Item = &Sealed>,
    ) -> Result<(), StoreError> {
        match &self.seals {
            Some(seals) if seals.lacks(shard, sealed) => self.read_keys(seals, shard).await,
            Some(_) | None => Ok(()),
        }
    }

    /// The mark that sealed transfers with this reference have. Without the key for it nobody can say
    /// that there are none: that is an error, for a payment is looked for by its reference before it
    /// is made again.
    pub(in super::super) async fn mark_of(
        &self,
        shard: Shard,
        source: &AccountId,
        reference: Option<&str>,
    ) -> Result<Arg, StoreError> {
        let Some(reference) = reference else { return Ok(Arg::Null) };
        if let Some(seals) = &self.seals {
            if seals.lookup(shard).is_none() {
                self.read_keys(seals, shard).await?;
            }
            if let Some(lookup) = seals.lookup(shard) {
                return Ok(Arg::Bytes(lookup.mark(source, reference).to_vec()));
            }
        }
        let rows = self.read(shard, statements::HAS_DATA_KEYS, &[]).await?;
        match super::super::decode::first(rows, super::Row::flag)? {
            Some(true) => Err(StoreError::Failed {
                shard,
                detail: "references of this shard are encrypted, and no configured key opens the \
                         one for lookups: `holdfast encryption status` says which it needs"
                    .to_owned(),
            }),
            Some(false) | None => Ok(Arg::Null),
        }
    }
}

impl<D: Driver> SqlTx<D> {
    pub(in super::super) async fn open_accounts(
        &mut self,
        records: Vec<ReadAccount>,
    ) -> Result<Vec<AccountRecord>, StoreError> {
        self.get_ready(records.iter().filter_map(|(_, sealed)| sealed.as_ref())).await?;
        let (seals, shard) = (self.seals(), self.on());
        Ok(records.into_iter().map(|read| open_account(seals, shard, read)).collect())
    }

    pub(in super::super) async fn open_proposal(
        &mut self,
        read: Option<ReadProposal>,
    ) -> Result<Option<Proposal>, StoreError> {
        self.get_ready(read.iter().filter_map(|(_, sealed)| sealed.as_ref())).await?;
        let (seals, shard) = (self.seals(), self.on());
        read.map(|read| open_proposal(seals, shard, read)).transpose()
    }

    async fn get_ready(&mut self, sealed: impl Iterator<Item = &Sealed>) -> Result<(), StoreError> {
        let shard = self.on();
        if self.seals().is_some_and(|seals| seals.lacks(shard, sealed)) {
            let keys = self.stored_keys().await?;
            if let Some(seals) = self.seals() {
                seals.absorb(shard, &keys);
            }
        }
        Ok(())
    }

    /// The metadata of an account as its columns take it: plain, or sealed beside an empty one.
    pub(in super::super) fn metadata<'m>(
        &self,
        id: &AccountId,
        metadata: &'m str,
    ) -> Result<(Cow<'m, str>, Option<Sealed>), StoreError> {
        const NONE: &str = "{}";
        match self.seals() {
            Some(seals) if metadata != NONE => {
                let sealed = seals.sealer(self.on())?.text(Of::Account(id), metadata);
                Ok((NONE.into(), Some(sealed)))
            }
            Some(_) | None => Ok((metadata.into(), None)),
        }
    }

    /// Whoever publishes a transfer has sealed it before; one that was forgotten is not written.
    pub(in super::super) fn must_be_sealed(
        &self,
        transfers: &[NewTransfer],
    ) -> Result<(), StoreError> {
        let plain = |new: &NewTransfer| new.is_personal() && new.sealed.is_none();
        if self.seals().is_some() && transfers.iter().any(plain) {
            let detail = "a transfer with personal fields was not sealed".to_owned();
            return Err(StoreError::Failed { shard: self.on(), detail });
        }
        Ok(())
    }

    /// The parameters of a proposal as its column takes them.
    pub(in super::super) fn parameters(&self, proposal: &Proposal) -> Result<String, StoreError> {
        let mut parameters = proposal.operation.parameters();
        if let (Some(seals), Operation::Adjust { description: Some(text), .. }) =
            (self.seals(), &proposal.operation)
        {
            let sealed = seals.sealer(self.on())?.text(Of::Proposal(proposal.id), text);
            parameters["description"] = serde_json::Value::Null;
            parameters["sealed"] = serde_json::json!(sealed);
        }
        Ok(parameters.to_string())
    }
}

/// What is sealed of a proposal's parameters.
pub(in super::super) fn proposal_description(
    parameters: &serde_json::Value,
) -> Result<Option<Sealed>, serde_json::Error> {
    parameters.get("sealed").map(|sealed| serde_json::from_value(sealed.clone())).transpose()
}

fn open_transfer(seals: Option<&Seals>, shard: Shard, record: &mut TransferRecord) {
    let of = Of::Transfer(record.row.terms.id);
    let opened =
        seals.zip(record.sealed.as_ref()).and_then(|(seals, sealed)| seals.open(shard, of, sealed));
    let Some(fields) = opened.as_deref().and_then(Fields::decode) else { return };
    record.description = fields.description.map(str::to_owned);
    record.reference = fields.reference.map(str::to_owned);
    record.metadata = fields.metadata.map(str::to_owned);
}

fn open_account(
    seals: Option<&Seals>,
    shard: Shard,
    (record, sealed): ReadAccount,
) -> AccountRecord {
    let Some(sealed) = sealed else { return record };
    let of = Of::Account(&record.row.id);
    let opened = seals.and_then(|seals| seals.open(shard, of, &sealed));
    let metadata = opened.and_then(|text| String::from_utf8(text).ok());
    let metadata = metadata.unwrap_or_else(|| UNREADABLE.to_owned());
    AccountRecord { metadata, ..record }
}

fn open_proposal(
    seals: Option<&Seals>,
    shard: Shard,
    (mut proposal, sealed): ReadProposal,
) -> Result<Proposal, StoreError> {
    if let (Some(sealed), Operation::Adjust { description, .. }) = (sealed, &mut proposal.operation)
    {
        let opened = seals.and_then(|seals| seals.open(shard, Of::Proposal(proposal.id), &sealed));
        let text = opened.and_then(|text| String::from_utf8(text).ok());
        let text = text.ok_or_else(|| StoreError::Failed {
            shard,
            detail: format!(
                "proposal {} is encrypted and cannot be read: see `holdfast encryption status`",
                proposal.id
            ),
        })?;
        *description = Some(text);
    }
    Ok(proposal)
}
