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
            "policy": {"denyAnnotations": [], "minRefreshInterval": ""},
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
revision: canary
logging: {level: debug, format: text}
sidecarResources: {requests: {cpu: 0.5, memory: 16Mi}, limits: {cpu: 2, memory: 64Mi}}
proxy:
  httpsProxy: http://proxy.corp:3128
  noProxy: .corp,10.0.0.0/8
defaults:
  ksmConfig: keeper-auth
  caCertConfigMap: keeper-ca
  caCertKey: root.pem
  format: env
  refreshInterval: 10m
  initOnly: false
  failOnError: false
  cache: 6h
  onStale: unready
  strictLookup: true
  initPosition: last
  sidecarMode: native
  outputMode: '0444'
  runAsSameUser: 'false'
  tmpfsSize: 8Mi
  metricsPort: 9800
  logLevel: warn
policy: {denyAnnotations: [proxy], minRefreshInterval: 5m}
capabilities: {fileKeyRef: true}
";
    assert_eq!(
        settings(values),
        json!({
            "sidecarImage": "registry.example:5000/keeper/sidecar:9.9.9",
            "imagePullPolicy": "Always",
            "ownNamespace": "keeper-security",
            "excludedNamespaces": ["payments"],
            "revision": "canary",
            "defaults": {
                "ksm-config": "keeper-auth",
                "ca-cert-configmap": "keeper-ca",
                "ca-cert-key": "root.pem",
                "format": "env",
                "refresh-interval": "10m",
                "init-only": "false",
                "fail-on-error": "false",
                "cache": "6h",
                "on-stale": "unready",
                "strict-lookup": "true",
                "init-position": "last",
                "sidecar-mode": "native",
                "output-mode": "0444",
                "run-as-same-user": "false",
                "tmpfs-size": "8Mi",
                "metrics-port": "9800",
                "log-level": "warn",
                "proxy": "http://proxy.corp:3128",
            },
            "noProxy": ".corp,10.0.0.0/8",
            "policy": {"denyAnnotations": ["proxy"], "minRefreshInterval": "5m"},
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

/// The names that the incumbent's chart has for them.
#[test]
fn old_names_work() {
    let image = "{sidecar: {repository: r.example/s, tag: v1, pullPolicy: Always}}";
    assert_eq!(settings(image)["sidecarImage"], "r.example/s:v1");
    assert_eq!(settings(image)["imagePullPolicy"], "Always");
    let auth = "{defaults: {authSecretName: keeper-auth}}";
    assert_eq!(settings(auth)["defaults"]["ksm-config"], "keeper-auth");
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
            "/webhooks/9/failurePolicy".to_owned(),
            json!("Ignore"),
        ),
        (
            "{webhook: {timeoutSeconds: 3}}",
            "MutatingWebhookConfiguration",
            "/webhooks/9/timeoutSeconds".to_owned(),
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
            json!("--listen=[::]:10250"),
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
            "{image: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}}",
            "Deployment",
            format!("{POD}/containers/0/image"),
            json!(format!(
                "keeper/injector-webhook:{}@sha256:{}",
                env!("CARGO_PKG_VERSION"),
                "0".repeat(64)
            )),
        ),
        (
            "{webhook: {namespaceSelector: {matchLabels: {secrets: keeper}, matchExpressions: [{key: a, operator: Exists}]}}}",
            "MutatingWebhookConfiguration",
            "/webhooks/0/namespaceSelector/matchLabels".to_owned(),
            json!({"secrets": "keeper"}),
        ),
        (
            "{webhook: {namespaceSelector: {matchExpressions: [{key: a, operator: Exists}]}}}",
            "MutatingWebhookConfiguration",
            "/webhooks/0/namespaceSelector/matchExpressions/2".to_owned(),
            json!({"key": "a", "operator": "Exists"}),
        ),
        (
            "{namespaceSelector: {matchExpressions: [{key: a, operator: Exists}]}}",
            "MutatingWebhookConfiguration",
            "/webhooks/0/namespaceSelector/matchExpressions/2".to_owned(),
            json!({"key": "a", "operator": "Exists"}),
        ),
        (
            "{webhook: {objectSelector: {matchLabels: {tier: web}}}}",
            "MutatingWebhookConfiguration",
            "/webhooks/0/objectSelector".to_owned(),
            json!({"matchLabels": {"tier": "web"}}),
        ),
        (
            "{topologySpreadConstraints: [{maxSkew: 2, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]}",
            "Deployment",
            format!("{POD}/topologySpreadConstraints"),
            json!([{"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]),
        ),
        (
            "{commonLabels: {team: platform}}",
            "ClusterRole",
            "/metadata/labels/team".to_owned(),
            json!("platform"),
        ),
        (
            "{podLabels: {mesh: 'off'}}",
            "Deployment",
            "/spec/template/metadata/labels/mesh".to_owned(),
            json!("off"),
        ),
        (
            "{deploymentAnnotations: {a: b}}",
            "Deployment",
            "/metadata/annotations/a".to_owned(),
            json!("b"),
        ),
        (
            "{serviceAccount: {annotations: {a: b}}}",
            "ServiceAccount",
            "/metadata/annotations/a".to_owned(),
            json!("b"),
        ),
        (
            "{service: {annotations: {a: b}}}",
            "Service",
            "/metadata/annotations/a".to_owned(),
            json!("b"),
        ),
        (
            "{revisionHistoryLimit: 1}",
            "Deployment",
            "/spec/revisionHistoryLimit".to_owned(),
            json!(1),
        ),
        (
            "{extraEnv: [{name: A, value: b}]}",
            "Deployment",
            format!("{POD}/containers/0/env/1"),
            json!({"name": "A", "value": "b"}),
        ),
        (
            "{extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /a}]}",
            "Deployment",
            format!("{POD}/volumes/1/name"),
            json!("a"),
        ),
        (
            "{extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /a}]}",
            "Deployment",
            format!("{POD}/containers/0/volumeMounts/1/mountPath"),
            json!("/a"),
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
fn arguments_of_the_user_s_own_stand_last() {
    let objects = render("{extraArgs: ['--drain-delay-seconds=9']}");
    let arguments = objects
        .the("Deployment")
        .pointer("/spec/template/spec/containers/0/args")
        .and_then(Value::as_array)
        .unwrap();
    assert_eq!(arguments.last(), Some(&json!("--drain-delay-seconds=9")));
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
        ("{metrics: {serviceMonitor: {enable: true}}}", "/metrics"),
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
        ("{image: {digest: 'sha256:1'}}", "/image/digest"),
        (
            "{policy: {minRefreshInterval: soon}}",
            "/policy/minRefreshInterval",
        ),
        (
            "{policy: {denyAnnotations: [Proxy]}}",
            "/policy/denyAnnotations/0",
        ),
        ("{defaults: {outputMode: 440}}", "/defaults/outputMode"),
        (
            "{networkPolicy: {apiServer: {cidrs: [10.0.0.1]}}}",
            "/cidrs/0",
        ),
        (
            "{externalSecrets: [{namespace: shop, name: a}]}",
            "/externalSecrets/0",
        ),
        (
            "{webhook: {namespaceSelector: {a: b}}}",
            "/webhook/namespaceSelector",
        ),
        ("{extraArgs: [serve]}", "/extraArgs/0"),
        (
            "{tests: {secret: db}}",
            "tests.secret needs tests.ksmConfig",
        ),
        (
            "{tests: {namespace: keeper-security, ksmConfig: a}}",
            "tests.namespace is the release's own",
        ),
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
    let open = [
        "/affinity/",
        "/autoscaling/behavior/",
        "/networkPolicy/dns/namespaceLabels/",
        "/networkPolicy/dns/podLabels/",
        "/networkPolicy/monitoring/namespaceLabels/",
        "/namespaceSelector/",
        "/podSecurityContext/",
        "/resources/",
        "/sidecar/",
        "/sidecarResources/",
        "/webhook/namespaceSelector/",
        "/webhook/objectSelector/",
    ];
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
