//! Parts of the OpenAPI document that types do not say by themselves: patterns, names, errors.

use super::problem::Code;
use crate::domain::{
    AccountKind, AccountStatus, Currency, OperationKind, Period, ProposalState, Reason,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, KnownFormat, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr,
    Response, ResponseBuilder, Responses, SchemaFormat, Type, schema::Schema, schema::SchemaType,
};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

fn string() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// One of these.
pub fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> Object {
    string().enum_values(Some(names)).build()
}

fn nullable(schema: ObjectBuilder) -> Object {
    schema.schema_type(SchemaType::from_iter([Type::String, Type::Null])).build()
}

/// An account id.
pub fn account_id() -> Object {
    string().pattern(Some("^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")).build()
}

/// A principal's name.
pub fn principal() -> Object {
    string().pattern(Some("^[!-~]{1,64}$")).build()
}

/// The caller's name of a request.
pub fn idempotency_key() -> Object {
    string().pattern(Some("^[!-~]{1,255}$")).build()
}

/// Where a part of a list ended.
pub fn cursor() -> Object {
    string().pattern(Some("^([0-9a-f]{2})+$")).build()
}

/// An ISO 4217 code: all of them are listed in one place.
pub fn currency() -> Ref {
    Ref::from_schema_name(CurrencyCode::name())
}

/// The codes that are known.
pub struct CurrencyCode;

impl PartialSchema for CurrencyCode {
    fn schema() -> RefOr<Schema> {
        let codes = string().enum_values(Some(Currency::codes())).examples(["USD"]);
        codes.description(Some("A currency of ISO 4217.")).build().into()
    }
}

impl ToSchema for CurrencyCode {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Currency")
    }
}

/// A time.
pub fn time() -> Object {
    string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
}

/// A time, or null.
pub fn optional_time() -> Object {
    nullable(string().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))))
}

/// A transfer id.
pub fn transfer_id() -> Object {
    string().format(Some(SchemaFormat::Custom("uuid".to_owned()))).build()
}

/// A transfer id that a caller gives.
pub fn transfer_id_given() -> Object {
    let version_7 = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
    string().pattern(Some(version_7)).build()
}

/// A transfer id, or null.
pub fn optional_transfer_id() -> Object {
    nullable(string().format(Some(SchemaFormat::Custom("uuid".to_owned()))))
}

/// An amount in a request: text, or a number whose literal text has the same form.
pub fn amount() -> Schema {
    let over_zero = r"^([1-9][0-9]{0,14}(\.[0-9]{1,4})?|0\.([1-9][0-9]{0,3}|0[1-9][0-9]{0,2}|00[1-9][0-9]?|000[1-9]))$";
    text_or_number(over_zero, |number| number.exclusive_minimum(Some(0_i64)))
}

/// The same, or zero.
pub fn amount_or_zero() -> Schema {
    text_or_number(r"^(0|[1-9][0-9]{0,14})(\.[0-9]{1,4})?$", |number| number.minimum(Some(0_i64)))
}

fn text_or_number(pattern: &str, least: fn(ObjectBuilder) -> ObjectBuilder) -> Schema {
    let number = ObjectBuilder::new()
        .schema_type(Type::Number)
        .maximum(Some(999_999_999_999_999_i64))
        .description(Some(
            "Taken only if its literal text has the form of the string: no exponent",
        ));
    let text = string().pattern(Some(pattern));
    Schema::OneOf(OneOfBuilder::new().item(text).item(least(number)).build())
}

/// Customer or external.
pub fn account_kind() -> Object {
    names([AccountKind::Customer, AccountKind::External].map(AccountKind::as_str))
}

/// The statuses of an account.
pub fn account_status() -> Object {
    let all = [AccountStatus::Active, AccountStatus::Frozen, AccountStatus::Closed];
    names(all.map(AccountStatus::as_str))
}

/// The states of a transfer.
pub fn transfer_status() -> Object {
    names(["requested", "held", "credited", "committed", "rejected", "cancelled"])
}

/// Why a transfer was refused, or null.
pub fn reason() -> Object {
    let reasons = (1..).map_while(Reason::from_code).map(|reason| reason.as_str().into());
    nullable(string().enum_values(Some(reasons.chain([serde_json::Value::Null]))))
}

/// The periods of velocity limits.
pub fn period() -> Object {
    names(Period::ALL.map(Period::as_str))
}

/// What can be proposed.
pub fn operation_kind() -> Object {
    names(OperationKind::ALL.map(OperationKind::as_str))
}

/// How far a proposal has come.
pub fn proposal_status() -> Object {
    names(ProposalState::ALL.map(ProposalState::as_str))
}

/// Debit or credit.
pub fn entry_direction() -> Object {
    names(["debit", "credit"])
}

macro_rules! error_sets {
    ($($(#[$doc:meta])* $name:ident = [$($code:ident),+ $(,)?];)+) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                documented(&[$(Code::$code,)+ Code::InternalError])
            }
        }
    )+};
}

error_sets! {
    /// Errors of creating one account.
    CreateAccountErrors = [InvalidRequest, AccountExists, BodyTooLarge, UnsupportedMediaType,
        ShardUnavailable, OutcomeUnknown];
    /// Errors of a batch as a whole.
    BatchErrors = [InvalidRequest, BodyTooLarge, UnsupportedMediaType];
    /// Errors of reading about one account.
    AccountErrors = [InvalidRequest, AccountNotFound, ShardUnavailable];
    /// Errors of lists that name no single account.
    ListErrors = [InvalidRequest, ShardUnavailable];
    /// Errors of lists that name an account in the query.
    SearchErrors = [InvalidRequest, AccountNotFound, ShardUnavailable];
    /// Errors of changing an account's limit or metadata.
    PatchAccountErrors = [InvalidRequest, AccountNotFound, AccountClosed, LimitInUse,
        BodyTooLarge, UnsupportedMediaType, ShardUnavailable, OutcomeUnknown];
    /// Errors of setting velocity limits.
    SetLimitsErrors = [InvalidRequest, AccountNotFound, AccountClosed, BodyTooLarge,
        UnsupportedMediaType, ShardUnavailable, OutcomeUnknown];
    /// Errors of freezing and unfreezing.
    FreezeErrors = [InvalidRequest, AccountNotFound, AccountClosed, BodyTooLarge,
        ShardUnavailable, OutcomeUnknown];
    /// Errors of closing.
    CloseErrors = [InvalidRequest, AccountNotFound, AccountNotEmpty, BodyTooLarge,
        ShardUnavailable, OutcomeUnknown];
    /// Errors of creating one transfer.
    CreateTransferErrors = [InvalidRequest, IdempotencyKeyMissing, IdempotencyKeyMismatch,
        AccountNotFound,
        BodyTooLarge, UnsupportedMediaType, IdempotencyKeyReused, ShardUnavailable, Overloaded,
        OutcomeUnknown];
    /// Errors of reading about one transfer.
    TransferErrors = [InvalidRequest, TransferNotFound, ShardUnavailable];
    /// Errors of cancelling.
    CancelErrors = [InvalidRequest, TransferNotFound, TransferFinal, TransferCredited,
        BodyTooLarge, ShardUnavailable, OutcomeUnknown];
    /// Errors of reversing.
    ReverseErrors = [InvalidRequest, IdempotencyKeyMissing, IdempotencyKeyMismatch,
        TransferNotFound, TransferNotCommitted, ReversalExceedsOriginal, BodyTooLarge,
        UnsupportedMediaType, IdempotencyKeyReused, ShardUnavailable, Overloaded, OutcomeUnknown];
    /// Errors of proposing something.
    CreateProposalErrors = [InvalidRequest, IdempotencyKeyMissing, IdempotencyKeyMismatch,
        AccountNotFound, TransferNotFound, TransferFinal, TransferCredited, BodyTooLarge,
        UnsupportedMediaType, IdempotencyKeyReused, ShardUnavailable, Overloaded, OutcomeUnknown];
    /// Errors of reading a proposal.
    ProposalErrors = [InvalidRequest, ProposalNotFound, ShardUnavailable];
    /// Errors of approving.
    ApproveErrors = [InvalidRequest, ProposalNotFound, ProposalOwn, ProposalExpired,
        ProposalDecided, BodyTooLarge, ShardUnavailable, OutcomeUnknown];
    /// Errors of rejecting.
    RejectErrors = [InvalidRequest, ProposalNotFound, ProposalOwn, ProposalExpired,
        ProposalDecided, BodyTooLarge, UnsupportedMediaType, ShardUnavailable, OutcomeUnknown];
    /// Errors of readiness.
    ReadinessErrors = [NotReady];
    /// Errors of what asks nobody.
    PlainErrors = [InternalError];
}

/// Adds what any call with a credential may be refused with.
pub fn add_errors(responses: &mut Responses, more: &[Code]) {
    let mut codes: Vec<Code> = more.to_vec();
    // A status that is there already has codes of its own.
    for (status, response) in &responses.responses {
        if let RefOr::T(response) = response
            && more.iter().any(|code| code.status().to_string() == *status)
        {
            codes.extend(listed(response));
        }
    }
    for (status, response) in documented(&codes) {
        responses.responses.insert(status, response);
    }
}

/// The codes that an answer was documented with.
fn listed(response: &Response) -> Vec<Code> {
    let extensions = response.extensions.as_ref();
    let names = extensions.and_then(|all| all.get("x-codes")?.as_array());
    let by_name = |name: &serde_json::Value| Code::ALL.iter().find(|code| name == code.as_str());
    names.into_iter().flatten().filter_map(by_name).copied().collect()
}

/// One answer a status, its codes in the description and under `x-codes`.
fn documented(codes: &[Code]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status = BTreeMap::<String, Vec<Code>>::new();
    for code in codes {
        let listed = by_status.entry(code.status().to_string()).or_default();
        if !listed.contains(code) {
            listed.push(*code);
        }
    }
    by_status.into_iter().map(|(status, codes)| (status, problem(&codes))).collect()
}

fn problem(codes: &[Code]) -> RefOr<Response> {
    let lines: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.advice())).collect();
    let listed: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let mut response = ResponseBuilder::new()
        .description(lines.join("\n\n"))
        .content("application/problem+json", content)
        .extensions(Some(Extensions::builder().add("x-codes", serde_json::json!(listed)).build()));
    if codes.iter().any(|code| code.retry_after().is_some()) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Seconds after which to repeat the same request."));
        response = response.header("Retry-After", header.build());
    }
    response.build().into()
}
