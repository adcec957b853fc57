//! What the process says about itself: the log on stderr, and metrics for Prometheus.

use crate::config::LogFormat;
use crate::meters::{Kind, Metric, table};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How often samples that nobody asked for are folded into the histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Sends the log to stderr. `RUST_LOG` filters it; `filter` does where that is unset.
pub fn start_log(format: Option<LogFormat>, filter: &str) {
    let on_terminal = std::io::stderr().is_terminal();
    let fits = if on_terminal { LogFormat::Pretty } else { LogFormat::Json };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| filter.to_owned());
    let registry = tracing_subscriber::registry().with(EnvFilter::new(filter));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    // An error means that a log is set up already, as it is in tests; that one is as good.
    let _ = match format.unwrap_or(fits) {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Pretty => registry.with(layer.with_ansi(on_terminal).compact()).try_init(),
    };
    log_panics();
}

/// Panics go to the log, where somebody reads them, instead of bare text on stderr; to that where
/// there is no log.
fn log_panics() {
    let unlogged = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !tracing::enabled!(tracing::Level::ERROR) {
            return unlogged(panic);
        }
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let at = panic.location().map(ToString::to_string);
        tracing::error!(at, "panicked: {}", text.unwrap_or("without words"));
    }));
}

/// The process's metrics.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Begins to record, for the whole process, and folds samples as long as the runtime lives.
    pub fn start() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for metric in table::all() {
            if let Kind::Histogram(bounds) = metric.kind {
                let name = Matcher::Full(metric.name.to_owned());
                builder = builder.set_buckets_for_metric(name, bounds)?;
            }
        }
        let handle = builder.install_recorder()?;
        table::all().for_each(Metric::describe);
        table::BUILD.gauge(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let upkept = handle.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                upkept.run_upkeep();
            }
        });
        Ok(Self { handle })
    }

    /// All metrics in Prometheus' text format, behind a function that is called for each scrape.
    pub fn render(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let handle = self.handle.clone();
        Arc::new(move || handle.render())
    }
}
