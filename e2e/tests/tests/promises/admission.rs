//! What happens between `kubectl apply` and the pod in the API server.

use keeper_e2e::{Namespace, node, pods};
use serde_json::Value;

#[test]
fn a_denial_lists_every_problem_at_once() {
    let namespace = Namespace::new("denial");
    let mistakes = [
        ("refresh-intervall", "5m"),
        ("refresh-interval", "soon"),
        (
            "secret-relative",
            "database-credentials:keeper/secrets/x.json",
        ),
        (
            "secret-one",
            "database-credentials[login]:/keeper/secrets/same",
        ),
        (
            "secret-two",
            "database-credentials[password]:/keeper/secrets/same",
        ),
    ];
    let applied = namespace.try_apply(&pods::annotated("wrong", &mistakes, "true"));
    assert!(!applied.success, "{}", applied.stdout);
    for (annotation, _) in mistakes {
        assert!(
            applied
                .stderr
                .contains(&format!("keeper.security/{annotation}")),
            "{annotation} is missing in: {}",
            applied.stderr
        );
    }
    // What is meant, what is wrong, and where.
    for part in [
        "keeper.security/refresh-interval",
        "soon",
        "/keeper/secrets/same",
    ] {
        assert!(
            applied.stderr.contains(part),
            "{part} is missing in: {}",
            applied.stderr
        );
    }
    assert!(
        !namespace
            .try_kubectl(&["get", "pod", "wrong"], None)
            .success
    );
}

#[test]
fn an_admission_costs_one_call_of_the_webhook() {
    let namespace = Namespace::new("one-call");
    let pod = pods::annotated(
        "counted",
        &[("secret", "database-credentials")],
        "exec sleep 3600",
    );
    namespace.apply(&pod);
    let events = node::created_pods(namespace.name());
    let event = events
        .iter()
        .find(|event| event["objectRef"]["name"] == "counted")
        .expect("the creation was audited");
    let calls: Vec<&Value> = event["annotations"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| key.starts_with("mutation.webhook.admission.k8s.io/"))
        .map(|(_, value)| value)
        .collect();
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert!(
        calls[0].as_str().unwrap().contains(r#""mutated":true"#),
        "{calls:?}"
    );
}

#[test]
fn a_pod_without_the_annotation_is_never_sent_to_the_webhook() {
    let namespace = Namespace::new("plain");
    namespace.apply(&pods::plain("plain", "exec sleep 3600"));
    let mut declined = pods::annotated("declined", &[], "exec sleep 3600");
    declined["metadata"]["annotations"]["keeper.security/inject"] = "false".into();
    namespace.apply(&declined);
    for name in ["plain", "declined"] {
        assert_eq!(
            pods::injected(&namespace.get("pod", name)).count(),
            0,
            "{name}"
        );
        let events = node::created_pods(namespace.name());
        let event = events
            .iter()
            .find(|event| event["objectRef"]["name"] == name)
            .expect("the creation was audited");
        assert!(
            !event["annotations"].to_string().contains("keeper"),
            "{event}"
        );
    }
}

#[test]
fn a_patched_pod_goes_through_unchanged() {
    let namespace = Namespace::new("again");
    let pod = pods::annotated(
        "again",
        &[("secret", "database-credentials")],
        "exec sleep 3600",
    );
    let first = dry_run(&namespace, &pod);
    assert_eq!(pods::injected(&first).count(), 1);
    let second = dry_run(&namespace, &first);
    assert_eq!(first["spec"], second["spec"]);
    assert_eq!(first["metadata"]["labels"], second["metadata"]["labels"]);
    assert_eq!(
        first["metadata"]["annotations"],
        second["metadata"]["annotations"]
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let namespace = Namespace::new("dry-run");
    let before = everything(&namespace);
    let pod = dry_run(
        &namespace,
        &pods::annotated("dry", &[("secret", "database-credentials")], "true"),
    );
    assert_eq!(pods::injected(&pod).count(), 1);
    assert_eq!(before, everything(&namespace));
}

/// The pod as the API server would have stored it.
fn dry_run(namespace: &Namespace, pod: &Value) -> Value {
    let mut pod = pod.clone();
    // What the server fills in, and would not take back.
    for key in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "managedFields",
        "generation",
    ] {
        pod["metadata"].as_object_mut().unwrap().remove(key);
    }
    pod.as_object_mut().unwrap().remove("status");
    let created = namespace.try_kubectl(
        &[
            "create",
            "--dry-run=server",
            "--output=json",
            "--filename=-",
        ],
        Some(&pod.to_string()),
    );
    serde_json::from_str(&created.expect_success("a dry run")).unwrap()
}

/// Every object that an admission could touch, with its version: all of the pod's namespace, all of the product's own, and the
/// webhook configurations.
fn everything(namespace: &Namespace) -> Vec<String> {
    let versions = "--output=jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion}{'\\n'}{end}";
    let kinds = "pods,secrets,configmaps,services,serviceaccounts,deployments,replicasets,roles,rolebindings";
    let mut all = Vec::new();
    for scope in [
        &["get", kinds, "--namespace", namespace.name()][..],
        &["get", kinds, "--namespace=keeper-security"],
        &[
            "get",
            "mutatingwebhookconfigurations,clusterroles,clusterrolebindings",
        ],
    ] {
        let arguments: Vec<&str> = scope.iter().copied().chain([versions]).collect();
        all.push(keeper_e2e::kubectl(&arguments));
    }
    all
}
