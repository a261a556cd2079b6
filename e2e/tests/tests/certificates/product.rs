//! The product, installed with other values while a test runs.

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keeper_e2e::{kubectl, node, repository, try_kubectl, until};
use serde_json::{Value, json};

use crate::issuer::Pair;

/// Its namespace.
pub(crate) const OWN: &str = "--namespace=keeper-security";
const HOOKS: [&str; 2] = [
    "mutatingwebhookconfiguration",
    "validatingwebhookconfiguration",
];

/// Held by one test at a time; as it was when the test is over.
pub(crate) struct Product {
    _alone: MutexGuard<'static, ()>,
    values: Mutex<Value>,
}

impl Product {
    /// Installed with these values beside the node's own.
    pub(crate) fn with(values: &Value) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let product = Self {
            _alone: alone,
            values: Mutex::new(json!({})),
        };
        product.upgrade_to(values);
        product
    }

    pub(crate) fn upgrade_to(&self, values: &Value) {
        *self.values.lock().unwrap() = values.clone();
        self.upgrade();
    }

    pub(crate) fn upgrade(&self) {
        helm_upgrade(&self.values.lock().unwrap(), &[NO_RETRIES]);
    }

    /// What helm applied.
    pub(crate) fn manifest(&self) -> String {
        node::client(&["helm", "get", "manifest", "keeper-injector", OWN])
    }

    /// The UID of each pod, and how often it was restarted.
    pub(crate) fn pods(&self) -> Vec<(String, u64)> {
        let restarts = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"].as_u64();
        let mut pods: Vec<_> = pods()
            .iter()
            .map(|pod| (pod["metadata"]["uid"].to_string(), restarts(pod).unwrap()))
            .collect();
        pods.sort();
        pods
    }

    pub(crate) fn logs(&self) -> Vec<String> {
        let name = |pod: Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
        let logs = |pod: Value| kubectl(&["logs", OWN, &name(pod)]);
        pods().into_iter().map(logs).collect()
    }

    /// Waits until every pod serves this certificate (PEM), and its metric tells until when.
    pub(crate) fn until_each_serves(&self, certificate: &dyn Fn() -> String) {
        until("each replica to serve the certificate", 120, || {
            let wanted = details(&certificate());
            let serves = |pod: &Value| served(pod) == wanted && metric(pod) == expiry(&wanted);
            pods().iter().all(serves).then_some(())
        });
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in self.logs() {
                eprintln!("{log}");
            }
        }
        helm_upgrade(&json!({}), &[]);
    }
}

/// A call that fails is to be seen.
const NO_RETRIES: &str = "--set=webhook.retries=0";

fn helm_upgrade(values: &Value, more: &[&str]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(values.to_string().as_bytes()).unwrap();
    let chart = repository().join("chart/keeper-injector");
    let usual = repository().join("e2e/cluster/manifests/values.yaml");
    let command = [
        "helm",
        "upgrade",
        "keeper-injector",
        chart.to_str().unwrap(),
        "--wait",
        "--timeout=2m",
        OWN,
        "--values",
        usual.to_str().unwrap(),
        "--values",
        file.path().to_str().unwrap(),
    ];
    let _ = node::client(&[&command, more].concat());
    // Old pods may still be on their way out.
    until("no more than the new pods", 60, || {
        (pods().len() == 2).then_some(())
    });
}

/// The webhook's pods.
fn pods() -> Vec<Value> {
    let selector = "--selector=app.kubernetes.io/name=keeper-injector";
    let list: Value =
        serde_json::from_str(&kubectl(&["get", "pods", OWN, selector, "--output=json"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Serial number and end of a certificate, as openssl prints them.
fn details(pem: &str) -> String {
    let script = "echo \"$1\" | openssl x509 -noout -serial -enddate -dateopt iso_8601";
    node::exec(&["sh", "-c", script, "sh", pem])
}

/// The same of what a pod serves.
fn served(pod: &Value) -> String {
    let address = format!(
        "{}:8443",
        pod["status"]["podIP"].as_str().unwrap_or_default()
    );
    let script = "openssl s_client -connect \"$1\" -servername keeper-injector-webhook.keeper-security.svc </dev/null 2>/dev/null \
        | openssl x509 -noout -serial -enddate -dateopt iso_8601 || true";
    node::exec(&["sh", "-c", script, "sh", &address])
}

fn expiry(details: &str) -> Option<i64> {
    let end = details
        .lines()
        .find_map(|line| line.strip_prefix("notAfter="))?;
    let seconds = node::exec(&["date", "--date", end, "+%s"]);
    seconds.trim().parse().ok()
}

fn metric(pod: &Value) -> Option<i64> {
    let name = pod["metadata"]["name"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/keeper-security/pods/{name}:9090/proxy/metrics");
    let text = try_kubectl(&["get", "--raw", &path], None).stdout;
    let name = "keeper_injector_certificate_expiry_timestamp_seconds ";
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .parse()
        .ok()
}

/// The parts of the Secret that the webhook keeps.
pub(crate) fn kept() -> Value {
    let secret = try_kubectl(
        &["get", "secret", "keeper-injector-tls", OWN, "--output=json"],
        None,
    );
    let secret: Value = serde_json::from_str(&secret.expect_success("the Secret")).unwrap();
    let part = |name: &str| {
        let text = BASE64_STANDARD.decode(secret["data"][name].as_str().unwrap());
        String::from_utf8(text.unwrap()).unwrap()
    };
    json!({"tls.crt": part("tls.crt"), "ca.key": part("ca.key")})
}

/// What API servers are told to trust, base64.
pub(crate) fn bundle() -> String {
    let path = "--output=jsonpath={.webhooks[*].clientConfig.caBundle}";
    kubectl(&["get", HOOKS[0], "keeper-injector", path])
}

/// As cert-manager's injector does.
pub(crate) fn set_bundle(pem: &str) {
    let path = "/webhooks/0/clientConfig/caBundle";
    let patch = json!([{"op": "add", "path": path, "value": BASE64_STANDARD.encode(pem)}]);
    for hook in HOOKS {
        let _ = kubectl(&[
            "patch",
            hook,
            "keeper-injector",
            "--type=json",
            "--patch",
            &patch.to_string(),
        ]);
    }
}

pub(crate) fn write_secret(name: &str, pair: &Pair) {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name},
        "stringData": {"tls.crt": pair.crt, "tls.key": pair.key, "ca.crt": pair.ca},
    });
    let apply = [
        "apply",
        OWN,
        "--server-side",
        "--force-conflicts",
        "--filename=-",
    ];
    let _ = try_kubectl(&apply, Some(&secret.to_string())).expect_success("kubectl apply");
}

/// The kubelet looks at a pod's volumes about once a minute; or when the pod is changed.
pub(crate) fn annotate_pods() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let annotation = format!("test/at={}", now.as_millis());
    let selector = "--selector=app.kubernetes.io/name=keeper-injector";
    let _ = kubectl(&[
        "annotate",
        "pods",
        OWN,
        selector,
        "--overwrite",
        &annotation,
    ]);
}
