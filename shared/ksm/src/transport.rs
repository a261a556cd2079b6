//! HTTP: one TLS client with explicit roots, bounded bodies, and errors without URLs.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use crate::Error;
use crate::error::clean;
use crate::route::Route;

/// Longest body of an answer that is not 200; the rest is not read.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// Connections are kept for the calls of one cycle, not until the next.
const POOL_IDLE: Duration = Duration::from_secs(5);
/// What is reserved for a body before its bytes are there.
const MAX_RESERVED: usize = 1024 * 1024;

/// An answer, its body read.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    pub(crate) retry_after: Option<Duration>,
}

/// A client that trusts the built-in roots and those in `extra_ca`. It reads no environment variable.
pub(crate) fn build(
    extra_ca: Option<&[u8]>,
    route: &Route,
    connect: Duration,
) -> Result<reqwest::Client, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Local(e.to_string()))?
        .with_root_certificates(roots(extra_ca)?)
        .with_no_client_auth();
    let mut builder = reqwest::Client::builder().no_proxy();
    if let Some(proxy) = route.proxy()? {
        builder = builder.proxy(proxy);
    }
    builder
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .http1_only()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(connect)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(concat!("keeper-injector/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Error::Local(reason(&e)))
}

fn roots(extra_ca: Option<&[u8]>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let built_in = roots.len();
    let Some(pem) = extra_ca else {
        return Ok(roots);
    };
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate =
            certificate.map_err(|_| Error::ExtraCa("a PEM block is malformed".to_owned()))?;
        roots
            .add(certificate)
            .map_err(|e| Error::ExtraCa(clean(&e.to_string())))?;
    }
    if roots.len() == built_in {
        return Err(Error::ExtraCa("there is no PEM certificate".to_owned()));
    }
    Ok(roots)
}

/// How much of an answer is read.
pub(crate) struct Limits {
    /// Largest body of an answer of status 200, in bytes.
    pub(crate) bytes: usize,
    /// The size that it will have, as far as we know for sure: a buffer of that size needs no copying.
    pub(crate) reserve: usize,
}

/// Reads an answer: one of status 200 up to its limit, of any other status only as far as is sensible.
pub(crate) async fn read(
    mut response: reqwest::Response,
    host: &str,
    what: &str,
    Limits {
        bytes: limit,
        reserve,
    }: Limits,
) -> Result<Answer, Error> {
    let status = response.status().as_u16();
    let retry_after = retry_after(response.headers());
    let too_large = || Error::TooLarge {
        what: what.to_owned(),
        limit: u64::try_from(limit).unwrap_or(u64::MAX),
    };
    let declared = response.content_length().unwrap_or_default();
    let declared = usize::try_from(declared).unwrap_or(usize::MAX);
    if status == 200 && declared > limit {
        return Err(too_large());
    }
    // A declared length costs the sender nothing, so it reserves only a little.
    let reserved = match status {
        200 => declared.min(MAX_RESERVED).max(reserve),
        _ => declared.min(MAX_ERROR_BYTES),
    };
    let mut body = Zeroizing::new(Vec::with_capacity(reserved));
    loop {
        match response.chunk().await {
            Ok(None) => break,
            Ok(Some(chunk)) if status == 200 => {
                if chunk.len() > limit.saturating_sub(body.len()) {
                    return Err(too_large());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Some(chunk)) => {
                let room = MAX_ERROR_BYTES.saturating_sub(body.len());
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
                if chunk.len() > room {
                    break;
                }
            }
            // The status says enough.
            Err(_) if status != 200 => break,
            Err(e) => {
                return Err(Error::Broken {
                    host: host.to_owned(),
                    reason: reason(&e),
                });
            }
        }
    }
    Ok(Answer {
        status,
        body,
        retry_after,
    })
}

/// What a request that brought no answer means. `host` may have a port.
pub(crate) fn failure(error: &reqwest::Error, host: &str, route: &Route) -> Error {
    let tunnel = error.is_connect().then(|| tunnel_failure(error)).flatten();
    let host = host.to_owned();
    let proxy = route.to(&host);
    if let Some(tls) = rustls_cause(error) {
        let reason = clean(&tls.to_string());
        // TLS with the proxy itself, before there is a tunnel.
        let hop = proxy.filter(|_| tunnel.is_some()).map(str::to_owned);
        return match (tls, hop) {
            (rustls::Error::InvalidCertificate(_), hop) => Error::Untrusted {
                host: hop.unwrap_or(host),
                reason,
            },
            (_, Some(proxy)) => Error::Proxy {
                host,
                proxy,
                reason: format!("{reason}; is its address http://?"),
            },
            (_, None) => Error::Connect { host, reason },
        };
    }
    let reason = reason(error);
    if !error.is_connect() {
        return Error::Broken { host, reason };
    }
    let Some(proxy) = proxy.map(str::to_owned) else {
        return Error::Connect { host, reason };
    };
    match tunnel {
        Some(Tunnel::NeedsPassword) => Error::ProxyAuthentication { host, proxy },
        Some(Tunnel::Refused) => Error::Proxy {
            host,
            proxy,
            reason: "it refuses, or cannot reach it either; its log tells which".to_owned(),
        },
        Some(Tunnel::NotReached) => Error::Proxy {
            host,
            proxy,
            reason: format!("it cannot be reached: {reason}"),
        },
        Some(Tunnel::Broken) | None => Error::Proxy {
            host,
            proxy,
            reason,
        },
    }
}

/// What a proxy did in place of opening a tunnel.
enum Tunnel {
    NeedsPassword,
    Refused,
    NotReached,
    Broken,
}

/// What became of the tunnel, if it did not open. hyper-util keeps the type of this error to itself, so its text
/// has to tell; tests/proxy.rs notices when that changes.
fn tunnel_failure(error: &reqwest::Error) -> Option<Tunnel> {
    let mut cause = error.source();
    while let Some(current) = cause {
        if let Some(text) = current.to_string().strip_prefix("tunnel error: ") {
            return Some(match text {
                "proxy authorization required" => Tunnel::NeedsPassword,
                "unsuccessful" => Tunnel::Refused,
                "failed to create underlying connection" => Tunnel::NotReached,
                _ => Tunnel::Broken,
            });
        }
        cause = current.source();
    }
    None
}

/// The server's clock: the beginning of the second that its time is in.
pub(crate) fn server_time(headers: &HeaderMap) -> Option<SystemTime> {
    let date = headers.get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

/// The innermost cause, which says most. Never the outermost, which has the URL.
fn reason(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(inner) = cause.and_then(StdError::source) {
        cause = Some(inner);
    }
    match cause {
        Some(_) if error.is_timeout() && error.is_connect() => "no connection in time".to_owned(),
        Some(cause) => clean(&cause.to_string()),
        None => "the connection broke".to_owned(),
    }
}

fn rustls_cause(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref() {
            return Some(found);
        }
        // An io::Error's source skips the error that it holds.
        cause = match current.downcast_ref().and_then(io::Error::get_ref) {
            Some(held) => Some(held),
            None => current.source(),
        };
    }
    None
}
