//! The binary and a collector: what a span says, what it doesn't, and that nobody waits for it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(40);
const CANARY: &str = "canary-77aa01";
const NAME: &str = "keeper-injector-webhook.keeper-security.svc";

struct Webhook {
    _folder: tempfile::TempDir,
    process: Child,
    https: SocketAddr,
    client: reqwest::Client,
}

impl Webhook {
    async fn start(collector: SocketAddr) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(file("tls.key"), key.serialize_pem()).unwrap();
        std::fs::write(file("tls.crt"), certificate.pem()).unwrap();
        let settings = "sidecarImage: s\nownNamespace: keeper-security\nlogFormat: json\n";
        std::fs::write(file("settings.yaml"), settings).unwrap();
        let option = |name: &str, at: &str| format!("--{name}={}", file(at).display());
        let mut process = Command::new(env!("CARGO_BIN_EXE_keeper-webhook"))
            .args([
                "serve",
                "--listen=127.0.0.1:0",
                "--metrics-listen=127.0.0.1:0",
            ])
            .args(["--tls-mode=manual", "--kubernetes-version=1.35"])
            .args(["--drain-delay-seconds=0"])
            .args([option("settings", "settings.yaml")])
            .args([option("tls-cert", "tls.crt"), option("tls-key", "tls.key")])
            .env_clear()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=abc")
            .env("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=shop-1")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let https = timeout(PATIENCE, async {
            loop {
                let line = lines.next_line().await.unwrap().expect("it should go on");
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["msg"] == "listening" {
                    return line["https"].as_str().unwrap().parse().unwrap();
                }
            }
        });
        let https = https.await.expect("it should listen");
        // Its log goes on, and must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let root = reqwest::Certificate::from_der(certificate.der()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([root]).no_proxy();
        Self {
            _folder: folder,
            process,
            https,
            client: client
                .resolve(NAME, https)
                .timeout(PATIENCE)
                .build()
                .unwrap(),
        }
    }

    async fn admit(&self, uid: &str, annotations: Value, traceparent: Option<&str>) -> Value {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": uid, "operation": "CREATE", "namespace": "shop",
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "userInfo": {"username": CANARY, "groups": [CANARY]},
                "object": {
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": "web-1", "annotations": annotations},
                    "spec": {"containers": [{"name": "app", "image": CANARY}]},
                },
            },
        });
        let url = format!("https://{NAME}:{}/mutate", self.https.port());
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json");
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let answer = request.body(review.to_string()).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// SIGTERM, and the end.
    async fn end(mut self) {
        let pid = rustix::process::Pid::from_raw(self.process.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = timeout(PATIENCE, self.process.wait())
            .await
            .expect("no end");
        assert!(status.unwrap().success());
    }
}

fn good() -> Value {
    json!({
        "keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth",
        "keeper.security/secret": CANARY,
    })
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let value = found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref());
    match value {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?} in {attributes:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_names_the_decision_and_is_part_of_its_callers_trace() {
    type Posts = Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>;
    let posts = Posts::default();
    let seen = Arc::clone(&posts);
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = collector.local_addr().unwrap();
    let router = Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| {
        seen.lock()
            .unwrap()
            .push((uri.path().to_owned(), headers, body));
    });
    tokio::spawn(async move { axum::serve(collector, router).await });

    let webhook = Webhook::start(address).await;
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    webhook.admit("t-0", good(), Some(parent)).await;
    webhook
        .admit("t-1", json!({"keeper.security/inject": CANARY}), None)
        .await;
    webhook.admit("t-2", good(), Some("00-zz-0-1")).await;
    let not_sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    webhook.admit("t-3", good(), Some(not_sampled)).await;
    webhook.end().await;

    let posts = posts.lock().unwrap();
    let mut spans: Vec<Span> = Vec::new();
    for (path, headers, body) in posts.iter() {
        assert_eq!(path, "/v1/traces");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["x-key"], "abc");
        // Who asked, for what, and what the user wrote.
        assert!(!String::from_utf8_lossy(body).contains(CANARY));
        let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
        for resource in request.resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            assert_eq!(text(&attributes, "service.name"), "keeper-injector-webhook");
            assert_eq!(
                text(&attributes, "service.version"),
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(text(&attributes, "k8s.cluster.name"), "shop-1");
            spans.extend(
                resource
                    .scope_spans
                    .into_iter()
                    .flat_map(|scope| scope.spans),
            );
        }
    }
    spans.sort_by_key(|span| text(&span.attributes, "keeper.request_id").to_owned());
    let ids: Vec<_> = spans
        .iter()
        .map(|span| text(&span.attributes, "keeper.request_id"))
        .collect();
    assert_eq!(ids, ["t-0", "t-1", "t-2"]);
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    assert_eq!(hex(&spans[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&spans[0].parent_span_id), "b7ad6b7169203331");
    for span in &spans[1..] {
        assert_eq!((span.trace_id.len(), span.parent_span_id.len()), (16, 0));
    }
    for span in &spans {
        assert_eq!(span.name, "admit pod");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        assert_eq!(text(&span.attributes, "k8s.namespace.name"), "shop");
        assert_eq!(text(&span.attributes, "k8s.pod.name"), "web-1");
    }
    assert_eq!(text(&spans[0].attributes, "keeper.outcome"), "injected");
    assert_eq!(text(&spans[0].attributes, "keeper.shape"), "native");
    assert_eq!(text(&spans[1].attributes, "keeper.outcome"), "denied");
    assert_eq!(
        text(&spans[1].attributes, "keeper.reason"),
        "bad_value,missing_config"
    );
}

/// It takes connections, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_collector_that_hangs() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let webhook = Webhook::start(collector.local_addr().unwrap()).await;
    for n in 0..20 {
        let answer = webhook.admit(&format!("h-{n}"), good(), None).await;
        assert_eq!(answer["response"]["allowed"], true);
    }
    webhook.end().await;
}
