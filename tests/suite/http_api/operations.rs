//! Liveness, readiness, metrics, panics.

use super::world::{World, dependency};
use holdfast::ingress::http::Health;

#[tokio::test]
async fn readiness_follows_what_the_process_needs() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.expect(200)["status"], "ok");
    let ready = world.get("/readyz").await.expect(200);
    assert_eq!(ready["dependencies"][0]["name"], "shard.0");
    assert_eq!(ready["dependencies"][0]["latency_ms"], 1.5);
    let mut optional = dependency("redis", Health::Down);
    optional.required = false;
    *world.dependencies.lock().unwrap() = vec![dependency("shard.0", Health::Degraded), optional];
    world.get("/readyz").await.expect(200);
    assert_eq!(world.get("/api/v1/actuator/health").await.expect(200)["status"], "UP");
    *world.dependencies.lock().unwrap() = vec![dependency("shard.0", Health::Down)];
    let answer = world.get("/readyz").await;
    let down = answer.refused(503, "not_ready");
    assert_eq!(down["dependencies"][0]["status"], "down");
    assert_eq!(answer.header("retry-after"), "1");
    let older = world.get("/api/v1/actuator/health").await.expect(503);
    assert_eq!([&older["status"], &older["components"]["shard.0"]["status"]], ["DOWN", "DOWN"]);
    world.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn a_panic_is_answered_and_the_next_request_too() {
    let world = World::new().await;
    world.dependencies.lock().unwrap().clear();
    let panicked = world.get("/readyz").await;
    panicked.refused(500, "internal_error");
    world.get("/healthz").await.expect(200);
}

#[tokio::test]
async fn metrics_are_text() {
    let world = World::new().await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(answer.body, b"holdfast_build_info 1\n");
}

#[tokio::test]
async fn every_answer_carries_a_request_id() {
    let world = World::new().await;
    for path in ["/healthz", "/metrics", "/docs", "/openapi.json", "/nothing"] {
        let (one, other) = (world.get(path).await, world.get(path).await);
        let ids = [one.header("x-request-id"), other.header("x-request-id")];
        assert!(!ids[0].is_empty() && ids[0] != ids[1], "{path}: {ids:?}");
    }
}
