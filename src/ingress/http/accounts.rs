//! Accounts: creating, reading, changing.

use super::account_body::{self, CreateAccount, Patch, PatchAccount};
use super::answers::{AccountAnswer, BalanceAnswer, Page};
use super::extract::{AccountPath, Call, JsonText, NoBody};
use super::guard::Who;
use super::params::{Params, cursor};
use super::problem::{Place, Problem};
use super::schemas::{
    AccountErrors, CloseErrors, CreateAccountErrors, FreezeErrors, ListErrors, PatchAccountErrors,
};
use super::{Api, TAG_ACCOUNTS};
use crate::access::Scope;
use crate::domain::AccountId;
use crate::store::AccountFilter;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(create_account, list_accounts))
        .routes(routes!(show_account, patch_account))
        .routes(routes!(show_balance))
        .routes(routes!(freeze_account))
        .routes(routes!(unfreeze_account))
        .routes(routes!(close_account))
}

/// Reading and changing the account that is named `batch`, which the batch route would hide.
pub fn named_batch() -> MethodRouter<Api> {
    let batch = || AccountPath("batch".parse().expect("five letters"));
    get(move |api, params| show_account(api, batch(), params))
        .patch(move |api, who, call, body| patch_account(api, who, call, batch(), body))
}

/// Create an account
#[utoipa::path(
    post, path = "/v1/accounts", tag = TAG_ACCOUNTS, request_body = CreateAccount,
    responses(
        (status = 201, description = "Created.", body = AccountAnswer,
            headers(("Location" = String, description = "Where to read it."))),
        (status = 200, description = "It was there with the same attributes.",
            body = AccountAnswer),
        CreateAccountErrors
    )
)]
async fn create_account(
    State(api): State<Api>,
    who: Who,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let request = account_body::account(&text, "", &who)?;
    let mut answers = api.ingress.create_accounts(vec![request]).await;
    let created = answers.pop().expect("every request is answered")?;
    let location = [(LOCATION, format!("/v1/accounts/{}", created.account.row.id))];
    let answer = Json(AccountAnswer::from(created.account));
    Ok(match created.new {
        true => (StatusCode::CREATED, location, answer).into_response(),
        false => answer.into_response(),
    })
}

/// List accounts by id
///
/// As of a moment ago, a second by default, where the service reads from replicas.
#[utoipa::path(
    get, path = "/v1/accounts", tag = TAG_ACCOUNTS,
    params(
        ("prefix" = Option<String>, Query, description = "Ids that begin with this"),
        ("currency" = Option<String>, Query, description = "Only this currency"),
        ("status" = Option<String>, Query, description = "Only active, frozen or closed ones"),
        ("owner" = Option<String>, Query,
            description = "Only this owner's; who does not see all sees its own in any case"),
        ("limit" = Option<u32>, Query, description = "Default 50", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "next_cursor of the part before")
    ),
    responses((status = 200, description = "Accounts.", body = Page<AccountAnswer>), ListErrors)
)]
async fn list_accounts(
    State(api): State<Api>,
    who: Who,
    mut params: Params,
) -> Result<Json<Page<AccountAnswer>>, Problem> {
    // A prefix of an id is an id itself.
    let prefix: Option<AccountId> = params.parsed("prefix");
    let mut filter = AccountFilter {
        prefix: prefix.map(|prefix| prefix.to_string()),
        currency: params.parsed("currency"),
        status: params.parsed("status"),
        owner: params.parsed("owner"),
    };
    let (after, limit) = (params.cursor::<AccountId>(), params.limit());
    params.finish()?;
    if !who.principal.may_on_all(Scope::AccountsRead) {
        let own = who.principal.client.clone();
        if filter.owner.replace(own.clone()).is_some_and(|asked| asked != own) {
            return Ok(Json(Page { data: Vec::new(), next_cursor: None }));
        }
    }
    let listed = api.ingress.accounts(&filter, after.as_ref(), limit).await?;
    let next_cursor = listed.last_if_more().map(|record| cursor(&record.row.id));
    let data = listed.items.into_iter().map(AccountAnswer::from).collect();
    Ok(Json(Page { data, next_cursor }))
}

/// Read an account
#[utoipa::path(
    get, path = "/v1/accounts/{id}", tag = TAG_ACCOUNTS,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "The account.", body = AccountAnswer), AccountErrors)
)]
async fn show_account(
    State(api): State<Api>,
    AccountPath(id): AccountPath,
    params: Params,
) -> Result<Json<AccountAnswer>, Problem> {
    params.finish()?;
    Ok(Json(api.ingress.account(&id).await?.into()))
}

/// Change an account's overdraft limit or metadata
///
/// A limit is lowered only as far as it is unused. Metadata is replaced as a whole.
#[utoipa::path(
    patch, path = "/v1/accounts/{id}", tag = TAG_ACCOUNTS, request_body = PatchAccount,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "As it is now.", body = AccountAnswer),
        PatchAccountErrors)
)]
async fn patch_account(
    State(api): State<Api>,
    who: Who,
    call: Call,
    AccountPath(id): AccountPath,
    JsonText(text): JsonText,
) -> Result<Json<AccountAnswer>, Problem> {
    let patch = Patch::parse(&text)?;
    if patch.decides() {
        who.needs_on_all(Scope::AccountsControl, "changing a limit or an owner")?;
    }
    if patch.has_limit() {
        who.changes_limits()?;
    }
    if patch.has_owner() {
        who.opens_accounts_to_others()?;
    }
    let patch = if patch.has_limit() {
        patch.in_currency(api.ingress.account(&id).await?.row.currency)?
    } else {
        patch.without_limit()
    };
    let by = who.actor(&call);
    Ok(Json(api.ingress.patch_account(&id, patch, &by).await?.into()))
}

/// Read an account's balance
///
/// From the projection, which follows within moments; with `consistency=strong` from the account's
/// shard, where after `committed` both balances include the transfer.
#[utoipa::path(
    get, path = "/v1/accounts/{id}/balance", tag = TAG_ACCOUNTS,
    params(
        ("id" = String, Path, description = "Account id"),
        ("consistency" = Option<String>, Query, description = "strong, or projected (default)")
    ),
    responses((status = 200, description = "The balance.", body = BalanceAnswer), AccountErrors)
)]
async fn show_balance(
    State(api): State<Api>,
    AccountPath(id): AccountPath,
    mut params: Params,
) -> Result<Json<BalanceAnswer>, Problem> {
    let strong = match params.text("consistency").as_deref() {
        None | Some("projected") => false,
        Some("strong") => true,
        Some(_) => {
            let detail = "must be strong or projected";
            return Err(Problem::fault(Place::Query, "/consistency", detail));
        }
    };
    params.finish()?;
    Ok(Json(api.ingress.balance(&id, strong).await?.into()))
}

/// Freeze an account
///
/// It takes part in no new transfer; holds already made are committed or released. A repeat
/// changes nothing.
#[utoipa::path(
    post, path = "/v1/accounts/{id}/freeze", tag = TAG_ACCOUNTS,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "As it is now.", body = AccountAnswer), FreezeErrors)
)]
async fn freeze_account(
    State(api): State<Api>,
    who: Who,
    call: Call,
    AccountPath(id): AccountPath,
    _: NoBody,
) -> Result<Json<AccountAnswer>, Problem> {
    Ok(Json(api.ingress.freeze_account(&id, &who.actor(&call)).await?.into()))
}

/// Let a frozen account take part again
#[utoipa::path(
    post, path = "/v1/accounts/{id}/unfreeze", tag = TAG_ACCOUNTS,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "As it is now.", body = AccountAnswer), FreezeErrors)
)]
async fn unfreeze_account(
    State(api): State<Api>,
    who: Who,
    call: Call,
    AccountPath(id): AccountPath,
    _: NoBody,
) -> Result<Json<AccountAnswer>, Problem> {
    Ok(Json(api.ingress.unfreeze_account(&id, &who.actor(&call)).await?.into()))
}

/// Close an account for good
///
/// Posted and held must be zero. A repeat changes nothing.
#[utoipa::path(
    post, path = "/v1/accounts/{id}/close", tag = TAG_ACCOUNTS,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "As it is now.", body = AccountAnswer), CloseErrors)
)]
async fn close_account(
    State(api): State<Api>,
    who: Who,
    call: Call,
    AccountPath(id): AccountPath,
    _: NoBody,
) -> Result<Json<AccountAnswer>, Problem> {
    Ok(Json(api.ingress.close_account(&id, &who.actor(&call)).await?.into()))
}
