//! What helm prints after an installation. `helm template` leaves it out, so it is rendered here through an object.

use serde_json::Value;

use crate::helm::{NAMESPACE, chart, template};

fn notes(values: &str) -> String {
    notes_in(NAMESPACE, values)
}

fn notes_in(namespace: &str, values: &str) -> String {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("templates")).unwrap();
    for file in [
        "Chart.yaml",
        "values.yaml",
        "values.schema.json",
        "templates/_helpers.tpl",
    ] {
        std::fs::copy(chart().join(file), copy.path().join(file)).unwrap();
    }
    std::fs::copy(
        chart().join("templates/NOTES.txt"),
        copy.path().join("NOTES.txt"),
    )
    .unwrap();
    let object = "kind: Notes\ntext: {{ tpl (.Files.Get \"NOTES.txt\") . | toJson }}\n";
    std::fs::write(copy.path().join("templates/notes.yaml"), object).unwrap();
    let rendered =
        template(copy.path(), namespace, values).unwrap_or_else(|error| panic!("{error}"));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
    objects[0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn show_the_documented_smoke_test() {
    let usual = notes("{}");
    for command in [
        "kubectl --namespace keeper-security rollout status deployment/keeper-injector\n",
        "kubectl create secret generic keeper-auth --from-file=config=device-config.json\n",
        "kubectl run test --image=busybox --annotations=keeper.security/inject=true --annotations=keeper.security/ksm-config=keeper-auth\n",
    ] {
        assert!(usual.contains(command), "{usual}");
    }
    assert!(!usual.contains("WARNING"), "{usual}");
    assert!(notes("{defaults: {ksmConfig: other}}").contains("ksm-config=other\n"));
}

#[test]
fn tell_which_namespaces_a_revision_serves() {
    let canary = notes("{revision: canary, tests: {namespace: shop}}");
    for line in [
        "kubectl --namespace keeper-security rollout status deployment/keeper-injector-canary\n",
        "kubectl label namespace shop keeper.security/revision=canary --overwrite\n",
    ] {
        assert!(canary.contains(line), "{canary}");
    }
    assert!(!notes("{}").contains("revision"));
}

#[test]
fn warn_of_what_gives_less_than_it_seems() {
    assert!(notes_in("default", "{}").contains("WARNING: pods of the injector's own namespace"));
    assert!(notes("{replicaCount: 1}").contains("WARNING: with replicaCount 1"));
    assert!(
        notes("{autoscaling: {enabled: true, minReplicas: 1}}")
            .contains("WARNING: with autoscaling.minReplicas 1")
    );
    let isolated = notes("{networkPolicy: {injectedPods: {namespaces: [shop]}}}");
    assert!(isolated.contains("NOTE: injected pods of shop reach DNS and Keeper only"));
    let ignore = |net: &str| {
        notes(&format!(
            "{{webhook: {{failurePolicy: Ignore}}, safetyNet: {{enabled: {net}}}}}"
        ))
    };
    assert!(ignore("false").contains("WARNING: webhook.failurePolicy is Ignore"));
    assert!(!ignore("true").contains("WARNING"));
}

#[test]
fn name_the_deprecated_values_that_are_used_and_what_takes_their_place() {
    let tls = notes(
        "{tls: {autoGenerate: true, certManager: {enabled: true, issuerName: corp, issuerKind: ClusterIssuer}}}",
    );
    let line = "DEPRECATED: tls.autoGenerate, tls.certManager.enabled, tls.certManager.issuerKind, \
        tls.certManager.issuerName. In their place say tls.mode: cert-manager;";
    assert!(tls.contains(line), "{tls}");
    let old = notes(
        "{sidecar: {tag: v1}, namespaceSelector: {matchLabels: {a: b}}, defaults: {authSecretName: other}}",
    );
    for (name, new) in [
        ("sidecar", "sidecarImage"),
        ("namespaceSelector", "webhook.namespaceSelector"),
        ("defaults.authSecretName", "defaults.ksmConfig"),
    ] {
        let line = format!("DEPRECATED: {name} is the old name of {new}. It works; write {new}.");
        assert!(old.contains(&line), "{line}\n{old}");
    }
    assert!(old.contains("ksm-config=other\n"), "{old}");
    assert!(!notes("{}").contains("DEPRECATED"));
}
