//! Velocity limits of an account.

use super::super::{VelocityChange, VelocityView};
use super::extract::{AccountPath, Call, JsonText};
use super::guard::Who;
use super::json::{self, Fields};
use super::params::Params;
use super::problem::{Fault, Place, Problem};
use super::schemas::{self, AccountErrors, SetLimitsErrors};
use super::{Api, TAG_ACCOUNTS};
use crate::domain::{
    Allowance, Currency, Limit, MAX_COUNT, Money, Period, Timestamp, format_minor,
};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(show_limits, set_limits))
}

/// The limits that an account is to have.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that are read")]
struct SetLimits {
    /// These and no others; none at all where it is empty. One a period at most.
    #[schema(max_items = 3)]
    limits: Vec<SetLimit>,
}

/// A limit to be set: on the number of transfers, on their sum, or on both.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the fields that are read")]
pub struct SetLimit {
    #[schema(schema_with = schemas::period)]
    period: String,
    /// The most transfers out of the account in one period.
    #[schema(minimum = 0, maximum = 1_000_000_000, required = false)]
    max_count: i64,
    /// The most that they may be together, in the account's currency.
    #[schema(schema_with = schemas::amount, required = false)]
    max_amount: String,
}

/// A velocity limit, and what is used of it.
#[derive(Serialize, ToSchema)]
#[schema(as = VelocityLimit)]
pub struct LimitAnswer {
    /// Periods begin at full minutes, at full hours, and at midnight, UTC.
    #[schema(schema_with = schemas::period)]
    period: Period,
    /// The most transfers in one period; null where their number is not limited.
    max_count: Option<i64>,
    /// The most that they may be together; null where their sum is not limited.
    #[schema(example = "500.00")]
    max_amount: Option<String>,
    /// Transfers that were held since `window_start`, those that failed later included.
    used_count: i64,
    /// What they are together.
    #[schema(example = "75.00")]
    used_amount: String,
    /// When the present period began.
    #[schema(schema_with = schemas::time)]
    window_start: Timestamp,
}

/// The velocity limits of an account, the shortest period first.
#[derive(Serialize, ToSchema)]
#[schema(as = VelocityLimits)]
pub struct LimitsAnswer {
    /// Empty where nothing is limited.
    pub data: Vec<LimitAnswer>,
}

impl From<VelocityView> for LimitsAnswer {
    fn from(VelocityView { currency, limits }: VelocityView) -> Self {
        let text = |minor| format_minor(minor, currency);
        let answer = |(period, Allowance { limit, used }): (Period, Allowance)| LimitAnswer {
            period,
            max_count: limit.max_count(),
            max_amount: limit.max_amount().map(text),
            used_count: used.count,
            used_amount: text(used.amount),
            window_start: used.window,
        };
        Self { data: limits.into_iter().map(answer).collect() }
    }
}

/// Read an account's velocity limits
///
/// How many transfers may be held out of the account, and how much together, within a minute, an
/// hour and a day; and what is used of it now. A transfer over a limit is rejected with
/// `velocity_limit_exceeded`.
#[utoipa::path(
    get, path = "/v1/accounts/{id}/limits", tag = TAG_ACCOUNTS,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "The limits.", body = LimitsAnswer), AccountErrors)
)]
async fn show_limits(
    State(api): State<Api>,
    AccountPath(id): AccountPath,
    params: Params,
) -> Result<Json<LimitsAnswer>, Problem> {
    params.finish()?;
    Ok(Json(api.ingress.velocity(&id).await?.into()))
}

/// Set an account's velocity limits
///
/// Replaces all of them; an empty list removes them. A period that had a limit keeps what is used
/// of it; a new limit counts from now on. A repeat changes nothing. Whoever may not do it
/// alone proposes it (`change_velocity`).
#[utoipa::path(
    put, path = "/v1/accounts/{id}/limits", tag = TAG_ACCOUNTS, request_body = SetLimits,
    params(("id" = String, Path, description = "Account id")),
    responses((status = 200, description = "As they are now.", body = LimitsAnswer),
        SetLimitsErrors)
)]
async fn set_limits(
    State(api): State<Api>,
    who: Who,
    call: Call,
    AccountPath(id): AccountPath,
    JsonText(text): JsonText,
) -> Result<Json<LimitsAnswer>, Problem> {
    // Once for its faults, and once more when the currency is known.
    read(&text, None).map_err(Problem::invalid)?;
    let currency = api.ingress.account(&id).await?.row.currency;
    let limits = read(&text, Some(currency)).map_err(Problem::invalid)?;
    let (change, by) = (VelocityChange::Replace(limits), who.actor(&call));
    Ok(Json(api.ingress.set_velocity(&id, &change, &by).await?.into()))
}

/// The limits of a body. Without a currency only the form of amounts is looked at.
fn read(text: &str, currency: Option<Currency>) -> Result<BTreeMap<Period, Limit>, Vec<Fault>> {
    let mut fields = Fields::parse(text, "")?;
    let given: Option<&RawValue> = fields.required("limits", Ok);
    let limits = given.map(|given| limits(given, currency)).transpose();
    let others = fields.finish();
    match limits {
        Ok(Some(limits)) if others.is_empty() => Ok(limits),
        Ok(_) => Err(others),
        Err(mut faults) => {
            faults.extend(others);
            Err(faults)
        }
    }
}

/// What is given as `limits`. Without a currency only the form of amounts is looked at.
pub fn limits(
    given: &RawValue,
    currency: Option<Currency>,
) -> Result<BTreeMap<Period, Limit>, Vec<Fault>> {
    const POINTER: &str = "/limits";
    let elements = json::elements(given, Period::ALL.len())
        .map_err(|detail| vec![Fault::new(Place::Body, POINTER, detail)])?;
    let (mut limits, mut faults) = (BTreeMap::new(), Vec::new());
    for (index, element) in elements.into_iter().enumerate() {
        let pointer = format!("{POINTER}/{index}");
        match limit(element, &pointer, currency) {
            Ok((period, limit)) => {
                if limits.insert(period, limit).is_some() {
                    let detail = format!("there is another limit for this {}", period.as_str());
                    faults.push(Fault::new(Place::Body, format!("{pointer}/period"), detail));
                }
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(limits) } else { Err(faults) }
}

fn limit(
    element: &RawValue,
    pointer: &str,
    currency: Option<Currency>,
) -> Result<(Period, Limit), Vec<Fault>> {
    let mut fields = Fields::parse(element.get(), pointer)?;
    let period: Option<Period> = fields.required("period", json::parsed);
    let count = fields.optional("max_count", count);
    // An amount whose currency is not known yet is there all the same.
    let amount = fields.optional("max_amount", |value| json::money(value, currency));
    let amount = amount.map(|money| money.map_or(0, Money::minor));
    let faults = fields.finish();
    if !faults.is_empty() {
        return Err(faults);
    }
    let limit = Limit::new(count, amount).ok_or_else(|| {
        let detail = "needs max_count, max_amount or both";
        vec![Fault::new(Place::Body, pointer, detail)]
    })?;
    Ok((period.expect("a missing one is a fault"), limit))
}

/// A whole number, written as one.
fn count(value: &RawValue) -> Result<i64, String> {
    let literal = value.get();
    let digits = literal.bytes().all(|byte| byte.is_ascii_digit());
    match literal.parse() {
        Ok(count @ 0..=MAX_COUNT) if digits => Ok(count),
        _ => Err(format!("must be a whole number from 0 to {MAX_COUNT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Result<BTreeMap<Period, Limit>, Vec<String>> {
        let faults = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.pointer).collect();
        read(text, "USD".parse().ok()).map_err(faults)
    }

    #[test]
    fn limits_are_read_by_period() {
        let limits = usd(r#"{"limits":[
            {"period":"day","max_amount":"100.5"},
            {"period":"minute","max_count":3,"max_amount":null}
        ]}"#);
        let expected = BTreeMap::from([
            (Period::Minute, Limit::new(Some(3), None).unwrap()),
            (Period::Day, Limit::new(None, Some(10_050)).unwrap()),
        ]);
        assert_eq!(limits, Ok(expected));
        assert_eq!(usd(r#"{"limits":[]}"#), Ok(BTreeMap::new()));
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        for (text, pointers) in [
            ("{}", &["/limits"][..]),
            (r#"{"limits":{}}"#, &["/limits"]),
            (r#"{"limits":[1]}"#, &["/limits/0"]),
            (r#"{"limits":[{"period":"day"}]}"#, &["/limits/0"]),
            (
                r#"{"limits":[{"max_count":1},{"period":"week","max_count":1}]}"#,
                &["/limits/0/period", "/limits/1/period"],
            ),
            (r#"{"limits":[{"period":"day","max_count":1.0}]}"#, &["/limits/0/max_count"]),
            (r#"{"limits":[{"period":"day","max_count":-1}]}"#, &["/limits/0/max_count"]),
            (r#"{"limits":[{"period":"day","max_count":1000000001}]}"#, &["/limits/0/max_count"]),
            (r#"{"limits":[{"period":"day","max_count":"1"}]}"#, &["/limits/0/max_count"]),
            (r#"{"limits":[{"period":"day","max_amount":"1.001"}]}"#, &["/limits/0/max_amount"]),
            (
                r#"{"limits":[{"period":"day","max_count":1},{"period":"day","max_count":1}]}"#,
                &["/limits/1/period"],
            ),
            (
                r#"{"limits":[{"period":"day","max_count":1,"per":2}],"a":1}"#,
                &["/limits/0/per", "/a"],
            ),
        ] {
            assert_eq!(
                usd(text),
                Err(pointers.iter().map(|at| (*at).to_owned()).collect()),
                "{text}"
            );
        }
    }
}
