//! The OpenAPI document and the docs page say what the API does.

use super::world::{World, json};
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use std::collections::BTreeSet;

/// Every call of the contract.
const CALLS: [(&str, &str); 35] = [
    ("post", "/v1/accounts"),
    ("post", "/v1/accounts/batch"),
    ("get", "/v1/accounts"),
    ("get", "/v1/accounts/{id}"),
    ("patch", "/v1/accounts/{id}"),
    ("get", "/v1/accounts/{id}/balance"),
    ("get", "/v1/accounts/{id}/entries"),
    ("get", "/v1/accounts/{id}/transfers"),
    ("post", "/v1/accounts/{id}/freeze"),
    ("post", "/v1/accounts/{id}/unfreeze"),
    ("post", "/v1/accounts/{id}/close"),
    ("get", "/v1/accounts/{id}/limits"),
    ("put", "/v1/accounts/{id}/limits"),
    ("post", "/v1/transfers"),
    ("get", "/v1/transfers"),
    ("post", "/v1/transfers/batch"),
    ("get", "/v1/transfers/{id}"),
    ("get", "/v1/transfers/{id}/timeline"),
    ("post", "/v1/transfers/{id}/cancel"),
    ("post", "/v1/transfers/{id}/reverse"),
    ("get", "/v1/audit"),
    ("post", "/api/v1/payments/transfer"),
    ("get", "/api/v1/payments/accounts/{id}/balance"),
    ("get", "/api/v1/payments/transactions/{txId}/status"),
    ("get", "/api/v1/actuator/health"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
    ("get", "/docs"),
    ("post", "/v1/proposals"),
    ("get", "/v1/proposals"),
    ("get", "/v1/proposals/{id}"),
    ("post", "/v1/proposals/{id}/approve"),
    ("post", "/v1/proposals/{id}/reject"),
];

async fn document(world: &World) -> Value {
    world.get("/openapi.json").await.expect(200)
}

fn operations(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of_path = |(path, item): (&String, &Value)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

#[tokio::test]
async fn the_document_lists_every_call_and_no_other() {
    let world = World::new().await;
    let document = document(&world).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let wanted: BTreeSet<_> =
        CALLS.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(operations(&document), wanted);
}

#[tokio::test]
async fn every_documented_call_has_a_route() {
    let world = World::new().await;
    for (method, path) in operations(&document(&world).await) {
        let path = path.replace("{id}", "-").replace("{txId}", "-");
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(&path);
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        let status = answer.status.as_u16();
        assert!(!matches!(status, 404 | 405 | 500), "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn every_reference_in_the_document_leads_somewhere() {
    let world = World::new().await;
    let document = document(&world).await;
    let mut missing = Vec::new();
    each_reference(&document, &mut |reference| {
        let pointer = reference.strip_prefix('#').unwrap_or_default();
        if document.pointer(pointer).is_none() {
            missing.push(reference.to_owned());
        }
    });
    assert_eq!(missing, [""; 0]);
}

fn each_reference(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                visit(reference);
            }
            members.values().for_each(|member| each_reference(member, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| each_reference(item, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn the_documented_fields_of_a_body_are_those_that_are_read() {
    let world = World::new().await;
    let document = document(&world).await;
    for (schema, method, path) in [
        ("CreateAccount", "POST", "/v1/accounts"),
        ("CreateAccounts", "POST", "/v1/accounts/batch"),
        ("PatchAccount", "PATCH", "/v1/accounts/alice"),
        ("SetLimits", "PUT", "/v1/accounts/alice/limits"),
        ("CreateTransfer", "POST", "/v1/transfers"),
        ("CreateTransfers", "POST", "/v1/transfers/batch"),
        ("ReverseTransfer", "POST", "/v1/transfers/018bcfe5-687f-7abc-9def-0123456789ab/reverse"),
        ("Payment", "POST", "/api/v1/payments/transfer"),
        ("CreateProposal", "POST", "/v1/proposals"),
        ("RejectProposal", "POST", "/v1/proposals/018bcfe5-687f-7000-9def-0123456789ab/reject"),
    ] {
        let schema = &document["components"]["schemas"][schema];
        let fields = schema["properties"].as_object().unwrap();
        // A value of a type that no field takes: every field that is known is then a fault of
        // another kind than an unknown one.
        let wrong = |field: &Value| match field["type"].to_string().contains("boolean") {
            true => Value::from(1),
            false => Value::from(true),
        };
        let body: serde_json::Map<String, Value> =
            fields.iter().map(|(name, field)| (name.clone(), wrong(field))).collect();
        let body = serde_json::to_string(&body).unwrap();
        let problem =
            world.send(json(method, path, &[], &body)).await.refused(400, "invalid_request");
        let faults = problem["errors"].as_array().unwrap();
        let unread = faults.iter().find(|fault| {
            fault["detail"].as_str().unwrap().contains("is not a field")
                || fault["detail"].as_str().unwrap().contains("is required")
        });
        assert_eq!(unread, None, "{path}");
        assert_eq!(faults.len(), fields.len(), "{path}: {problem}");
        let empty = world.send(json(method, path, &[], "{}")).await;
        let missing = empty.json()["errors"].as_array().map_or(0, Vec::len);
        let required = schema["required"].as_array().map_or(0, Vec::len);
        let key = usize::from(fields.keys().any(|name| name.starts_with("idempotency")));
        assert_eq!(missing, if method == "PATCH" { 0 } else { required + key }, "{path}");
    }
}

#[tokio::test]
async fn the_docs_page_loads_nothing_from_elsewhere() {
    let world = World::new().await;
    let answer = world.get("/docs").await;
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let page = String::from_utf8(answer.body.clone()).unwrap();
    for outside in ["http://", "https://", "//cdn", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own() {
    let world = World::new().await;
    let document = document(&world).await;
    let names: Vec<&str> = operations(&document)
        .iter()
        .map(|(method, path)| document["paths"][path][method]["operationId"].as_str().unwrap())
        .collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
}
