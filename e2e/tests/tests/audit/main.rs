//! One decision in three places: the webhook's log, the API server's audit log, and a sink that the chart was told of.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use keeper_e2e::{AUTH_SECRET, Namespace, kubectl, node, pods, repository, try_kubectl, until};
use serde_json::Value;

const OWN: &str = "--namespace=keeper-security";
/// No other test's.
const PORT: &str = "18443";
const TOKEN: &str = "canary-audit-token-5b1d";

/// A server in the node's network. It ends with this value, and the chart forgets it.
struct Sink {
    server: Child,
    folder: tempfile::TempDir,
}

impl Sink {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let address = node::address().to_string();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([address.clone()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(file("crt"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        let server = Command::new(repository().join("e2e/cluster/cluster"))
            .args(["client", "timeout", "240", "python3"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit/sink.py"))
            .args([&address, PORT])
            .args([file("crt"), file("key")])
            .stdout(File::create(file("seen")).unwrap())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let sink = Self { server, folder };
        sink.install(&address);
        sink
    }

    /// The chart with this sink; its webhooks run when this returns.
    fn install(&self, address: &str) {
        let literal = format!("--from-literal=siem={TOKEN}");
        let _ = kubectl(&["create", "secret", "generic", "audit-sink", OWN, &literal]);
        let url = format!("audit.sink.url=https://{address}:{PORT}/ingest");
        let ca = format!(
            "audit.sink.caCert={}",
            self.folder.path().join("crt").display()
        );
        helm(&[
            "--set",
            &url,
            "--set-file",
            &ca,
            "--set",
            "audit.sink.tokenSecret.name=audit-sink,audit.sink.tokenSecret.key=siem",
            "--set",
            "audit.sink.header=X-Audit-Token,audit.sink.scheme=",
        ]);
    }

    /// The entry about a pod, with the token that it came with.
    fn entry(&self, namespace: &str, pod: &str) -> (Value, Value) {
        until("the entry in the sink", 30, || {
            let seen = std::fs::read_to_string(self.folder.path().join("seen")).unwrap();
            let requests = seen
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            requests.into_iter().find_map(|request| {
                let mut entries = request["entries"].as_array()?.iter();
                let entry =
                    entries.find(|one| one["namespace"] == namespace && one["pod"] == pod)?;
                Some((entry.clone(), request["token"].clone()))
            })
        })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        helm(&["--set", "audit.sink.url="]);
        let _ = try_kubectl(&["delete", "secret", "audit-sink", OWN], None);
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The product, with these values instead of what it had.
fn helm(values: &[&str]) {
    let chart = repository().join("chart/keeper-injector");
    let mut command = vec![
        "helm",
        "upgrade",
        "keeper-injector",
        chart.to_str().unwrap(),
        OWN,
    ];
    command.extend(["--reuse-values", "--wait", "--timeout=2m"]);
    command.extend(values);
    let _ = node::client(&command);
}

fn audited(namespace: &Namespace, pod: &str) -> Value {
    let events = node::created_pods(namespace.name());
    let event = events
        .iter()
        .find(|event| event["objectRef"]["name"] == pod);
    event.expect("the creation was audited").clone()
}

#[test]
fn a_decision_is_in_the_log_in_the_sink_and_in_the_api_servers_audit_log() {
    let sink = Sink::start();
    let namespace = Namespace::new("audit");
    let asks = [("secret", "database-credentials, api-key[key]")];
    namespace.apply(&pods::annotated("good", &asks, "exec sleep 3600"));
    let mistake = [("signal", "canary-pasted-here")];
    let refused = namespace.try_apply(&pods::annotated("bad", &mistake, "true"));
    assert!(!refused.success);

    let (good, token) = sink.entry(namespace.name(), "good");
    assert_eq!(token, TOKEN);
    assert_eq!(good["outcome"], "injected");
    assert_eq!(good["user"], "admin");
    assert!(
        good["groups"].to_string().contains("system:masters"),
        "{good}"
    );
    assert_eq!(good["auth_secret"], AUTH_SECRET);
    assert_eq!(
        good["records"],
        serde_json::json!(["database-credentials", "api-key"])
    );
    let event = audited(&namespace, "good");
    let said = |key: &str| event["annotations"][format!("inject.keeper.security/{key}")].clone();
    assert_eq!(said("request-id"), good["request_id"], "{event}");
    assert_eq!(said("outcome"), "injected");
    assert_eq!(said("shape"), good["shape"]);
    assert_eq!(said("records"), good["records"].to_string());
    assert_eq!(said("auth-secret"), AUTH_SECRET);

    let logs = kubectl(&[
        "logs",
        OWN,
        "deployment/keeper-injector",
        "--all-pods",
        "--prefix=false",
    ]);
    let id = good["request_id"].as_str().unwrap();
    let line = logs
        .lines()
        .find(|line| line.contains(id))
        .expect("the decision is logged");
    // kubectl puts the pod's name before.
    let mut line: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
    let mut sent = good.clone();
    (line["time"], sent["time"]) = (Value::Null, Value::Null);
    assert_eq!(line, sent);

    let (bad, _) = sink.entry(namespace.name(), "bad");
    assert_eq!(
        (&bad["outcome"], &bad["reason"]),
        (&"denied".into(), &"bad_value".into())
    );
    let event = audited(&namespace, "bad");
    assert_eq!(
        event["annotations"]["inject.keeper.security/reason"],
        "bad_value"
    );
    assert!(!bad.to_string().contains("canary") && !logs.contains("canary"));
    assert!(!logs.contains(TOKEN));
}

/// The policy that we give to users is what the node's API server runs with.
#[test]
fn the_audit_policy_tells_who_read_a_device_config_but_not_what_it_says() {
    let namespace = Namespace::new("policy");
    let secret = namespace.get("secret", AUTH_SECRET);
    let config = secret["data"]["config"].as_str().unwrap();
    let event = until("the reading in the audit log", 20, || {
        node::audited(namespace.name()).into_iter().find(|event| {
            event["verb"] == "get"
                && event["objectRef"]["resource"] == "secrets"
                && event["objectRef"]["name"] == AUTH_SECRET
        })
    });
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["level"], "Metadata");
    let log = std::fs::read_to_string(node::logs().join("audit")).unwrap();
    assert!(!log.contains(config), "no value is in the audit log");
}
