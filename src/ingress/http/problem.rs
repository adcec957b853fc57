//! Errors as RFC 9457 problem documents.
//!
//! A handler answers with a [`Problem`]; its body is written at the edge (`observe`), where the
//! request's id is known.

use super::super::Refusal;
use crate::proposals::ProposalError;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    ($($variant:ident = $status:literal, $name:literal, $title:literal, $advice:literal;)+) => {
        /// The stable codes of all errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "each is described in the table below")]
        pub enum Code { $($variant,)+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The HTTP status that it comes with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The name in answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// A few words for a person.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What it means and what the caller can do.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

codes! {
    InvalidRequest = 400, "invalid_request", "The request is not valid",
        "Correct every fault listed in `errors`; nothing was done.";
    IdempotencyKeyMissing = 400, "idempotency_key_missing", "The idempotency key is missing",
        "Send the header `Idempotency-Key`, or the key in the body.";
    IdempotencyKeyMismatch = 400, "idempotency_key_mismatch", "Two idempotency keys differ",
        "The header and the body name different keys; send one.";
    Unauthenticated = 401, "unauthenticated", "The caller is not known",
        "Send `Authorization: Bearer` with an API key or a token that holds.";
    Forbidden = 403, "forbidden", "The caller may not do this",
        "The credential's roles and scopes do not allow it.";
    ProposalOwn = 403, "proposal_own", "Nobody decides on their own proposal",
        "Another principal has to approve or reject it.";
    NotFound = 404, "not_found", "There is nothing at this path",
        "See `/docs` for all paths.";
    AccountNotFound = 404, "account_not_found", "The account does not exist",
        "Account ids are case-sensitive.";
    TransferNotFound = 404, "transfer_not_found", "The transfer does not exist",
        "Look it up by its idempotency key: `GET /v1/transfers?source=&idempotency_key=`.";
    ProposalNotFound = 404, "proposal_not_found", "The proposal does not exist",
        "`GET /v1/proposals` lists them.";
    MethodNotAllowed = 405, "method_not_allowed", "The method is not allowed here",
        "The header `Allow` lists the methods of this path.";
    AccountExists = 409, "account_exists", "The account exists with other attributes",
        "Choose another id, or repeat the original request.";
    AccountClosed = 409, "account_closed", "The account is closed",
        "A closed account takes no more changes.";
    AccountNotEmpty = 409, "account_not_empty", "The account is not empty",
        "Closing needs posted and held to be zero.";
    LimitInUse = 409, "limit_in_use", "The overdraft limit is in use",
        "A limit is lowered only as far as it is unused.";
    TransferFinal = 409, "transfer_final", "The transfer is final",
        "It has ended otherwise and cannot be cancelled.";
    TransferCredited = 409, "transfer_credited", "The transfer is credited",
        "It is too late to cancel: it will be committed. Reverse it instead.";
    TransferNotCommitted = 409, "transfer_not_committed", "The transfer is not committed",
        "Only a committed transfer can be reversed.";
    ReversalExceedsOriginal = 409, "reversal_exceeds_original",
        "The reversal exceeds the original",
        "All reversals of a transfer together never exceed its amount.";
    ProposalExpired = 409, "proposal_expired", "The time of the proposal is over",
        "Propose it anew.";
    ProposalDecided = 409, "proposal_decided", "The proposal is decided",
        "It was decided otherwise or by somebody else, and that stands.";
    BodyTooLarge = 413, "body_too_large", "The body is too large",
        "A body is at most 64 KiB, that of a batch 2 MiB.";
    UnsupportedMediaType = 415, "unsupported_media_type", "The body is not JSON",
        "Send `Content-Type: application/json`, in UTF-8 and without a content encoding.";
    IdempotencyKeyReused = 422, "idempotency_key_reused",
        "The idempotency key stands for another request",
        "Use a new key for a new transfer; nothing was changed.";
    RateLimited = 429, "rate_limited", "Too many requests",
        "Repeat the same request with the same key after `Retry-After` seconds.";
    InternalError = 500, "internal_error", "The request failed inside",
        "Repeat it with the same idempotency key; tell the operator the request id.";
    ShardUnavailable = 503, "shard_unavailable", "A shard does not answer",
        "Nothing was accepted: repeat the same request with the same key.";
    Overloaded = 503, "overloaded", "The pipeline is behind",
        "Nothing was accepted: repeat the same request with the same key later.";
    Paused = 503, "paused", "An operator has paused this",
        "Nothing was accepted: repeat the same request with the same key later.";
    OutcomeUnknown = 503, "outcome_unknown", "The outcome is unknown",
        "It may have been done: repeat the same request with the same key.";
    AuthenticationUnavailable = 503, "authentication_unavailable",
        "Callers cannot be told apart now",
        "Nothing was done: repeat the same request with the same key.";
    NotReady = 503, "not_ready", "The process is not ready",
        "A dependency that it needs is down.";
}

impl Code {
    /// Seconds after which the same request may be repeated.
    pub const fn retry_after(self) -> Option<u32> {
        match (self, self.status()) {
            // What is behind needs longer than what is away or unknown: those are soon told.
            (Self::Overloaded, _) => Some(2),
            (Self::Paused, _) => Some(10),
            (Self::RateLimited, _) | (_, 503) => Some(1),
            _ => None,
        }
    }
}

/// Which part of a request a fault is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The body; the pointer is a JSON pointer (RFC 6901) into it.
    Body,
    /// The query; the pointer is a slash and the parameter's name.
    Query,
    /// The path; the pointer is a slash and the parameter's name.
    Path,
    /// A header; the pointer is a slash and the field that it stands for.
    Header,
}

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fault {
    /// Where: a JSON pointer.
    #[schema(example = "/amount")]
    pub pointer: String,
    /// In which part of the request.
    #[serde(rename = "in")]
    pub place: Place,
    /// What is wrong and what is allowed.
    pub detail: String,
}

impl Fault {
    /// A fault in the part of the request that `place` says.
    pub fn new(place: Place, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), place, detail: detail.into() }
    }
}

/// An error on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its code.
    pub code: Code,
    /// This case, for a person.
    pub detail: String,
    /// All faults at once, where the request is not valid.
    pub faults: Vec<Fault>,
    /// Seconds after which to repeat the request, where that is known better than the code does.
    pub retry_after: Option<u32>,
}

impl Problem {
    /// An error with words of its own.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), faults: Vec::new(), retry_after: None }
    }

    /// A request with these faults.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        let detail = match faults.as_slice() {
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("the request has {} faults; all are listed", several.len()),
        };
        Self { faults, ..Self::new(Code::InvalidRequest, detail) }
    }

    /// A request with one fault.
    pub fn fault(place: Place, pointer: &str, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Fault::new(place, pointer, detail)])
    }

    /// The document.
    pub fn into_body(self, request_id: &str) -> ProblemBody {
        ProblemBody {
            kind: format!("/docs#{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status(),
            detail: self.detail,
            code: self.code.as_str(),
            request_id: request_id.to_owned(),
            errors: self.faults,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).expect("the table holds statuses");
        let mut response = status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An RFC 9457 problem document.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// A reference to the code's description.
    #[serde(rename = "type")]
    #[schema(example = "/docs#invalid_request")]
    kind: String,
    /// The code in a few words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// This case, for a person.
    detail: String,
    /// Stable, for programs.
    #[schema(example = "invalid_request")]
    code: &'static str,
    /// The answer's `X-Request-Id`.
    request_id: String,
    /// Every fault, where the request is not valid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<Fault>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::TransferNotFound(_) => Code::TransferNotFound,
            Refusal::AccountNotFound(_) => Code::AccountNotFound,
            Refusal::AccountExists { .. } => Code::AccountExists,
            Refusal::AccountNotEmpty { .. } => Code::AccountNotEmpty,
            Refusal::AccountClosed(_) => Code::AccountClosed,
            Refusal::LimitInUse { .. } => Code::LimitInUse,
            Refusal::KeyReused => Code::IdempotencyKeyReused,
            Refusal::NotYours(_) => Code::Forbidden,
            Refusal::TransferFinal(_) => Code::TransferFinal,
            Refusal::TransferCredited(_) => Code::TransferCredited,
            Refusal::TransferNotCommitted(_) => Code::TransferNotCommitted,
            Refusal::ReversalExceedsOriginal { .. } => Code::ReversalExceedsOriginal,
            Refusal::ShardUnavailable => Code::ShardUnavailable,
            Refusal::Overloaded => Code::Overloaded,
            Refusal::Paused(_) => Code::Paused,
            Refusal::OutcomeUnknown => Code::OutcomeUnknown,
            Refusal::Internal => Code::InternalError,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<ProposalError> for Problem {
    fn from(error: ProposalError) -> Self {
        let detail = error.to_string();
        let code = match error {
            ProposalError::NotFound(_) => Code::ProposalNotFound,
            ProposalError::Own => Code::ProposalOwn,
            ProposalError::Expired => Code::ProposalExpired,
            ProposalError::Decided(_) | ProposalError::NotApproved(_) => Code::ProposalDecided,
            ProposalError::KeyReused => Code::IdempotencyKeyReused,
            // The approval stands, whatever kept the rest from being done.
            ProposalError::Unfinished(_) => Code::OutcomeUnknown,
            ProposalError::Impossible { field, detail } => {
                return Self::fault(Place::Body, &format!("/{field}"), detail);
            }
            ProposalError::Refused(refusal) => return refusal.into(),
        };
        Self::new(code, detail)
    }
}
