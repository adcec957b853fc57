//! Transfers: making, finding, reading, cancelling, reversing.

use super::answers::{Page, TimelineAnswer, TimelinePage, TransferAnswer};
use super::extract::{Call, JsonText, NoBody, TransferPath};
use super::guard::Who;
use super::headers::{self, PREFERENCE_APPLIED, REPLAYED};
use super::params::{Params, cursor};
use super::problem::Problem;
use super::schemas::{
    CancelErrors, CreateTransferErrors, ReverseErrors, SearchErrors, TransferErrors,
};
use super::transfer_body::{self, Caller, CreateTransfer, Reversal, ReverseTransfer, Shape};
use super::{Api, TAG_TRANSFERS};
use crate::access::Scope;
use crate::domain::{AccountId, IdempotencyKey, Reason, TransferId};
use crate::ingress::{Submitted, TransferView};
use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::time::Duration;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(create_transfer, search_transfers))
        .routes(routes!(show_transfer))
        .routes(routes!(show_timeline))
        .routes(routes!(cancel_transfer))
        .routes(routes!(reverse_transfer))
}

/// What a request about a transfer says beside its body.
pub fn caller(who: &Who, headers: &HeaderMap, call: Call) -> Caller {
    Caller {
        client: who.principal.client.clone(),
        key: headers::idempotency_key(headers),
        traceparent: call.traceparent,
    }
}

/// Make a transfer
///
/// Accounts are not looked up here: a transfer that names an unknown account is accepted and then
/// rejected. Repeat a request that got no answer with the same key: it is never made twice.
#[utoipa::path(
    post, path = "/v1/transfers", tag = TAG_TRANSFERS, request_body = CreateTransfer,
    params(
        ("Idempotency-Key" = Option<String>, Header,
            description = "1 to 255 visible ASCII characters; here or in the body"),
        ("Prefer" = Option<String>, Header,
            description = "wait=N: answer when the transfer is final, after at most N seconds (30)")
    ),
    responses(
        (status = 202, description = "Accepted, or not final within the wait.",
            body = TransferAnswer,
            headers(("Location" = String, description = "Where to read it."))),
        (status = 200, description = "Final within the wait, or the transfer that an earlier \
            request with this key had made.", body = TransferAnswer,
            headers(
                ("Location" = String, description = "Where to read it."),
                ("Idempotent-Replayed" = String, description = "true on a repeat."),
                ("Preference-Applied" = String, description = "wait=N, where it was asked for.")
            )),
        CreateTransferErrors
    )
)]
async fn create_transfer(
    State(api): State<Api>,
    who: Who,
    call: Call,
    headers: HeaderMap,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let caller = caller(&who, &headers, call);
    let request = transfer_body::transfer(&text, "", &caller, &Shape::TRANSFER)?;
    let submitted = api.ingress.submit_as(&who.principal, request).await?;
    Ok(accepted(&api, submitted, &headers, TransferAnswer::from).await)
}

/// The answer to a transfer that is stored, waited for as far as the caller prefers. That it is
/// stored is answered even where the wait fails.
pub async fn accepted<A: Serialize>(
    api: &Api,
    submitted: Submitted,
    headers: &HeaderMap,
    answer: impl FnOnce(TransferView) -> A,
) -> Response {
    let Submitted { mut transfer, replayed } = submitted;
    let wait = headers::prefer_wait(headers);
    if let Some(seconds) = wait
        && let Ok(waited) =
            api.ingress.wait_final(transfer.clone(), Duration::from_secs(seconds)).await
    {
        transfer = waited;
    }
    let done = if wait.is_some() { transfer.row.state.is_final() } else { replayed };
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    let location = [(LOCATION, format!("/v1/transfers/{}", transfer.row.terms.id))];
    let answer = Json(answer(TransferView::from(transfer)));
    let mut response = (status, location, answer).into_response();
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(applied) = wait.and_then(|seconds| format!("wait={seconds}").try_into().ok()) {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    response
}

/// Find transfers of a source by reference or idempotency key
#[utoipa::path(
    get, path = "/v1/transfers", tag = TAG_TRANSFERS,
    params(
        ("source" = String, Query, description = "The account that pays"),
        ("reference" = Option<String>, Query, description = "Transfers with this reference"),
        ("idempotency_key" = Option<String>, Query,
            description = "The transfer made under this key; one of the two must be given"),
        ("limit" = Option<u32>, Query, description = "Default 50", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "next_cursor of the part before")
    ),
    responses((status = 200, description = "Transfers, newest first; none where nothing matches.",
        body = Page<TransferAnswer>), SearchErrors)
)]
async fn search_transfers(
    State(api): State<Api>,
    who: Who,
    mut params: Params,
) -> Result<Json<Page<TransferAnswer>>, Problem> {
    let source: Option<AccountId> = params.required("source");
    let both = params.has("reference") == params.has("idempotency_key");
    let reference = params.text("reference");
    let key: Option<IdempotencyKey> = params.parsed("idempotency_key");
    if both {
        params.fault("reference", "exactly one of reference and idempotency_key must be given");
    }
    let (before, limit) = (params.cursor::<TransferId>(), params.limit());
    params.finish()?;
    let source = source.expect("a missing source is a fault");
    api.ingress.sees_account(&who.principal, Scope::TransfersRead, &source).await?;
    let (data, next_cursor) = match (reference, key) {
        (Some(reference), _) => {
            let listed =
                api.ingress.transfers_by_reference(&source, reference, before, limit).await?;
            let next = listed.last_if_more().map(|record| cursor(&record.row.terms.id));
            (listed.items, next)
        }
        (None, Some(key)) => {
            let found = api.ingress.transfer_by_key(&who.principal.client, &source, &key).await?;
            (found.into_iter().collect(), None)
        }
        (None, None) => (Vec::new(), None),
    };
    let data = data.into_iter().map(|record| TransferView::from(record).into()).collect();
    Ok(Json(Page { data, next_cursor }))
}

/// Read a transfer
#[utoipa::path(
    get, path = "/v1/transfers/{id}", tag = TAG_TRANSFERS,
    params(("id" = String, Path, description = "Transfer id")),
    responses((status = 200, description = "The transfer.", body = TransferAnswer),
        TransferErrors)
)]
async fn show_transfer(
    State(api): State<Api>,
    TransferPath(id): TransferPath,
    params: Params,
) -> Result<Json<TransferAnswer>, Problem> {
    params.finish()?;
    Ok(Json(api.ingress.transfer(id).await?.into()))
}

/// Read what happened to a transfer, oldest first
#[utoipa::path(
    get, path = "/v1/transfers/{id}/timeline", tag = TAG_TRANSFERS,
    params(("id" = String, Path, description = "Transfer id")),
    responses((status = 200, description = "Its steps.", body = TimelinePage), TransferErrors)
)]
async fn show_timeline(
    State(api): State<Api>,
    TransferPath(id): TransferPath,
    params: Params,
) -> Result<Json<TimelinePage>, Problem> {
    params.finish()?;
    let timeline = api.ingress.timeline(id).await?;
    let data = timeline.events.into_iter().map(TimelineAnswer::from).collect();
    Ok(Json(TimelinePage { data, complete: timeline.complete }))
}

/// Cancel a transfer that is not credited
///
/// 202 is a promise: it ends cancelled.
#[utoipa::path(
    post, path = "/v1/transfers/{id}/cancel", tag = TAG_TRANSFERS,
    params(("id" = String, Path, description = "Transfer id")),
    responses(
        (status = 202, description = "It will end cancelled.", body = TransferAnswer),
        (status = 200, description = "It was cancelled before.", body = TransferAnswer),
        CancelErrors
    )
)]
async fn cancel_transfer(
    State(api): State<Api>,
    TransferPath(id): TransferPath,
    _: NoBody,
) -> Result<(StatusCode, Json<TransferAnswer>), Problem> {
    let cancelled = api.ingress.cancel(id, Reason::CancelledByClient).await?;
    let status = if cancelled.repeated { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(TransferView::from(cancelled.transfer).into())))
}

/// Reverse a committed transfer, in whole or in part
///
/// Makes a new transfer from its destination to its source; all reversals of a transfer together
/// never exceed it.
#[utoipa::path(
    post, path = "/v1/transfers/{id}/reverse", tag = TAG_TRANSFERS,
    request_body = ReverseTransfer,
    params(
        ("id" = String, Path, description = "Transfer id of the original"),
        ("Idempotency-Key" = Option<String>, Header,
            description = "1 to 255 visible ASCII characters; here or in the body"),
        ("Prefer" = Option<String>, Header, description = "wait=N, as for a transfer")
    ),
    responses(
        (status = 202, description = "Accepted.", body = TransferAnswer,
            headers(("Location" = String, description = "Where to read it."))),
        (status = 200, description = "Final within the wait, or a repeat.", body = TransferAnswer,
            headers(("Idempotent-Replayed" = String, description = "true on a repeat."))),
        ReverseErrors
    )
)]
async fn reverse_transfer(
    State(api): State<Api>,
    who: Who,
    TransferPath(id): TransferPath,
    call: Call,
    headers: HeaderMap,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let caller = caller(&who, &headers, call);
    let reversal = Reversal::parse(&text, &caller)?;
    let original = api.ingress.transfer_record(id).await?;
    let request = reversal.of(id, original.row.terms.amount.currency(), &caller)?;
    let submitted = api.ingress.reverse_as(&who.principal, request).await?;
    Ok(accepted(&api, submitted, &headers, TransferAnswer::from).await)
}
