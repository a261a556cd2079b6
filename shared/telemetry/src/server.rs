//! `/metrics`, `/healthz` and `/readyz` over plain HTTP/1.1, for kubelets and Prometheus.
//!
//! Bare hyper and one request a connection: an idle scraper holds nothing, and one deadline bounds a
//! connection from accept to close, whatever its peer does.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus::{Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Readiness;

/// From accept to close.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(5);
/// Connections served at once; others wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 32;
/// What answers in flight get when the process ends.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);
/// Bytes of request head that are read.
const MAX_HEAD: usize = 8 * 1024;

/// Answers `GET` and `HEAD` on `/metrics` (Prometheus text of `registry`), `/healthz` (alive) and
/// `/readyz` (503 with the names of what is pending) until `shutdown` completes.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    readiness: Readiness,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut connections = JoinSet::new();
    let mut backoff = AcceptBackoff::default();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                backoff = AcceptBackoff::default();
                let (registry, readiness) = (registry.clone(), readiness.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    // A peer that is slow or gone is no concern of ours.
                    let _ =
                        timeout(CONNECTION_DEADLINE, connection(stream, registry, readiness)).await;
                });
            }
            Err(error) => {
                if let Some(pause) = backoff.pause(&error) {
                    tracing::warn!(%error, "cannot accept a metrics connection");
                    sleep(pause).await;
                }
            }
        }
    }
    drop(listener);
    let _ = timeout(DRAIN_DEADLINE, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// How long an accept loop rests after an error: not at all if only that connection failed, longer
/// each time if the process is out of something (file descriptors above all), so that it never spins.
#[derive(Debug, Default)]
pub struct AcceptBackoff {
    failures: u32,
}

impl AcceptBackoff {
    /// The rest to take after `error`, at most a second; none: accept again at once.
    pub fn pause(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
        ) {
            return None;
        }
        let pause = Duration::from_millis(10 << self.failures.min(7));
        self.failures = self.failures.saturating_add(1);
        Some(pause.min(Duration::from_secs(1)))
    }
}

async fn connection(stream: TcpStream, registry: Registry, readiness: Readiness) {
    let service = service_fn(|request| {
        let response = respond(&request, &registry, &readiness);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics connection failed");
    }
}

fn respond<B>(
    request: &Request<B>,
    registry: &Registry,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => plain(StatusCode::OK, text),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/healthz" => plain(StatusCode::OK, "ok\n".into()),
        "/readyz" => {
            let (status, text) = readiness.report();
            plain(status, text)
        }
        _ => plain(StatusCode::NOT_FOUND, "not found\n".into()),
    }
}

impl Readiness {
    /// What `/readyz` answers: 200, or 503 with what is pending, one a line.
    #[must_use]
    pub fn report(&self) -> (StatusCode, String) {
        let pending = self.pending();
        if pending.is_empty() {
            return (StatusCode::OK, "ok\n".into());
        }
        let lines: String = pending
            .iter()
            .map(|name| format!("pending: {name}\n"))
            .collect();
        (StatusCode::SERVICE_UNAVAILABLE, lines)
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    // The content type of the Prometheus text format, which plain answers may carry as well.
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_of_one_connection_cost_no_pause() {
        let mut backoff = AcceptBackoff::default();
        assert_eq!(
            backoff.pause(&io::ErrorKind::ConnectionAborted.into()),
            None
        );
    }

    #[test]
    fn accept_errors_of_the_process_back_off_to_a_second() {
        let mut backoff = AcceptBackoff::default();
        let emfile = || io::Error::from_raw_os_error(24);
        let pauses: Vec<_> = (0..9).filter_map(|_| backoff.pause(&emfile())).collect();
        let millis: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
    }
}
