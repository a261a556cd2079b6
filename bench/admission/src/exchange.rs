//! One admission as an API server makes it: a `POST` over HTTP/1.1 and TLS, and an answer that allows with a patch.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest that an API server may be told to wait for a webhook.
const DEADLINE: Duration = Duration::from_secs(30);

/// Who is asked, and what.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    name: ServerName<'static>,
    path: String,
    tls: TlsConnector,
    body: Bytes,
}

/// A connection; none before the first request, and after one that failed.
pub(crate) type Connection = Option<SendRequest<Full<Bytes>>>;

impl Target {
    /// A webhook at `address`, which is this machine, with a certificate of the authority `ca` (PEM) for `name`.
    ///
    /// # Errors
    /// If one of them can't be.
    pub fn new(
        address: SocketAddr,
        name: &str,
        ca: &[u8],
        path: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Self> {
        ensure!(
            address.ip().is_loopback(),
            "{address} is not this machine, and a load is for nobody else"
        );
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.context("the authority's certificate")?)?;
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // An API server keeps no sessions: each new connection makes a full handshake.
        tls.resumption = Resumption::disabled();
        Ok(Self {
            address,
            name: ServerName::try_from(name.to_owned())?,
            path: path.to_owned(),
            tls: TlsConnector::from(Arc::new(tls)),
            body: body.into(),
        })
    }

    /// Asks once, over `connection` if it is open, and leaves it open if the server does and it is to be `kept`.
    ///
    /// # Errors
    /// If there is no answer in time, or one that doesn't patch.
    pub(crate) async fn ask(&self, connection: &mut Connection, kept: bool) -> anyhow::Result<()> {
        let open = connection.take().filter(|sender| !sender.is_closed());
        let exchange = async {
            let mut sender = match open {
                Some(sender) => sender,
                None => self.connect().await?,
            };
            self.exchange(&mut sender, kept).await?;
            anyhow::Ok(sender)
        };
        let sender = timeout(DEADLINE, exchange)
            .await
            .context("no answer in time")??;
        *connection = kept.then_some(sender);
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn exchange(
        &self,
        sender: &mut SendRequest<Full<Bytes>>,
        kept: bool,
    ) -> anyhow::Result<()> {
        let request = Request::post(self.path.as_str())
            .header(header::HOST, self.name.to_str().as_ref())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, */*")
            .header(
                header::CONNECTION,
                if kept { "keep-alive" } else { "close" },
            )
            .body(Full::new(self.body.clone()))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(status == StatusCode::OK, "the answer is {status}");
        let has = |text: &[u8]| body.windows(text.len()).any(|window| window == text);
        ensure!(
            has(br#""allowed":true"#) && has(br#""patch":""#),
            "the answer doesn't allow with a patch: {}",
            String::from_utf8_lossy(&body)
        );
        Ok(())
    }
}
