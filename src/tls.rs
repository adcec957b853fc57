//! TLS for those who call us: certificates and keys from PEM files, and what is wrong with them.
//! TLS 1.2 and 1.3 only, with `ring` for all cryptography.

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The protocol that is spoken inside.
const HTTP: &[u8] = b"http/1.1";

/// Where the server's side of TLS is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and those that vouch for it, the server's own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who vouches for callers; where it is set, callers without a certificate are refused.
    pub client_ca: Option<PathBuf>,
}

/// What one of the files is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFault {
    /// The key of the setting that names the file.
    pub setting: &'static str,
    /// What to do: "must be …".
    pub problem: String,
}

/// What the files hold, for as long as they hold it.
#[derive(PartialEq, Eq)]
pub struct TlsTexts {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl TlsFiles {
    /// Reads all of them.
    pub fn read(&self) -> Result<TlsTexts, Vec<TlsFault>> {
        let cert = read("tls_cert", &self.cert);
        let key = read("tls_key", &self.key);
        let client_ca = self.client_ca.as_deref().map(|path| read("tls_client_ca", path));
        match (cert, key, client_ca.transpose()) {
            (Ok(cert), Ok(key), Ok(client_ca)) => Ok(TlsTexts { cert, key, client_ca }),
            (cert, key, client_ca) => {
                Err([cert.err(), key.err(), client_ca.err()].into_iter().flatten().collect())
            }
        }
    }

    /// Reads them into a server's configuration, or says everything that is wrong with them.
    pub fn server(&self) -> Result<ServerConfig, Vec<TlsFault>> {
        self.read()?.server()
    }
}

impl TlsTexts {
    /// A server's configuration, or everything that is wrong.
    pub fn server(&self) -> Result<ServerConfig, Vec<TlsFault>> {
        let chain = certificates("tls_cert", &self.cert);
        let key = private_key(&self.key);
        let callers = self.client_ca.as_deref().map(roots).transpose();
        let (chain, key, callers) = match (chain, key, callers) {
            (Ok(chain), Ok(key), Ok(callers)) => (chain, key, callers),
            (chain, key, callers) => {
                let faults = [chain.err(), key.err(), callers.err()];
                return Err(faults.into_iter().flatten().collect());
            }
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring has suites of both versions");
        let builder = match callers {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let roots = Arc::new(roots);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
                let refused =
                    |error| vec![fault("tls_client_ca", format!("is of no use: {error}"))];
                builder.with_client_cert_verifier(verifier.build().map_err(refused)?)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                vec![fault("tls_key", "must be the key of the first certificate in tls_cert")]
            }
            other => vec![fault("tls_cert", format!("cannot be used with tls_key: {other}"))],
        })?;
        config.alpn_protocols = vec![HTTP.to_vec()];
        Ok(config)
    }
}

/// The cryptography of this process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Makes it that of client libraries which do not ask whose they are to take.
pub fn provide() {
    // An error means that it was done before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn fault(setting: &'static str, problem: impl Into<String>) -> TlsFault {
    TlsFault { setting, problem: problem.into() }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsFault> {
    let refused = |error| fault(setting, format!("must be a file that can be read: {error}"));
    std::fs::read(path).map_err(refused)
}

fn certificates(
    setting: &'static str,
    text: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsFault> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(fault(setting, "must hold a certificate in PEM; there is none in it")),
        Err(_) => Err(fault(setting, "must hold certificates in PEM; something in it is damaged")),
    }
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFault> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => fault(
            "tls_key",
            "must hold a private key in PEM, without a passphrase; there is none in it",
        ),
        _ => fault("tls_key", "must hold a private key in PEM; something in it is damaged"),
    })
}

fn roots(text: &[u8]) -> Result<RootCertStore, TlsFault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_client_ca", text)? {
        let refused = |error| fault("tls_client_ca", format!("holds a bad certificate: {error}"));
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}
