//! Bodies about transfers, of both generations of paths.

use super::super::{ReversalRequest, TransferRequest};
use super::json::{self, Fields};
use super::problem::{Code, Fault, Place, Problem};
use super::schemas;
use crate::domain::{Client, Currency, IdempotencyKey, Money, TransferId};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A transfer to be made.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that `transfer` reads")]
pub struct CreateTransfer {
    /// The account that pays.
    #[schema(schema_with = schemas::account_id)]
    source: String,
    /// The account that is paid; another than the source.
    #[schema(schema_with = schemas::account_id)]
    destination: String,
    /// Over zero, at most 10^15 minor units, in the currency's scale.
    #[schema(schema_with = schemas::amount)]
    amount: String,
    #[schema(schema_with = schemas::currency)]
    currency: String,
    #[schema(max_length = 255)]
    description: Option<String>,
    #[schema(max_length = 64)]
    reference: Option<String>,
    /// At most 16 KiB of compact JSON.
    metadata: Option<BTreeMap<String, String>>,
    /// In place of the header `Idempotency-Key`; in a batch it is required.
    #[schema(pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
}

/// Transfers to be made, each on its own.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that are read")]
pub struct CreateTransfers {
    /// At most 1000, each at most 64 KiB and with its own `idempotency_key`.
    #[schema(max_items = 1000)]
    transfers: Vec<CreateTransfer>,
}

/// A transfer to be reversed, in whole or in part.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that `Reversal` reads")]
pub struct ReverseTransfer {
    /// Over zero, in the original's currency.
    #[schema(schema_with = schemas::amount)]
    amount: String,
    /// In place of the header `Idempotency-Key`.
    #[schema(pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
}

/// A transfer to be made, as the older system had it.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "documents the fields that `transfer` reads")]
pub struct Payment {
    /// The account that pays.
    #[schema(schema_with = schemas::account_id)]
    source_account: String,
    /// The account that is paid.
    #[schema(schema_with = schemas::account_id)]
    destination_account: String,
    #[schema(schema_with = schemas::amount)]
    amount: String,
    /// The configured default where it is left out.
    #[schema(schema_with = schemas::currency, required = false)]
    currency: String,
    #[schema(max_length = 255)]
    description: Option<String>,
    /// Or in the header `Idempotency-Key`.
    #[schema(pattern = "^[!-~]{1,255}$")]
    idempotency_key: Option<String>,
}

/// What a request says beside its body.
pub struct Caller {
    /// The principal.
    pub client: Client,
    /// From the header.
    pub key: Result<Option<IdempotencyKey>, Fault>,
    /// W3C trace context.
    pub traceparent: Arc<str>,
}

/// Names of the fields of a transfer, and what may be left out.
pub struct Shape {
    source: &'static str,
    destination: &'static str,
    key: &'static str,
    labelled: bool,
    default_currency: Option<Currency>,
}

impl Shape {
    /// Today's.
    pub const TRANSFER: Self = Self {
        source: "source",
        destination: "destination",
        key: "idempotency_key",
        labelled: true,
        default_currency: None,
    };

    /// The older system's.
    pub const fn payment(default_currency: Currency) -> Self {
        Self {
            source: "sourceAccount",
            destination: "destinationAccount",
            key: "idempotencyKey",
            labelled: false,
            default_currency: Some(default_currency),
        }
    }
}

/// Reads a transfer that stands at `pointer` of the body.
pub fn transfer(
    text: &str,
    pointer: &str,
    caller: &Caller,
    shape: &Shape,
) -> Result<TransferRequest, Problem> {
    let mut fields = Fields::parse(text, pointer).map_err(Problem::invalid)?;
    let source = fields.required(shape.source, json::account_id);
    let destination = fields.required(shape.destination, json::account_id);
    if source.is_some() && source == destination {
        fields.fault(shape.destination, "must be another account than the source");
    }
    let given: Option<Currency> = match shape.default_currency {
        None => fields.required("currency", json::parsed),
        Some(_) => fields.optional("currency", json::parsed),
    };
    let currency = given.or(shape.default_currency);
    let amount = fields.required("amount", |value| json::amount(value, currency)).flatten();
    let description = fields.optional("description", |value| json::text_up_to(value, 255));
    let reference = labelled(shape, &mut fields, "reference");
    let metadata = if shape.labelled { fields.metadata("metadata") } else { None };
    let key = Key::read(&mut fields, shape.key, &caller.key);
    let key = key.finish(fields, shape.key)?;
    let (Some(source), Some(destination), Some(amount)) = (source, destination, amount) else {
        return Err(Problem::new(Code::InternalError, "a field that was read is gone"));
    };
    Ok(TransferRequest {
        client: caller.client.clone(),
        key,
        source,
        destination,
        amount,
        currency_given: given.is_some(),
        description,
        reference,
        metadata,
        reverses: None,
        traceparent: Some(Arc::clone(&caller.traceparent)),
    })
}

fn labelled(shape: &Shape, fields: &mut Fields<'_>, name: &str) -> Option<String> {
    if !shape.labelled {
        return None;
    }
    fields.optional(name, |value| json::text_up_to(value, 64))
}

/// A reversal whose amount waits for the original's currency.
pub struct Reversal<'a> {
    amount: &'a RawValue,
    key: IdempotencyKey,
}

impl<'a> Reversal<'a> {
    /// Reads all that can be read without knowing the currency.
    pub fn parse(text: &'a str, caller: &Caller) -> Result<Self, Problem> {
        const KEY: &str = "idempotency_key";
        let mut fields = Fields::parse(text, "").map_err(Problem::invalid)?;
        let amount = fields.required("amount", |value| json::amount(value, None).map(|_| value));
        let key = Key::read(&mut fields, KEY, &caller.key).finish(fields, KEY)?;
        match amount {
            Some(amount) => Ok(Self { amount, key }),
            None => Err(Problem::new(Code::InternalError, "a field that was read is gone")),
        }
    }

    /// The request, the original being of this currency.
    pub fn of(
        self,
        original: TransferId,
        currency: Currency,
        caller: &Caller,
    ) -> Result<ReversalRequest, Problem> {
        let fault = |detail: String| Problem::fault(Place::Body, "/amount", detail);
        let amount: Option<Money> = json::amount(self.amount, Some(currency)).map_err(fault)?;
        Ok(ReversalRequest {
            client: caller.client.clone(),
            key: self.key,
            original,
            amount: amount.ok_or_else(|| fault("is required".to_owned()))?,
            traceparent: Some(Arc::clone(&caller.traceparent)),
        })
    }
}

/// The idempotency key of header and body together.
pub(super) enum Key {
    Given(IdempotencyKey),
    Missing,
    Different,
    Faulty,
}

impl Key {
    pub(super) fn read(
        fields: &mut Fields<'_>,
        name: &str,
        header: &Result<Option<IdempotencyKey>, Fault>,
    ) -> Self {
        let mut faulty = false;
        let body = fields.optional(name, |value| {
            json::parsed::<IdempotencyKey>(value).inspect_err(|_| faulty = true)
        });
        match header {
            Err(fault) => {
                fields.add(fault.clone());
                Self::Faulty
            }
            Ok(_) if faulty => Self::Faulty,
            Ok(header) => match (header.clone(), body) {
                (None, None) => Self::Missing,
                (Some(header), Some(body)) if header != body => Self::Different,
                (header, body) => header.or(body).map_or(Self::Missing, Self::Given),
            },
        }
    }

    /// The key, if nothing is wrong with it or any other field. A fault of the key alone has a
    /// code of its own.
    pub(super) fn finish(
        self,
        mut fields: Fields<'_>,
        name: &str,
    ) -> Result<IdempotencyKey, Problem> {
        let (code, detail) = match &self {
            Self::Missing => (Code::IdempotencyKeyMissing, "is required, here or in the header"),
            Self::Different => (Code::IdempotencyKeyMismatch, "differs from the header"),
            Self::Given(_) | Self::Faulty => (Code::InvalidRequest, ""),
        };
        if code != Code::InvalidRequest {
            fields.fault(name, detail);
        }
        let faults = fields.finish();
        match self {
            Self::Given(key) if faults.is_empty() => Ok(key),
            _ if faults.len() == 1 => Err(Problem { code, ..Problem::invalid(faults) }),
            _ => Err(Problem::invalid(faults)),
        }
    }
}
