//! The HTTP server of a process. It is there from the first moment, so that `/healthz` and
//! `/readyz` answer while services are still waited for; the API follows when it can be served.

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A running HTTP server.
pub struct Door {
    address: SocketAddr,
    api: Arc<OnceLock<Router>>,
    closing: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
}

#[derive(Clone)]
struct Doors {
    probes: Router,
    api: Arc<OnceLock<Router>>,
}

impl Door {
    /// Binds `listen` (`host:port`) and serves probes there.
    pub async fn open(listen: &str, probes: Router) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; choose another address with --listen")
        })?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "listening");
        let api = Arc::new(OnceLock::new());
        let doors = Doors { probes, api: Arc::clone(&api) };
        let router = Router::new().fallback(through).with_state(doors);
        let closing = CancellationToken::new();
        let closed = closing.clone().cancelled_owned();
        let serving = axum::serve(listener, router).with_graceful_shutdown(closed);
        let server = tokio::spawn(serving.into_future());
        Ok(Self { address, api, closing, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the API from now on.
    pub fn let_in(&self, api: Router) {
        assert!(self.api.set(api).is_ok(), "the API is let in once");
    }

    /// Takes no more requests and waits for those under way, at most `bound`.
    pub async fn close(&mut self, bound: Duration) {
        self.closing.cancel();
        match tokio::time::timeout(bound, &mut self.server).await {
            Ok(Ok(Ok(()))) => {}
            Ok(ended) => tracing::warn!(?ended, "the HTTP server did not end well"),
            Err(_) => tracing::warn!("some requests were not answered in time"),
        }
    }
}

/// To the API once it is there, to the probes until then.
async fn through(State(doors): State<Doors>, request: Request) -> Response {
    let router = doors.api.get().unwrap_or(&doors.probes).clone();
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
