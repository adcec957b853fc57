//! Every bad request is refused with its own status and code, and writes nothing.

use super::table::{Case, cases};
use super::world::{Answer, World, json};
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use std::collections::BTreeSet;

#[tokio::test]
async fn every_bad_request_is_refused_with_its_code_and_writes_nothing() {
    let world = World::new().await;
    world.account("alice", "USD").await;
    world.account("closed", "USD").await;
    world.post("/v1/accounts/closed/close", "").await.expect(200);
    let document = world.get("/openapi.json").await.expect(200);
    let before = world.everything().await;
    let cases = cases();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = world.send(case.request()).await;
        if let Err(fault) = check(case, &answer, &document) {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            wrong.push(format!("{}: {fault}: {} {body}", case.name, answer.status));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(world.everything().await, before);
}

fn check(case: &Case, answer: &Answer, document: &Value) -> Result<(), String> {
    let equal = |what: &str, found: &str, wanted: &str| {
        if found == wanted { Ok(()) } else { Err(format!("{what} {found}, not {wanted}")) }
    };
    equal("status", answer.status.as_str(), &case.status.to_string())?;
    equal("content type", answer.header("content-type"), "application/problem+json")?;
    let problem = answer.json();
    let text = |member: &str| problem[member].as_str().unwrap_or_default();
    equal("code", text("code"), case.code)?;
    equal("status member", &problem["status"].to_string(), &case.status.to_string())?;
    equal("request id", text("request_id"), answer.header("x-request-id"))?;
    equal("type", text("type"), &format!("/docs#{}", case.code))?;
    for member in ["title", "detail", "request_id"] {
        equal(&format!("{member} is empty:"), &text(member).is_empty().to_string(), "false")?;
    }
    if case.status == 405 {
        equal("Allow is empty:", &answer.header("allow").is_empty().to_string(), "false")?;
    }
    let faults = problem["errors"].as_array().cloned().unwrap_or_default();
    let found: BTreeSet<&str> =
        faults.iter().map(|fault| fault["pointer"].as_str().unwrap_or("?")).collect();
    if !case.pointers.is_empty() && found != case.pointers.iter().copied().collect() {
        return Err(format!("pointers {found:?}, not {:?}", case.pointers));
    }
    documented(case, document)
}

/// The document lists the answer's code under the operation's status.
fn documented(case: &Case, document: &Value) -> Result<(), String> {
    if matches!(case.code, "not_found" | "method_not_allowed") {
        return Ok(());
    }
    let path = case.path.split('?').next().unwrap_or_default();
    let paths = document["paths"].as_object().unwrap();
    let template = paths
        .keys()
        .filter(|template| matches(template, path))
        .min_by_key(|template| template.matches('{').count())
        .ok_or_else(|| format!("{path} is not documented"))?;
    let answer = &paths[template][case.documented_method()]["responses"][case.status.to_string()];
    let codes = answer["x-codes"].as_array().cloned().unwrap_or_default();
    if codes.iter().any(|code| code == case.code) {
        return Ok(());
    }
    Err(format!("{} of {template} documents {codes:?} only", case.status))
}

fn matches(template: &str, path: &str) -> bool {
    let (wanted, given): (Vec<&str>, Vec<&str>) =
        (template.split('/').collect(), path.split('/').collect());
    wanted.len() == given.len()
        && wanted.iter().zip(given).all(|(want, part)| want.starts_with('{') || *want == part)
}

#[tokio::test]
async fn items_of_a_batch_are_refused_one_by_one() {
    let world = World::new().await;
    let large = format!(r#"{{"description":"{}"}}"#, "x".repeat(64 * 1024));
    let body = format!(
        r#"{{"transfers":[
            {{"source":"alice","destination":"bob","amount":"1.00","currency":"USD","idempotency_key":"a"}},
            {{"source":"alice","destination":"bob","amount":"x","currency":"USD"}},
            7,
            {{"source":"alice","destination":"bob","amount":"1.00","currency":"USD"}},
            {{"source":"alice","destination":"bob","amount":1.0,"currency":"USD","idempotency_key":"a"}},
            {{"source":"alice","destination":"bob","amount":"2.00","currency":"USD","idempotency_key":"a"}},
            {large}
        ]}}"#
    );
    let answer = world.post("/v1/transfers/batch", &body).await;
    let results = answer.expect(200)["results"].as_array().cloned().unwrap();
    let statuses: Vec<u64> = results.iter().map(|each| each["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 400, 400, 400, 200, 422, 400]);
    assert_eq!(results[0]["transfer"]["id"], results[4]["transfer"]["id"]);
    let code = |index: usize| results[index]["error"]["code"].clone();
    assert_eq!(code(1), "invalid_request");
    assert_eq!(results[1]["error"]["errors"][0]["pointer"], "/transfers/1/amount");
    assert_eq!(results[1]["error"]["errors"][1]["pointer"], "/transfers/1/idempotency_key");
    assert_eq!(results[2]["error"]["errors"][0]["pointer"], "/transfers/2");
    assert_eq!(code(3), "idempotency_key_missing");
    assert_eq!(code(5), "idempotency_key_reused");
    assert_eq!(results[6]["error"]["errors"][0]["pointer"], "/transfers/6");
    for index in [1, 2, 3, 5, 6] {
        assert_eq!(results[index]["error"]["request_id"], answer.header("x-request-id"));
        assert!(results[index].get("transfer").is_none());
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let world = World::new().await;
    let chunks = (0..20).map(|_| Ok::<_, std::io::Error>(vec![b' '; 4096]));
    let body = Body::from_stream(futures::stream::iter(chunks));
    let request = Request::post("/v1/transfers").header("content-type", "application/json");
    world.send(request.body(body).unwrap()).await.refused(413, "body_too_large");
}

#[tokio::test]
async fn a_body_that_ends_early_is_refused() {
    let world = World::new().await;
    let chunks = [Ok(b"{".to_vec()), Err(std::io::Error::other("gone"))];
    let body = Body::from_stream(futures::stream::iter(chunks));
    let request = Request::post("/v1/transfers").header("content-type", "application/json");
    world.send(request.body(body).unwrap()).await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_key_that_was_used_for_another_request_is_refused() {
    let world = World::new().await;
    world.transfer("k", super::world::TRANSFER).await.expect(202);
    let other = super::world::TRANSFER.replace("25.00", "25.01");
    world.transfer("k", &other).await.refused(422, "idempotency_key_reused");
    let from_other_source = super::world::TRANSFER.replace("alice", "carol");
    world.transfer("k", &from_other_source).await.expect(202);
}

#[tokio::test]
async fn an_invalid_request_id_is_replaced() {
    let world = World::new().await;
    let long = "x".repeat(129);
    for (sent, kept) in [("abc-1", true), ("a b", false), ("", false), (long.as_str(), false)] {
        let request = json("POST", "/v1/transfers", &[("x-request-id", sent)], "{}");
        let answer = world.send(request).await;
        answer.refused(400, "invalid_request");
        assert_eq!(answer.header("x-request-id") == sent, kept, "{sent}");
    }
}
