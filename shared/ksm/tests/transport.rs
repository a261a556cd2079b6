//! A client against servers that misbehave below the protocol: every call ends in a typed error within its
//! deadline, whatever comes over the wire.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use keeper_ksm::{Client, ClientOptions, DeviceConfig, Error, ErrorKind};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

const CLIENT_ID: &str =
    "far85+HMs3WsHwFkv8cfLgS3U26RCfX44h0s+xCw7i017l4jzzVKghYBLc809v2807OmOMdtLkz617bg1JRn0Q==";
const PRIVATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgEOK5jVLcA8t7YkwkQVbYW8nVnR64beRDYJX0oU5UpumhRANCAAQojw2VhGQID8l3q4UtzVkFeWGQjpWJ+x9ORcwWrqeHehwrvH0MVOcbWVF8EJXx4bhrowQeYqoMOFEq3yVZRlwV";
const APP_KEY: &str = "hQ+0fahxXZXAuT0ZoDVjecMI/jwuODlnObYO9NIz9pM=";
const DEADLINE: Duration = Duration::from_millis(1500);

type Stream = TlsStream<TcpStream>;

/// A TLS server that reads a request and then does as it is told.
struct Server {
    port: u16,
    ca: Vec<u8>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start<F, W>(behave: F) -> Self
    where
        F: Fn(Stream, String) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                let head = read_request(&mut tls).await;
                tokio::spawn(behave(tls, head));
            }
        });
        Self {
            port,
            ca: made.cert.pem().into_bytes(),
            task,
        }
    }

    /// A server that gives one answer.
    async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut tls, _| {
            let answer = answer.clone();
            async move {
                let _ = tls.write_all(&answer).await;
                let _ = tls.shutdown().await;
            }
        })
        .await
    }

    fn client(&self, options: ClientOptions) -> Client {
        client(self.port, Some(self.ca.clone()), options)
    }

    /// The error of one call, which must come soon after the deadline at the latest.
    async fn error(&self) -> Error {
        error(&self.client(ClientOptions::default())).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn error(client: &Client) -> Error {
    let started = Instant::now();
    let error = client.get_secret(&[]).await.unwrap_err();
    assert!(
        started.elapsed() < DEADLINE + Duration::from_secs(1),
        "{error}"
    );
    let folders = client.get_folders().await.unwrap_err();
    assert_eq!(folders.kind(), error.kind());
    error
}

fn client(port: u16, extra_ca_pem: Option<Vec<u8>>, options: ClientOptions) -> Client {
    let json = format!(
        r#"{{"hostname":"localhost:{port}","clientId":"{CLIENT_ID}","privateKey":"{PRIVATE_KEY}","appKey":"{APP_KEY}"}}"#
    );
    let options = ClientOptions {
        extra_ca_pem,
        total_timeout: DEADLINE,
        ..options
    };
    Client::new(DeviceConfig::parse(json.as_bytes()).unwrap(), options).unwrap()
}

/// Reads head and body of a request, and gives the head.
async fn read_request(tls: &mut Stream) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = tls.read(&mut buffer).await {
        text.extend(buffer.iter().take(n));
        let shown = String::from_utf8_lossy(&text);
        let Some((head, _)) = shown.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.parse::<usize>().ok())?
        });
        if text.len() >= head.len() + 4 + length.unwrap_or_default() {
            return head.to_owned();
        }
    }
    String::new()
}

#[tokio::test]
async fn a_request_has_what_the_protocol_wants() {
    let (send, mut heads) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut tls, head| {
        send.send(head).unwrap();
        async move {
            let _ = tls
                .write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let client = server.client(ClientOptions::default());
    assert!(matches!(
        error(&client).await,
        Error::Server { status: 502, .. }
    ));
    let (first, second) = (heads.recv().await.unwrap(), heads.recv().await.unwrap());
    assert!(
        first.starts_with("POST /api/rest/sm/v1/get_secret HTTP/1.1"),
        "{first}"
    );
    assert!(
        second.starts_with("POST /api/rest/sm/v1/get_folders HTTP/1.1"),
        "{second}"
    );
    let header = |head: &str, wanted: &str| {
        let value = head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
        });
        value.unwrap_or_default()
    };
    assert_eq!(header(&first, "PublicKeyId"), "10");
    assert_eq!(header(&first, "Content-Type"), "application/octet-stream");
    assert_eq!(header(&first, "TransmissionKey").len(), 168);
    assert!(header(&first, "Authorization").starts_with("Signature "));
    assert_eq!(header(&first, "Accept-Encoding"), "");
    // Nothing is used twice.
    assert_ne!(
        header(&first, "TransmissionKey"),
        header(&second, "TransmissionKey")
    );
    assert_ne!(
        header(&first, "Authorization"),
        header(&second, "Authorization")
    );
}

#[tokio::test]
async fn broken_answers_are_errors_that_may_pass() {
    let mut answers: Vec<Vec<u8>> = [
        "",
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    let body = [7_u8; 300];
    answers.push(
        [
            &b"HTTP/1.1 200 OK\r\ncontent-length: 300\r\n\r\n"[..],
            &body,
        ]
        .concat(),
    );
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let error = Server::answering(answer).await.error().await;
        if shown.contains(" 204 ") {
            assert!(
                matches!(error, Error::Rejected { status: 204, .. }),
                "{error}"
            );
        } else {
            assert!(
                matches!(error, Error::Broken { .. }),
                "{shown:?}: {error:?}"
            );
            assert!(error.is_retryable());
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_left_at_the_deadline() {
    let silent = Server::start(|tls, _| async move {
        let _open = tls;
        std::future::pending::<()>().await;
    })
    .await;
    assert!(matches!(silent.error().await, Error::Timeout { .. }));
    // One byte at a time never is silence.
    let dribbling = Server::start(|mut tls, _| async move {
        let _ = tls
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            .await;
        while tls.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(matches!(dribbling.error().await, Error::Timeout { .. }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let options = ClientOptions {
        connect_timeout: Duration::from_millis(300),
        ..Default::default()
    };
    let no_handshake = client(port, None, options);
    assert!(matches!(error(&no_handshake).await, Error::Connect { .. }));
}

#[tokio::test]
async fn sizes_are_bounded_whatever_is_declared() {
    let options = || ClientOptions {
        max_answer_bytes: 10_000,
        ..Default::default()
    };
    let declared =
        Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx").await;
    let endless = Server::start(|mut tls, _| async move {
        let _ = tls
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        let chunk = [b"3e8\r\n".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        while tls.write_all(&chunk).await.is_ok() {}
    })
    .await;
    for server in [declared, endless] {
        let error = error(&server.client(options())).await;
        assert!(
            matches!(error, Error::TooLarge { limit: 10_000, .. }),
            "{error}"
        );
        assert!(!error.is_retryable());
    }
    // An error's body is read only as far as is sensible; its status still counts.
    let endless = Server::start(|mut tls, _| async move {
        let _ = tls
            .write_all(b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        let chunk = [b"3e8\r\n".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        while tls.write_all(&chunk).await.is_ok() {}
    })
    .await;
    assert!(matches!(
        endless.error().await,
        Error::Server { status: 503, .. }
    ));
}

#[tokio::test]
async fn a_refusal_is_understood_although_its_body_breaks_off() {
    let answer = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5000\r\n\r\n{\"error\":";
    assert!(matches!(
        Server::answering(answer).await.error().await,
        Error::Server { status: 502, .. }
    ));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Server::answering("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://localhost:{}/\r\ncontent-length: 0\r\n\r\n",
        target.port
    );
    let error = Server::answering(answer).await.error().await;
    assert!(
        matches!(error, Error::Rejected { status: 307, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn nobody_there_and_no_tls_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = client(port, None, ClientOptions::default());
    let plain = tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    assert!(matches!(error(&client).await, Error::Connect { .. }));
    plain.abort();
    let _ = plain.await;
    let gone = error(&client).await;
    assert!(matches!(gone, Error::Connect { .. }), "{gone:?}");
    assert!(gone.is_retryable());
}

#[tokio::test]
async fn a_certificate_of_nobody_we_know_is_refused() {
    let server = Server::answering("").await;
    let other = Server::answering("").await;
    for ca in [None, Some(other.ca.clone())] {
        let error = error(&client(server.port, ca, ClientOptions::default())).await;
        assert!(matches!(error, Error::Untrusted { .. }), "{error:?}");
        assert!(error.to_string().contains("ca-cert-secret"), "{error}");
    }
    // The right root, and a name that is not in the certificate.
    let json = format!(
        r#"{{"hostname":"127.0.0.1:{}","clientId":"{CLIENT_ID}","privateKey":"{PRIVATE_KEY}","appKey":"{APP_KEY}"}}"#,
        server.port
    );
    let options = ClientOptions {
        extra_ca_pem: Some(server.ca.clone()),
        ..Default::default()
    };
    let client = Client::new(DeviceConfig::parse(json.as_bytes()).unwrap(), options).unwrap();
    assert!(matches!(error(&client).await, Error::Untrusted { .. }));
}

#[test]
fn bad_extra_roots_are_refused() {
    for pem in [
        "",
        "hello",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n",
    ] {
        let json = format!(
            r#"{{"hostname":"localhost","clientId":"{CLIENT_ID}","privateKey":"{PRIVATE_KEY}","appKey":"{APP_KEY}"}}"#
        );
        let config = DeviceConfig::parse(json.as_bytes()).unwrap();
        let options = ClientOptions {
            extra_ca_pem: Some(pem.as_bytes().to_vec()),
            ..Default::default()
        };
        let error = Client::new(config, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{pem}");
    }
}

#[tokio::test]
async fn every_answer_tells_the_servers_time() {
    let theirs = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_700_000);
    let answering =
        |date: &str| format!("HTTP/1.1 503 Busy\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n");
    let server = Server::answering(answering(&httpdate::fmt_http_date(theirs))).await;
    let client = server.client(ClientOptions::default());
    assert_eq!(client.take_server_time(), None);
    error(&client).await;
    assert_eq!(client.take_server_time(), Some(theirs));
    assert_eq!(client.take_server_time(), None, "told once");
    for date in ["", "yesterday", "Thu, 32 Jan 1970 00:00:00 GMT"] {
        let server = Server::answering(answering(date)).await;
        let client = server.client(ClientOptions::default());
        error(&client).await;
        assert_eq!(client.take_server_time(), None, "{date}");
    }
}
