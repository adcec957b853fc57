//! The names of a request in the log.

use super::world::{TRANSFER, World, json};
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::format::FmtSpan;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// On one thread, whose log is kept: what is logged while a request is handled names it.
#[tokio::test]
async fn lines_about_a_request_have_its_id_and_that_of_its_trace() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let world = World::new().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_span_events(FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .finish();
    let kept = tracing::subscriber::set_default(subscriber);
    let caller = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let headers = [("idempotency-key", "k"), ("x-request-id", "r-1"), ("traceparent", &*caller)];
    world.send(json("POST", "/v1/transfers", &headers, TRANSFER)).await.expect(202);
    world.get("/v1/accounts/nobody").await;
    drop(kept);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let spans: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["span"].clone())
        .filter(|span| span["name"] == "request")
        .collect();
    let [first, second] = &spans[..] else { panic!("{text}") };
    assert_eq!((&first["request_id"], &first["trace_id"]), (&"r-1".into(), &TRACE.into()));
    // Who sends no trace context gets a trace of their own.
    let minted = second["trace_id"].as_str().unwrap();
    assert!(minted.len() == 32 && minted != TRACE, "{minted}");
}
