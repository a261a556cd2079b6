//! The webhook over real TLS: good reviews, bad peers, certificates that change, the end.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, Once};
use std::time::{Duration, Instant};

use base64::Engine as _;
use clap::Parser as _;
use keeper_contract::{LogFormat, LogLevel};
use keeper_telemetry::LogLayer;
use keeper_webhook::{Cli, Command, Failure, Webhook, load_settings};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

const NAME: &str = "keeper-injector-webhook.keeper-security.svc";
const CANARY: &str = "canary-6a1f0c";
/// Longer than the server's own deadlines.
const PATIENCE: Duration = Duration::from_secs(25);

// --- what the tests stand on ---

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

static LOG: LazyLock<Sink> = LazyLock::new(Sink::default);

fn log() -> String {
    String::from_utf8(LOG.0.lock().unwrap().clone()).unwrap()
}

struct Server {
    folder: tempfile::TempDir,
    ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    https: SocketAddr,
    metrics: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Failure>>,
}

impl Server {
    async fn start() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            rustls::crypto::ring::default_provider()
                .install_default()
                .unwrap();
            let layer = LogLayer::new(LogFormat::Json, &[], LOG.clone());
            let log = Registry::default().with(layer.filtered(LogLevel::Debug));
            tracing::subscriber::set_global_default(log).unwrap();
        });
        let folder = tempfile::tempdir().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        write_certificate(folder.path(), &ca);
        let settings = "
            sidecarImage: keeper/injector-sidecar:0.1.0
            ownNamespace: keeper-security
            logFormat: json
        ";
        std::fs::write(folder.path().join("settings.yaml"), settings).unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let Command::Serve(options) = Cli::parse_from([
            "keeper-webhook",
            "serve",
            "--listen=127.0.0.1:0",
            "--metrics-listen=127.0.0.1:0",
            "--tls-mode=manual",
            "--kubernetes-version=1.35",
            "--drain-delay-seconds=2",
            "--drain-deadline-seconds=10",
            &format!("--settings={}", file("settings.yaml")),
            &format!("--tls-cert={}", file("tls.crt")),
            &format!("--tls-key={}", file("tls.key")),
        ])
        .command
        else {
            panic!("serve is a command")
        };
        let settings = load_settings(&options.settings).unwrap();
        let webhook = Webhook::bind(&options, settings).await.unwrap();
        let (https, metrics) = (
            webhook.https_address().unwrap(),
            webhook.metrics_address().unwrap(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(webhook.serve(async {
            let _ = stopped.await;
        }));
        Self {
            folder,
            ca,
            https,
            metrics,
            stop: Some(stop),
            task,
        }
    }

    fn client(&self) -> reqwest::Client {
        let root = reqwest::Certificate::from_der(self.ca.der()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([root])
            .resolve(NAME, self.https)
            .timeout(PATIENCE)
            .build()
            .unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("https://{NAME}:{}{path}", self.https.port())
    }

    async fn post(&self, body: Value) -> Value {
        self.post_to("/mutate", body).await
    }

    async fn post_to(&self, path: &str, body: Value) -> Value {
        let request = self
            .client()
            .post(self.url(path))
            .header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }

    async fn metrics(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.metrics);
        let response = self.client().get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.https).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    async fn is_well(&self) {
        let response = self
            .client()
            .get(self.url("/healthz"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }
}

fn write_certificate(
    folder: &Path,
    ca: &rcgen::Issuer<'_, rcgen::KeyPair>,
) -> CertificateDer<'static> {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
    certificate.der().clone()
}

fn review(uid: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": "shop",
            "userInfo": {"username": CANARY},
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web-1", "annotations": annotations},
                "spec": {"containers": [{
                    "name": "app", "image": "busybox",
                    "env": [{"name": "PASSWORD", "value": CANARY}],
                }]},
            },
        },
    })
}

fn good(uid: &str) -> Value {
    review(
        uid,
        json!({
            "keeper.security/inject": "true",
            "keeper.security/ksm-config": "keeper-auth",
            "keeper.security/secret": "canary-6a1f0c-title",
        }),
    )
}

/// Reads until the peer closes; the deadline is the test's.
/// The metrics of a section of the reference, each with its type.
fn documented_metrics(section: &str) -> BTreeSet<String> {
    let page = include_str!("../../docs/reference/metrics.md");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = rest.split("\n## ").next().unwrap();
    section
        .lines()
        .filter(|line| line.starts_with("| `keeper_"))
        .map(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            let name = cells.next().unwrap().trim_matches('`');
            let name = name.split('{').next().unwrap();
            format!("{name} {}", cells.next().unwrap())
        })
        .collect()
}

/// The same of a scrape.
fn scraped_metrics(scrape: &str) -> BTreeSet<String> {
    scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(str::to_owned)
        .collect()
}

async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut answer = Vec::new();
    // A connection cut without a TLS goodbye is an end too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("no end in time");
    String::from_utf8_lossy(&answer).into_owned()
}

// --- admissions ---

#[tokio::test(flavor = "multi_thread")]
async fn a_good_review_is_patched_counted_and_logged() {
    let server = Server::start().await;
    let answer = server.post(good("uid-good")).await;
    let response = &answer["response"];
    assert_eq!(response["uid"], "uid-good");
    assert_eq!(response["allowed"], true, "{answer}");
    assert_eq!(response["patchType"], "JSONPatch");
    let patch = base64::engine::general_purpose::STANDARD
        .decode(response["patch"].as_str().unwrap())
        .unwrap();
    let patch: Vec<Value> = serde_json::from_slice(&patch).unwrap();
    assert!(!patch.is_empty());
    assert_eq!(
        response["auditAnnotations"],
        json!({"request-id": "uid-good", "outcome": "injected"})
    );

    let (_, metrics) = server.metrics("/metrics").await;
    for line in [
        "keeper_injector_requests_total 1",
        "keeper_injector_errors_total 0",
        "keeper_injector_latency_seconds_count 1",
        "keeper_injector_admissions_total{outcome=\"injected\"} 1",
        "keeper_injector_admissions_total{outcome=\"error\"} 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    assert!(metrics.contains("keeper_injector_latency_seconds_bucket{le=\"0.0001\"}"));
    assert!(metrics.contains("keeper_injector_certificate_expiry_timestamp_seconds "));
    assert!(metrics.contains("keeper_build_info{component=\"webhook\",version="));
    assert!(!metrics.contains(CANARY));
    assert_eq!(scraped_metrics(&metrics), documented_metrics("Webhook"));

    let log = log();
    let line = log.lines().find(|line| line.contains("uid-good")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["msg"], "admission answered");
    assert_eq!(line["level"], "info");
    assert_eq!(line["request_id"], "uid-good");
    assert_eq!(line["namespace"], "shop");
    assert_eq!(line["pod"], "web-1");
    assert_eq!(line["outcome"], "injected");
    assert!(line["duration"].as_str().unwrap().ends_with("ms"));
    assert!(!log.contains(CANARY), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_denied_with_the_text_for_the_user() {
    let server = Server::start().await;
    let answer = server
        .post(review("uid-bad", json!({"keeper.security/inject": CANARY})))
        .await;
    let response = &answer["response"];
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(response["status"]["reason"], "Invalid");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("keeper.security/inject"), "{message}");
    assert!(
        !log().contains(CANARY),
        "a message with a user's value stays out of the log"
    );
    let (_, metrics) = server.metrics("/metrics").await;
    assert!(
        metrics.contains("keeper_injector_denials_total{reason=\"bad_value\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("keeper_injector_errors_total 0"));

    let declined = server
        .post(review("uid-no", json!({"keeper.security/inject": "False"})))
        .await;
    assert_eq!(declined["response"]["allowed"], true);
    assert_eq!(declined["response"].get("patch"), None);
}

/// A Deployment whose template has these annotations.
fn workload(uid: &str, annotations: Value) -> Value {
    let mut review = review(uid, annotations);
    let request = &mut review["request"];
    request["kind"] = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    request["operation"] = json!("UPDATE");
    request["object"] = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"template": request["object"].take()},
    });
    review
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_gets_its_pods_denial_as_warnings() {
    let server = Server::start().await;
    let mistakes = json!({
        "keeper.security/inject": "true",
        "keeper.security/secret": CANARY,
        "keeper.security/refresh-intervall": CANARY,
    });
    let denial = server.post(review("uid-pod", mistakes.clone())).await;
    let denial = denial["response"]["status"]["message"].as_str().unwrap();
    let answer = server
        .post_to("/validate", workload("uid-warned", mistakes))
        .await;
    let response = &answer["response"];
    assert_eq!(response["allowed"], true);
    assert_eq!(response["uid"], "uid-warned");
    let warnings: Vec<&str> = response["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning.as_str().unwrap())
        .collect();
    let (heading, problems) = warnings.split_first().unwrap();
    assert_eq!(
        *heading,
        "Keeper Injector will refuse the pods of this Deployment:"
    );
    assert_eq!(problems.join("\n"), denial);

    let good = json!({
        "keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth",
    });
    let mut quiet = workload("uid-quiet", good);
    quiet["request"]["object"]["spec"]["template"]["metadata"]["annotations"]["keeper.security/secret"] =
        json!(CANARY);
    let answer = server.post_to("/validate", quiet).await;
    assert_eq!(answer["response"].get("warnings"), None, "{answer}");

    let log = log();
    let line = log
        .lines()
        .find(|line| line.contains("uid-warned"))
        .unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["msg"], "workload checked");
    assert_eq!(line["kind"], "Deployment");
    assert_eq!(line["outcome"], "warned");
    assert!(!log.contains(CANARY), "{log}");
    let (_, metrics) = server.metrics("/metrics").await;
    for line in [
        "keeper_injector_checks_total{outcome=\"warned\"} 1",
        "keeper_injector_checks_total{outcome=\"good\"} 1",
        "keeper_injector_requests_total 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

/// On this path nothing is refused but what has nobody to answer to.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_workloads_are_allowed() {
    let server = Server::start().await;
    let annotations = json!({"keeper.security/inject": "true"});
    for (pointer, value) in [
        ("/request/object", json!(null)),
        ("/request/object", json!([[[]]])),
        ("/request/object/spec", json!({"template": 7})),
        (
            "/request/object/spec/template/spec",
            json!({"containers": {}}),
        ),
        (
            "/request/object/spec/template/metadata",
            json!("x".repeat(1 << 20)),
        ),
        (
            "/request/object/metadata",
            json!({"annotations": {"keeper.security/\n": 1}}),
        ),
        ("/request/namespace", json!("")),
        ("/request/operation", json!("DELETE")),
        ("/request/kind/kind", json!({})),
        ("/apiVersion", json!("v2")),
    ] {
        let mut review = workload("uid-hostile", annotations.clone());
        *review.pointer_mut(pointer).unwrap() = value;
        let answer = server.post_to("/validate", review).await;
        assert_eq!(answer["response"]["allowed"], true, "{pointer}: {answer}");
    }
    let mut many = annotations;
    for i in 0..5000 {
        many[format!("keeper.security/{i}\u{7}")] = json!("x".repeat(100));
    }
    let answer = server
        .post_to("/validate", workload("uid-many", many))
        .await;
    assert_eq!(answer["response"]["allowed"], true);
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    let length = |warning: &Value| warning.as_str().unwrap().chars().count();
    assert!(warnings.iter().all(|warning| length(warning) <= 256));
    assert!(warnings.iter().map(length).sum::<usize>() <= 4096);

    let raw = server
        .client()
        .post(server.url("/validate"))
        .header("content-type", "application/json")
        .body("[".repeat(1 << 20));
    assert_eq!(raw.send().await.unwrap().status(), 400);
    server.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_clear_answers() {
    let server = Server::start().await;
    let client = server.client();
    let post = |content_type: &'static str, body: Vec<u8>| {
        let request = client
            .post(server.url("/mutate"))
            .header("content-type", content_type);
        async {
            let response = request.body(body).send().await.unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        }
    };
    let json = "application/json";
    let (status, text) = post(json, format!("{{\"a\": {CANARY}").into_bytes()).await;
    assert_eq!(
        (status, text.as_str()),
        (400, "the body is not JSON (line 1, column 7)\n")
    );
    let (status, text) = post(json, b"{}".to_vec()).await;
    assert_eq!(status, 400);
    assert!(text.contains("request.uid"), "{text}");
    assert_eq!(post(json, vec![0xff; 100]).await.0, 400);
    assert_eq!(post(json, Vec::new()).await.0, 400);
    assert_eq!(
        post("text/plain", good("x").to_string().into_bytes())
            .await
            .0,
        415
    );
    assert_eq!(
        post(
            "application/json; charset=utf-8",
            good("x").to_string().into_bytes()
        )
        .await
        .0,
        200
    );
    assert_eq!(post(json, vec![b'['; 4 << 20]).await.0, 400);

    let mut large = good("uid-large");
    large["request"]["object"]["metadata"]["labels"] = json!({"pad": "x".repeat(3 << 20)});
    assert_eq!(server.post(large).await["response"]["allowed"], true);

    let mut wrong = good("uid-wrong");
    wrong["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let answer = server.post(wrong).await;
    assert_eq!(answer["response"]["uid"], "uid-wrong");
    assert_eq!(answer["response"]["status"]["code"], 400);

    assert_eq!(
        client
            .get(server.url("/mutate"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        client
            .get(server.url("/nothing"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert!(!log().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_bodies_are_refused_whether_announced_or_not() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    stream
        .write_all(format!("{head}content-length: 9000000\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut start = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut start))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");

    let mut stream = server.connect().await;
    stream
        .write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b'['; 0x10_0000], b"\r\n"].concat();
    for _ in 0..9 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    timeout(PATIENCE, stream.read_exact(&mut start))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
    server.is_well().await;
}

// --- bad peers ---

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_peers_are_ended_and_disturb_nobody() {
    let server = Server::start().await;
    let started = Instant::now();
    let mut silent = TcpStream::connect(server.https).await.unwrap();
    let mut half_hello = TcpStream::connect(server.https).await.unwrap();
    half_hello
        .write_all(&[0x16, 0x03, 0x01, 0x02])
        .await
        .unwrap();
    let mut no_request = server.connect().await;
    let mut slow_head = server.connect().await;
    slow_head
        .write_all(b"POST /mutate HTTP/1.1\r\nx-a")
        .await
        .unwrap();
    let mut slow_body = server.connect().await;
    let head = "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    slow_body
        .write_all(format!("{head}content-length: 500\r\n\r\n{{").as_bytes())
        .await
        .unwrap();
    server.is_well().await;

    let (silent, half_hello, no_request, slow_head, slow_body) = tokio::join!(
        read_to_end(&mut silent),
        read_to_end(&mut half_hello),
        read_to_end(&mut no_request),
        read_to_end(&mut slow_head),
        async {
            let mut start = [0; 12];
            timeout(PATIENCE, slow_body.read_exact(&mut start))
                .await
                .unwrap()
                .unwrap();
            String::from_utf8_lossy(&start).into_owned()
        },
    );
    assert!(
        started.elapsed() >= Duration::from_secs(9),
        "the deadlines are not shorter"
    );
    assert_eq!(
        (silent.as_str(), no_request.as_str(), slow_head.as_str()),
        ("", "", "")
    );
    assert!(!half_hello.contains("HTTP"), "{half_hello:?}");
    assert_eq!(slow_body, "HTTP/1.1 408");
    server.is_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_silent_peers_holds_up_a_good_one_until_their_deadline_only() {
    // Both ends of each connection are in this process, and the usual limit is 1024.
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).unwrap();
    let server = Server::start().await;
    // As many as are served at once.
    let mut silent = Vec::new();
    for _ in 0..512 {
        silent.push(TcpStream::connect(server.https).await.unwrap());
    }
    let started = Instant::now();
    server.is_well().await;
    assert!(
        started.elapsed() >= Duration::from_secs(5),
        "connections are not bounded"
    );
    for mut peer in silent {
        assert_eq!(read_to_end(&mut peer).await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_a_connection_at_once() {
    let server = Server::start().await;
    let mut plain = TcpStream::connect(server.https).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let started = Instant::now();
    assert!(!read_to_end(&mut plain).await.contains("HTTP"));
    let mut garbage = server.connect().await;
    garbage.write_all(b"\0\x01garbage\r\n\r\n").await.unwrap();
    assert!(read_to_end(&mut garbage).await.starts_with("HTTP/1.1 400"));
    let mut long = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(64 * 1024));
    let _ = long.write_all(head.as_bytes()).await;
    assert!(!read_to_end(&mut long).await.starts_with("HTTP/1.1 2"));
    assert!(started.elapsed() < Duration::from_secs(8));
    server.is_well().await;
}

// --- certificates and the end ---

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_served_without_dropping_connections() {
    let server = Server::start().await;
    let mut old = server.connect().await;
    let served = |stream: &TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    let first = served(&old);
    let next = write_certificate(server.folder.path(), &server.ca);
    assert_ne!(first, next);
    timeout(PATIENCE, async {
        while served(&server.connect().await) != next {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await
    .expect("the new certificate is not served");
    for _ in 0..2 {
        old.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut start = [0; 15];
        timeout(PATIENCE, old.read_exact(&mut start))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&start, b"HTTP/1.1 200 OK");
        // The rest of the answer.
        let mut rest = [0; 1024];
        let _ = timeout(PATIENCE, old.read(&mut rest))
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_announced_and_nothing_in_flight_is_lost() {
    let mut server = Server::start().await;
    assert_eq!(server.metrics("/readyz").await.0, 200);
    // A request in flight: its body is not complete.
    let body = good("uid-flight").to_string();
    let (start, rest) = body.split_at(100);
    let mut flight = server.connect().await;
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    flight
        .write_all(format!("{head}{start}").as_bytes())
        .await
        .unwrap();
    let mut idle = server.connect().await;

    server.stop.take().unwrap().send(()).unwrap();
    timeout(PATIENCE, async {
        while server.metrics("/readyz").await.0 != 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("still ready");
    // The port is open for a while, and answers ask their clients to go elsewhere.
    let response = server
        .client()
        .get(server.url("/readyz"))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["connection"], "close");
    assert_eq!(response.text().await.unwrap(), "pending: draining\n");

    timeout(PATIENCE, async {
        while TcpStream::connect(server.https).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("the port stays open");
    assert_eq!(
        read_to_end(&mut idle).await,
        "",
        "an idle connection is closed"
    );
    assert_eq!(server.metrics("/healthz").await.0, 200, "alive to the end");
    flight.write_all(rest.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut flight).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("uid-flight"), "{answer}");
    timeout(PATIENCE, server.task)
        .await
        .expect("no end")
        .unwrap()
        .unwrap();
}
