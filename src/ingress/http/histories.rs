//! Lists about one account: its ledger and its transfers.

use super::answers::{EntryAnswer, Page, TransferAnswer};
use super::extract::AccountPath;
use super::params::{EntryVersion, Params, cursor};
use super::problem::Problem;
use super::schemas::AccountErrors;
use super::{Api, TAG_ACCOUNTS};
use crate::domain::Timestamp;
use crate::ingress::TransferListing;
use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list_entries)).routes(routes!(list_account_transfers))
}

/// List an account's ledger entries, newest first
///
/// As of a moment ago, a second by default, where the service reads from replicas.
#[utoipa::path(
    get, path = "/v1/accounts/{id}/entries", tag = TAG_ACCOUNTS,
    params(
        ("id" = String, Path, description = "Account id"),
        ("limit" = Option<u32>, Query, description = "Default 50", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "next_cursor of the part before")
    ),
    responses((status = 200, description = "Entries.", body = Page<EntryAnswer>), AccountErrors)
)]
async fn list_entries(
    State(api): State<Api>,
    AccountPath(id): AccountPath,
    mut params: Params,
) -> Result<Json<Page<EntryAnswer>>, Problem> {
    let (before, limit) = (params.cursor::<EntryVersion>(), params.limit());
    params.finish()?;
    let listed = api.ingress.entries(&id, before.map(|version| version.0), limit).await?;
    let last = listed.last_if_more().and_then(|row| row.outcome.ok());
    let next_cursor = last.map(|entry| cursor(&EntryVersion(entry.version)));
    let data = listed.items.into_iter().filter_map(EntryAnswer::of).collect();
    Ok(Json(Page { data, next_cursor }))
}

/// List transfers out of and into an account, newest first
///
/// States are the stored ones. Incoming transfers are listed from the credit on, with what the
/// account's ledger entry knows and the status `credited`; ask by id for the rest. As of a moment
/// ago, a second by default, where the service reads from replicas: whether a payment was taken is
/// asked by id, by key or by reference.
#[utoipa::path(
    get, path = "/v1/accounts/{id}/transfers", tag = TAG_ACCOUNTS,
    params(
        ("id" = String, Path, description = "Account id"),
        ("direction" = Option<String>, Query, description = "out or in; both by default"),
        ("status" = Option<String>, Query,
            description = "Only this status: credited are incoming, all others outgoing"),
        ("from" = Option<String>, Query, description = "Accepted at or after this RFC 3339 time"),
        ("to" = Option<String>, Query, description = "Accepted before this RFC 3339 time"),
        ("limit" = Option<u32>, Query, description = "Default 50", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "next_cursor of the part before")
    ),
    responses((status = 200, description = "Transfers.", body = Page<TransferAnswer>),
        AccountErrors)
)]
async fn list_account_transfers(
    State(api): State<Api>,
    AccountPath(id): AccountPath,
    mut params: Params,
) -> Result<Json<Page<TransferAnswer>>, Problem> {
    let listing = TransferListing {
        direction: params.parsed("direction"),
        status: params.parsed("status"),
        from: params.parsed::<Timestamp>("from"),
        to: params.parsed::<Timestamp>("to"),
        before: params.cursor().unwrap_or_default(),
    };
    let limit = params.limit();
    params.finish()?;
    let (listed, end) = api.ingress.account_transfers(&id, &listing, limit).await?;
    let next_cursor = end.as_ref().map(cursor);
    let data = listed.into_iter().filter_map(TransferAnswer::listed).collect();
    Ok(Json(Page { data, next_cursor }))
}
