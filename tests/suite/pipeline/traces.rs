//! Traces of transfers that do not go the usual way.

use super::backend::Backend;
use super::cluster::Cluster;
use super::process::request;
use crate::collector::Collector;
use crate::log::Log;
use holdfast::domain::TransferId;
use holdfast::ingress::TransferRequest;
use holdfast::roles::Role;
use holdfast::trace::{Resource, TraceSettings, Traces};

scenarios! {
    what_is_let_go_and_driven_on_is_followed_though_the_head_was_not_sampled
    what_goes_to_the_dead_letters_is_followed_though_the_head_was_not_sampled
}

const TRACE: &str = "0000000000000000000000000000b001";
const CALLER: &str = "00000000000000c1";

fn traces(collector: &Collector) -> Traces {
    let endpoint = collector.address().parse().unwrap();
    let settings = TraceSettings { endpoint, headers: Vec::new(), share: 0.0 };
    let resource = Resource { instance: "tests".to_owned(), roles: "all".to_owned() };
    Traces::start(&settings, &resource).unwrap().0
}

/// The trace of the request ends where the transfer was let go; that of the transfer's own id begins
/// where the reconciler drives it on.
async fn what_is_let_go_and_driven_on_is_followed_though_the_head_was_not_sampled(
    backend: Backend,
) {
    let collector = Collector::start().await;
    let mut cluster = Cluster::new(backend).await;
    cluster.traces = traces(&collector);
    let (creditor, others) = (cluster.process(), cluster.process());
    creditor.start(&[Role::Credit]);
    others.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    creditor.shard(1).down(true);
    let traceparent = Some(format!("00-{TRACE}-{CALLER}-00").into());
    let asked = TransferRequest { traceparent, ..request(&alice, &bob, 10) };
    let id: TransferId = others.submit(&asked).await.transfer.row.terms.id;

    let spans = collector.exactly(TRACE, &[("credit", CALLER)]).await;
    assert_eq!(spans[0].attributes["holdfast.outcome"], "let_go", "{spans:#?}");
    assert_eq!(spans[0].attributes["error.type"], "let_go");
    assert!(spans[0].failed);
    creditor.shard(1).down(false);
    cluster.assert_committed(id).await;

    // The event that drives it on carries no row to project. Its end may be announced once more.
    let own = id.hex();
    let edges = [
        ("drive", ""),
        ("credit", "drive"),
        ("commit", "credit"),
        ("project", "credit"),
        ("project", "commit"),
    ];
    let spans = collector.until(&own, &edges).await;
    let drive = spans.iter().find(|span| span.name == "drive").unwrap();
    assert_eq!(drive.attributes["holdfast.outcome"], "transfer.held", "{drive:#?}");
    assert_eq!(drive.attributes["holdfast.transfer"], id.to_string());
    let driven = |span: &&crate::collector::Seen| span.attributes["holdfast.attempt"] != "1";
    let credit = spans.iter().filter(|span| span.name == "credit");
    assert!(credit.into_iter().all(|span| driven(&span)), "{spans:#?}");
    cluster.finish([creditor, others]).await;
}

async fn what_goes_to_the_dead_letters_is_followed_though_the_head_was_not_sampled(
    backend: Backend,
) {
    let collector = Collector::start().await;
    let mut cluster = Cluster::new(backend).await;
    cluster.traces = traces(&collector);
    let process = cluster.process();
    process.broker.largest(4096);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    let traceparent = Some(format!("00-{TRACE}-{CALLER}-00").into());
    let metadata = Some([("note".to_owned(), "x".repeat(5000))].into());
    let large = TransferRequest { traceparent, metadata, ..request(&alice, &bob, 10) };
    let id: TransferId = process.submit(&large).await.transfer.row.terms.id;
    process.start_all_but(&[Role::Reconciler]);
    let spans = collector.exactly(TRACE, &[("dead_letter", CALLER)]).await;
    assert!(spans[0].failed && spans[0].attributes["error.type"] == "too_large", "{spans:#?}");
    process.start(&[Role::Reconciler]);
    collector.until(&id.hex(), &[("drive", "")]).await;
    cluster.end_of(id).await;
    cluster.finish([process]).await;
}

/// On one thread, whose log is kept; traces are off.
#[tokio::test]
async fn lines_about_a_transfer_that_is_driven_on_name_it_and_its_trace() {
    let cluster = Cluster::new(Backend::Embedded).await;
    let log = Log::keep();
    let (creditor, others) = (cluster.process(), cluster.process());
    creditor.start(&[Role::Credit]);
    others.start_all_but(&[Role::Credit]);
    let (alice, bob) = (cluster.account(0, 1000).await, cluster.account(1, 0).await);
    creditor.shard(1).down(true);
    let id = others.transfer(&alice, &bob, 10).await;
    cluster.until_hold_is_known(id).await;
    creditor.caught_up(&[Role::Credit]).await;
    creditor.shard(1).down(false);
    cluster.assert_committed(id).await;
    let lines = log.lines();
    let line = lines.iter().find(|line| line["message"] == "driven on");
    let line = line.unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!((&line["transfer"], &line["trace_id"]), (&id.to_string().into(), &id.hex().into()));
    cluster.finish([creditor, others]).await;
}
