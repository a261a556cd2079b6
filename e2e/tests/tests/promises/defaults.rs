//! What a namespace says about its pods: defaults of their annotations, or that they are left alone.

use keeper_e2e::{AUTH_SECRET, Namespace, kubectl, node, pods, repository, try_kubectl, until};
use serde_json::Value;

const INTERVAL: &str = "keeper.security/refresh-interval";

/// A pod that asks for injection and selects a record, and says no more.
fn asking(name: &str, more: &[(&str, &str)]) -> Value {
    let selection = [("secret", "database-credentials")];
    let script = "cat /keeper/secrets/database-credentials.json; exec sleep 3600";
    let mut pod = pods::annotated(name, &[&selection, more].concat(), script);
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    annotations.remove("keeper.security/ksm-config");
    pod
}

fn annotate(namespace: &Namespace, annotations: &[&str]) {
    let command = ["annotate", "--overwrite", "namespace", namespace.name()];
    let _ = kubectl(&[&command, annotations].concat());
}

/// The agents' refresh interval, in seconds.
fn interval(pod: &Value) -> u64 {
    let sidecar = pods::injected(pod).next().unwrap();
    let config = sidecar["env"][0]["value"].as_str().unwrap();
    let config: Value = serde_json::from_str(config).unwrap();
    config["refreshIntervalSeconds"].as_u64().unwrap()
}

/// The pod as it would be created, or why it would not.
fn dry_run(namespace: &Namespace, pod: &Value) -> Result<Value, String> {
    let command = [
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename=-",
    ];
    let output = namespace.try_kubectl(&command, Some(&pod.to_string()));
    match output.success {
        true => Ok(serde_json::from_str(&output.stdout).unwrap()),
        false => Err(output.stderr),
    }
}

#[test]
fn pods_take_the_defaults_of_their_namespace_and_their_own_values_before_them() {
    let namespace = Namespace::new("defaults");
    let refused = dry_run(&namespace, &asking("early", &[])).unwrap_err();
    assert!(
        refused.contains("keeper.security/ksm-config: no KSM config"),
        "{refused}"
    );

    let config = format!("keeper.security/ksm-config={AUTH_SECRET}");
    annotate(&namespace, &[&config, &format!("{INTERVAL}=10m")]);
    let taken = until("the namespace's defaults in a pod", 10, || {
        dry_run(&namespace, &asking("takes", &[])).ok()
    });
    assert_eq!(interval(&taken), 600);
    namespace.apply(&asking("takes", &[]));
    namespace.apply(&asking("states", &[("refresh-interval", "1h")]));
    for (name, seconds) in [("takes", 600), ("states", 3600)] {
        namespace.wait_for(&format!("pod/{name}"), "condition=Ready", 60);
        assert_eq!(interval(&namespace.get("pod", name)), seconds, "{name}");
        let log = namespace.logs(name, pods::APP);
        assert!(log.contains("first-password"), "{name}: {log}");
    }

    // The next pod takes what is said then; one that runs keeps what it has.
    annotate(&namespace, &[&format!("{INTERVAL}=20m")]);
    until("the new default in a pod", 10, || {
        let pod = dry_run(&namespace, &asking("next", &[])).ok()?;
        (interval(&pod) == 1200).then_some(())
    });
    assert_eq!(interval(&namespace.get("pod", "takes")), 600);

    // A mistake is told as the namespace's.
    annotate(
        &namespace,
        &[
            "keeper.security/refresh-intervall=5m",
            "keeper.security/cache=soon",
        ],
    );
    let denied = until("the mistakes in a denial", 10, || {
        dry_run(&namespace, &asking("wrong", &[])).err()
    });
    for name in ["refresh-intervall", "cache"] {
        let place = namespace.name();
        let said = format!("keeper.security/{name}, an annotation of the namespace {place}: ");
        assert!(denied.contains(&said), "{said} is missing in: {denied}");
    }
    // Who doesn't ask for injection isn't bothered.
    namespace.apply(&pods::plain("plain", "exec sleep 3600"));
}

#[test]
fn a_namespace_may_decline_for_all_of_its_pods() {
    let namespace = Namespace::with_labels("declines", &[("keeper.security/inject", "disabled")]);
    let script = "exec sleep 3600";
    // Not even a wrong one is looked at.
    namespace.apply(&pods::annotated("annotated", &[("secrett", "x")], script));
    assert_eq!(
        pods::injected(&namespace.get("pod", "annotated")).count(),
        0
    );
    let events = node::created_pods(namespace.name());
    let created = |event: &&Value| event["objectRef"]["name"] == "annotated";
    let event = events
        .iter()
        .find(created)
        .expect("the creation was audited");
    // The API server notes each webhook that it called.
    assert!(
        !event["annotations"].to_string().contains("keeper"),
        "{event}"
    );

    let label = [
        "label",
        "namespace",
        namespace.name(),
        "keeper.security/inject-",
    ];
    let _ = kubectl(&label);
    let wrong = pods::annotated("wrong", &[("secrett", "x")], script);
    let denied = until("a denial without the label", 10, || {
        dry_run(&namespace, &wrong).err()
    });
    assert!(denied.contains("keeper.security/secrett"), "{denied}");
}

/// Namespace and Deployment are new together: the webhook has not been told of the one when it sees the other.
#[test]
fn the_example_of_a_namespace_works_as_it_is() {
    let manifest = repository().join("examples/namespace-defaults.yaml");
    let manifest = manifest.to_str().unwrap();
    // From an earlier run on this node.
    let _ = kubectl(&["delete", "namespace", "shop", "--ignore-not-found"]);
    let applied = try_kubectl(&["apply", "--filename", manifest], None);
    assert!(
        applied.success && applied.stderr.is_empty(),
        "{}",
        applied.stderr
    );
    let shop = Namespace::of_manifest("shop");
    shop.wait_for("deployment/orders", "condition=Available", 150);
    let pods: Value = serde_json::from_str(&shop.kubectl(&[
        "get",
        "pods",
        "--output=json",
        "--selector=app=orders",
    ]))
    .unwrap();
    assert_eq!(interval(&pods["items"][0]), 15);
    let log = shop.kubectl(&["logs", "deployment/orders", "--container=app"]);
    assert!(log.contains("the login is orders"), "{log}");
    let events = shop.kubectl(&["get", "events", "--output=jsonpath={.items[*].message}"]);
    assert!(
        !events.contains("keeper.security/"),
        "the first try must do: {events}"
    );
}
