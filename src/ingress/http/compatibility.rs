//! Paths of an older system: the same behaviour in another shape, statuses in upper case.

use super::answers::BalanceAnswer;
use super::extract::{AccountPath, Call, JsonText, TransferPath};
use super::guard::Who;
use super::operations::is_ready;
use super::params::Params;
use super::problem::Problem;
use super::schemas::{self, AccountErrors, CreateTransferErrors, PlainErrors, TransferErrors};
use super::transfer_body::{self, Payment, Shape};
use super::transfers::{accepted, caller};
use super::{Api, TAG_COMPATIBILITY};
use crate::domain::{AccountId, Currency, Timestamp, TransferId};
use crate::ingress::{TransferView, ViewState};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(make_payment))
        .routes(routes!(payment_balance))
        .routes(routes!(payment_status))
        .routes(routes!(actuator_health))
}

/// A payment's state.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PaymentStatus {
    /// The transfer's id.
    #[schema(schema_with = schemas::transfer_id)]
    tx_id: TransferId,
    /// In upper case.
    #[schema(example = "REQUESTED")]
    status: String,
    /// For a person.
    message: String,
}

impl From<TransferView> for PaymentStatus {
    fn from(view: TransferView) -> Self {
        let message = match (view.state, view.transfer.row.reason) {
            (_, Some(reason)) => reason.as_str().to_owned(),
            (ViewState::Requested, None) => "accepted".to_owned(),
            (state, None) => state.as_str().to_owned(),
        };
        let tx_id = view.transfer.row.terms.id;
        Self { tx_id, status: view.state.as_str().to_uppercase(), message }
    }
}

/// Make a transfer (older shape)
#[utoipa::path(
    post, path = "/api/v1/payments/transfer", tag = TAG_COMPATIBILITY, request_body = Payment,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Here or in the body"),
        ("Prefer" = Option<String>, Header, description = "wait=N, as for a transfer")
    ),
    responses(
        (status = 202, description = "Accepted.", body = PaymentStatus),
        (status = 200, description = "Final within the wait, or a repeat.", body = PaymentStatus,
            headers(("Idempotent-Replayed" = String, description = "true on a repeat."))),
        CreateTransferErrors
    )
)]
async fn make_payment(
    State(api): State<Api>,
    who: Who,
    call: Call,
    headers: HeaderMap,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let caller = caller(&who, &headers, call);
    let shape = Shape::payment(api.ingress.default_currency());
    let request = transfer_body::transfer(&text, "", &caller, &shape)?;
    let submitted = api.ingress.submit_as(&who.principal, request).await?;
    Ok(accepted(&api, submitted, &headers, PaymentStatus::from).await)
}

/// A balance in the older shape.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PaymentBalance {
    #[schema(schema_with = schemas::account_id)]
    account_id: AccountId,
    #[schema(schema_with = schemas::currency)]
    currency: Currency,
    posted: String,
    held: String,
    available: Option<String>,
    version: i64,
    #[schema(schema_with = schemas::time)]
    as_of: Timestamp,
}

/// Read an account's balance (older shape)
#[utoipa::path(
    get, path = "/api/v1/payments/accounts/{id}/balance", tag = TAG_COMPATIBILITY,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "The balance.", body = PaymentBalance), AccountErrors)
)]
async fn payment_balance(
    State(api): State<Api>,
    AccountPath(id): AccountPath,
    params: Params,
) -> Result<Json<PaymentBalance>, Problem> {
    params.finish()?;
    let balance = BalanceAnswer::from(api.ingress.balance(&id, false).await?);
    Ok(Json(PaymentBalance {
        account_id: balance.account_id,
        currency: balance.currency,
        posted: balance.posted,
        held: balance.held,
        available: balance.available,
        version: balance.version,
        as_of: balance.as_of,
    }))
}

/// Read a transfer's status (older shape)
#[utoipa::path(
    get, path = "/api/v1/payments/transactions/{txId}/status", tag = TAG_COMPATIBILITY,
    params(("txId" = String, Path, description = "Transfer id")),
    responses((status = 200, description = "The status.", body = PaymentStatus), TransferErrors)
)]
async fn payment_status(
    State(api): State<Api>,
    TransferPath(id): TransferPath,
    params: Params,
) -> Result<Json<PaymentStatus>, Problem> {
    params.finish()?;
    Ok(Json(api.ingress.transfer(id).await?.into()))
}

/// Health in the older shape.
#[derive(Serialize, ToSchema)]
struct ActuatorHealth {
    /// UP or DOWN.
    status: &'static str,
    /// The dependencies by name.
    components: BTreeMap<String, Component>,
}

/// A dependency in the older shape.
#[derive(Serialize, ToSchema)]
struct Component {
    /// UP, DEGRADED or DOWN.
    status: String,
}

/// Read the process's health (older shape)
#[utoipa::path(
    get, path = "/api/v1/actuator/health", tag = TAG_COMPATIBILITY,
    responses(
        (status = 200, description = "UP.", body = ActuatorHealth),
        (status = 503, description = "DOWN: a dependency that the process needs is down.",
            body = ActuatorHealth),
        PlainErrors
    )
)]
async fn actuator_health(State(api): State<Api>) -> (StatusCode, Json<ActuatorHealth>) {
    let dependencies = (api.extras.readiness)().await;
    let (code, status) = match is_ready(&dependencies) {
        true => (StatusCode::OK, "UP"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "DOWN"),
    };
    let component = |dependency: super::DependencyStatus| {
        let status = dependency.health.as_str().to_uppercase();
        (dependency.name, Component { status })
    };
    let components = dependencies.into_iter().map(component).collect();
    (code, Json(ActuatorHealth { status, components }))
}
