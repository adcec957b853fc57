//! HTTP with TLS, and callers that show certificates.

use super::authority::{Authority, Issued};
use crate::cli::program::Program;
use axum::Router;
use axum::routing::get;
use holdfast::config::Http;
use holdfast::runtime::Door;
use holdfast::tls::TlsFiles;
use reqwest::tls::Version;
use reqwest::{Certificate, Client, ClientBuilder, Identity};
use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(60);

struct Files {
    dir: TempDir,
}

impl Files {
    fn new(server: &Issued) -> Self {
        let files = Self { dir: TempDir::new().unwrap() };
        files.replace(server);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    fn replace(&self, server: &Issued) {
        self.write("cert.pem", &server.cert);
        self.write("key.pem", &server.key);
    }

    fn tls(&self, client_ca: Option<&str>) -> TlsFiles {
        let client_ca = client_ca.map(|pem| self.write("ca.pem", pem));
        TlsFiles { cert: self.path("cert.pem"), key: self.path("key.pem"), client_ca }
    }
}

async fn open(tls: TlsFiles) -> Door {
    let http = Http {
        max_connections: 100,
        header_timeout: Duration::from_millis(500),
        idle_timeout: DEADLINE,
        tls: Some(tls),
    };
    let router = Router::new().route("/", get(async || "here"));
    Door::open("127.0.0.1:0", &http, router).await.unwrap()
}

/// A caller that trusts this authority alone.
fn trusting(authority: &Authority) -> ClientBuilder {
    let root = Certificate::from_pem(authority.pem.as_bytes()).unwrap();
    Client::builder().tls_built_in_root_certs(false).add_root_certificate(root)
}

fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(format!("{}{}", issued.cert, issued.key).as_bytes()).unwrap()
}

async fn answered(client: ClientBuilder, door: &Door) -> Result<String, reqwest::Error> {
    let url = format!("https://{}/", door.address());
    client.build().unwrap().get(url).send().await?.text().await
}

#[tokio::test]
async fn whoever_trusts_the_certificate_is_answered_and_nobody_else() {
    let (authority, other) = (Authority::new(), Authority::new());
    let files = Files::new(&authority.here());
    let door = open(files.tls(None)).await;
    assert_eq!(door.scheme(), "https");
    assert_eq!(answered(trusting(&authority), &door).await.unwrap(), "here");
    for version in [Version::TLS_1_2, Version::TLS_1_3] {
        let only = trusting(&authority).min_tls_version(version).max_tls_version(version);
        assert_eq!(answered(only, &door).await.unwrap(), "here");
    }
    assert!(answered(trusting(&other), &door).await.unwrap_err().is_connect());
    let plain = reqwest::get(format!("http://{}/", door.address())).await;
    assert!(plain.is_err(), "{plain:?}");
}

#[tokio::test]
async fn callers_without_a_certificate_are_refused_where_one_is_asked_for() {
    let (authority, callers, other) = (Authority::new(), Authority::new(), Authority::new());
    let files = Files::new(&authority.here());
    let door = open(files.tls(Some(&callers.pem))).await;
    let known = trusting(&authority).identity(identity(&callers.issue(&["caller"])));
    assert_eq!(answered(known, &door).await.unwrap(), "here");
    let unknown = trusting(&authority).identity(identity(&other.issue(&["caller"])));
    assert!(answered(unknown, &door).await.is_err());
    assert!(answered(trusting(&authority), &door).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_is_cut_off() {
    let authority = Authority::new();
    let files = Files::new(&authority.here());
    let door = open(files.tls(None)).await;
    let address = door.address();
    let ended = tokio::task::spawn_blocking(move || {
        let mut silent = TcpStream::connect(address).unwrap();
        silent.set_read_timeout(Some(DEADLINE)).unwrap();
        silent.read(&mut [0])
    });
    assert_eq!(ended.await.unwrap().unwrap(), 0);
    assert_eq!(answered(trusting(&authority), &door).await.unwrap(), "here");
}

/// Until the door shows a certificate of this authority.
async fn shows(door: &Door, authority: &Authority) {
    let deadline = Instant::now() + DEADLINE;
    while answered(trusting(authority), door).await.is_err() {
        assert!(Instant::now() < deadline, "the new certificate is not taken over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_over_and_a_broken_one_is_not() {
    let (first, second, third) = (Authority::new(), Authority::new(), Authority::new());
    let files = Files::new(&first.here());
    let door = open(files.tls(None)).await;
    let kept = trusting(&first).build().unwrap();
    let ask = async || kept.get(format!("https://{}/", door.address())).send().await;
    ask().await.unwrap().text().await.unwrap();

    files.replace(&second.here());
    shows(&door, &second).await;
    assert!(answered(trusting(&first), &door).await.is_err());
    // The connection from before goes on.
    ask().await.unwrap();

    // Half of a change, a certificate whose key is still the old one: the pair from before stays.
    let new = third.here();
    files.write("cert.pem", &new.cert);
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        assert_eq!(answered(trusting(&second), &door).await.unwrap(), "here");
    }
    files.write("key.pem", &new.key);
    shows(&door, &third).await;
}

fn with_tls(program: Program, cert: &Path, key: &Path) -> Program {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    program
        .with("HOLDFAST_LISTEN", "127.0.0.1:0")
        .with("HOLDFAST_TLS_CERT", &text(cert))
        .with("HOLDFAST_TLS_KEY", &text(key))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_https_and_means_it() {
    let authority = Authority::new();
    let files = Files::new(&authority.here());
    let program = with_tls(Program::new(), &files.path("cert.pem"), &files.path("key.pem"));
    let mut running = program.start(&["dev"]);
    let line = running.line_of_stdout("Holdfast listens on https://");
    let url = line.split_whitespace().find(|word| word.starts_with("https://")).unwrap();
    let client = trusting(&authority).build().unwrap();
    let alive = client.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(alive.status(), 200);
    running.signal("TERM");
    assert_eq!(running.ended().code, Some(0));
}

#[test]
fn everything_that_is_wrong_with_the_files_is_said_at_once() {
    let authority = Authority::new();
    let files = Files::new(&authority.here());
    let (cert, key) = (files.path("cert.pem"), files.path("key.pem"));
    let refused = |program: &Program, args: &[&str], words: &[&str]| {
        let output = program.run(args);
        assert_eq!(output.code, Some(64), "{output:?}");
        for words in words {
            assert!(output.stderr.contains(words), "{words}: {output:?}");
        }
    };
    let swapped = with_tls(Program::new(), &key, &cert).with("HOLDFAST_BATCH", "x");
    let said = ["HOLDFAST_TLS_CERT", "there is none in it", "HOLDFAST_TLS_KEY", "HOLDFAST_BATCH"];
    for args in [&["dev"][..], &["config", "--check"]] {
        refused(&swapped, args, &said);
    }
    let absent = with_tls(Program::new(), Path::new("/nowhere/cert"), Path::new("/nowhere/key"));
    refused(&absent, &["dev"], &["HOLDFAST_TLS_CERT is '/nowhere/cert'", "HOLDFAST_TLS_KEY is"]);
    // What does not serve does not have to be able to read them.
    assert_eq!(absent.run(&["status"]).code, Some(1));
    let other = files.write("other.pem", &authority.here().key);
    refused(&with_tls(Program::new(), &cert, &other), &["dev"], &["must be the key of"]);
    let alone = Program::new().with("HOLDFAST_TLS_CERT", cert.to_str().unwrap());
    refused(&alone, &["dev"], &["HOLDFAST_TLS_KEY: must be set together with tls_cert"]);
    let ca = Program::new().with("HOLDFAST_TLS_CLIENT_CA", cert.to_str().unwrap());
    refused(&ca, &["dev"], &["HOLDFAST_TLS_CLIENT_CA", "needs tls_cert and tls_key"]);
}
