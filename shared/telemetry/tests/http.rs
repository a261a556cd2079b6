//! The endpoints over real sockets.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keeper_telemetry::{Readiness, serve};
use prometheus::{IntCounter, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

struct Server {
    address: SocketAddr,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn server() -> Server {
    let registry = Registry::new();
    let counter = IntCounter::new("keeper_test_total", "A count.").unwrap();
    counter.inc_by(3);
    registry.register(Box::new(counter)).unwrap();
    let readiness = Readiness::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let task = tokio::spawn(serve(listener, registry, readiness.clone(), shutdown));
    Server {
        address,
        readiness,
        stop,
        task,
    }
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer))
        .await
        .unwrap();
    if let Err(error) = read {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(
        address,
        format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
    )
    .await
}

#[tokio::test]
async fn answers_metrics_health_and_readiness() {
    let server = server().await;
    let metrics = get(server.address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.ends_with("keeper_test_total 3\n"), "{metrics}");
    assert!(
        get(server.address, "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        get(server.address, "/readyz")
            .await
            .starts_with("HTTP/1.1 200")
    );

    let latch = server.readiness.latch("first fetch");
    let unready = get(server.address, "/readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503"), "{unready}");
    assert!(unready.ends_with("pending: first fetch\n"), "{unready}");
    assert!(
        get(server.address, "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
    drop(latch);
    assert!(
        get(server.address, "/readyz")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn refuses_what_it_does_not_serve() {
    let server = server().await;
    assert!(get(server.address, "/").await.starts_with("HTTP/1.1 404"));
    let post = b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    assert!(
        exchange(server.address, post)
            .await
            .starts_with("HTTP/1.1 405")
    );
    let head = exchange(server.address, b"HEAD /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let garbage = exchange(server.address, b"\x16\x03\x01\x02\x00\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400"), "{garbage}");
    let long = [
        b"GET /".as_slice(),
        &[b'a'; 64 * 1024],
        b" HTTP/1.1\r\n\r\n",
    ]
    .concat();
    let refused = exchange(server.address, &long).await;
    assert!(!refused.starts_with("HTTP/1.1 200"), "{refused}");
    assert!(
        get(server.address, "/healthz")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_silent_peer_is_dropped_at_the_deadline() {
    let server = server().await;
    let started = Instant::now();
    let answer = exchange(server.address, b"GET /metrics HT").await;
    assert_eq!(answer, "");
    let taken = started.elapsed();
    assert!(
        taken >= Duration::from_secs(4) && taken < Duration::from_secs(15),
        "{taken:?}"
    );
}

#[tokio::test]
async fn silent_peers_do_not_shut_out_others_for_good() {
    let server = server().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = timeout(Duration::from_secs(30), get(server.address, "/healthz"))
        .await
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn ends_when_told_even_with_a_silent_peer() {
    let server = server().await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(Duration::from_secs(10), server.task)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
