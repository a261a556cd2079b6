//! Sockets, TLS and HTTP/1.1 around the service. Everything that comes in is bounded in size and time.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::body::SimBody;
use crate::core::Core;
use crate::files;
use crate::reply::{Answer, Ending, Reply, Rest};

/// Where the calls of the protocol live.
const API_PREFIX: &str = "/api/rest/sm/v1/";
const MAX_BODY: usize = 4 * 1024 * 1024;
const MAX_HEADERS: usize = 64 * 1024;
const MAX_CONNECTIONS: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(10);
const READ_HEADERS: Duration = Duration::from_secs(30);
const READ_BODY: Duration = Duration::from_secs(30);
const CLOSE: Duration = Duration::from_secs(1);
/// Pause after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The TLS settings that connections get.
pub(crate) struct Certificates {
    pub(crate) good: Arc<ServerConfig>,
    /// Issued by an authority that nobody knows.
    pub(crate) untrusted: Arc<ServerConfig>,
}

/// Serves for ever. Dropping the future ends every connection.
pub(crate) async fn serve(listener: TcpListener, certificates: Certificates, core: Arc<Core>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            tracing::warn!("too many connections: one is refused");
            continue;
        };
        let tls = if core.lock().faults.strike_connection() {
            certificates.untrusted.clone()
        } else {
            certificates.good.clone()
        };
        let core = core.clone();
        connections.spawn(async move {
            tokio::select! {
                () = connection(stream, tls, core.clone()) => {}
                () = core.disconnect.notified() => {}
            }
            drop(slot);
        });
    }
}

async fn connection(stream: TcpStream, tls: Arc<ServerConfig>, core: Arc<Core>) {
    // Answers are small and written at once; a delay by Nagle would distort every measurement.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stream = match timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let reset = Arc::new(AtomicBool::new(false));
    let service = {
        let reset = reset.clone();
        service_fn(move |request| Box::pin(respond(core.clone(), reset.clone(), request)))
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_HEADERS)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let result = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let mut stream: TlsStream<TcpStream> = connection.into_parts().io.into_inner();
    if reset.load(Ordering::Relaxed) {
        // With no linger time the close becomes a reset.
        if let Err(error) = stream.get_ref().0.set_zero_linger() {
            tracing::warn!(%error, "the connection could not be reset");
        }
    } else if result.is_ok() {
        // Whoever doesn't read our end in time is left alone.
        let _ = timeout(CLOSE, stream.shutdown()).await;
    }
}

/// Ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is to be reset")]
struct ResetConnection;

async fn respond(
    core: Arc<Core>,
    reset: Arc<AtomicBool>,
    request: Request<Incoming>,
) -> Result<Response<SimBody>, ResetConnection> {
    let reply = route(&core, request).await;
    tokio::time::sleep(reply.delay).await;
    let response = match reply.ending {
        Ending::Answer(answer) => response(answer),
        Ending::Huge { bytes, declared } => {
            let left = bytes;
            Response::new(SimBody::Filler { left, declared })
        }
        Ending::Hang => match std::future::pending::<Infallible>().await {},
        Ending::Reset => {
            reset.store(true, Ordering::Relaxed);
            return Err(ResetConnection);
        }
    };
    let mut response = response;
    if let Ok(date) = HeaderValue::from_str(&core.date()) {
        response.headers_mut().insert(DATE, date);
    }
    Ok(response)
}

async fn route(core: &Core, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if let Some(uid) = path.strip_prefix(files::PREFIX) {
        if parts.method != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        return core.download(uid, parts.uri.query().unwrap_or_default(), &parts.headers);
    }
    let Some(endpoint) = path.strip_prefix(API_PREFIX) else {
        return plain(StatusCode::NOT_FOUND);
    };
    if parts.method != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !ENDPOINTS.contains(&endpoint) {
        return plain(StatusCode::NOT_FOUND);
    }
    match read(body).await {
        Ok(body) => core.call(endpoint, &parts.headers, &body),
        Err(status) => plain(status),
    }
}

const ENDPOINTS: &[&str] = &[
    "get_secret",
    "get_folders",
    "create_secret",
    "update_secret",
    "finalize_secret_update",
    "rollback_secret_update",
    "delete_secret",
];

async fn read(body: Incoming) -> Result<Bytes, StatusCode> {
    match timeout(READ_BODY, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(StatusCode::PAYLOAD_TOO_LARGE)
        }
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

fn plain(status: StatusCode) -> Reply {
    Reply {
        delay: Duration::ZERO,
        ending: Ending::Answer(Answer::text(
            status,
            status.canonical_reason().unwrap_or_default(),
        )),
    }
}

fn response(answer: Answer) -> Response<SimBody> {
    let length = answer.body.len();
    let rest = answer.rest;
    let mut response = Response::new(SimBody::new(answer.body, rest));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&answer.content_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    if rest != Rest::Sent {
        // The client is promised more than it gets.
        headers.insert(CONTENT_LENGTH, length.into());
    }
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            headers.append(name, value);
        }
    }
    response
}
