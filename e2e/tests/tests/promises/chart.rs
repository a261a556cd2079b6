//! The chart on a real API server: what helm renders from many values is accepted, and `helm test` proves an injection.

use std::fs;

use keeper_e2e::{AUTH_SECRET, CLIENT, Namespace, kubectl, node, repository, try_kubectl, until};

/// Values that change which objects there are, and what is in them.
const MATRIX: [&str; 15] = [
    "{}",
    "{replicaCount: 1, metrics: {enabled: false}, webhook: {workloadWarnings: false}}",
    "{webhook: {failurePolicy: Ignore, port: 10250, namespaceSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}, objectSelector: {matchLabels: {d: e}}}}",
    "{leaderElection: {trafficToLeaderOnly: true, leaseDurationSeconds: 30}}",
    "{tls: {mode: manual, manual: {caBundle: '-----BEGIN CERTIFICATE-----'}}}",
    "{image: {digest: 'sha256:0000000000000000000000000000000000000000000000000000000000000000'}, imagePullSecrets: [{name: login}], podDisruptionBudget: {minAvailable: '50%'}}",
    "{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}, topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}], nodeSelector: {a: b}, tolerations: [{key: k, operator: Exists}], priorityClassName: system-cluster-critical}",
    "{commonLabels: {team: platform}, podLabels: {a: b}, podAnnotations: {a: b}, deploymentAnnotations: {a: b}, serviceAccount: {annotations: {a: b}}, service: {annotations: {a: b}}, revisionHistoryLimit: 0}",
    "{extraArgs: ['--drain-delay-seconds=9'], extraEnv: [{name: A, value: b}], extraVolumes: [{name: a, emptyDir: {}}], extraVolumeMounts: [{name: a, mountPath: /a}]}",
    "{revision: canary, replicaCount: 3, leaderElection: {trafficToLeaderOnly: true}, networkPolicy: {enabled: true}}",
    "{autoscaling: {enabled: true, podMetric: {name: admissions_per_second}}}",
    "{networkPolicy: {enabled: true, apiServer: {cidrs: [10.0.0.0/28]}, injectedPods: {namespaces: [default], extraEgress: [{to: [{podSelector: {}}]}]}, extraIngress: [{}], extraEgress: [{}]}}",
    "{resourceQuotas: [{namespace: default, pods: 100, requests: {cpu: '20', memory: 40Gi}, limits: {memory: 60Gi}}], limitRanges: [{namespace: default, default: {memory: 256Mi}, defaultRequest: {cpu: 100m}, max: {memory: 4Gi}}]}",
    "{backup: {enabled: true, image: kubectl, through: gzip, secrets: [{namespace: default, name: keeper-auth}], configMaps: [{namespace: default, name: keeper-ca}]}}",
    "{tests: {ksmConfig: keeper-auth, secret: database-credentials}, safetyNet: {enabled: false}, rbac: {admissionPolicies: false}}",
];

/// The objects of each of these values, one after the other, in one file.
fn rendered(values: &[String]) -> String {
    let chart = repository().join("chart/keeper-injector");
    let directory = tempfile::tempdir().unwrap();
    let mut all = String::new();
    for (i, values) in values.iter().enumerate() {
        let file = directory.path().join(format!("{i}.yaml"));
        fs::write(&file, values).unwrap();
        all += &node::client(&[
            "helm",
            "template",
            "keeper-injector",
            chart.to_str().unwrap(),
            "--namespace=keeper-security",
            "--kube-version=1.35.0",
            "--values",
            file.to_str().unwrap(),
        ]);
    }
    all
}

/// What the API server says of objects as it would make them; it looks at every field, and writes nothing. Under other names:
/// an object that is there already would be changed, and keep what its owners say.
fn accepted(objects: &str) -> String {
    let create = [
        "create",
        "--dry-run=server",
        "--validate=strict",
        "--filename=-",
    ];
    let objects = objects.replace("keeper-injector", "keeper-matrix");
    try_kubectl(&create, Some(&objects)).expect_success("kubectl create --dry-run=server")
}

#[test]
fn the_api_server_accepts_what_each_value_renders() {
    let files = ["dev", "staging", "prod"].map(|name| {
        let path = format!("chart/keeper-injector/values-{name}.yaml");
        fs::read_to_string(repository().join(path)).unwrap()
    });
    let values: Vec<String> = MATRIX.map(str::to_owned).into_iter().chain(files).collect();
    let told = accepted(&rendered(&values));
    for kind in [
        "deployment.apps/",
        "horizontalpodautoscaler.autoscaling/",
        "networkpolicy.networking.k8s.io/keeper-matrix-injected-pods",
        "resourcequota/",
        "limitrange/",
        "poddisruptionbudget.policy/",
        "pod/keeper-matrix-test",
    ] {
        assert!(told.contains(kind), "{kind}\n{told}");
    }
}

/// Their schemas know every field that the chart states, though there is no operator.
#[test]
fn objects_for_other_operators_fit_their_definitions() {
    node::install_definitions();
    let values = [
        "{keda: {enabled: true, prometheus: {serverAddress: 'http://p:9090', authenticationRef: a}}}",
        "{externalSecrets: [{namespace: default, name: a, refreshInterval: 5m, secretStoreRef: {kind: SecretStore, name: b}, remoteRef: {key: c, property: d}}]}",
    ];
    let told = accepted(&rendered(&values.map(str::to_owned)));
    for object in [
        "scaledobject.keda.sh/keeper-matrix",
        "externalsecret.external-secrets.io/a",
    ] {
        assert!(told.contains(object), "{told}");
    }
}

/// `helm test` makes the pod as the release says: without values of its own it shows admission, and with them a secret, which
/// is tried with the pod alone: there is one release for all tests.
#[test]
fn helm_test_proves_an_injection() {
    let namespace = Namespace::new("helmtest");
    let test = |values: String| {
        let objects = rendered(&[values]);
        let pod = objects
            .split("\n---\n")
            .find(|object| object.contains("helm.sh/hook: test"))
            .unwrap()
            .to_owned();
        let _ = namespace.kubectl(&[
            "delete",
            "pod",
            "keeper-injector-test",
            "--ignore-not-found",
        ]);
        namespace.try_kubectl(&["apply", "--filename=-"], Some(&pod))
    };
    let name = namespace.name();
    let told = node::client(&[
        "helm",
        "test",
        "keeper-injector",
        "--namespace=keeper-security",
        "--timeout=2m",
    ]);
    assert!(told.contains("Succeeded"), "{told}");
    let admission = test(format!("{{tests: {{namespace: {name}}}}}"));
    assert!(admission.success, "{}", admission.stderr);
    namespace.wait_for_success("keeper-injector-test", 60);
    let calls = namespace.keeper().fetches(CLIENT);
    assert_eq!(calls, 0, "Keeper is not called without a device config");
    let secret = test(format!(
        "{{tests: {{namespace: {name}, ksmConfig: {AUTH_SECRET}, secret: database-credentials}}}}"
    ));
    assert!(secret.success, "{}", secret.stderr);
    namespace.wait_for_success("keeper-injector-test", 60);
    let log = namespace.logs("keeper-injector-test", "test");
    assert!(log.contains("/keeper/secrets/helm-test: is there"), "{log}");

    // What was not injected fails, though it starts.
    let label = format!("namespace/{name}");
    let _ = kubectl(&["label", &label, "keeper.security/inject=disabled"]);
    let declined = test(format!("{{tests: {{namespace: {name}}}}}"));
    assert!(declined.success, "{}", declined.stderr);
    until("the test to fail", 60, || {
        let pod = namespace.get("pod", "keeper-injector-test");
        (pod["status"]["phase"] == "Failed").then_some(())
    });
    let log = namespace.logs("keeper-injector-test", "test");
    assert!(log.contains("this pod was not injected"), "{log}");
}
