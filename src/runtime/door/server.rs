//! Connections: how many there are, and what is spoken on each.

use super::certificates::Certificates;
use super::pace::{Paced, UnderWay, Work};
use super::{Doors, Endings, HttpLimits};
use crate::meters::table::{HTTP_CONNECTIONS, HTTP_FULL};
use crate::seldom::Seldom;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

/// The request line and all headers of a request; more is answered with 431.
const MAX_HEAD: usize = 32 * 1024;
/// What is read ahead or kept for writing, for each connection.
const MAX_BUFFER: usize = 64 * 1024;
/// How long to wait where the system has nothing left for another connection.
const EXHAUSTED: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Server {
    doors: Doors,
    limits: HttpLimits,
    certificates: Option<Arc<Certificates>>,
    endings: Endings,
    http: http1::Builder,
}

impl Server {
    pub fn new(
        doors: Doors,
        limits: HttpLimits,
        certificates: Option<Certificates>,
        endings: Endings,
    ) -> Self {
        let mut http = http1::Builder::new();
        // Times are kept by `pace`: hyper would give a head no longer than an idle connection.
        http.header_read_timeout(None).max_header_size(MAX_HEAD).max_buf_size(MAX_BUFFER);
        Self { doors, limits, certificates: certificates.map(Arc::new), endings, http }
    }

    /// Serves until it is told to close; then takes no more connections and waits for the answers
    /// that are under way.
    pub async fn run(self, listener: TcpListener) {
        let server = Arc::new(self);
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(server.limits.connections));
        if let Some(certificates) = &server.certificates {
            let kept = Arc::clone(certificates).keep_up_to_date(server.endings.closing.clone());
            tokio::spawn(kept);
        }
        loop {
            let (stream, peer, place) = tokio::select! {
                biased;
                () = server.endings.closing.cancelled() => break,
                next = next(&listener, &places) => next,
            };
            connections.spawn(Arc::clone(&server).connection(stream, peer, place));
        }
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, _place: Place) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "a connection was not there any more");
        }
        match &self.certificates {
            None => self.speak(stream, peer).await,
            Some(certificates) => {
                let shaken = tokio::select! {
                    biased;
                    () = self.endings.closing.cancelled() => None,
                    shaken = certificates.shake_hands(stream, peer, self.limits.head) => shaken,
                };
                if let Some(stream) = shaken {
                    self.speak(stream, peer).await;
                }
            }
        }
    }

    /// HTTP until either side ends it.
    async fn speak(&self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let work = Arc::new(Work::default());
        let stream = TokioIo::new(Paced::new(stream, self.limits, Arc::clone(&work)));
        let service = service_fn(move |request: Request<Incoming>| {
            let under_way = UnderWay::begin(&work);
            let doors = self.doors.clone();
            let draining = &self.endings.draining;
            async move {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(ConnectInfo(peer));
                let mut answer = doors.through(request).await;
                if draining.is_cancelled() {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _under_way: under_way }))
            }
        });
        let mut connection = pin!(self.http.serve_connection(stream, service));
        let mut closing = pin!(self.endings.closing.cancelled());
        let mut told = false;
        loop {
            tokio::select! {
                biased;
                () = closing.as_mut(), if !told => {
                    told = true;
                    connection.as_mut().graceful_shutdown();
                }
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "a connection ended early");
                    }
                    return;
                }
            }
        }
    }
}

/// One of the connections that may be open, until this is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn of(permit: OwnedSemaphorePermit) -> Self {
        HTTP_CONNECTIONS.gauge(&[]).increment(1);
        Self { _permit: permit }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        HTTP_CONNECTIONS.gauge(&[]).decrement(1);
    }
}

/// The next connection that there is a place for.
async fn next(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, SocketAddr, Place) {
    let permit = match Arc::clone(places).try_acquire_owned() {
        Ok(permit) => permit,
        Err(_) => {
            static FULL: Seldom = Seldom::unsaid();
            HTTP_FULL.counter(&[]).increment(1);
            if let Some(left_out) = FULL.due() {
                tracing::warn!(
                    left_out,
                    "as many HTTP connections are open as may be; others wait"
                );
            }
            Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore")
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, Place::of(permit)),
            Err(error) if gave_up(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection cannot be taken; trying again in a second");
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
}

/// Whether the other side went away before it was let in.
fn gave_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// An answer's body; its request is under way until this is dropped.
struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
