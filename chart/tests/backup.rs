//! The CronJob of backups: the script of operations/backup, restricted, and out of the webhook's way.

use serde_json::{Value, json};

use crate::helm::{Objects, read, refusal, render};

const NAMED: &str = "{backup: {enabled: true, image: 'kubectl@sha256:0', through: age --recipient age1x, \
    secrets: [{namespace: shop, name: keeper-auth}], configMaps: [{namespace: shop, name: keeper-ca}]}}";

fn pod(objects: &Objects) -> &Value {
    &objects.the("CronJob")["spec"]["jobTemplate"]["spec"]["template"]
}

fn arguments(objects: &Objects) -> &Value {
    &pod(objects)["spec"]["containers"][0]["args"]
}

#[test]
fn there_is_none_unless_asked_for_and_then_the_image_is_the_users_to_name() {
    assert!(render("{}").of("CronJob").is_empty());
    let message = refusal("{backup: {enabled: true}}");
    assert!(
        message.contains("backup.image is empty: name an image that has a shell and kubectl"),
        "{message}"
    );
}

#[test]
fn runs_the_script_with_what_the_values_name() {
    let objects = render(NAMED);
    let scripts = objects.of("ConfigMap");
    let script = scripts
        .iter()
        .find_map(|map| map["data"]["backup"].as_str());
    assert_eq!(script.unwrap().trim(), read("files/backup").trim());
    assert_eq!(
        arguments(&objects),
        &json!([
            "--directory=/backups",
            "--namespace=keeper-security",
            "--release=keeper-injector",
            "--revision=1",
            "--certificate=keeper-injector-tls",
            "--keep=14",
            "--through=age --recipient age1x",
            "--secret=shop/keeper-auth",
            "--configmap=shop/keeper-ca",
        ])
    );
    let others = render(
        "{tls: {mode: cert-manager}, backup: {enabled: true, image: kubectl, helmRelease: false}}",
    );
    for argument in ["--certificate=", "--no-release"] {
        let all = arguments(&others).as_array().unwrap();
        assert!(all.contains(&json!(argument)), "{all:?}");
    }
}

#[test]
fn is_restricted_and_not_taken_for_the_webhook() {
    let objects = render(NAMED);
    let pod = pod(&objects);
    let webhook = &objects.the("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["spec"]["securityContext"], webhook["securityContext"]);
    assert_eq!(
        pod["spec"]["containers"][0]["securityContext"],
        webhook["containers"][0]["securityContext"]
    );
    let service = objects.the("Service")["spec"]["selector"]
        .as_object()
        .unwrap();
    let labels = &pod["metadata"]["labels"];
    assert!(!service.iter().all(|(key, value)| &labels[key] == value));
}

#[test]
fn backups_stay_when_the_chart_goes() {
    let keeps = &render(NAMED).the("PersistentVolumeClaim")["metadata"]["annotations"].clone();
    assert_eq!(keeps["helm.sh/resource-policy"], "keep");
    let own = render("{backup: {enabled: true, image: kubectl, claim: {existing: backups}}}");
    assert!(own.of("PersistentVolumeClaim").is_empty());
    let volume = &pod(&own)["spec"]["volumes"][1]["persistentVolumeClaim"];
    assert_eq!(volume["claimName"], "backups");
}
