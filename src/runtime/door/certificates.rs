//! The door's certificate and key, read again whenever their files change. Connections under way
//! keep what they began with.

use super::pace::count;
use crate::config::{Fault, Faults, Setting};
use crate::meters::table::TLS_REFUSED;
use crate::tls::{TlsFault, TlsFiles, TlsTexts};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What new connections are offered.
pub(super) struct Certificates {
    files: TlsFiles,
    offered: Mutex<Offered>,
}

struct Offered {
    server: Arc<ServerConfig>,
    /// What was read last, whether or not it was of use.
    read: Result<TlsTexts, Vec<TlsFault>>,
}

impl Certificates {
    /// Reads the files; all that is wrong with them is a fault of the configuration.
    pub fn load(files: TlsFiles) -> Result<Self, Faults> {
        let texts = files.read().map_err(faults)?;
        let server = Arc::new(texts.server().map_err(faults)?);
        Ok(Self { files, offered: Mutex::new(Offered { server, read: Ok(texts) }) })
    }

    /// TLS on a new connection; none where that does not come about in time. Whose fault it was is
    /// known to the other side.
    pub async fn shake_hands(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        within: Duration,
    ) -> Option<TlsStream<TcpStream>> {
        let server = Arc::clone(&self.offered().server);
        match tokio::time::timeout(within, TlsAcceptor::from(server).accept(stream)).await {
            Ok(Ok(stream)) => Some(stream),
            Ok(Err(error)) => {
                TLS_REFUSED.counter(&[]).increment(1);
                tracing::debug!(%peer, %error, "no TLS with a caller");
                None
            }
            Err(_) => {
                count("handshake");
                None
            }
        }
    }

    /// Takes over what the files hold, as long as the door is open.
    pub async fn keep_up_to_date(self: Arc<Self>, closing: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                biased;
                () = closing.cancelled() => return,
                _ = look.tick() => {}
            }
            let certificates = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || certificates.look());
            if let Err(error) = looked.await {
                tracing::error!(%error, "the TLS files could not be looked at");
            }
        }
    }

    /// What is broken is logged once and not taken over: it may be half of a change, whose other
    /// half is there at the next look.
    fn look(&self) {
        let read = self.files.read();
        if self.offered().read == read {
            return;
        }
        match read.as_ref().map_err(Clone::clone).and_then(TlsTexts::server) {
            Ok(server) => {
                self.offered().server = Arc::new(server);
                tracing::info!("the TLS files changed; new connections get what they hold now");
            }
            Err(wrong) => {
                let wrong = faults(wrong);
                tracing::warn!(%wrong, "the TLS files changed and are of no use; the old ones stay");
            }
        }
        self.offered().read = read;
    }

    fn offered(&self) -> std::sync::MutexGuard<'_, Offered> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn faults(wrong: Vec<TlsFault>) -> Faults {
    let named = |fault: TlsFault| Fault {
        name: Setting::by_key(fault.setting).expect("it is in the table").env(),
        value: None,
        problem: fault.problem,
    };
    Faults(wrong.into_iter().map(named).collect())
}
