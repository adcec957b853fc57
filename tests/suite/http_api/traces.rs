//! The names of a request in the log.

use super::world::{TRANSFER, World, json};
use crate::log::Log;
use serde_json::Value;

/// What is logged while a request is handled names it.
#[tokio::test]
async fn lines_about_a_request_have_its_id_and_that_of_its_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let world = World::new().await;
    let log = Log::keep();
    let caller = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let headers = [("idempotency-key", "k"), ("x-request-id", "r-1"), ("traceparent", &*caller)];
    world.send(json("POST", "/v1/transfers", &headers, TRANSFER)).await.expect(202);
    world.get("/v1/accounts/nobody").await;
    let spans: Vec<Value> = log.lines().into_iter().map(|line| line["span"].clone()).collect();
    let requests: Vec<&Value> = spans.iter().filter(|span| span["name"] == "request").collect();
    let [first, .., second] = &requests[..] else { panic!("{spans:#?}") };
    assert_eq!((&first["request_id"], &first["trace_id"]), (&"r-1".into(), &TRACE.into()));
    // Who sends no trace context gets a trace of their own.
    let minted = second["trace_id"].as_str().unwrap();
    assert!(minted.len() == 32 && minted != TRACE, "{minted}");
}
