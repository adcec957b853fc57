//! A proxy between the product and a server, which can lose things.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to a COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Commits {
    /// It goes through.
    Pass = 0,
    /// The server gets it, and the connection is cut before its answer.
    LoseAnswer = 1,
    /// The server gets it, and its answer never comes.
    Silence = 2,
    /// The connection is cut before the server gets it.
    LoseRequest = 3,
}

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// They work.
    Up,
    /// They break, and so does every new one.
    Cut,
    /// Those that are there work, new ones break.
    Full,
    /// They stand, and nothing comes through until it is over.
    Silent,
    /// Whatever comes is held up for so long.
    Slow(Duration),
}

/// Listens on a loopback port.
pub struct Proxy {
    commits: Arc<AtomicU8>,
    line: watch::Sender<Line>,
    connections: Arc<AtomicUsize>,
    server: watch::Sender<String>,
    port: u16,
    accept: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// To the server of a URL; `port` 0 takes any.
    pub async fn start(url: &str, port: u16) -> Self {
        let server = url::Url::parse(url).unwrap();
        let proxy = Self::to_nowhere(port).await;
        proxy.leads_to(&format!("{}:{}", server.host_str().unwrap(), server.port().unwrap()));
        proxy
    }

    /// To a server that is named later.
    pub async fn to_nowhere(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (commits, line) = (Arc::new(AtomicU8::new(0)), watch::Sender::new(Line::Up));
        let connections = Arc::new(AtomicUsize::new(0));
        let (mode, state, count) = (commits.clone(), line.subscribe(), connections.clone());
        let server = watch::Sender::new(String::new());
        let address = server.subscribe();
        let accept = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                if matches!(*state.borrow(), Line::Cut | Line::Full) {
                    continue;
                }
                let address = address.borrow().clone();
                let Ok(server) = TcpStream::connect(address).await else { continue };
                tokio::spawn(carry(client, server, Arc::clone(&mode), state.clone()));
            }
        });
        Self { commits, line, connections, server, port, accept }
    }

    /// Connections that come from now on go to this address.
    pub fn leads_to(&self, address: &str) {
        self.server.send_replace(address.to_owned());
    }

    /// The URL of a database as it is reached through here. Not encrypted: it is read on the way.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).unwrap();
        url.set_port(Some(self.port)).unwrap();
        format!("{url}?ssl-mode=disabled")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn commits(&self, commits: Commits) {
        self.commits.store(commits as u8, Ordering::SeqCst);
    }

    /// From now on.
    pub fn line(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// How many connections were asked for so far, also in vain.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    mode: Arc<AtomicU8>,
    mut line: watch::Receiver<Line>,
) {
    let (mut up, mut down) = ([0; 65536], [0; 65536]);
    let mut silenced = false;
    loop {
        let (works, delay) = match *line.borrow_and_update() {
            Line::Up | Line::Full => (true, Duration::ZERO),
            Line::Slow(delay) => (true, delay),
            Line::Silent => (false, Duration::ZERO),
            Line::Cut => return,
        };
        tokio::select! {
            Ok(()) = line.changed() => {}
            Ok(read) = client.read(&mut up), if works => {
                let commit = up[..read].ends_with(b"COMMIT");
                let mode = if commit { mode.load(Ordering::SeqCst) } else { 0 };
                if read == 0 || mode == Commits::LoseRequest as u8 {
                    return;
                }
                tokio::time::sleep_until(tokio::time::Instant::now() + delay).await;
                if server.write_all(&up[..read]).await.is_err() {
                    return;
                }
                if mode != 0 {
                    assert_ne!(server.read(&mut down).await.unwrap(), 0, "the answer");
                }
                // A text of several statements has several answers; the server is left to end it.
                if mode == Commits::LoseAnswer as u8 {
                    let _ = client.shutdown().await;
                    while server.read(&mut down).await.is_ok_and(|read| read > 0) {}
                    return;
                }
                silenced |= mode == Commits::Silence as u8;
            }
            Ok(read) = server.read(&mut down), if works => {
                if read == 0 || !silenced && client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}
