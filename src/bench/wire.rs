//! One connection to Holdfast, for one request at a time: HTTP/1.1 that is kept alive, bodies that
//! are bytes already, answers that are looked at no further than needed. The generator shares its
//! machine with what it measures.

use super::credential::Credential;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::net::TcpStream;
use url::Url;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Where requests go.
#[derive(Clone, Debug)]
pub struct Target {
    address: SocketAddr,
    host: HeaderValue,
    credential: Credential,
}

impl Target {
    /// Of `http://host:port`; the rest of the address is left out.
    pub fn new(url: &str) -> Result<Self, String> {
        const SHAPE: &str = "it must be an address such as http://127.0.0.1:8080";
        let url = Url::parse(url).map_err(|error| format!("{SHAPE}: {error}"))?;
        if url.scheme() != "http" {
            return Err(format!("{SHAPE}; the load goes over plain HTTP"));
        }
        let host = url.host_str().ok_or(SHAPE)?;
        let at = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
        let mut found = at.to_socket_addrs().map_err(|error| format!("{at}: {error}"))?;
        let address = found.next().ok_or_else(|| format!("{at} has no address"))?;
        let host = HeaderValue::from_str(&at).map_err(|_| SHAPE)?;
        Ok(Self { address, host, credential: Credential::default() })
    }

    /// The same, as somebody.
    pub fn shown(self, credential: Credential) -> Self {
        Self { credential, ..self }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// What a request was answered with.
#[derive(Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its body, where it was asked for or the request was not taken.
    pub body: &'a [u8],
}

/// A connection, opened when it is needed.
pub struct Wire {
    target: Target,
    open: Option<SendRequest<Full<Bytes>>>,
    body: Vec<u8>,
}

impl Wire {
    /// Not connected yet.
    pub fn new(target: &Target) -> Self {
        Self { target: target.clone(), open: None, body: Vec::new() }
    }

    /// Posts JSON and waits for the answer. After an error the next call connects again.
    pub async fn post(
        &mut self,
        path: &'static str,
        body: Bytes,
        wait: Option<HeaderValue>,
        read: bool,
    ) -> anyhow::Result<Answer<'_>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(wait) = wait {
            request.headers_mut().insert(PREFER, wait);
        }
        self.exchange(request, read).await
    }

    /// Gets what is there. After an error the next call connects again.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Answer<'_>> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = path.parse()?;
        self.exchange(request, true).await
    }

    async fn exchange(
        &mut self,
        mut request: Request<Full<Bytes>>,
        read: bool,
    ) -> anyhow::Result<Answer<'_>> {
        request.headers_mut().insert(HOST, self.target.host.clone());
        self.target.credential.show(request.headers_mut());
        // Taken out: whatever goes wrong, this connection is not used again.
        let mut open = match self.open.take() {
            Some(open) if !open.is_closed() => open,
            _ => connect(self.target.address).await?,
        };
        open.ready().await?;
        let mut response = open.send_request(request).await?;
        let status = response.status();
        self.body.clear();
        let keep = read || !status.is_success();
        while let Some(frame) = response.frame().await {
            if let (true, Ok(data)) = (keep, frame?.into_data()) {
                self.body.extend_from_slice(&data);
            }
        }
        self.open = Some(open);
        Ok(Answer { status, body: &self.body })
    }
}

async fn connect(address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (open, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(open)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_plain_http_address() {
        let target = Target::new("http://127.0.0.1:8080/").unwrap();
        assert_eq!(target.address(), "127.0.0.1:8080");
        assert!(Target::new("https://127.0.0.1:8080").unwrap_err().contains("plain HTTP"));
        assert!(Target::new("127.0.0.1:8080").unwrap_err().contains("such as"));
    }
}
