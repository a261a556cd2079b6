//! Calls through a proxy: one that tunnels, and every way that a proxy can fail.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keeper_ksm::{Client, ClientOptions, DeviceConfig, Error, ErrorKind, ProxyOptions};
use keeper_sim::{Options, Sim, Vault};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A name that no resolver knows: only through the proxy is it anything.
const NAME: &str = "keeper.invalid";

async fn sim() -> Sim {
    let vault = "records: [{title: db, password: s3cret, files: [{name: ca.pem, text: PEM}]}]";
    let options = Options {
        sans: vec![NAME.to_owned()],
        ..Options::default()
    };
    Sim::start(Vault::parse(vault).unwrap(), options)
        .await
        .unwrap()
}

/// A connection to a proxy, plain or over TLS.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}
type Stream = Box<dyn Duplex>;

/// A proxy that takes one request for a tunnel and then does as it is told.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    async fn start<F, W>(behave: F) -> Self
    where
        F: Fn(Stream) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        Self::start_over(None, behave).await
    }

    async fn start_over<F, W>(tls: Option<TlsAcceptor>, behave: F) -> Self
    where
        F: Fn(Stream) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let mut stream: Stream = match &tls {
                    None => Box::new(tcp),
                    Some(tls) => match tls.accept(tcp).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                let head = read_head(&mut stream).await;
                seen.lock().unwrap().push(head);
                tokio::spawn(behave(stream));
            }
        });
        Self { port, heads, task }
    }

    async fn answering(answer: Vec<u8>) -> Self {
        Self::start(move |mut tcp| {
            let answer = answer.clone();
            async move {
                let _ = tcp.write_all(&answer).await;
                let _ = tcp.shutdown().await;
            }
        })
        .await
    }

    /// A proxy that tunnels, whatever is asked for, to `port` on this machine.
    async fn tunnel(port: u16) -> Self {
        Self::tunnel_over(None, port).await
    }

    /// The same, of which one is asked over TLS.
    async fn tls_tunnel(certificate: &CertifiedKey<rcgen::KeyPair>, port: u16) -> Self {
        let key = PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.cert.der().clone()],
                PrivateKeyDer::from(key),
            )
            .unwrap();
        Self::tunnel_over(Some(TlsAcceptor::from(Arc::new(tls))), port).await
    }

    async fn tunnel_over(tls: Option<TlsAcceptor>, port: u16) -> Self {
        Self::start_over(tls, move |mut tcp| async move {
            let mut target = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let _ = tcp
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await;
            let _ = copy_bidirectional(&mut tcp, &mut target).await;
        })
        .await
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_head(tcp: &mut Stream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(tcp.read(&mut byte).await, Ok(1)) {
        head.extend(byte);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A client that calls `host` and the simulator's port through the proxy at `proxy`.
fn client(sim: &Sim, host: &str, proxy: &str, no_proxy: &str) -> Client {
    client_trusting(sim.ca_pem(), sim, host, proxy, no_proxy)
}

/// The same, with other roots than the simulator's CA.
fn client_trusting(ca: &str, sim: &Sim, host: &str, proxy: &str, no_proxy: &str) -> Client {
    let mut config: serde_json::Value =
        serde_json::from_str(&sim.device_config().unwrap()).unwrap();
    let hostname = format!("{host}:{}", sim.address().port());
    *config.get_mut("hostname").unwrap() = hostname.into();
    let options = ClientOptions {
        extra_ca_pem: Some(ca.as_bytes().to_vec()),
        proxy: Some(ProxyOptions {
            url: proxy.to_owned(),
            no_proxy: no_proxy.to_owned(),
        }),
        connect_timeout: Duration::from_millis(500),
        total_timeout: Duration::from_secs(5),
        ..ClientOptions::default()
    };
    let config = DeviceConfig::parse(config.to_string().as_bytes()).unwrap();
    Client::new(config, options).unwrap()
}

async fn error(client: &Client) -> Error {
    let began = Instant::now();
    let error = client.get_secret(&[]).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(6), "{error}");
    error
}

#[tokio::test]
async fn a_call_goes_through_the_proxy_which_resolves_the_name() {
    let sim = sim().await;
    let proxy = Proxy::tunnel(sim.address().port()).await;
    let url = format!("http://127.0.0.1:{}", proxy.port);
    let client = client(&sim, NAME, &url, "");
    assert_eq!(client.get_secret(&[]).await.unwrap().records.len(), 1);
    let target = format!("{NAME}:{}", sim.address().port());
    let agent = concat!("keeper-injector/", env!("CARGO_PKG_VERSION"));
    // All that the proxy gets to see.
    let expected =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nuser-agent: {agent}\r\n\r\n");
    assert_eq!(proxy.heads(), [expected]);
}

#[tokio::test]
async fn loopback_and_what_is_exempt_is_called_without_it() {
    let sim = sim().await;
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    client(&sim, "localhost", &url, "")
        .get_secret(&[])
        .await
        .unwrap();
    for no_proxy in ["invalid", "*"] {
        let error = error(&client(&sim, NAME, &url, no_proxy)).await;
        assert!(
            matches!(&error, Error::Connect { host, .. } if host.starts_with(NAME)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_demands_a_password_is_refused_clearly() {
    let sim = sim().await;
    let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"corp\"\r\ncontent-length: 0\r\n\r\n";
    let proxy = Proxy::answering(answer.to_vec()).await;
    let name = format!("127.0.0.1:{}", proxy.port);
    let error = error(&client(&sim, NAME, &format!("http://{name}"), "")).await;
    assert!(
        matches!(&error, Error::ProxyAuthentication { proxy, .. } if *proxy == name),
        "{error:?}"
    );
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("keeper.security/proxy"),
        "{error}"
    );
}

#[tokio::test]
async fn a_proxy_that_fails_is_named_and_may_recover() {
    let sim = sim().await;
    let bad: [(&[u8], &str); 7] = [
        (
            b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
            "refuses",
        ),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refuses"),
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://login.corp/\r\n\r\n",
            "refuses",
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "refuses"),
        (b"HTTP/1.1 200 O", "end of file"),
        (b"", "end of file"),
        (&[b'x'; 20_000], "refuses"),
    ];
    for (answer, expected) in bad {
        let proxy = Proxy::answering(answer.to_vec()).await;
        let name = format!("127.0.0.1:{}", proxy.port);
        let error = error(&client(&sim, NAME, &format!("http://{name}"), "")).await;
        let shown = String::from_utf8_lossy(answer.get(..20).unwrap_or(answer)).into_owned();
        assert!(
            matches!(&error, Error::Proxy { proxy, .. } if *proxy == name),
            "{shown}: {error:?}"
        );
        assert!(error.to_string().contains(expected), "{shown}: {error}");
        assert!(error.is_retryable());
    }
    let mut long = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    long.extend([b'x'; 20_000]);
    let proxy = Proxy::answering(long).await;
    let error = error(&client(
        &sim,
        NAME,
        &format!("http://127.0.0.1:{}", proxy.port),
        "",
    ))
    .await;
    assert!(error.to_string().contains("headers too long"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_is_silent_or_not_there() {
    let sim = sim().await;
    let silent = Proxy::start(|tcp| async move {
        let _open = tcp;
        std::future::pending::<()>().await;
    })
    .await;
    let url = format!("http://127.0.0.1:{}", silent.port);
    let hangs = error(&client(&sim, NAME, &url, "")).await;
    assert!(
        hangs.to_string().contains("no connection in time"),
        "{hangs}"
    );
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let refused = error(&client(&sim, NAME, &format!("http://{address}"), "")).await;
    assert!(
        refused.to_string().contains("cannot be reached"),
        "{refused}"
    );
    let unknown = error(&client(&sim, NAME, "http://proxy.invalid:3128", "")).await;
    assert!(
        unknown.to_string().contains("proxy.invalid:3128"),
        "{unknown}"
    );
    for error in [hangs, refused, unknown] {
        assert!(matches!(error, Error::Proxy { .. }), "{error:?}");
    }
}

/// A tunnel that ends somewhere else is noticed: the certificate is not that of the host that was asked for.
#[tokio::test]
async fn a_proxy_that_leads_elsewhere_is_not_trusted() {
    let (sim, other) = (sim().await, sim().await);
    let proxy = Proxy::tunnel(other.address().port()).await;
    let error = error(&client(
        &sim,
        NAME,
        &format!("http://127.0.0.1:{}", proxy.port),
        "",
    ))
    .await;
    assert!(
        matches!(&error, Error::Untrusted { host, .. } if host.starts_with(NAME)),
        "{error:?}"
    );
    assert!(error.to_string().contains("ca-cert-configmap"), "{error}");
}

/// What a client that trusts the simulator and `certificate` makes of a proxy at this `https://` host and port.
fn client_over_tls(sim: &Sim, certificate: &CertifiedKey<rcgen::KeyPair>, at: &str) -> Client {
    let ca = format!("{}{}", sim.ca_pem(), certificate.cert.pem());
    client_trusting(&ca, sim, NAME, &format!("https://{at}"), "")
}

#[tokio::test]
async fn a_proxy_may_be_asked_over_tls() {
    let sim = sim().await;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = generate_simple_self_signed(names.clone()).unwrap();
    for name in names {
        let proxy = Proxy::tls_tunnel(&certificate, sim.address().port()).await;
        let client = client_over_tls(&sim, &certificate, &format!("{name}:{}", proxy.port));
        assert_eq!(client.get_secret(&[]).await.unwrap().records.len(), 1);
        let heads = proxy.heads();
        assert_eq!(heads.len(), 1, "{heads:?}");
        assert!(heads.iter().all(|head| head.starts_with("CONNECT ")));
    }
}

/// The error says at which of the two hops the trust ends, and a proxy that is not trusted is told nothing.
#[tokio::test]
async fn a_proxy_over_tls_is_verified_like_keeper() {
    let (sim, other) = (sim().await, sim().await);
    let made = |name: &str| generate_simple_self_signed([name.to_owned()]).unwrap();
    let (known, stranger, misnamed) = (made("localhost"), made("localhost"), made("proxy.corp"));
    for (shown, trusted) in [(&stranger, &known), (&misnamed, &misnamed)] {
        let proxy = Proxy::tls_tunnel(shown, sim.address().port()).await;
        let name = format!("localhost:{}", proxy.port);
        let error = error(&client_over_tls(&sim, trusted, &name)).await;
        assert!(
            matches!(&error, Error::Untrusted { host, .. } if *host == name),
            "{error:?}"
        );
        assert!(error.to_string().contains("ca-cert-configmap"), "{error}");
        assert_eq!(proxy.heads(), [""; 0]);
    }

    let proxy = Proxy::tls_tunnel(&known, other.address().port()).await;
    let at = format!("localhost:{}", proxy.port);
    let elsewhere = error(&client_over_tls(&sim, &known, &at)).await;
    assert!(
        matches!(&elsewhere, Error::Untrusted { host, .. } if host.starts_with(NAME)),
        "{elsewhere:?}"
    );

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("localhost:{}", plain.local_addr().unwrap().port());
    let answer = async {
        let (mut tcp, _) = plain.accept().await.unwrap();
        let bad_request = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        tcp.write_all(bad_request).await.unwrap();
        tcp
    };
    let over_tls = client_over_tls(&sim, &known, &at);
    let (no_tls, _open) = tokio::join!(error(&over_tls), answer);
    assert!(
        matches!(&no_tls, Error::Proxy { proxy, .. } if *proxy == at),
        "{no_tls:?}"
    );
    assert!(no_tls.to_string().contains("http://"), "{no_tls}");
    let proxy = Proxy::tls_tunnel(&known, sim.address().port()).await;
    let at = format!("localhost:{}", proxy.port);
    let not_expected = error(&client(&sim, NAME, &format!("http://{at}"), "")).await;
    assert!(
        matches!(&not_expected, Error::Proxy { proxy, .. } if *proxy == at),
        "{not_expected:?}"
    );
}
