//! Each value does what values.yaml says, and what can't be right is refused.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{read, refusal, render};

fn settings(values: &str) -> Value {
    let objects = render(values);
    let text = objects.the("ConfigMap")["data"]["settings.yaml"]
        .as_str()
        .unwrap()
        .to_owned();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn settings_are_complete_by_default() {
    assert_eq!(
        settings("{}"),
        json!({
            "sidecarImage": concat!("keeper/injector-sidecar:", env!("CARGO_PKG_VERSION")),
            "imagePullPolicy": "IfNotPresent",
            "ownNamespace": "keeper-security",
            "excludedNamespaces": [],
            "defaults": {"log-level": "info"},
            "noProxy": "",
            "resources": {"cpuRequest": "5m", "cpuLimit": null, "memoryRequest": "8Mi", "memoryLimit": null},
            "logFormat": "json",
            "capabilities": {"fileKeyRef": false},
        })
    );
}

#[test]
fn settings_follow_the_values() {
    let values = "
sidecarImage: {repository: registry.example:5000/keeper/sidecar, tag: 9.9.9, pullPolicy: Always}
excludedNamespaces: [payments]
logging: {level: debug, format: text}
sidecarResources: {requests: {cpu: 0.5, memory: 16Mi}, limits: {cpu: 2, memory: 64Mi}}
proxy:
  httpsProxy: http://proxy.corp:3128
  noProxy: .corp,10.0.0.0/8
defaults:
  ksmConfig: keeper-auth
  caCertConfigMap: keeper-ca
  caCertKey: root.pem
  refreshInterval: 10m
  failOnError: false
  logLevel: warn
capabilities: {fileKeyRef: true}
";
    assert_eq!(
        settings(values),
        json!({
            "sidecarImage": "registry.example:5000/keeper/sidecar:9.9.9",
            "imagePullPolicy": "Always",
            "ownNamespace": "keeper-security",
            "excludedNamespaces": ["payments"],
            "defaults": {
                "ksm-config": "keeper-auth",
                "ca-cert-configmap": "keeper-ca",
                "ca-cert-key": "root.pem",
                "refresh-interval": "10m",
                "fail-on-error": "false",
                "log-level": "warn",
                "proxy": "http://proxy.corp:3128",
            },
            "noProxy": ".corp,10.0.0.0/8",
            "resources": {"cpuRequest": "0.5", "cpuLimit": "2", "memoryRequest": "16Mi", "memoryLimit": "64Mi"},
            "logFormat": "text",
            "capabilities": {"fileKeyRef": true},
        })
    );
    assert_eq!(
        settings("{defaults: {caCertSecret: keeper-ca}}")["defaults"]["ca-cert-secret"],
        "keeper-ca"
    );
    assert_eq!(
        settings("{logging: {level: debug}}")["defaults"]["log-level"],
        "debug"
    );
    let unset = settings("{sidecarResources: {requests: null}}");
    assert_eq!(
        unset["resources"],
        json!({"cpuRequest": null, "cpuLimit": null, "memoryRequest": null, "memoryLimit": null})
    );
}

/// Where each of the other values ends up.
#[test]
fn each_value_has_its_effect() {
    const POD: &str = "/spec/template/spec";
    for (values, kind, pointer, expected) in [
        (
            "{replicaCount: 3}",
            "Deployment",
            "/spec/replicas".to_owned(),
            json!(3),
        ),
        (
            "{image: {repository: r.example/w, tag: t}}",
            "Deployment",
            format!("{POD}/containers/0/image"),
            json!("r.example/w:t"),
        ),
        (
            "{image: {tag: '1.0.0@sha256:0000000000000000000000000000000000000000000000000000000000000000'}}",
            "Deployment",
            format!("{POD}/containers/0/image"),
            json!(format!(
                "keeper/injector-webhook:1.0.0@sha256:{}",
                "0".repeat(64)
            )),
        ),
        (
            "{image: {pullPolicy: Never}}",
            "Deployment",
            format!("{POD}/containers/0/imagePullPolicy"),
            json!("Never"),
        ),
        (
            "{imagePullSecrets: [{name: login}]}",
            "Deployment",
            format!("{POD}/imagePullSecrets"),
            json!([{"name": "login"}]),
        ),
        (
            "{webhook: {failurePolicy: Ignore}}",
            "MutatingWebhookConfiguration",
            "/webhooks/0/failurePolicy".to_owned(),
            json!("Ignore"),
        ),
        (
            "{webhook: {timeoutSeconds: 3}}",
            "MutatingWebhookConfiguration",
            "/webhooks/0/timeoutSeconds".to_owned(),
            json!(3),
        ),
        (
            "{webhook: {port: 10250}}",
            "Deployment",
            format!("{POD}/containers/0/ports/0/containerPort"),
            json!(10250),
        ),
        (
            "{webhook: {port: 10250}}",
            "Deployment",
            format!("{POD}/containers/0/args/2"),
            json!("--listen=0.0.0.0:10250"),
        ),
        (
            "{metrics: {enabled: false}}",
            "Deployment",
            format!("{POD}/containers/0/args/3"),
            json!("--metrics-listen=127.0.0.1:9090"),
        ),
        (
            "{logging: {level: debug}}",
            "Deployment",
            format!("{POD}/containers/0/args/4"),
            json!("--log-level=debug"),
        ),
        (
            "{metrics: {enabled: false}}",
            "Service",
            "/spec/ports/1".to_owned(),
            Value::Null,
        ),
        (
            "{metrics: {enabled: false}}",
            "Deployment",
            format!("{POD}/containers/0/ports/1"),
            Value::Null,
        ),
        (
            "{podDisruptionBudget: {minAvailable: '50%'}}",
            "PodDisruptionBudget",
            "/spec/minAvailable".to_owned(),
            json!("50%"),
        ),
        (
            "{resources: {limits: {cpu: 1}}}",
            "Deployment",
            format!("{POD}/containers/0/resources/limits/cpu"),
            json!(1),
        ),
        (
            "{affinity: {nodeAffinity: {a: b}}}",
            "Deployment",
            format!("{POD}/affinity"),
            json!({"nodeAffinity": {"a": "b"}}),
        ),
        (
            "{nodeSelector: {disk: ssd}}",
            "Deployment",
            format!("{POD}/nodeSelector"),
            json!({"disk": "ssd"}),
        ),
        (
            "{tolerations: [{key: k, operator: Exists}]}",
            "Deployment",
            format!("{POD}/tolerations/0/key"),
            json!("k"),
        ),
        (
            "{priorityClassName: high}",
            "Deployment",
            format!("{POD}/priorityClassName"),
            json!("high"),
        ),
        (
            "{podAnnotations: {a: b}}",
            "Deployment",
            "/spec/template/metadata/annotations/a".to_owned(),
            json!("b"),
        ),
        (
            "{global: {region: here}}",
            "Deployment",
            "/spec/replicas".to_owned(),
            json!(2),
        ),
    ] {
        let objects = render(values);
        assert_eq!(
            objects.the(kind).pointer(&pointer).unwrap_or(&Value::Null),
            &expected,
            "{values}"
        );
    }
}

#[test]
fn what_cannot_be_right_is_refused() {
    for (values, place) in [
        (
            "{replicas: 2}",
            "additional properties 'replicas' not allowed",
        ),
        ("{webhook: {failurepolicy: Fail}}", "/webhook"),
        ("{image: {registry: r.example}}", "/image"),
        ("{defaults: {refresh-interval: 5m}}", "/defaults"),
        ("{replicaCount: '2'}", "/replicaCount"),
        ("{replicaCount: 0}", "/replicaCount"),
        ("{webhook: {failurePolicy: fail}}", "/webhook/failurePolicy"),
        ("{webhook: {timeoutSeconds: 31}}", "/webhook/timeoutSeconds"),
        ("{webhook: {port: 9090}}", "/webhook/port"),
        ("{webhook: null}", "webhook"),
        ("{tls: {mode: certmanager}}", "/tls/mode"),
        ("{tls: {auto: {caLifetime: 10y}}}", "/tls/auto/caLifetime"),
        (
            "{tls: {manual: {caBundle: ca.crt}}}",
            "/tls/manual/caBundle",
        ),
        ("{metrics: {serviceMonitor: {enabled: true}}}", "/metrics"),
        ("{leaderElection: {enable: true}}", "leaderElection"),
        ("{logging: {level: loud}}", "/logging/level"),
        (
            "{podDisruptionBudget: {minAvailable: half}}",
            "/podDisruptionBudget/minAvailable",
        ),
        ("{excludedNamespaces: [Payments]}", "/excludedNamespaces/0"),
        ("{excludedNamespaces: payments}", "/excludedNamespaces"),
        ("{image: {tag: 1.2}}", "/image/tag"),
        (
            "{sidecarImage: {pullPolicy: always}}",
            "/sidecarImage/pullPolicy",
        ),
        (
            "{sidecarResources: {limits: {memory: 16777216}}}",
            "/sidecarResources/limits/memory",
        ),
        (
            "{sidecarResources: {limits: {memory: lots}}}",
            "/sidecarResources/limits/memory",
        ),
        (
            "{sidecarResources: {limits: {disk: 1Gi}}}",
            "/sidecarResources/limits",
        ),
        ("{defaults: {failOnError: 'no'}}", "/defaults/failOnError"),
        (
            "{defaults: {refreshInterval: 5 minutes}}",
            "/defaults/refreshInterval",
        ),
        (
            "{defaults: {ksmConfig: Keeper_Auth}}",
            "/defaults/ksmConfig",
        ),
        (
            "{defaults: {caCertSecret: a, caCertConfigMap: b}}",
            "exclude each other",
        ),
        ("{podAnnotations: {a: 1}}", "/podAnnotations/a"),
        (
            "{proxy: {httpsProxy: 'http://user:pw@proxy:3128'}}",
            "/proxy/httpsProxy",
        ),
        (
            "{proxy: {httpsProxy: 'proxy.corp:3128'}}",
            "/proxy/httpsProxy",
        ),
    ] {
        let message = refusal(values);
        assert!(
            message.contains(place),
            "{values}\nshould be refused at {place}:\n{message}"
        );
    }
}

/// A value that the schema knows and values.yaml doesn't explain, or the other way round, is a mistake.
#[test]
fn schema_and_values_list_the_same() {
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let mut described = BTreeSet::new();
    properties(&schema, &schema, "", &mut described);
    described.remove("/global");
    let mut explained = BTreeSet::new();
    keys(&values, "", &mut explained);
    // Kubernetes' own types, and limits, stand empty in values.yaml.
    let open = ["/affinity/", "/resources/", "/sidecarResources/"];
    described.retain(|path| !open.iter().any(|open| path.starts_with(open)));
    explained.retain(|path| !open.iter().any(|open| path.starts_with(open)));
    assert_eq!(described, explained);
}

fn properties(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        properties(root, below, &path, found);
        found.insert(path);
    }
    if schema.get("properties").is_some() {
        assert_eq!(
            schema["additionalProperties"], false,
            "{path} takes anything"
        );
    }
}

fn keys(values: &Value, path: &str, found: &mut BTreeSet<String>) {
    for (key, below) in values.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        keys(below, &path, found);
        found.insert(path);
    }
}
