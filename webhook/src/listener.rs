//! The HTTPS accept loop: bounded in connections and in every wait, deaf to what one peer does, and
//! drained without failing a request.
//!
//! HTTP/1.1 only, which is what API servers speak to webhooks (`k8s.io/apiserver`,
//! `pkg/util/webhook/client.go`). They keep idle connections for 90 s and do not repeat a `POST` that
//! ran into a closing one, so an idle connection is kept longer than that, and before the drain every
//! answer asks its client to close.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use keeper_telemetry::{AcceptBackoff, Readiness};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ResolvesServerCert;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections served at once; others wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 512;
/// Longer than an API server keeps an idle connection (90 s).
const IDLE_DEADLINE: Duration = Duration::from_secs(150);
/// Of a TLS handshake, of a new connection's first request head, and of a write.
const PEER_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of request head that are read.
const MAX_HEAD: usize = 16 * 1024;

/// How the server ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    /// How long the port stays open after the end was asked for: until then API servers may not know
    /// that this endpoint is going away.
    pub(crate) delay: Duration,
    /// What requests in flight get after that.
    pub(crate) deadline: Duration,
}

/// Serves `router` from when `started` completes, until when connections wait to be accepted; serves
/// until `shutdown` completes, then drains: unready at once, open for a while, closed
/// when everything in flight is answered or the deadline passed.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    router: Router,
    readiness: Readiness,
    drain: Drain,
    started: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
) {
    let server = Arc::new(Server {
        acceptor: TlsAcceptor::from(tls),
        router,
        draining: AtomicBool::new(false),
    });
    let (close, closing) = watch::channel(false);
    let mut connections = JoinSet::new();
    let end = async {
        shutdown.await;
        tracing::info!("draining");
        let latch = readiness.latch("draining");
        server.draining.store(true, Ordering::Relaxed);
        sleep(drain.delay).await;
        latch
    };
    let mut end = pin!(end);
    let ended = tokio::select! {
        unready = &mut end => Some(unready),
        () = started => None,
    };
    let _unready = match ended {
        Some(unready) => unready,
        None => accept(&listener, &server, &mut connections, &closing, end).await,
    };
    drop(listener);
    let _ = close.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(drain.deadline, drained).await.is_err() {
        tracing::warn!(
            open = connections.len(),
            "connections cut off at the drain deadline"
        );
    }
}

/// The TLS side: one provider, no client certificates, whatever certificate `resolver` has now.
///
/// # Errors
/// If the provider can't do TLS 1.2 and 1.3.
pub(crate) fn tls_config(
    resolver: Arc<dyn ResolvesServerCert>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

struct Server {
    acceptor: TlsAcceptor,
    router: Router,
    draining: AtomicBool,
}

async fn accept<T>(
    listener: &TcpListener,
    server: &Arc<Server>,
    connections: &mut JoinSet<()>,
    closing: &watch::Receiver<bool>,
    end: impl Future<Output = T>,
) -> T {
    let mut end = pin!(end);
    let mut backoff = AcceptBackoff::default();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            end = &mut end => return end,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                backoff = AcceptBackoff::default();
                let (server, closing) = (Arc::clone(server), closing.clone());
                connections.spawn(async move {
                    let _slot = slot;
                    // A panic in here ends this task alone.
                    if let Err(reason) = server.connection(stream, closing).await {
                        tracing::debug!(reason, "connection ended");
                    }
                });
            }
            Err(error) => {
                if let Some(pause) = backoff.pause(&error) {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::select! {
                        end = &mut end => return end,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }
}

impl Server {
    async fn connection(
        &self,
        stream: TcpStream,
        mut closing: watch::Receiver<bool>,
    ) -> Result<(), String> {
        // Answers are single writes; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        // A peer that doesn't take its answer is dropped by the kernel.
        let millis = u32::try_from(PEER_DEADLINE.as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, millis);
        let stream = timeout(PEER_DEADLINE, self.acceptor.accept(stream))
            .await
            .map_err(|_| "no TLS handshake in time".to_owned())?
            .map_err(|error: io::Error| error.to_string())?;
        let (asked, mut has_asked) = watch::channel(false);
        let routes = TowerToHyperService::new(self.router.clone());
        let service = service_fn(|request| {
            asked.send_replace(true);
            let answer = routes.call(request);
            async {
                let mut answer = answer.await?;
                if self.draining.load(Ordering::Relaxed) {
                    answer
                        .headers_mut()
                        .insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // A new connection has less time for its first head, see below.
            .header_read_timeout(IDLE_DEADLINE)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let first = tokio::select! {
            served = connection.as_mut() => return served.map_err(|error| error.to_string()),
            _ = closing.wait_for(|closing| *closing) => None,
            first = timeout(PEER_DEADLINE, has_asked.wait_for(|asked| *asked)) => Some(first.is_ok()),
        };
        match first {
            Some(false) => return Err("no request in time".to_owned()),
            None => {}
            Some(true) => {
                tokio::select! {
                    served = connection.as_mut() => {
                        return served.map_err(|error| error.to_string());
                    }
                    _ = closing.wait_for(|closing| *closing) => {}
                }
            }
        }
        connection.as_mut().graceful_shutdown();
        connection.await.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use prometheus::Registry;
    use rustls::crypto::ring;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls_pki_types::PrivateKeyDer;
    use serde_json::{Value, json};

    use super::*;
    use crate::admission::Admission;
    use crate::audit::Trail;
    use crate::metrics::Metrics;
    use crate::namespaces::Namespaces;

    /// A panic in a decision is an answer, and one in a connection's task is that connection's end. Nobody else notices.
    #[tokio::test]
    async fn a_panic_ends_nothing_but_what_it_happened_in() {
        let _ = ring::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(ring::default_provider());
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let certified =
            CertifiedKey::from_der(vec![certificate.der().clone()], der, &provider).unwrap();
        let tls = tls_config(Arc::new(SingleCertAndKey::from(certified)), provider).unwrap();

        let registry = Registry::new();
        let admission = Admission::new(
            Box::new(|_, _| panic!("in a decision")),
            Namespaces::silent(),
            Metrics::new(&registry).unwrap(),
            Trail::default(),
        );
        let router = crate::http::router(admission, Readiness::new()).route(
            "/panic",
            get(|| async {
                panic!("in a connection");
                #[expect(unreachable_code, reason = "a handler answers")]
                ()
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let drain = Drain {
            delay: Duration::ZERO,
            deadline: Duration::from_secs(5),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async {
            let _ = stopped.await;
        };
        let server = tokio::spawn(serve(
            listener,
            tls,
            router,
            Readiness::new(),
            drain,
            async {},
            shutdown,
        ));
        let client = || {
            let root = reqwest::Certificate::from_der(certificate.der()).unwrap();
            let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy();
            client.timeout(Duration::from_secs(20)).build().unwrap()
        };
        let (one, other) = (client(), client());
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": "CREATE", "namespace": "shop",
                "kind": {"group": "", "version": "v1", "kind": "Pod"}, "object": {},
            },
        });
        let mutate = async |client: &reqwest::Client| {
            let request = client.post(format!("{url}/mutate"));
            let request = request.header("content-type", "application/json");
            let answer = request.body(review.to_string()).send().await.unwrap();
            let answer = answer.bytes().await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            answer["response"]["status"]["code"].clone()
        };
        // A connection that is open before, during and after.
        assert_eq!(mutate(&other).await, 500);
        for _ in 0..3 {
            assert_eq!(mutate(&one).await, 500);
            assert!(one.get(format!("{url}/panic")).send().await.is_err());
        }
        assert_eq!(mutate(&other).await, 500);
        let healthy = one.get(format!("{url}/healthz")).send().await.unwrap();
        assert_eq!(healthy.status(), 200);
        drop((one, other));
        stop.send(()).unwrap();
        server.await.unwrap();
        let metrics = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        assert!(
            metrics.contains("keeper_injector_in_flight 0\n"),
            "{metrics}"
        );
    }
}
