//! What is made under which name, and that its version and images are the project's.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::{NAMESPACE, Objects, lint, read, render, render_in};

const MANUAL: &str = "{tls: {mode: manual, manual: {caBundle: '-----BEGIN CERTIFICATE-----'}}}";

/// Values for several kinds of clusters.
const VALUES_FILES: [&str; 3] = ["values-dev.yaml", "values-staging.yaml", "values-prod.yaml"];

fn names(values: &str) -> BTreeSet<String> {
    let name = |object: &Value| {
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .map_or(String::new(), |namespace| format!("{namespace}/"));
        format!(
            "{} {namespace}{}",
            object["kind"].as_str().unwrap(),
            object["metadata"]["name"].as_str().unwrap()
        )
    };
    render(values).0.iter().map(name).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_those_that_users_type() {
    let manual = set(&[
        "ClusterRole keeper-injector",
        "ClusterRoleBinding keeper-injector",
        "ConfigMap keeper-security/keeper-injector",
        "Deployment keeper-security/keeper-injector",
        "MutatingWebhookConfiguration keeper-injector",
        "Pod default/keeper-injector-test",
        "PodDisruptionBudget keeper-security/keeper-injector",
        "Service keeper-security/keeper-injector-webhook",
        "ServiceAccount keeper-security/keeper-injector",
        "ValidatingAdmissionPolicy keeper-injector-ca-bundle",
        "ValidatingAdmissionPolicy keeper-injector-own-objects",
        "ValidatingAdmissionPolicy keeper-injector-safety-net",
        "ValidatingAdmissionPolicyBinding keeper-injector-ca-bundle",
        "ValidatingAdmissionPolicyBinding keeper-injector-own-objects",
        "ValidatingAdmissionPolicyBinding keeper-injector-safety-net",
        "ValidatingWebhookConfiguration keeper-injector",
    ]);
    let rights = set(&[
        "Role keeper-security/keeper-injector",
        "RoleBinding keeper-security/keeper-injector",
    ]);
    assert_eq!(names(MANUAL), manual);
    assert_eq!(names("{}"), &manual | &rights);
}

#[test]
fn another_namespace_is_used_throughout() {
    let elsewhere: Vec<String> = render_in("elsewhere", "{}")
        .0
        .iter()
        .map(ToString::to_string)
        .collect();
    let usual: Vec<String> = render("{}").0.iter().map(ToString::to_string).collect();
    let checksum = |text: &str| {
        text.split("checksum/settings\":\"")
            .nth(1)
            .map(|rest| rest[..64].to_owned())
    };
    for (elsewhere, usual) in elsewhere.iter().zip(&usual) {
        let mut expected = usual.replace(NAMESPACE, "elsewhere");
        if let (Some(old), Some(new)) = (checksum(usual), checksum(elsewhere)) {
            expected = expected.replace(&old, &new);
        }
        assert_eq!(elsewhere, &expected);
    }
}

#[test]
fn lint_is_clean() {
    for values in [
        "{}",
        MANUAL,
        "{replicaCount: 1, metrics: {enabled: false}}",
        "{defaults: {ksmConfig: keeper-auth, caCertConfigMap: keeper-ca}}",
    ] {
        lint(values).unwrap_or_else(|error| panic!("{values}\n{error}"));
    }
    for file in VALUES_FILES {
        lint(&read(file)).unwrap_or_else(|error| panic!("{file}\n{error}"));
    }
}

#[test]
fn the_value_files_are_what_they_are_for() {
    let [dev, staging, prod] = VALUES_FILES.map(|file| render(&read(file)));
    let replicas = |objects: &Objects| objects.the("Deployment")["spec"]["replicas"].clone();
    assert_eq!(
        (replicas(&dev), replicas(&staging), replicas(&prod)),
        (1.into(), 2.into(), 3.into())
    );
    assert!(dev.of("PodDisruptionBudget").is_empty());
    assert_eq!(prod.the("PodDisruptionBudget")["spec"]["minAvailable"], 2);
    assert_eq!(prod.of("NetworkPolicy").len(), 1);
    let tries = prod.the("MutatingWebhookConfiguration")["webhooks"].as_array();
    assert_eq!(tries.unwrap().last().unwrap()["failurePolicy"], "Fail");
}

#[test]
fn version_is_the_workspaces() {
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn images_are_those_that_the_project_builds() {
    let built = read("../../images/images.toml");
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    for image in ["image", "sidecarImage"] {
        let repository = values[image]["repository"].as_str().unwrap();
        assert!(
            built.contains(&format!("repository = {repository:?}")),
            "images.toml has no {repository}"
        );
    }
}

#[test]
fn every_object_has_the_labels() {
    for object in render("{}").0 {
        let labels = &object["metadata"]["labels"];
        assert_eq!(
            labels["app.kubernetes.io/name"], "keeper-injector",
            "{object}"
        );
        assert_eq!(
            labels["app.kubernetes.io/instance"], "keeper-injector",
            "{object}"
        );
        assert_eq!(
            labels["app.kubernetes.io/version"],
            env!("CARGO_PKG_VERSION"),
            "{object}"
        );
    }
}
