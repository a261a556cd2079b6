//! Requests to others than the API server, by which audit entries and traces leave the cluster.
//!
//! The peer is trusted with what it is sent and with nothing else: it is told apart by its certificate, its redirects are not
//! followed, and of its answer the status counts. One deadline covers a request from the name's resolution to the answer's end.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// A connection that nothing used for so long is closed.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer's body that are read so that the connection can be used again.
const MAX_ANSWER: usize = 64 * 1024;

/// Why requests can't be made at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    #[error("the CA file holds no certificate in PEM")]
    NoCertificate,
    #[error("the CA file holds a certificate that cannot be a trust root: {0}")]
    BadCertificate(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
}

/// An answer, without its body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// How long the peer asks to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// A client for HTTPS alone.
#[derive(Debug, Clone)]
pub(crate) struct Outbound(reqwest::Client);

impl Outbound {
    /// See [`client`].
    ///
    /// # Errors
    /// If `extra_ca` holds no certificate.
    pub(crate) fn new(extra_ca: Option<&[u8]>, deadline: Duration) -> Result<Self, OutboundError> {
        client(extra_ca, deadline, true).map(Self)
    }

    /// Posts `body`.
    ///
    /// # Errors
    /// If there is no answer in time, or none that is HTTP; the text says why, without the address.
    pub(crate) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Reply, String> {
        let request = self.0.post(url.clone()).headers(headers).body(body);
        let sent = request.send().await;
        let mut answer = sent.map_err(|error| told(&error.without_url()))?;
        let seconds = answer.headers().get(RETRY_AFTER);
        let seconds = seconds.and_then(|value| value.to_str().ok()?.parse().ok());
        let reply = Reply {
            status: answer.status(),
            retry_after: seconds.map(Duration::from_secs),
        };
        let mut read = 0;
        while let Ok(Some(part)) = answer.chunk().await {
            read += part.len();
            if read > MAX_ANSWER {
                break;
            }
        }
        Ok(reply)
    }
}

/// A client that trusts the built-in roots and the certificates in `extra_ca` (PEM), gives each request `deadline`, follows no
/// redirect, and reads no environment variable; for plain HTTP, too, unless `https_only`.
///
/// # Errors
/// If `extra_ca` holds no certificate.
pub(crate) fn client(
    extra_ca: Option<&[u8]>,
    deadline: Duration,
    https_only: bool,
) -> Result<reqwest::Client, OutboundError> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(extra_ca)?)
        .with_no_client_auth();
    reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .https_only(https_only)
        .http1_only()
        .redirect(Policy::none())
        .referer(false)
        .timeout(deadline)
        .pool_idle_timeout(POOL_IDLE)
        .user_agent(concat!("keeper-injector/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| OutboundError::Client(told(&error.without_url())))
}

fn roots(extra_ca: Option<&[u8]>) -> Result<RootCertStore, OutboundError> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let Some(pem) = extra_ca else {
        return Ok(roots);
    };
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| OutboundError::NoCertificate)?;
        roots
            .add(certificate)
            .map_err(|error| OutboundError::BadCertificate(error.to_string()))?;
        found = true;
    }
    match found {
        true => Ok(roots),
        false => Err(OutboundError::NoCertificate),
    }
}

/// An error with its causes.
fn told(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
