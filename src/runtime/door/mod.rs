//! The HTTP server of a process. It is there from the first moment, so that `/healthz` and
//! `/readyz` answer while services are still waited for; the API follows when it can be served.

mod certificates;
mod pace;
mod server;

use crate::config::Http;
use anyhow::Context as _;
use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use certificates::Certificates;
use server::Server;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long the reader of an answer may take for all of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How many connections there may be, and how long each may keep others from having its place.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Open connections; who comes then waits until one of them ends.
    pub connections: usize,
    /// From the first byte of a request, or from the beginning of a connection, to the end of the
    /// request's head; also for the TLS handshake.
    pub head: Duration,
    /// From one request to the first byte of the next.
    pub idle: Duration,
    /// From when an answer was not taken at once until all of it is taken.
    pub answer: Duration,
}

impl HttpLimits {
    fn of(http: &Http) -> Self {
        Self {
            connections: http.max_connections,
            head: http.header_timeout,
            idle: http.idle_timeout,
            answer: ANSWER_TIMEOUT,
        }
    }
}

/// A running HTTP server.
pub struct Door {
    address: SocketAddr,
    encrypted: bool,
    api: Arc<OnceLock<Router>>,
    endings: Endings,
    server: JoinHandle<()>,
}

/// The two steps to the end of a server.
#[derive(Clone, Default)]
struct Endings {
    /// Each answer ends its connection; new connections are taken.
    draining: CancellationToken,
    /// No more requests are taken.
    closing: CancellationToken,
}

/// The probes, and the API once it is there.
#[derive(Clone)]
struct Doors {
    probes: Router,
    api: Arc<OnceLock<Router>>,
}

impl Door {
    /// Binds `listen` (`host:port`) and serves probes there, as `http` says.
    pub async fn open(listen: &str, http: &Http, probes: Router) -> anyhow::Result<Self> {
        let certificates = http.tls.clone().map(Certificates::load).transpose()?;
        Self::open_with(listen, HttpLimits::of(http), certificates, probes).await
    }

    /// The same without TLS, and with limits that no setting allows.
    pub async fn open_plain(
        listen: &str,
        limits: HttpLimits,
        probes: Router,
    ) -> anyhow::Result<Self> {
        Self::open_with(listen, limits, None, probes).await
    }

    async fn open_with(
        listen: &str,
        limits: HttpLimits,
        certificates: Option<Certificates>,
        probes: Router,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| {
            format!("cannot listen on {listen}; choose another address with --listen")
        })?;
        let address = listener.local_addr()?;
        let encrypted = certificates.is_some();
        tracing::info!(%address, encrypted, "listening");
        if !encrypted && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "HTTP is served beyond this machine without TLS: set tls_cert and tls_key, or let \
                 nobody reach this address but a proxy that has TLS"
            );
        }
        let api = Arc::new(OnceLock::new());
        let doors = Doors { probes, api: Arc::clone(&api) };
        let endings = Endings::default();
        let server = Server::new(doors, limits, certificates, endings.clone());
        let server = tokio::spawn(server.run(listener));
        Ok(Self { address, encrypted, api, endings, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.encrypted { "https" } else { "http" }
    }

    /// Serves the API from now on.
    pub fn let_in(&self, api: Router) {
        assert!(self.api.set(api).is_ok(), "the API is let in once");
    }

    /// From now on callers are sent elsewhere: each answer is the last one on its connection.
    /// Connections without a request stay open, so that none is closed while a request is on its
    /// way.
    pub fn drain(&self) {
        self.endings.draining.cancel();
    }

    /// Takes no more requests and waits for those under way, at most `bound`.
    pub async fn close(&mut self, bound: Duration) {
        self.endings.closing.cancel();
        match tokio::time::timeout(bound, &mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(ended)) => tracing::warn!(%ended, "the HTTP server did not end well"),
            Err(_) => tracing::warn!("some requests were not answered in time"),
        }
    }
}

impl Doors {
    /// To the API once it is there, to the probes until then.
    async fn through(self, request: Request) -> Response {
        let router = self.api.get().unwrap_or(&self.probes).clone();
        router.oneshot(request).await.unwrap_or_else(|never| match never {})
    }
}
