//! The audit log.

use super::answers::Page;
use super::params::{Params, Position, cursor};
use super::problem::Problem;
use super::schemas::{self, ListErrors};
use super::{Api, TAG_OPERATIONS};
use crate::domain::{Shard, Timestamp};
use crate::ingress::ActPosition;
use crate::store::{ActFilter, LoggedAct};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list_acts))
}

/// Who did what to what.
#[derive(Serialize, ToSchema)]
#[schema(as = Act)]
pub struct ActAnswer {
    /// On which shard it is kept.
    #[schema(value_type = u16)]
    shard: Shard,
    /// Its number in that shard's log, without gaps.
    id: i64,
    #[schema(schema_with = schemas::time)]
    at: Timestamp,
    /// A principal, an operator, an address that was refused.
    operator: String,
    #[schema(example = "account.freeze")]
    action: String,
    /// The account, transfer, dead letter, key or route.
    target: String,
    reason: Option<String>,
    /// What was so before; null where nothing was.
    #[schema(value_type = Option<Object>)]
    before: Option<Box<RawValue>>,
    /// What is so after.
    #[schema(value_type = Option<Object>)]
    after: Option<Box<RawValue>>,
    request_id: Option<String>,
}

impl From<(Shard, LoggedAct)> for ActAnswer {
    fn from((shard, logged): (Shard, LoggedAct)) -> Self {
        let act = logged.act;
        let json = |text: String| RawValue::from_string(text).ok();
        Self {
            shard,
            id: logged.id,
            at: logged.at,
            operator: act.actor.operator,
            action: act.action,
            target: act.target,
            reason: act.actor.reason,
            before: json(act.before),
            after: json(act.after),
            request_id: act.actor.request,
        }
    }
}

impl Position for ActPosition {
    const TAG: &'static str = "l1.";

    fn write(&self) -> String {
        format!("{}|{}|{}", self.at.micros(), self.shard, self.id)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let at = Timestamp::from_micros(parts.next()?.parse().ok()?);
        let (shard, id) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(Self { at, shard: Shard(shard), id })
    }
}

/// List what was done by hand, to keys and limits, and who was refused what, newest first
#[utoipa::path(
    get, path = "/v1/audit", tag = TAG_OPERATIONS,
    params(
        ("action" = Option<String>, Query, description = "Only this action"),
        ("target" = Option<String>, Query,
            description = "Only what was done to this account, transfer, dead letter or key"),
        ("limit" = Option<u32>, Query, description = "Default 50", minimum = 1, maximum = 500),
        ("cursor" = Option<String>, Query, description = "next_cursor of the part before")
    ),
    responses((status = 200, description = "Acts.", body = Page<ActAnswer>), ListErrors)
)]
async fn list_acts(
    State(api): State<Api>,
    mut params: Params,
) -> Result<Json<Page<ActAnswer>>, Problem> {
    let filter = ActFilter { action: params.parsed("action"), target: params.text("target") };
    let (after, limit) = (params.cursor::<ActPosition>(), params.limit());
    params.finish()?;
    let listed = api.ingress.acts(&filter, after, limit).await;
    // Half a log would look like a whole one.
    if let Some(error) = listed.missing.into_iter().next() {
        return Err(crate::ingress::Refusal::from(error).into());
    }
    let next_cursor = listed.end.as_ref().map(cursor);
    Ok(Json(Page { data: listed.acts.into_iter().map(ActAnswer::from).collect(), next_cursor }))
}
