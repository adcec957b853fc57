//! Many accounts or transfers in one request, each standing alone.

use super::account_body::{self, CreateAccounts};
use super::answers::{AccountAnswer, TransferAnswer};
use super::extract::{Call, JsonText, MAX_BATCH_BODY, MAX_BODY};
use super::guard::Who;
use super::json::{self, Fields};
use super::problem::{Place, Problem, ProblemBody};
use super::schemas::BatchErrors;
use super::transfer_body::{self, Caller, CreateTransfers, Shape};
use super::{Api, TAG_ACCOUNTS, TAG_TRANSFERS};
use crate::ingress::{Created, Refusal, Submitted, TransferView};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Most items of a batch.
const MAX_ITEMS: usize = 1000;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(create_accounts)).routes(routes!(create_transfers))
}

/// What became of the items, in their order.
#[derive(Serialize, ToSchema)]
struct Results<T> {
    results: Vec<T>,
}

/// What became of one account.
#[derive(Serialize, ToSchema)]
struct AccountResult {
    /// 201 created, 200 there already, or the error's.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody>,
}

/// What became of one transfer.
#[derive(Serialize, ToSchema)]
struct TransferResult {
    /// 202 accepted, 200 a repeat, or the error's.
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer: Option<TransferAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ProblemBody>,
}

/// Create up to 1000 accounts
///
/// Each stands alone; the results are in the order of the request.
#[utoipa::path(
    post, path = "/v1/accounts/batch", tag = TAG_ACCOUNTS, request_body = CreateAccounts,
    responses((status = 200, description = "What became of each.",
        body = Results<AccountResult>), BatchErrors)
)]
async fn create_accounts(
    State(api): State<Api>,
    who: Who,
    call: Call,
    JsonText(text): JsonText<MAX_BATCH_BODY>,
) -> Result<Json<Results<AccountResult>>, Problem> {
    let parsed =
        items(&text, "accounts", |text, pointer| account_body::account(text, pointer, &who))?;
    who.count_items(parsed.len()).await?;
    let outcomes = settle(parsed, |valid| api.ingress.create_accounts(valid)).await;
    let result = |outcome: Result<Created, Problem>| match outcome {
        Ok(created) => AccountResult {
            status: if created.new { 201 } else { 200 },
            account: Some(created.account.into()),
            error: None,
        },
        Err(problem) => AccountResult {
            status: problem.code.status(),
            account: None,
            error: Some(problem.into_body(&call.request_id)),
        },
    };
    Ok(Json(Results { results: outcomes.into_iter().map(result).collect() }))
}

/// Make up to 1000 transfers
///
/// Each stands alone: this is not all or nothing. Transfers of one source are decided in the order
/// of the array. A key counts per source: its first valid item counts, later ones are repeats.
#[utoipa::path(
    post, path = "/v1/transfers/batch", tag = TAG_TRANSFERS, request_body = CreateTransfers,
    responses((status = 200, description = "What became of each.",
        body = Results<TransferResult>), BatchErrors)
)]
async fn create_transfers(
    State(api): State<Api>,
    who: Who,
    call: Call,
    JsonText(text): JsonText<MAX_BATCH_BODY>,
) -> Result<Json<Results<TransferResult>>, Problem> {
    let caller = Caller {
        client: who.principal.client.clone(),
        key: Ok(None),
        traceparent: call.traceparent.clone(),
    };
    let parsed = items(&text, "transfers", |text, pointer| {
        transfer_body::transfer(text, pointer, &caller, &Shape::TRANSFER)
    })?;
    who.count_items(parsed.len()).await?;
    let outcomes = settle(parsed, |valid| api.ingress.submit_many_as(&who.principal, valid)).await;
    let result = |outcome: Result<Submitted, Problem>| match outcome {
        Ok(submitted) => TransferResult {
            status: if submitted.replayed { 200 } else { 202 },
            transfer: Some(TransferView::from(submitted.transfer).into()),
            error: None,
        },
        Err(problem) => TransferResult {
            status: problem.code.status(),
            transfer: None,
            error: Some(problem.into_body(&call.request_id)),
        },
    };
    Ok(Json(Results { results: outcomes.into_iter().map(result).collect() }))
}

/// The items under `name`, each read on its own.
fn items<T>(
    text: &str,
    name: &str,
    read: impl Fn(&str, &str) -> Result<T, Problem>,
) -> Result<Vec<Result<T, Problem>>, Problem> {
    let mut fields = Fields::parse(text, "").map_err(Problem::invalid)?;
    let elements = fields.required(name, |value| json::elements(value, MAX_ITEMS));
    let faults = fields.finish();
    if !faults.is_empty() {
        return Err(Problem::invalid(faults));
    }
    let read_one = |(index, element): (usize, &RawValue)| {
        let pointer = format!("/{name}/{index}");
        if element.get().len() > MAX_BODY {
            let detail = format!("is over {MAX_BODY} bytes");
            return Err(Problem::fault(Place::Body, &pointer, detail));
        }
        read(element.get(), &pointer)
    };
    Ok(elements.unwrap_or_default().into_iter().enumerate().map(read_one).collect())
}

/// Does what is valid, and puts the outcomes where the items stood.
async fn settle<T, U, F>(
    parsed: Vec<Result<T, Problem>>,
    act: impl FnOnce(Vec<T>) -> F,
) -> Vec<Result<U, Problem>>
where
    F: Future<Output = Vec<Result<U, Refusal>>>,
{
    let mut valid = Vec::new();
    let mut faults = Vec::with_capacity(parsed.len());
    for item in parsed {
        match item {
            Ok(request) => {
                valid.push(request);
                faults.push(None);
            }
            Err(problem) => faults.push(Some(problem)),
        }
    }
    let expected = valid.len();
    let done = if valid.is_empty() { Vec::new() } else { act(valid).await };
    assert_eq!(done.len(), expected, "every valid item is answered");
    let mut done = done.into_iter().map(|outcome| outcome.map_err(Problem::from));
    let outcome = |fault: Option<Problem>| match fault {
        Some(problem) => Err(problem),
        None => done.next().expect("every valid item is answered"),
    };
    faults.into_iter().map(outcome).collect()
}
