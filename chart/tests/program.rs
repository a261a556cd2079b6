//! What the chart tells the webhook, read by the webhook's own parsers.

use std::time::Duration;

use clap::Parser as _;
use keeper_contract::Settings;
use keeper_webhook::{Cli, Command, Serve, TlsMode};
use serde_json::Value;

use crate::helm::{NAMESPACE, Objects, render};

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

fn pod(objects: &Objects) -> &Value {
    &objects.the("Deployment")["spec"]["template"]["spec"]
}

fn serve(objects: &Objects) -> Serve {
    let args = pod(objects)["containers"][0]["args"].as_array().unwrap();
    let args = args.iter().map(|arg| arg.as_str().unwrap());
    let cli = Cli::try_parse_from(std::iter::once("keeper-webhook").chain(args)).unwrap();
    match cli.command {
        Command::Serve(serve) => *serve,
        other => panic!("the Deployment runs {other:?}"),
    }
}

fn settings(values: &str) -> Settings {
    let objects = render(values);
    let text = objects.the("ConfigMap")["data"]["settings.yaml"]
        .as_str()
        .unwrap();
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{values}\n{text}\n{error}"))
}

/// The file at a path in the container: its volume, and the key in it.
fn mounted(objects: &Objects, path: &std::path::Path) -> (Value, String) {
    let pod = pod(objects);
    let (directory, key) = (path.parent().unwrap(), path.file_name().unwrap());
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount["mountPath"] == directory.to_str().unwrap());
    let name =
        &mount.unwrap_or_else(|| panic!("nothing is mounted at {}", directory.display()))["name"];
    let volume = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| &volume["name"] == name);
    (volume.unwrap().clone(), key.to_str().unwrap().to_owned())
}

#[test]
fn arguments_and_names_agree() {
    for values in ["{}", "{revision: canary}"] {
        arguments_and_names_agree_in(&render(values));
    }
}

fn arguments_and_names_agree_in(objects: &Objects) {
    let serve = serve(objects);
    let pod = pod(objects);
    assert!(matches!(serve.tls_mode, TlsMode::Auto));
    assert_eq!(
        serve.tls_secret,
        objects.the("Role")["rules"][0]["resourceNames"][0]
    );
    assert_eq!(serve.service, objects.the("Service")["metadata"]["name"]);
    assert_eq!(
        serve.webhook_configuration,
        objects.the("MutatingWebhookConfiguration")["metadata"]["name"]
    );
    assert_eq!(
        serve.validating_webhook_configuration.as_deref().unwrap(),
        objects.the("ValidatingWebhookConfiguration")["metadata"]["name"]
    );
    let leases = &objects.the("Role")["rules"][2];
    assert_eq!(leases["resources"][0], "leases");
    assert_eq!(serve.leader_election.lease_name, leases["resourceNames"][0]);
    let ports = &pod["containers"][0]["ports"];
    assert_eq!(ports[0]["containerPort"], serve.listen.port());
    assert_eq!(ports[1]["containerPort"], serve.metrics_listen.port());
    let (volume, key) = mounted(objects, &serve.settings);
    let config_map = objects.the("ConfigMap");
    assert_eq!(volume["configMap"]["name"], config_map["metadata"]["name"]);
    assert!(config_map["data"][&key].is_string());
}

/// The kubelet must not kill what is still answering.
#[test]
fn the_drain_fits_into_the_grace_period() {
    let objects = render("{}");
    let serve = serve(&objects);
    let grace = pod(&objects)["terminationGracePeriodSeconds"]
        .as_u64()
        .unwrap();
    assert!(serve.drain_delay_seconds + serve.drain_deadline_seconds < Duration::from_secs(grace));
}

#[test]
fn manual_mode_names_the_mounted_files() {
    let objects = render(&format!(
        "{{tls: {{mode: manual, manual: {{caBundle: {CERTIFICATE}}}}}}}"
    ));
    let serve = serve(&objects);
    assert!(matches!(serve.tls_mode, TlsMode::Manual));
    for (path, expected) in [(serve.tls_cert, "tls.crt"), (serve.tls_key, "tls.key")] {
        let (volume, key) = mounted(&objects, &path.unwrap());
        assert_eq!(volume["secret"]["secretName"], "keeper-injector-tls");
        assert_eq!(key, expected);
    }
    let (volume, key) = mounted(&objects, &serve.tls_ca.unwrap());
    let config_map = objects.the("ConfigMap");
    assert_eq!(volume["configMap"]["name"], config_map["metadata"]["name"]);
    assert_eq!(config_map["data"][&key], CERTIFICATE);
}

/// cert-manager writes the CA beside the certificate.
#[test]
fn cert_manager_mode_names_the_files_of_its_secret() {
    let objects = render("{tls: {mode: cert-manager}}");
    let serve = serve(&objects);
    assert!(matches!(serve.tls_mode, TlsMode::Manual));
    for (path, expected) in [
        (serve.tls_cert, "tls.crt"),
        (serve.tls_key, "tls.key"),
        (serve.tls_ca, "ca.crt"),
    ] {
        let (volume, key) = mounted(&objects, &path.unwrap());
        assert_eq!(
            volume["secret"]["secretName"],
            "keeper-injector-certificate"
        );
        assert_eq!(key, expected);
    }
}

#[test]
fn lifetimes_reach_the_webhook() {
    let day = Duration::from_secs(86_400);
    let usual = serve(&render("{}"));
    assert_eq!(
        (usual.certificate_lifetime, usual.ca_lifetime),
        (365 * day, 3650 * day)
    );
    let drill = serve(&render(
        "{tls: {auto: {certificateLifetime: 20s, caLifetime: 1m30s}}}",
    ));
    assert_eq!(drill.certificate_lifetime, Duration::from_secs(20));
    assert_eq!(drill.ca_lifetime, Duration::from_secs(90));
}

/// What the schema lets through, the webhook takes.
#[test]
fn settings_are_understood() {
    assert_eq!(settings("{}").own_namespace, NAMESPACE);
    assert_eq!(
        settings("{}").sidecar_image,
        concat!("keeper/injector-sidecar:", env!("CARGO_PKG_VERSION"))
    );
    for level in ["error", "warn", "info", "debug"] {
        settings(&format!(
            "{{logging: {{level: {level}}}, defaults: {{logLevel: {level}}}}}"
        ));
        serve(&render(&format!("{{logging: {{level: {level}}}}}")));
    }
    for values in [
        "{logging: {format: text}}",
        "{excludedNamespaces: [payments, kube-system]}",
        "{sidecarImage: {repository: 'registry.example:5000/a/b', tag: v1, pullPolicy: Always}}",
        "{sidecarImage: {pullPolicy: Never}}",
        "{sidecarResources: {requests: null}}",
        "{sidecarResources: {requests: {cpu: 0.5, memory: 16Mi}, limits: {cpu: 2, memory: 64Mi}}}",
        "{sidecarResources: {requests: {cpu: '.5', memory: 16M}, limits: {cpu: '1.', memory: 1Gi}}}",
        "{defaults: {ksmConfig: keeper-auth, caCertConfigMap: keeper.ca, caCertKey: _root.pem}}",
        "{defaults: {caCertSecret: keeper-ca}}",
        "{defaults: {refreshInterval: 1h30m, failOnError: false}}",
        "{defaults: {refreshInterval: 90.5s, failOnError: true}}",
        "{defaults: {format: ini, cache: 6h, onStale: unready, initPosition: last, sidecarMode: classic}}",
        "{defaults: {outputMode: '0440', runAsSameUser: 'true', tmpfsSize: 8Mi, metricsPort: 0, initOnly: true}}",
        "{policy: {denyAnnotations: [proxy, env-<NAME>], minRefreshInterval: 10m}}",
        "{sidecarImage: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}",
    ] {
        settings(values);
    }
}
