//! What the process around the API gives it: readiness and metrics.

use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// How a dependency is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers and promises what it should.
    Up,
    /// It answers, but promises less than it should; `detail` says what.
    Degraded,
    /// It does not answer.
    Down,
}

impl Health {
    /// The name in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// A dependency as it was found just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependencyStatus {
    /// Its name: `mysql.0`, `kafka`, `redis`.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// How long it took to answer, or to give up.
    pub latency: Duration,
    /// Whether the roles of this process cannot work without it: readiness is 503 while it is
    /// down.
    pub required: bool,
    /// What is wrong, for a person; no credentials.
    pub detail: Option<String>,
}

/// Asks every dependency of the process, bounded in time.
pub type Readiness = Arc<dyn Fn() -> BoxFuture<'static, Vec<DependencyStatus>> + Send + Sync>;

/// What the process around the API gives it. Cheap to clone.
#[derive(Clone)]
pub struct HttpExtras {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// The text for `/metrics`, in Prometheus' format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}
