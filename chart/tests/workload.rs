//! The webhook's pods: restricted, probed, spread, and rolled without a gap.

use serde_json::{Value, json};

use crate::helm::{Objects, render};

fn pod(objects: &Objects) -> &Value {
    &objects.the("Deployment")["spec"]["template"]["spec"]
}

/// What Pod Security `restricted` asks for, and a read-only root.
#[test]
fn are_restricted() {
    let objects = render("{}");
    let pod = pod(&objects);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["runAsUser"], 65532);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    for key in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
        assert!(pod.get(key).is_none(), "{key}");
    }
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(
        containers[0]["securityContext"],
        json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}})
    );
    let allowed = ["configMap", "secret"];
    for volume in pod["volumes"].as_array().unwrap() {
        assert!(
            allowed.iter().any(|kind| volume.get(kind).is_some()),
            "{volume}"
        );
    }
}

/// As OpenShift's `restricted-v2` wants it: it gives each namespace users of its own, and refuses others.
#[test]
fn leave_their_user_to_the_cluster_where_it_is_taken_out() {
    let objects = render(
        "{podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}, tests: {namespace: shop}}",
    );
    let want = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    assert_eq!(pod(&objects)["securityContext"], want);
    assert_eq!(objects.the("Pod")["spec"]["securityContext"], want);
}

#[test]
fn are_probed_over_https() {
    let objects = render("{}");
    let container = &pod(&objects)["containers"][0];
    for (probe, path) in [
        ("startupProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/healthz"),
    ] {
        assert_eq!(
            container[probe]["httpGet"],
            json!({"path": path, "port": "https", "scheme": "HTTPS"}),
            "{probe}"
        );
    }
    for probe in ["readinessProbe", "livenessProbe"] {
        assert_eq!(container[probe]["periodSeconds"], 5);
        assert_eq!(container[probe]["failureThreshold"], 3);
    }
}

#[test]
fn roll_without_a_gap_and_prefer_different_nodes() {
    let objects = render("{}");
    let deployment = &objects.the("Deployment")["spec"];
    assert_eq!(deployment["replicas"], 2);
    assert_eq!(deployment["strategy"]["rollingUpdate"]["maxUnavailable"], 0);
    let spread = &pod(&objects)["affinity"]["podAntiAffinity"];
    assert!(
        spread
            .get("requiredDuringSchedulingIgnoredDuringExecution")
            .is_none()
    );
    let terms = spread["preferredDuringSchedulingIgnoredDuringExecution"]
        .as_array()
        .unwrap();
    let keys: Vec<&Value> = terms
        .iter()
        .map(|term| &term["podAffinityTerm"]["topologyKey"])
        .collect();
    assert_eq!(
        keys,
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    );
    for term in terms {
        assert_eq!(
            term["podAffinityTerm"]["labelSelector"],
            deployment["selector"]
        );
    }
}

#[test]
fn are_what_service_and_budget_select() {
    let objects = render("{}");
    let deployment = &objects.the("Deployment")["spec"];
    let selector = deployment["selector"]["matchLabels"].as_object().unwrap();
    let labels = &deployment["template"]["metadata"]["labels"];
    assert!(selector.iter().all(|(key, value)| &labels[key] == value));
    assert_eq!(
        objects.the("Service")["spec"]["selector"].as_object(),
        Some(selector)
    );
    assert_eq!(
        objects.the("PodDisruptionBudget")["spec"]["selector"]["matchLabels"].as_object(),
        Some(selector)
    );
}

/// With one replica a budget would hold up every drain of its node.
#[test]
fn have_a_budget_from_two_replicas_on() {
    for (values, budgets) in [
        ("{}", 1),
        ("{replicaCount: 1}", 0),
        (
            "{replicaCount: 3, podDisruptionBudget: {enabled: false}}",
            0,
        ),
    ] {
        assert_eq!(
            render(values).of("PodDisruptionBudget").len(),
            budgets,
            "{values}"
        );
    }
}

#[test]
fn roll_when_their_settings_change_and_only_then() {
    let checksum = |values: &str| {
        let objects = render(values);
        objects.the("Deployment")["spec"]["template"]["metadata"]["annotations"]["checksum/settings"].clone()
    };
    let usual = checksum("{}");
    assert!(usual.is_string());
    assert_eq!(
        checksum("{replicaCount: 5, webhook: {failurePolicy: Ignore}}"),
        usual
    );
    assert_ne!(checksum("{excludedNamespaces: [payments]}"), usual);
    assert_ne!(checksum("{defaults: {ksmConfig: keeper-auth}}"), usual);
}
