//! One request to an address of the pod itself: no look-up, no proxy, no redirect, and nothing of the answer but
//! its status.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use keeper_contract::reload::ReloadUrl;
use tokio::net::TcpStream;

/// Time for connecting and the answer's head, together.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// Why a request was not heard.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// No request can be made of the URL. Admission takes none such.
    #[error("no request can be made to {address}: {source}")]
    Request {
        /// Host and port.
        address: String,
        /// What is wrong with it.
        source: hyper::http::Error,
    },
    /// Nobody listens.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Host and port.
        address: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("{0} gave no answer within {LIMIT:?}")]
    Late(String),
    /// An answer that is no success; redirects are not followed.
    #[error("{address} answered with status {}", status.as_u16())]
    Status {
        /// Host and port.
        address: String,
        /// The answer's status.
        status: StatusCode,
    },
    /// No HTTP.
    #[error("{address} gave no answer: {source}")]
    Http {
        /// Host and port.
        address: String,
        /// What was wrong.
        source: hyper::Error,
    },
}

/// Sends an empty `POST`. A status of 200 to 299 is success.
pub(crate) async fn post(url: &ReloadUrl) -> Result<(), PostError> {
    tokio::time::timeout(LIMIT, exchange(url))
        .await
        .unwrap_or_else(|_| Err(PostError::Late(url.authority())))
}

async fn exchange(url: &ReloadUrl) -> Result<(), PostError> {
    let request = request(url)?;
    let address = url.authority();
    let http = |source| PostError::Http {
        address: address.clone(),
        source,
    };
    let addresses = url.addresses();
    let stream = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|source| PostError::Connect {
            address: address.clone(),
            source,
        })?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    // A connection that ends has handed on what it read: the sender knows how it ended.
    let driven = async {
        drop(connection.await);
        pending::<Infallible>().await
    };
    let response = tokio::select! {
        response = sender.send_request(request) => response.map_err(http)?,
        never = driven => match never {},
    };
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(PostError::Status { address, status })
    }
}

fn request(url: &ReloadUrl) -> Result<Request<Empty<Bytes>>, PostError> {
    Request::post(url.path())
        .header(HOST, url.authority())
        .header(USER_AGENT, "keeper-sidecar")
        .header(CONTENT_LENGTH, 0)
        .body(Empty::new())
        .map_err(|source| PostError::Request {
            address: url.authority(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    proptest! {
        /// What admission takes can be asked for, as it was written.
        #[test]
        fn a_request_can_be_made_of_every_url(
            host in "localhost|127\\.0\\.0\\.[1-9]|\\[::1\\]",
            path in "([/?]([!-~]|%[0-9a-f]{2}|ä){0,3})?",
        ) {
            let text = format!("http://{host}:8080{path}");
            if let Ok(url) = text.parse::<ReloadUrl>() {
                let request = request(&url);
                prop_assert!(request.is_ok(), "{text}: {request:?}");
                let uri = request.unwrap().uri().to_string();
                prop_assert_eq!(uri, url.path());
            }
        }
    }

    /// What was asked of a server that answers with these bytes and hangs up, and how that ended.
    async fn asked(answer: &'static [u8]) -> (String, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let _ = stream.write_all(answer).await;
            String::from_utf8(request).unwrap().to_lowercase()
        };
        let url = format!("http://localhost:{port}/-/reload?a=b")
            .parse()
            .unwrap();
        let (request, result) = tokio::join!(server, post(&url));
        (
            request,
            result.map_err(|e| e.to_string().replace(&port.to_string(), "PORT")),
        )
    }

    #[tokio::test]
    async fn any_success_is_one_and_the_body_is_not_waited_for() {
        for answer in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n".as_slice(),
            b"HTTP/1.0 204 No Content\r\n\r\n",
        ] {
            let (request, result) = asked(answer).await;
            assert_eq!(result, Ok(()));
            assert!(
                request.starts_with("post /-/reload?a=b http/1.1\r\n"),
                "{request}"
            );
            assert!(request.contains("\r\nhost: localhost:"), "{request}");
            assert!(request.contains("\r\ncontent-length: 0\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_none() {
        for (answer, says) in [
            (
                b"HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n\r\n".as_slice(),
                "localhost:PORT answered with status 302",
            ),
            (b"HTTP/1.1 500 No\r\n\r\n", "answered with status 500"),
            (b"SSH-2.0-x\r\n", "gave no answer"),
            (b"", "gave no answer"),
        ] {
            let (_, result) = asked(answer).await;
            let error = result.unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        let endless: &'static [u8] = Box::leak(
            [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &[b'x'; 64 * 1024]]
                .concat()
                .into(),
        );
        let (_, result) = asked(endless).await;
        assert!(result.unwrap_err().contains("gave no answer"));
        let closed = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let error = post(&format!("http://{closed}/").parse().unwrap())
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("cannot connect to 127.0.0.1:"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let error = post(&url.parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, PostError::Late(_)), "{error}");
    }
}
