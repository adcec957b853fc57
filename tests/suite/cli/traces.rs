//! One transfer as one trace, from outside: what a collector is sent by the built program.

use super::program::{Program, answer, nowhere};
use super::{embedded, serving};
use crate::collector::{Collector, Seen};
use crate::wait::eventually;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const UNFOLLOWED: &str = "0000000000000000000000000000a001";
const FOLLOWED: &str = "0000000000000000000000000000a002";
const REJECTED: &str = "0000000000000000000000000000a003";
const LAST: &str = "0000000000000000000000000000a004";
const CALLER: &str = "00000000000000c1";

fn traced(program: Program, collector: &Collector) -> Program {
    program
        .with("HOLDFAST_OTLP_ENDPOINT", collector.address())
        .with("HOLDFAST_OTLP_HEADERS", "authorization=Bearer s3cret")
        .with("HOLDFAST_TRACE_SAMPLE", "0")
        .with("HOLDFAST_INSTANCE", "the-one")
}

async fn sent(request: RequestBuilder) -> Value {
    request.send().await.unwrap().json().await.unwrap()
}

/// Asks for a transfer from within a trace, and waits for its end, or not at all.
async fn transfer(
    address: &str,
    (source, destination, amount): (&str, &str, &str),
    (trace, sampled): (&str, bool),
    wait: u32,
) -> Value {
    let body = json!({
        "source": source, "destination": destination, "amount": amount, "currency": "USD",
        "description": "rent of the month",
    });
    let flags = u8::from(sampled);
    let request = reqwest::Client::new().post(format!("{address}/v1/transfers")).json(&body);
    let request = request
        .header("Idempotency-Key", trace)
        .header("Prefer", format!("wait={wait}"))
        .header("traceparent", format!("00-{trace}-{CALLER}-{flags:02x}"));
    sent(request).await
}

/// What three transfers leave at a collector: one that nobody follows, one that somebody does, and
/// one that nobody follows and that is rejected.
async fn told(address: &str, collector: &Collector) {
    let accounts = json!({"accounts": [
        {"id": "bank", "currency": "USD", "kind": "external"},
        {"id": "alice", "currency": "USD"}, {"id": "dave", "currency": "USD"},
    ]});
    let url = format!("{address}/v1/accounts/batch");
    sent(reqwest::Client::new().post(url).json(&accounts)).await;
    let funded = transfer(address, ("bank", "alice", "100"), (UNFOLLOWED, false), 30).await;
    assert_eq!(funded["status"], "committed", "{funded}");
    let paid = transfer(address, ("alice", "dave", "30"), (FOLLOWED, true), 30).await;
    assert_eq!(paid["status"], "committed", "{paid}");
    let refused = transfer(address, ("alice", "dave", "70.01"), (REJECTED, false), 30).await;
    assert_eq!(refused["reason"], "insufficient_funds", "{refused}");

    let request = "POST /v1/transfers";
    let edges = [
        (request, CALLER),
        ("accept", request),
        ("publish", "accept"),
        ("hold", "publish"),
        ("credit", "hold"),
        ("commit", "credit"),
        ("project", "hold"),
        ("project", "credit"),
        ("project", "commit"),
    ];
    let spans = collector.exactly(FOLLOWED, &edges).await;
    stages_are_described(&spans, &paid);
    batches_are_linked(&spans, collector).await;

    // No row changed that could be projected.
    let spans = collector.exactly(REJECTED, &[("hold", CALLER)]).await;
    let hold = named(&spans, "hold");
    assert_eq!(hold.attributes["holdfast.outcome"], "rejected");
    assert_eq!(hold.attributes["holdfast.reason"], "insufficient_funds");
    assert!(!hold.failed, "a refusal is no failure of ours");
    assert_eq!(collector.of(UNFOLLOWED).len(), 0);
    for span in collector.all() {
        assert_eq!(span.authorization, "Bearer s3cret");
        assert_eq!(span.resource["service.name"], "holdfast");
        assert_eq!(span.resource["service.instance.id"], "the-one");
        for value in span.attributes.values() {
            let private = ["alice", "dave", "bank", "rent", FOLLOWED, "s3cret"];
            assert!(!private.iter().any(|word| value.contains(word)), "{span:#?}");
        }
    }
}

fn named<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    spans.iter().find(|span| span.name == name).unwrap()
}

fn stages_are_described(spans: &[Seen], transfer: &Value) {
    let request = named(spans, "POST /v1/transfers");
    assert_eq!(request.kind, SpanKind::Server);
    assert_eq!(request.attributes["http.response.status_code"], "200");
    assert_eq!(request.attributes["http.route"], "/v1/transfers");
    assert_eq!(named(spans, "publish").kind, SpanKind::Producer);
    // alice and dave live on two shards.
    let source = named(spans, "hold").attributes["holdfast.shard"].clone();
    assert_ne!(named(spans, "credit").attributes["holdfast.shard"], source);
    for (name, topic, outcome) in [
        ("accept", None, "accepted"),
        ("publish", Some("requested"), "published"),
        ("hold", Some("requested"), "held"),
        ("credit", Some("held"), "credited"),
        ("commit", Some("credited"), "committed"),
    ] {
        let span = named(spans, name);
        let said = |key: &str| span.attributes.get(key).map_or("", String::as_str);
        assert_eq!(said("holdfast.transfer"), transfer["id"].as_str().unwrap(), "{span:#?}");
        assert_eq!(said("holdfast.outcome"), outcome, "{span:#?}");
        assert!(!span.failed && span.time.0 <= span.time.1, "{span:#?}");
        let Some(topic) = topic else { continue };
        assert_eq!(said("holdfast.attempt"), "1", "{span:#?}");
        assert_eq!(said("messaging.system"), "kafka");
        let topic = format!("transfer.{topic}.{source}");
        assert_eq!(said("messaging.destination.name"), topic, "{span:#?}");
        assert!(said("messaging.destination.partition.id").parse::<u32>().is_ok());
        if name != "publish" {
            assert_eq!(span.kind, SpanKind::Consumer);
            assert!(said("messaging.kafka.offset").parse::<u64>().is_ok());
        }
    }
    let order = ["accept", "publish", "hold", "credit", "commit"].map(|name| named(spans, name));
    for pair in order.windows(2) {
        assert!(pair[0].time.0 <= pair[1].time.0, "{pair:#?}");
    }
}

/// Each member's batch is there, in a trace of its own, and took place within the member's span.
async fn batches_are_linked(spans: &[Seen], collector: &Collector) {
    for (name, batch) in [
        ("accept", "group_commit"),
        ("hold", "hold batch"),
        ("credit", "credit batch"),
        ("commit", "commit batch"),
        ("project", "project batch"),
    ] {
        let span = named(spans, name);
        let [(trace, id)] = &span.links[..] else { panic!("{span:#?}") };
        assert_ne!(*trace, span.trace);
        eventually(batch, || async { !collector.of(trace).is_empty() }).await;
        let [found] = &collector.of(trace)[..] else { panic!("{name}: a batch has one span") };
        assert_eq!((&*found.name, &found.id), (batch, id));
        assert_eq!(found.attributes["holdfast.shard"], span.attributes["holdfast.shard"]);
        assert!(found.attributes["holdfast.rows"].parse::<u32>().unwrap() > 0);
        assert!(span.time.0 <= found.time.0, "{span:#?} {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_one_trace_in_dev_and_its_last_spans_are_sent_at_the_end() {
    let collector = Collector::start().await;
    let dev = embedded::start(traced(Program::new(), &collector));
    told(&dev.address, &collector).await;
    transfer(&dev.address, ("alice", "dave", "1"), (LAST, true), 0).await;
    let (_, output) = dev.stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
    let names: BTreeSet<String> = collector.of(LAST).into_iter().map(|span| span.name).collect();
    assert!(names.contains("POST /v1/transfers") && names.contains("accept"), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_one_trace_on_mysql_and_kafka() {
    let collector = Collector::start().await;
    let (program, _) = serving::fresh().await;
    let program = traced(program, &collector);
    program.succeed(&["migrate"]);
    let mut running = program.start(&["serve"]);
    let address = running.listening();
    answer(&format!("{address}/readyz"), 200).await;
    told(&address, &collector).await;
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let program = Program::new()
        .with("HOLDFAST_OTLP_ENDPOINT", &format!("http://{}", nowhere()))
        .with("HOLDFAST_TRACE_SAMPLE", "1")
        .with("HOLDFAST_LOG", "json");
    let mut dev = embedded::start(program);
    dev.fund();
    let paid = transfer(&dev.address, ("alice", "bank", "1"), (FOLLOWED, true), 30).await;
    assert_eq!(paid["status"], "committed", "{paid}");
    let dropped = "holdfast_trace_spans_dropped_total{why=\"not_sent\"}";
    let metrics = format!("{}/metrics", dev.address);
    eventually("dropped spans that are counted", || async {
        let said = reqwest::get(&metrics).await.unwrap().text().await.unwrap();
        said.lines().any(|line| line.starts_with(dropped))
    })
    .await;
    let warned = dev.line_of_stderr("spans of traces are dropped");
    assert!(warned.contains("\"why\":\"not_sent\""), "{warned}");
    let created = dev.transfer("bank", "alice", "1", "second");
    assert_eq!(created["status"], "committed", "{created}");
    let (_, output) = dev.stop("TERM");
    assert_eq!(output.code, Some(0), "{output:?}");
}
