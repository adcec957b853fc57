//! Proposals: what one principal proposes, another approves or rejects.

use super::answers::Page;
use super::extract::{Call, JsonText, NoBody, ProposalPath};
use super::guard::Who;
use super::headers::REPLAYED;
use super::params::{Params, cursor};
use super::problem::Problem;
use super::proposal_body::{self, CreateProposal, ProposalAnswer, Proposing, RejectProposal};
use super::schemas::{
    ApproveErrors, CreateProposalErrors, ListErrors, ProposalErrors, RejectErrors,
};
use super::transfers::caller;
use super::{Api, TAG_PROPOSALS};
use crate::domain::{ProposalId, ProposalState};
use crate::proposals::{Asked, Proposals, Verdict};
use axum::Json;
use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(create_proposal, list_proposals))
        .routes(routes!(show_proposal))
        .routes(routes!(approve_proposal))
        .routes(routes!(reject_proposal))
}

/// Propose an operation that somebody else has to approve
///
/// Nothing is done until another principal has approved it. A key stands for one proposal of a
/// principal about a transfer, account or dead letter.
#[utoipa::path(
    post, path = "/v1/proposals", tag = TAG_PROPOSALS, request_body = CreateProposal,
    params(("Idempotency-Key" = Option<String>, Header,
        description = "1 to 255 visible ASCII characters; here or in the body")),
    responses(
        (status = 201, description = "Proposed.", body = ProposalAnswer,
            headers(("Location" = String, description = "Where to read it."))),
        (status = 200, description = "What an earlier request with this key had proposed.",
            body = ProposalAnswer,
            headers(
                ("Location" = String, description = "Where to read it."),
                ("Idempotent-Replayed" = String, description = "true on a repeat.")
            )),
        CreateProposalErrors
    )
)]
async fn create_proposal(
    State(api): State<Api>,
    who: Who,
    call: Call,
    headers: HeaderMap,
    JsonText(text): JsonText,
) -> Result<Response, Problem> {
    let actor = who.actor(&call);
    let proposing = Proposing::parse(&text, &caller(&who, &headers, call))?;
    let currency = match proposing.account() {
        Some(account) => Some(api.ingress.account(account).await?.row.currency),
        None => None,
    };
    let asked = Asked {
        by: who.principal.client.clone(),
        key: proposing.key.clone(),
        reason: proposing.reason.clone(),
        operation: proposing.operation(currency)?,
    };
    let (view, new) = Proposals::new(&api.ingress).propose(asked, &actor).await?;
    let location = [(LOCATION, format!("/v1/proposals/{}", view.proposal.id))];
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = (status, location, Json(ProposalAnswer::from(view))).into_response();
    if !new {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// List proposals, newest first
#[utoipa::path(
    get, path = "/v1/proposals", tag = TAG_PROPOSALS,
    params(
        ("status" = Option<String>, Query,
            description = "pending, approved, executed, failed, rejected or expired"),
        ("limit" = Option<u32>, Query, description = "Default 50", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "next_cursor of the part before")
    ),
    responses((status = 200, description = "Proposals.", body = Page<ProposalAnswer>), ListErrors)
)]
async fn list_proposals(
    State(api): State<Api>,
    mut params: Params,
) -> Result<Json<Page<ProposalAnswer>>, Problem> {
    let state: Option<ProposalState> = params.parsed("status");
    let (before, limit) = (params.cursor::<ProposalId>(), params.limit());
    params.finish()?;
    let (found, last) = Proposals::new(&api.ingress).list(state, before, limit).await?;
    let data = found.into_iter().map(ProposalAnswer::from).collect();
    Ok(Json(Page { data, next_cursor: last.as_ref().map(cursor) }))
}

/// Read a proposal
#[utoipa::path(
    get, path = "/v1/proposals/{id}", tag = TAG_PROPOSALS,
    params(("id" = String, Path, description = "Proposal id")),
    responses((status = 200, description = "The proposal.", body = ProposalAnswer),
        ProposalErrors)
)]
async fn show_proposal(
    State(api): State<Api>,
    ProposalPath(id): ProposalPath,
    params: Params,
) -> Result<Json<ProposalAnswer>, Problem> {
    params.finish()?;
    Ok(Json(Proposals::new(&api.ingress).show(id).await?.into()))
}

/// Approve what somebody else has proposed, and have it done
///
/// `executed` says that it is done, `failed` that it cannot be done as things stand. Where the
/// answer is 503, the approval may stand and the rest be missing: repeat it, which does what is
/// missing and nothing twice.
#[utoipa::path(
    post, path = "/v1/proposals/{id}/approve", tag = TAG_PROPOSALS,
    params(("id" = String, Path, description = "Proposal id")),
    responses((status = 200, description = "As it is now, also on a repeat.",
        body = ProposalAnswer), ApproveErrors)
)]
async fn approve_proposal(
    State(api): State<Api>,
    who: Who,
    call: Call,
    ProposalPath(id): ProposalPath,
    _: NoBody,
) -> Result<Json<ProposalAnswer>, Problem> {
    decide(&api, &who, &call, id, Verdict::Approve).await
}

/// Reject what somebody else has proposed
#[utoipa::path(
    post, path = "/v1/proposals/{id}/reject", tag = TAG_PROPOSALS, request_body = RejectProposal,
    params(("id" = String, Path, description = "Proposal id")),
    responses((status = 200, description = "As it is now, also on a repeat.",
        body = ProposalAnswer), RejectErrors)
)]
async fn reject_proposal(
    State(api): State<Api>,
    who: Who,
    call: Call,
    ProposalPath(id): ProposalPath,
    JsonText(text): JsonText,
) -> Result<Json<ProposalAnswer>, Problem> {
    let verdict = Verdict::Reject(proposal_body::rejection(&text)?);
    decide(&api, &who, &call, id, verdict).await
}

async fn decide(
    api: &Api,
    who: &Who,
    call: &Call,
    id: ProposalId,
    verdict: Verdict,
) -> Result<Json<ProposalAnswer>, Problem> {
    let (client, actor) = (&who.principal.client, who.actor(call));
    let decided = Proposals::new(&api.ingress).decide(id, client, &verdict, &actor).await?;
    Ok(Json(decided.into()))
}
