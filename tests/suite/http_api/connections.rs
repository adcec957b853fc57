//! Over real connections: what clients do to sockets does not harm others.

use super::world::{TRANSFER, World};
use holdfast::runtime::{Door, HttpLimits};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

async fn serve(world: &World) -> SocketAddr {
    let limits = HttpLimits { connections: 1000, head: PATIENCE, idle: PATIENCE, answer: PATIENCE };
    let door = Door::open_plain("127.0.0.1:0", limits, world.app.clone()).await.unwrap();
    // It goes on without its handle, as long as the test does.
    door.address()
}

fn post(key: &str, body: &str) -> String {
    format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         idempotency-key: {key}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Sends bytes and reads the answer to its end.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_neither_lose_transfers_nor_connections_to_the_database() {
    let world = World::new().await;
    let address = serve(&world).await;
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(post(&format!("gone-{number}"), TRANSFER).as_bytes()).await.unwrap();
        drop(stream);
    }
    let answer = timeout(PATIENCE, exchange(address, post("after", TRANSFER).as_bytes())).await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 202"));
    let repeat = exchange(address, post("gone-0", TRANSFER).as_bytes()).await;
    assert!(repeat.starts_with("HTTP/1.1 20"), "{repeat}");
    for _ in 0..50 {
        let reads = (0..8).map(|_| world.get("/v1/accounts/alice/transfers?direction=out"));
        for answer in timeout(PATIENCE, futures::future::join_all(reads)).await.unwrap() {
            answer.expect(200);
        }
    }
}

#[tokio::test]
async fn a_client_that_sends_a_large_body_gets_its_answer() {
    let world = World::new().await;
    let address = serve(&world).await;
    let answer = exchange(address, post("k", &" ".repeat(1 << 20)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("body_too_large"));
}

#[tokio::test]
async fn a_client_that_asks_before_sending_a_large_body_is_spared_it() {
    let world = World::new().await;
    let address = serve(&world).await;
    let head = "POST /v1/transfers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
        content-length: 1000000\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n";
    let answer = exchange(address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_is_read_like_any_other() {
    let world = World::new().await;
    let address = serve(&world).await;
    let (first, second) = TRANSFER.split_at(20);
    let chunked = |end: &str| {
        format!(
            "POST /v1/transfers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             idempotency-key: k\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
             {:x}\r\n{first}\r\n{:x}\r\n{second}\r\n{end}",
            first.len(),
            second.len()
        )
    };
    let answer = exchange(address, chunked("0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let broken = exchange(address, chunked("zz\r\n").as_bytes()).await;
    assert!(broken.starts_with("HTTP/1.1 400"), "{broken}");
}
