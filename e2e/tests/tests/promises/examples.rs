//! The manifests in `examples/`, applied as they are, where the strictest Pod Security level is enforced. The one that
//! brings a namespace of its own is in `defaults`.

use keeper_e2e::{Manner, Namespace, Proxy, pods, repository, until};
use serde_json::{Value, json};

use crate::nginx::Pair;

#[test]
fn every_example_works_as_it_is_in_a_restricted_namespace() {
    let namespace = Namespace::with_labels(
        "examples",
        &[("pod-security.kubernetes.io/enforce", "restricted")],
    );
    let proxy = egress_proxy(&namespace);
    Pair::new(1).add_to(namespace.keeper());
    let manifests: Vec<_> = std::fs::read_dir(repository().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
                && !path.ends_with("namespace-defaults.yaml")
        })
        .collect();
    assert!(!manifests.is_empty());
    for manifest in &manifests {
        let applied =
            namespace.try_kubectl(&["apply", "--filename", manifest.to_str().unwrap()], None);
        assert!(
            applied.success,
            "{}: {}",
            manifest.display(),
            applied.stderr
        );
        // What the examples say themselves is no news.
        let warnings = applied
            .stderr
            .lines()
            .filter(|line| line.contains("Warning"));
        let news: Vec<_> = warnings
            .filter(|line| !line.contains("what the image has in"))
            .collect();
        assert!(news.is_empty(), "{}: {news:?}", manifest.display());
    }
    for manifest in &manifests {
        wait_until_it_works(&namespace, manifest.to_str().unwrap());
    }

    let all: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "pods", "--output=json"])).unwrap();
    for pod in all["items"].as_array().unwrap() {
        let name = pod["metadata"]["name"].as_str().unwrap();
        if name.starts_with("keeper-sim") {
            continue;
        }
        assert!(pods::injected(pod).count() > 0, "{name} was not injected");
        for container in pods::containers(pod) {
            let status = pods::status(pod, container["name"].as_str().unwrap());
            assert_eq!(
                status["restartCount"], 0,
                "{name} did not work at once: {status}"
            );
        }
    }
    // Squid has seen the example's call, inside of TLS.
    until("the call in squid's log", 30, || {
        let log = proxy.squid().access_log();
        log.contains("/api/rest/sm/v1/get_secret").then_some(())
    });
}

/// What the example of a proxy needs: a Service in front of one that inspects TLS, and its CA.
fn egress_proxy(namespace: &Namespace) -> Proxy {
    const PORT: u16 = 3128;
    let map = namespace.get("configmap", "keeper-ca");
    let servers_ca = map["data"]["ca.crt"].as_str().unwrap();
    let proxy = Proxy::start(namespace, PORT, Manner::Inspecting { servers_ca });
    let name = "egress-proxy";
    let slice = json!({"kubernetes.io/service-name": name});
    namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "egress-proxy-ca"},
         "data": {"ca.crt": proxy.squid().ca()}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": PORT}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": name, "labels": slice},
         "addressType": "IPv4", "ports": [{"name": "", "port": PORT}],
         "endpoints": [{"addresses": [proxy.address().ip()]}]},
    ]}));
    proxy
}

/// Each kind of object has its own word for it.
fn wait_until_it_works(namespace: &Namespace, manifest: &str) {
    let objects = namespace.kubectl(&["get", "--filename", manifest, "--output=name"]);
    for object in objects.lines() {
        let condition = match object.split('/').next() {
            Some("deployment.apps") => "condition=Available",
            Some("job.batch") => "condition=Complete",
            Some("pod") => "condition=Ready",
            _ => continue,
        };
        namespace.wait_for(object, condition, 90);
    }
}

#[test]
fn a_change_reaches_the_pods_of_the_example_deployment() {
    let namespace = Namespace::new("deployment");
    namespace.kubectl(&[
        "apply",
        "--filename",
        repository()
            .join("examples/deployment.yaml")
            .to_str()
            .unwrap(),
    ]);
    namespace.wait_for("deployment/orders", "condition=Available", 90);
    let password = || {
        namespace.kubectl(&[
            "exec",
            "deployment/orders",
            "--container=app",
            "--",
            "cat",
            "/keeper/secrets/db-password",
        ])
    };
    assert_eq!(password(), "first-password");
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    until("the new password in the file", 20, || {
        (password() == "second-password").then_some(())
    });
}
