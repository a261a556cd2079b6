//! The binary as a process: two replicas against a small API server, bad options, the exit.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{broadcast, watch};

const PATIENCE: Duration = Duration::from_secs(40);
const SERVICE: &str = "keeper-injector-webhook.keeper-security.svc";
const SECRETS: &str = "/api/v1/namespaces/keeper-security/secrets";
const SECRET: &str = "/api/v1/namespaces/keeper-security/secrets/keeper-injector-tls";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/keeper-injector";
const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/keeper-injector";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/keeper-security/leases";
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/keeper-security/leases/keeper-injector";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING_ONES: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
/// That it is kept too.
const WARNINGS: &str = "--validating-webhook-configuration=keeper-injector";

const NAMESPACES: &str = "/api/v1/namespaces";

// --- an API server with one Secret, the webhook configurations, and namespaces ---

#[derive(Clone)]
struct Api {
    state: Arc<Mutex<Objects>>,
    events: broadcast::Sender<Value>,
    namespace_events: broadcast::Sender<Value>,
    configuration_events: broadcast::Sender<Value>,
    address: SocketAddr,
}

#[derive(Default)]
struct Objects {
    version: u64,
    secret: Option<Value>,
    lease: Option<Value>,
    configuration: Value,
    /// None: there is no such object.
    validating: Option<Value>,
    /// `VERB path` of everything that was asked for.
    asked: BTreeSet<String>,
    applied: Vec<Value>,
    /// Annotations of the namespaces that a list has.
    namespaces: BTreeMap<String, Value>,
    /// Of those that were created since, and that the watch tells of later.
    new_namespaces: BTreeMap<String, Value>,
    /// Lists of namespaces are refused.
    no_lists: bool,
    /// The version is not told.
    no_version: bool,
    /// Namespaces of which nobody ever hears.
    silent: BTreeSet<String>,
}

impl Api {
    async fn start() -> Self {
        let hook = json!({
            "name": "inject.keeper.security",
            "clientConfig": {"service": {"name": "keeper-injector-webhook"}},
            "admissionReviewVersions": ["v1"], "sideEffects": "None",
        });
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "keeper-injector", "resourceVersion": "100"},
            "webhooks": [hook],
        });
        let mut validating = configuration.clone();
        validating["kind"] = json!("ValidatingWebhookConfiguration");
        validating["webhooks"][0]["name"] = json!("check.keeper.security");
        let state = Objects {
            configuration,
            validating: Some(validating),
            version: 100,
            namespaces: BTreeMap::from([("shop".to_owned(), json!({}))]),
            ..Objects::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            state: Arc::new(Mutex::new(state)),
            events: broadcast::channel(100).0,
            namespace_events: broadcast::channel(100).0,
            configuration_events: broadcast::channel(100).0,
            address: listener.local_addr().unwrap(),
        };
        let router = Router::new().fallback(answer).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        api
    }

    fn ca_bundle(&self) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let bundle = &state.configuration["webhooks"][0]["clientConfig"]["caBundle"];
        bundle.as_str().map(|text| STANDARD.decode(text).unwrap())
    }

    fn validating_bundle(&self) -> Option<Vec<u8>> {
        let state = self.state.lock().unwrap();
        let bundle = &state.validating.as_ref()?["webhooks"][0]["clientConfig"]["caBundle"];
        bundle.as_str().map(|text| STANDARD.decode(text).unwrap())
    }

    fn tell(&self, kind: &str, secret: &Value) {
        let object = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": secret["metadata"],
        });
        let _ = self.events.send(json!({"type": kind, "object": object}));
    }

    fn set_ca_bundle(&self, state: &mut Objects, bundle: Value) {
        state.version += 1;
        let configuration = &mut state.configuration;
        configuration["metadata"]["resourceVersion"] = json!(state.version.to_string());
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = bundle;
        let object = json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": configuration["metadata"],
        });
        let _ = self
            .configuration_events
            .send(json!({"type": "MODIFIED", "object": object}));
    }

    fn annotate(&self, namespace: &str, annotations: Value) {
        let object = namespace_object(namespace, &annotations);
        let mut state = self.state.lock().unwrap();
        state.namespaces.insert(namespace.to_owned(), annotations);
        let _ = self
            .namespace_events
            .send(json!({"type": "MODIFIED", "object": object}));
    }

    fn delete_secret(&self) {
        let secret = self.state.lock().unwrap().secret.take().unwrap();
        self.tell("DELETED", &secret);
    }

    /// As somebody would who edits it.
    fn damage_secret(&self) {
        let mut state = self.state.lock().unwrap();
        let mut secret = state.secret.clone().unwrap();
        secret["data"]["tls.crt"] = json!(STANDARD.encode("garbage"));
        let _ = self.write(&mut state, secret, "MODIFIED");
    }

    fn write(&self, state: &mut Objects, mut secret: Value, kind: &str) -> Response {
        state.version += 1;
        secret["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.secret = Some(secret.clone());
        self.tell(kind, &secret);
        axum::Json(secret).into_response()
    }
}

fn namespace_object(name: &str, annotations: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "resourceVersion": "100", "annotations": annotations},
    })
}

fn watched(events: broadcast::Receiver<Value>) -> Response {
    let events = stream::unfold(events, |mut events| async {
        let line = format!("{}\n", events.recv().await.ok()?);
        Some((Ok::<_, std::io::Error>(Bytes::from(line)), events))
    });
    Body::from_stream(events).into_response()
}

fn failure(code: u16, reason: &str) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": reason,
    });
    (
        axum::http::StatusCode::from_u16(code).unwrap(),
        axum::Json(status),
    )
        .into_response()
}

fn metadata_only(headers: &axum::http::HeaderMap) {
    let accepted = headers["accept"].to_str().unwrap();
    assert!(accepted.contains("as=PartialObjectMetadata"), "{accepted}");
}

async fn answer(State(api): State<Api>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let path = head.uri.path();
    let watch = query.contains("watch=true");
    let verb = if watch { "WATCH" } else { head.method.as_str() };
    let name = path.strip_prefix("/api/v1/namespaces/");
    if name.is_some_and(|name| api.state.lock().unwrap().silent.contains(name)) {
        return std::future::pending().await;
    }
    let mut state = api.state.lock().unwrap();
    state.asked.insert(format!("{verb} {path}"));
    match (verb, path) {
        ("GET", "/version") if state.no_version => failure(503, "ServiceUnavailable"),
        ("GET", "/version") => axum::Json(json!({
            "major": "1", "minor": "35+", "gitVersion": "v1.35.4", "buildDate": "", "compiler": "gc",
            "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": "",
        }))
        .into_response(),
        ("WATCH", SECRETS) => {
            assert!(query.contains("fieldSelector=metadata.name%3Dkeeper-injector-tls"), "{query}");
            watched(api.events.subscribe())
        }
        ("WATCH", CONFIGURATIONS) => {
            assert!(query.contains("fieldSelector=metadata.name%3Dkeeper-injector"), "{query}");
            watched(api.configuration_events.subscribe())
        }
        ("WATCH", VALIDATING_ONES) => {
            Body::from_stream(stream::pending::<std::io::Result<Bytes>>()).into_response()
        }
        ("GET", SECRETS | CONFIGURATIONS | VALIDATING_ONES) => axum::Json(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": state.version.to_string()}, "items": [],
        }))
        .into_response(),
        ("GET", SECRET) => match &state.secret {
            Some(secret) => axum::Json(secret.clone()).into_response(),
            None => failure(404, "NotFound"),
        },
        ("POST", SECRETS) if state.secret.is_some() => failure(409, "AlreadyExists"),
        ("POST", SECRETS) => {
            let secret: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(secret["metadata"]["name"], "keeper-injector-tls");
            api.write(&mut state, secret, "ADDED")
        }
        ("PATCH", SECRET) => {
            let patch: Value = serde_json::from_slice(&body).unwrap();
            let Some(mut secret) = state.secret.clone() else { return failure(404, "NotFound") };
            if patch["metadata"]["resourceVersion"] != secret["metadata"]["resourceVersion"] {
                return failure(409, "Conflict");
            }
            secret["data"] = patch["data"].clone();
            api.write(&mut state, secret, "MODIFIED")
        }
        ("GET", LEASE) => match &state.lease {
            Some(lease) => axum::Json(lease.clone()).into_response(),
            None => failure(404, "NotFound"),
        },
        ("POST", LEASES) if state.lease.is_some() => failure(409, "AlreadyExists"),
        ("POST", LEASES) | ("PATCH", LEASE) => {
            let mut lease: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(lease["metadata"]["name"], "keeper-injector");
            let before = state.lease.take().unwrap_or_default();
            if lease["metadata"]["resourceVersion"] != before["metadata"]["resourceVersion"] {
                state.lease = Some(before);
                return failure(409, "Conflict");
            }
            state.version += 1;
            lease["metadata"]["resourceVersion"] = json!(state.version.to_string());
            state.lease = Some(lease.clone());
            axum::Json(lease).into_response()
        }
        ("GET", CONFIGURATION) => axum::Json(state.configuration.clone()).into_response(),
        ("PATCH", CONFIGURATION) => {
            assert_eq!(head.headers["content-type"], "application/apply-patch+yaml");
            assert!(query.contains("fieldManager=keeper-injector-certificates"), "{query}");
            assert!(query.contains("force=true"), "{query}");
            let applied: Value = serde_json::from_slice(&body).unwrap();
            if applied["metadata"]["resourceVersion"] != state.configuration["metadata"]["resourceVersion"] {
                return failure(409, "Conflict");
            }
            let bundle = applied["webhooks"][0]["clientConfig"]["caBundle"].clone();
            api.set_ca_bundle(&mut state, bundle);
            state.applied.push(applied);
            axum::Json(state.configuration.clone()).into_response()
        }
        ("WATCH", NAMESPACES) => watched(api.namespace_events.subscribe()),
        ("GET", NAMESPACES) if state.no_lists => failure(403, "Forbidden"),
        ("GET", NAMESPACES) => {
            metadata_only(&head.headers);
            let of = |(name, annotations): (&String, &Value)| namespace_object(name, annotations);
            let items: Vec<_> = state.namespaces.iter().map(of).collect();
            axum::Json(json!({
                "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {"resourceVersion": "100"}, "items": items,
            }))
            .into_response()
        }
        ("GET", path) if path.starts_with("/api/v1/namespaces/") => {
            metadata_only(&head.headers);
            let name = path.rsplit('/').next().unwrap();
            match state.new_namespaces.get(name) {
                Some(annotations) => axum::Json(namespace_object(name, annotations)).into_response(),
                None => failure(404, "NotFound"),
            }
        }
        ("GET", VALIDATING) => match &state.validating {
            Some(validating) => axum::Json(validating.clone()).into_response(),
            None => failure(404, "NotFound"),
        },
        ("PATCH", VALIDATING) => {
            let applied: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(applied["kind"], "ValidatingWebhookConfiguration");
            assert_eq!(applied["webhooks"][0]["name"], "check.keeper.security");
            let validating = state.validating.as_mut().unwrap();
            let bundle = applied["webhooks"][0]["clientConfig"]["caBundle"].clone();
            validating["webhooks"][0]["clientConfig"]["caBundle"] = bundle;
            axum::Json(validating.clone()).into_response()
        }
        _ => failure(403, "Forbidden"),
    }
}

// --- a replica ---

struct Replica {
    process: Child,
    log: Arc<Mutex<String>>,
    https: SocketAddr,
    metrics: SocketAddr,
}

fn command(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keeper-webhook"));
    command
        .args([
            "serve",
            "--listen=127.0.0.1:0",
            "--metrics-listen=127.0.0.1:0",
        ])
        .arg(format!(
            "--settings={}",
            folder.join("settings.yaml").display()
        ))
        .args(more)
        .env("KUBECONFIG", folder.join("kubeconfig"))
        .env("HOME", folder)
        .env_remove("KUBERNETES_SERVICE_HOST")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn write_settings(folder: &Path, text: &str) {
    std::fs::write(folder.join("settings.yaml"), text).unwrap();
}

const SETTINGS: &str = "
sidecarImage: keeper/injector-sidecar:0.1.0
ownNamespace: keeper-security
logFormat: json
";

fn folder(api: &Api) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), SETTINGS);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": format!("http://{}", api.address)}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {}}],
    });
    std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
    folder
}

impl Replica {
    async fn start(folder: &Path, more: &[&str]) -> Self {
        let mut process = command(folder, more).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut addresses = None;
        until("the replica listens", async || {
            let text = log.lock().unwrap().clone();
            let line = text
                .lines()
                .find(|line| line.contains(r#""msg":"listening""#));
            addresses = line.map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                let address = |name: &str| line[name].as_str().unwrap().parse().unwrap();
                (address("https"), address("metrics"))
            });
            addresses.is_some()
        })
        .await;
        let (https, metrics) = addresses.unwrap();
        Self {
            process,
            log,
            https,
            metrics,
        }
    }

    async fn ready(&self) -> String {
        let url = format!("http://{}/readyz", self.metrics);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    fn client(&self, ca_bundle: &[u8]) -> reqwest::Client {
        client(self.https, ca_bundle)
    }

    /// One admission as the API server does it: a new connection, with what it trusts now.
    async fn review(&self, api: &Api, namespace: &str, pod: Value) -> Value {
        let review = review(namespace, &pod);
        let url = format!("https://{SERVICE}:{}/mutate", self.https.port());
        let request = self.client(&api.ca_bundle().unwrap()).post(url);
        let request = request
            .header("content-type", "application/json")
            .body(review.to_string());
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["response"].clone()
    }

    async fn admit(&self, api: &Api) {
        let pod = json!({"metadata": {"annotations": {}}, "spec": {"containers": []}});
        let answer = self.review(api, "shop", pod).await;
        assert_eq!(answer["allowed"], true, "{answer}");
    }

    /// The agents' refresh interval, in seconds, in a pod that states none, or the code and the message of a refusal.
    async fn interval(&self, api: &Api, namespace: &str) -> Result<u64, (u64, String)> {
        let pod = json!({
            "metadata": {"annotations": {"keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth"}},
            "spec": {"containers": [{"name": "app", "image": "busybox"}]},
        });
        let answer = self.review(api, namespace, pod).await;
        let Some(patch) = answer["patch"].as_str() else {
            let status = &answer["status"];
            let message = status["message"].as_str().unwrap().to_owned();
            return Err((status["code"].as_u64().unwrap(), message));
        };
        let patch = String::from_utf8(STANDARD.decode(patch).unwrap()).unwrap();
        let (_, rest) = patch.split_once(r#"refreshIntervalSeconds\":"#).unwrap();
        Ok(rest.split(',').next().unwrap().parse().unwrap())
    }

    async fn metric(&self, name: &str) -> i64 {
        let url = format!("http://{}/metrics", self.metrics);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap();
        line.parse().unwrap()
    }

    async fn expiry(&self) -> i64 {
        let name = "keeper_injector_certificate_expiry_timestamp_seconds";
        self.metric(name).await
    }

    async fn leads(&self) -> bool {
        self.metric("keeper_injector_leader").await == 1
    }
}

fn client(https: SocketAddr, ca_bundle: &[u8]) -> reqwest::Client {
    let roots = reqwest::Certificate::from_pem_bundle(ca_bundle).unwrap();
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .resolve(SERVICE, https)
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

fn review(namespace: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "namespace": namespace,
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "object": pod,
        },
    })
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

// --- what it must do ---

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_agree_renew_and_recover_without_failing_an_admission() {
    provider();
    let api = Api::start().await;
    let folder = folder(&api);
    // 30 s: looks every 1.5 s, renews after 20 s.
    let options = ["--certificate-lifetime=30s", "--ca-lifetime=10h", WARNINGS];
    let (mut left, mut right) = tokio::join!(
        Replica::start(folder.path(), &options),
        Replica::start(folder.path(), &options)
    );
    until("both are ready", async || {
        left.ready().await == "ok\n" && right.ready().await == "ok\n"
    })
    .await;
    let first = left.expiry().await;
    assert_eq!(first, right.expiry().await);
    left.admit(&api).await;
    right.admit(&api).await;
    let applied = api.state.lock().unwrap().applied[0].clone();
    assert_eq!(
        applied["webhooks"][0]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["clientConfig", "name"],
        "nothing but the caBundle is applied"
    );

    // Somebody takes the caBundle away.
    let bundle = api.ca_bundle();
    api.set_ca_bundle(&mut api.state.lock().unwrap(), json!(""));
    until("the caBundle is back", async || api.ca_bundle() == bundle).await;

    // Renewal, with admissions all the time.
    until("both renewed", async || {
        left.admit(&api).await;
        right.admit(&api).await;
        let (l, r) = (left.expiry().await, right.expiry().await);
        l > first && l == r
    })
    .await;
    assert_eq!(api.ca_bundle(), bundle, "the authority stays");

    // Somebody deletes the Secret: a new authority, announced before it signs.
    api.delete_secret();
    until("a new authority is trusted too", async || {
        left.admit(&api).await;
        right.admit(&api).await;
        let trusted = String::from_utf8(api.ca_bundle().unwrap()).unwrap();
        trusted.matches("BEGIN CERTIFICATE").count() == 2
    })
    .await;
    until("the workload warnings trust the same", async || {
        api.validating_bundle() == api.ca_bundle()
    })
    .await;

    let allowed: BTreeSet<String> = [
        "GET /version".to_owned(),
        format!("GET {SECRETS}"),
        format!("WATCH {SECRETS}"),
        format!("POST {SECRETS}"),
        format!("GET {SECRET}"),
        format!("PATCH {SECRET}"),
        // Everybody may ask who he is.
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews".to_owned(),
        format!("GET {LEASE}"),
        format!("POST {LEASES}"),
        format!("PATCH {LEASE}"),
        format!("GET {CONFIGURATION}"),
        format!("PATCH {CONFIGURATION}"),
        format!("GET {VALIDATING}"),
        format!("PATCH {VALIDATING}"),
        format!("GET {CONFIGURATIONS}"),
        format!("WATCH {CONFIGURATIONS}"),
        format!("GET {VALIDATING_ONES}"),
        format!("WATCH {VALIDATING_ONES}"),
        format!("GET {NAMESPACES}"),
        format!("WATCH {NAMESPACES}"),
    ]
    .into();
    assert_eq!(
        api.state.lock().unwrap().asked,
        allowed,
        "what the chart's roles grant"
    );

    // The leader goes; the other one leads long before the Lease would have run out.
    if right.leads().await {
        std::mem::swap(&mut left, &mut right);
    }
    assert!(left.leads().await && !right.leads().await);
    let pid = rustix::process::Pid::from_raw(left.process.id().unwrap().try_into().unwrap());
    rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM).unwrap();
    until("it turns unready", async || {
        left.ready().await.contains("draining")
    })
    .await;
    let exit = tokio::time::timeout(PATIENCE, left.process.wait())
        .await
        .unwrap()
        .unwrap();
    assert!(exit.success(), "{exit}");
    until("the other one leads", async || right.leads().await).await;
    assert!(left.log.lock().unwrap().contains("gave up the leadership"));
    for log in [&left.log, &right.log] {
        let log = log.lock().unwrap();
        assert!(!log.contains("PRIVATE KEY"), "{log}");
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["msg"].is_string());
            assert_ne!(line["level"], "error", "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_not_overwritten() {
    provider();
    let api = Api::start().await;
    let theirs = json!({
        "metadata": {"name": "keeper-injector-tls", "resourceVersion": "5"},
        "data": {"tls.crt": "eA==", "tls.key": "eA=="},
    });
    api.state.lock().unwrap().secret = Some(theirs.clone());
    let folder = folder(&api);
    let replica = Replica::start(folder.path(), &[]).await;
    until("it says why", async || {
        replica.log.lock().unwrap().contains("did not write")
    })
    .await;
    assert!(
        replica
            .ready()
            .await
            .contains("pending: serving certificate")
    );
    assert_eq!(api.state.lock().unwrap().secret, Some(theirs));
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_known_before_it_is_ready_and_watched_from_then_on() {
    provider();
    let api = Api::start().await;
    let interval = |text: &str| json!({"keeper.security/refresh-interval": text});
    {
        let mut state = api.state.lock().unwrap();
        state.no_lists = true;
        state.namespaces.insert("listed".into(), interval("10m"));
        state.new_namespaces.insert("new".into(), interval("20m"));
        state.silent.insert("silent".into());
    }
    let folder = folder(&api);
    let replica = Replica::start(folder.path(), &[]).await;
    until("nothing but the namespaces is pending", async || {
        replica.ready().await == "pending: namespaces\n"
    })
    .await;
    until("the log says why", async || {
        let log = replica.log.lock().unwrap();
        log.contains("the watch on the namespaces broke") && log.contains("Forbidden")
    })
    .await;
    api.state.lock().unwrap().no_lists = false;
    until("it is ready", async || replica.ready().await == "ok\n").await;

    assert_eq!(replica.interval(&api, "shop").await, Ok(300));
    assert_eq!(replica.interval(&api, "listed").await, Ok(600));
    api.annotate("listed", interval("15m"));
    until("the new default", async || {
        replica.interval(&api, "listed").await == Ok(900)
    })
    .await;
    // The watch has not told of this one, of that one nobody knows, and nobody hears of the third.
    assert_eq!(replica.interval(&api, "new").await, Ok(1200));
    let (code, message) = replica.interval(&api, "absent").await.unwrap_err();
    assert_eq!(code, 503, "{message}");
    assert!(message.contains("no such namespace"), "{message}");
    let (code, message) = replica.interval(&api, "silent").await.unwrap_err();
    assert_eq!(code, 503, "{message}");
    assert!(message.contains("cannot be read; try again"), "{message}");

    let asked = api.state.lock().unwrap().asked.clone();
    for known in ["shop", "listed"] {
        assert!(
            !asked.contains(&format!("GET {NAMESPACES}/{known}")),
            "{asked:?}"
        );
    }
    // A mistake is the namespace's, and a name is no path.
    api.annotate("listed", interval("soon"));
    until("the mistake is seen", async || {
        let answer = replica.interval(&api, "listed").await;
        answer.is_err_and(|(code, message)| {
            code == 422 && message.contains("an annotation of the namespace listed: ")
        })
    })
    .await;
    let (code, _) = replica.interval(&api, "new/secrets").await.unwrap_err();
    assert_eq!(code, 400);
}

/// Nobody waits for warnings: what is wrong with their configuration holds no pod up.
/// After a kill its endpoint is still there: whoever calls as soon as the port is open is not to be lost.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_calls_while_it_starts_waits_for_the_answer() {
    provider();
    let api = Api::start().await;
    let folder = folder(&api);
    let first = Replica::start(folder.path(), &[]).await;
    until("a caBundle", async || api.ca_bundle().is_some()).await;
    drop(first);
    {
        let mut state = api.state.lock().unwrap();
        state.no_version = true;
        state.asked.clear();
    }
    let replica = Replica::start(folder.path(), &[]).await;
    let (interval, ()) = tokio::join!(replica.interval(&api, "shop"), async {
        until("it asks for the version", async || {
            api.state.lock().unwrap().asked.contains("GET /version")
        })
        .await;
        api.state.lock().unwrap().no_version = false;
    });
    assert_eq!(interval, Ok(300));
}

/// Connections beyond the limit of open files wait. It neither ends nor spins, and goes on when there are some again.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_file_descriptors_it_rests_and_goes_on() {
    const SPINNING: usize = 50;
    provider();
    let api = Api::start().await;
    let folder = folder(&api);
    let replica = Replica::start(folder.path(), &[]).await;
    until("it is ready", async || replica.ready().await == "ok\n").await;
    let pid = i32::try_from(replica.process.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid);
    let limit = rustix::process::Rlimit {
        current: Some(48),
        maximum: Some(48),
    };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(tokio::net::TcpStream::connect(replica.https).await.unwrap());
    }
    let complaints = || {
        let log = replica.log.lock().unwrap();
        log.matches("cannot accept a connection").count()
    };
    until("it has run out several times", async || complaints() > 3).await;
    drop(idle);
    replica.admit(&api).await;
    assert!(complaints() < SPINNING, "{} complaints", complaints());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_for_warnings_it_serves_all_the_same() {
    provider();
    let api = Api::start().await;
    api.state.lock().unwrap().validating = None;
    let folder = folder(&api);
    let replica = Replica::start(folder.path(), &[WARNINGS]).await;
    until("it is ready", async || replica.ready().await == "ok\n").await;
    replica.admit(&api).await;
    let log = replica.log.lock().unwrap().clone();
    let line = log
        .lines()
        .find(|line| line.contains("there will be no workload warnings"))
        .expect("it says so");
    assert!(line.contains("ValidatingWebhookConfiguration"), "{line}");
    assert!(!log.contains(r#""level":"error""#), "{log}");
}

/// How many times the certificate is renewed; `RENEWALS=100` takes seven minutes.
fn renewals() -> usize {
    let asked = std::env::var("RENEWALS").ok();
    asked.map_or(8, |asked| asked.parse().expect("RENEWALS is a number"))
}

/// Admissions that one client has had answered, each over a new connection or all over one.
async fn admissions(
    client: impl Fn() -> reqwest::Client,
    url: String,
    stop: watch::Receiver<bool>,
) -> usize {
    let pod = json!({"metadata": {"annotations": {}}, "spec": {"containers": []}});
    let review = review("shop", &pod).to_string();
    let mut answered = 0;
    while !*stop.borrow() {
        let request = client()
            .post(&url)
            .header("content-type", "application/json");
        let answer = request.body(review.clone()).send().await;
        let answer =
            answer.unwrap_or_else(|error| panic!("after {answered} admissions: {error:?}"));
        let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        answered += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    answered
}

/// Three replicas, lifetimes of seconds, an authority every few renewals, and the Secret deleted and damaged in between; on each
/// a client that opens a connection for each admission and trusts what the caBundle holds at that moment, as API servers do,
/// and one that keeps its connection.
#[tokio::test(flavor = "multi_thread")]
async fn renewals_under_load_fail_no_admission() {
    provider();
    let api = Api::start().await;
    let folder = folder(&api);
    let options = ["--certificate-lifetime=6s", "--ca-lifetime=30s", WARNINGS];
    let replicas =
        futures_util::future::join_all((0..3).map(|_| Replica::start(folder.path(), &options)))
            .await;
    until("all are ready", async || {
        for replica in &replicas {
            if replica.ready().await != "ok\n" {
                return false;
            }
        }
        true
    })
    .await;
    let (stop, stopped) = watch::channel(false);
    let mut clients = tokio::task::JoinSet::new();
    for replica in &replicas {
        let url = format!("https://{SERVICE}:{}/mutate", replica.https.port());
        let kept = replica.client(&api.ca_bundle().unwrap());
        clients.spawn(admissions(
            move || kept.clone(),
            url.clone(),
            stopped.clone(),
        ));
        let (api, address) = (api.clone(), replica.https);
        let anew = move || client(address, &api.ca_bundle().unwrap());
        clients.spawn(admissions(anew, url, stopped.clone()));
    }

    let (mut certificates, mut authorities) = (BTreeSet::new(), BTreeSet::new());
    let wanted = renewals();
    let end = Instant::now() + PATIENCE + Duration::from_secs(5) * u32::try_from(wanted).unwrap();
    while certificates.len() <= wanted {
        assert!(
            Instant::now() < end,
            "{} renewals in time",
            certificates.len()
        );
        if let Some(ended) = clients.try_join_next() {
            panic!("a client ended: {ended:?}");
        }
        let kept = api.state.lock().unwrap().secret.clone();
        if let Some(kept) = kept {
            let data = |name: &str| kept["data"][name].to_string();
            authorities.insert(data("ca.key"));
            if certificates.insert(data("tls.crt")) {
                match certificates.len() % 8 {
                    3 => api.delete_secret(),
                    6 => api.damage_secret(),
                    _ => {}
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        authorities.len() * 5 > wanted,
        "{} authorities",
        authorities.len()
    );
    until("all serve what is kept, and say until when", async || {
        let kept = api.state.lock().unwrap().secret.clone().unwrap();
        let pem = STANDARD
            .decode(kept["data"]["tls.crt"].as_str().unwrap())
            .unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).unwrap();
        let expires = pem.parse_x509().unwrap().validity().not_after.timestamp();
        let mut agree = true;
        for replica in &replicas {
            agree &= replica.expiry().await == expires;
        }
        agree
    })
    .await;
    stop.send_replace(true);
    let answered = clients.join_all().await;
    assert!(
        answered.iter().all(|answered| *answered > wanted * 5),
        "{answered:?}"
    );
}

async fn refusal(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = tokio::time::timeout(PATIENCE, command(folder, more).output()).await;
    let output = output.expect("no exit in time").unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[tokio::test]
async fn settings_that_are_not_valid_end_it_with_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), &format!("{SETTINGS}sidecarImgae: x\n"));
    let (code, text) = refusal(folder.path(), &[]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("sidecarImgae") && text.contains("line 5"),
        "{text}"
    );

    write_settings(folder.path(), "sidecarImage: [\n");
    let (code, text) = refusal(folder.path(), &[]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("line "), "{text}");

    std::fs::remove_file(folder.path().join("settings.yaml")).unwrap();
    let (code, text) = refusal(folder.path(), &[]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("settings.yaml: No such file"), "{text}");
}

#[tokio::test]
async fn bad_options_are_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    write_settings(folder.path(), SETTINGS);
    let (code, text) = refusal(folder.path(), &["--tls-mode=manual"]).await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("--tls-cert"), "{text}");
    let files = [
        "--tls-mode=manual",
        "--tls-cert=/nonexistent",
        "--tls-key=/nonexistent",
    ];
    let (code, text) = refusal(
        folder.path(),
        &[&files[..], &["--kubernetes-version=1.35"]].concat(),
    )
    .await;
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("/nonexistent"), "{text}");
    let (code, text) = refusal(folder.path(), &[]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("--kubernetes-version"), "{text}");
    for (options, part) in [
        (
            &["--leader-election-renew-deadline-seconds=15"][..],
            "less than --leader-election-lease-duration-seconds",
        ),
        (
            &[
                "--leader-election=false",
                "--traffic-to-leader-only",
                "--pod-name=p",
            ],
            "--leader-election true",
        ),
    ] {
        let (code, text) = refusal(folder.path(), options).await;
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(part), "{text}");
    }
}
