//! What one client does to a connection keeps nobody else from being served.

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use holdfast::runtime::{Door, HttpLimits};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

const DEADLINE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(300);
/// More than two sockets keep between them.
const LARGE: usize = 32 * 1024 * 1024;

const PATIENT: HttpLimits = HttpLimits { connections: 100, head: LONG, idle: LONG, answer: LONG };

async fn open(limits: HttpLimits) -> Door {
    let router = Router::new()
        .route("/", get(async || "here"))
        .route("/large", get(async || vec![b'x'; LARGE]))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()));
    Door::open_plain("127.0.0.1:0", limits, router).await.unwrap()
}

async fn connect(door: &Door) -> TcpStream {
    TcpStream::connect(door.address()).await.unwrap()
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Asks and reads an answer whose body ends with `end`; the connection stays open.
async fn ask(stream: &mut TcpStream, path: &str, end: &str) -> String {
    send(stream, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    let mut answer = String::new();
    while !answer.ends_with(end) {
        let mut bytes = [0; 4096];
        let read = timeout(DEADLINE, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(read > 0, "the connection ended after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    answer
}

/// What comes until the other side ends the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn who_sends_no_head_or_never_ends_it_is_cut_off() {
    let door = open(HttpLimits { head: SHORT, ..PATIENT }).await;
    let mut silent = connect(&door).await;
    assert_eq!(rest(&mut silent).await, "");

    // A byte now and then is no better.
    let mut slow = connect(&door).await;
    send(&mut slow, "GET / HTTP/1.1\r\nx: ").await;
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < DEADLINE, "the connection does not end");
        if slow.write_all(b"x").await.is_err() {
            break;
        }
        let mut byte = [0];
        match timeout(SHORT / 6, slow.read(&mut byte)).await {
            Err(_) => {}
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => panic!("there is an answer"),
        }
    }
    assert!(begun.elapsed() >= SHORT / 2, "it was not let begin");
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed_and_a_used_one_stays() {
    let door = open(HttpLimits { idle: SHORT, ..PATIENT }).await;
    let mut stream = connect(&door).await;
    let begun = Instant::now();
    while begun.elapsed() < SHORT * 3 {
        assert!(ask(&mut stream, "/", "here").await.starts_with("HTTP/1.1 200"));
    }
    let answered = Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    assert!(answered.elapsed() >= SHORT / 2);
}

#[tokio::test]
async fn what_takes_its_time_to_be_answered_is_neither_idle_nor_slow() {
    let limits = HttpLimits { head: SHORT, idle: SHORT, answer: SHORT, ..PATIENT };
    let wait = async || {
        let deadline = Instant::now() + SHORT * 3;
        tokio::time::sleep_until(deadline).await;
        "late"
    };
    let router = Router::new().route("/", get(wait));
    let door = Door::open_plain("127.0.0.1:0", limits, router).await.unwrap();
    let mut stream = connect(&door).await;
    assert!(ask(&mut stream, "/", "late").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn heads_are_bounded_in_number_and_size() {
    let door = open(PATIENT).await;
    let many = "x: y\r\n".repeat(101);
    let large = format!("x: {}\r\n", "y".repeat(40_000));
    for headers in [many, large] {
        let mut stream = connect(&door).await;
        send(&mut stream, &format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n")).await;
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    let most = "x: y\r\n".repeat(90);
    let mut stream = connect(&door).await;
    send(&mut stream, &format!("GET / HTTP/1.1\r\nhost: x\r\n{most}connection: close\r\n\r\n"))
        .await;
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn who_is_one_too_many_waits_until_a_connection_ends() {
    let door = open(HttpLimits { connections: 2, ..PATIENT }).await;
    let mut first = connect(&door).await;
    let mut second = connect(&door).await;
    ask(&mut first, "/", "here").await;
    ask(&mut second, "/", "here").await;
    let mut third = connect(&door).await;
    send(&mut third, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut byte = [0];
    assert!(timeout(SHORT, third.read(&mut byte)).await.is_err(), "it is served");
    drop(first);
    timeout(DEADLINE, third.read_exact(&mut byte)).await.unwrap().unwrap();
    ask(&mut second, "/", "here").await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_gives_its_place_up() {
    let door = open(HttpLimits { connections: 1, answer: SHORT, ..PATIENT }).await;
    let mut reader = connect(&door).await;
    send(&mut reader, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut other = connect(&door).await;
    ask(&mut other, "/", "here").await;
    drop(reader);

    // One that reads gets all of it, however large.
    let door = open(PATIENT).await;
    let mut reader = connect(&door).await;
    send(&mut reader, "GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(rest(&mut reader).await.len() > LARGE);
}

#[tokio::test]
async fn handlers_know_who_asks() {
    let door = open(PATIENT).await;
    let mut stream = connect(&door).await;
    let own = stream.local_addr().unwrap().to_string();
    assert!(ask(&mut stream, "/peer", &own).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn closing_answers_what_is_under_way_and_ends_what_is_idle() {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
        async move || {
            begun.notify_one();
            go.notified().await;
            "done"
        }
    };
    let router = Router::new().route("/wait", get(handler)).route("/", get(async || "here"));
    let mut door = Door::open_plain("127.0.0.1:0", PATIENT, router).await.unwrap();
    let mut idle = connect(&door).await;
    ask(&mut idle, "/", "here").await;
    let mut silent = connect(&door).await;
    let mut waiting = connect(&door).await;
    send(&mut waiting, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await;
    timeout(DEADLINE, begun.notified()).await.unwrap();
    let address = door.address();
    let closed = tokio::spawn(async move { door.close(DEADLINE).await });
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut silent).await, "");
    assert!(TcpStream::connect(address).await.is_err(), "it still listens");
    assert!(!closed.is_finished());
    go.notify_one();
    assert!(rest(&mut waiting).await.ends_with("done"));
    timeout(DEADLINE, closed).await.unwrap().unwrap();
}
