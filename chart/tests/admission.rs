//! Which pods the API server sends to the webhook, and how it finds it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::helm::{Objects, refusal, render};

/// The first of those that pods are sent to; the rest are its retries.
fn webhook(objects: &Objects) -> &Value {
    &objects.the("MutatingWebhookConfiguration")["webhooks"][0]
}

/// The one of the warnings about workloads.
fn check(objects: &Objects) -> &Value {
    let webhooks = objects.the("ValidatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    assert_eq!(webhooks.len(), 1);
    &webhooks[0]
}

/// The API server repeats no call: each retry is the same webhook, called if the pod passed those before without our containers.
/// What the user says of failures is the last one's.
#[test]
fn a_failed_call_is_repeated_and_the_last_failure_counts() {
    for (retries, policy) in [(0, "Fail"), (2, "Fail"), (9, "Ignore")] {
        let objects = render(&format!(
            "{{webhook: {{retries: {retries}, failurePolicy: {policy}, timeoutSeconds: 7}}}}"
        ));
        let webhooks = objects.the("MutatingWebhookConfiguration")["webhooks"]
            .as_array()
            .unwrap();
        assert_eq!(webhooks.len(), retries + 1);
        for (index, webhook) in webhooks.iter().enumerate() {
            let last = index == retries;
            let expected = match last {
                true => (policy, 7),
                false => ("Ignore", 2),
            };
            assert_eq!(webhook["failurePolicy"], expected.0, "{index}");
            assert_eq!(webhook["timeoutSeconds"], expected.1, "{index}");
            let conditions = webhook["matchConditions"].as_array().unwrap();
            for common in [0, 1] {
                assert_eq!(conditions[common], webhooks[0]["matchConditions"][common]);
            }
            if index > 0 {
                assert_eq!(
                    webhook["name"],
                    format!("retry-{index}.inject.keeper.security")
                );
                assert_eq!(conditions[2]["name"], "is-not-injected");
            }
            // The same client of the API server's, with the same connections.
            for key in [
                "clientConfig",
                "rules",
                "namespaceSelector",
                "sideEffects",
                "reinvocationPolicy",
            ] {
                assert_eq!(webhook[key], webhooks[0][key], "{index} {key}");
            }
        }
    }
    let short = render("{webhook: {timeoutSeconds: 1}}");
    assert_eq!(webhook(&short)["timeoutSeconds"], 1);
    assert!(refusal("{webhook: {retries: 10}}").contains("retries"));
}

/// Only a pod whose annotation is there and not false, in any case, may ever wait for us: `failurePolicy: Fail` hangs on it.
#[test]
fn only_pods_that_ask_are_sent() {
    let objects = render("{}");
    let webhook = webhook(&objects);
    assert_eq!(
        webhook["matchConditions"],
        json!([{
            "name": "asks-for-injection",
            "expression": "object.metadata.?annotations[?'keeper.security/inject'].orValue('false').trim().lowerAscii() != 'false'",
        }, {
            "name": "is-no-mirror-pod",
            "expression": "!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))",
        }])
    );
    assert_eq!(
        webhook["rules"],
        json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "Namespaced"}])
    );
    let all = objects.the("MutatingWebhookConfiguration")["webhooks"].as_array();
    assert_eq!(all.unwrap().last().unwrap()["failurePolicy"], "Fail");
}

#[test]
fn excluded_namespaces_are_never_sent() {
    let objects = render("{excludedNamespaces: [payments, kube-system]}");
    assert_eq!(
        webhook(&objects)["namespaceSelector"],
        json!({"matchExpressions": [
            {
                "key": "kubernetes.io/metadata.name",
                "operator": "NotIn",
                "values": ["kube-system", "kube-public", "kube-node-lease", "keeper-security", "payments"],
            },
            {"key": "keeper.security/inject", "operator": "NotIn", "values": ["disabled"]},
            {"key": "keeper.security/revision", "operator": "DoesNotExist"},
        ]})
    );
}

#[test]
fn a_dry_run_and_a_second_look_are_declared_safe() {
    let objects = render("{}");
    let webhook = webhook(&objects);
    assert_eq!(webhook["name"], "inject.keeper.security");
    assert_eq!(webhook["sideEffects"], "None");
    assert_eq!(webhook["reinvocationPolicy"], "IfNeeded");
    assert_eq!(webhook["matchPolicy"], "Equivalent");
    assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]));
}

/// Promise: nobody's Deployment waits for us, whether we are there, absent, broken or slow.
#[test]
fn the_check_of_workloads_can_refuse_and_delay_nothing() {
    let objects = render("{webhook: {failurePolicy: Fail, timeoutSeconds: 30}}");
    let check = check(&objects);
    assert_eq!(check["failurePolicy"], "Ignore");
    assert_eq!(check["timeoutSeconds"], 2);
    assert_eq!(check["sideEffects"], "None");
    assert_eq!(check["clientConfig"]["service"]["path"], "/validate");
    let condition = &check["matchConditions"][0]["expression"];
    assert!(
        condition
            .as_str()
            .unwrap()
            .contains("startsWith('keeper.security/')")
    );
    let kinds: Vec<&str> = check["rules"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| rule["resources"].as_array().unwrap())
        .map(|resource| resource.as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "deployments",
            "statefulsets",
            "daemonsets",
            "jobs",
            "cronjobs"
        ]
    );
}

#[test]
fn workloads_are_sent_from_the_same_namespaces_as_pods() {
    for values in ["{}", "{excludedNamespaces: [payments]}"] {
        let objects = render(values);
        assert_eq!(
            check(&objects)["namespaceSelector"],
            webhook(&objects)["namespaceSelector"]
        );
        assert_eq!(
            check(&objects)["clientConfig"]["service"]["name"],
            webhook(&objects)["clientConfig"]["service"]["name"]
        );
    }
}

#[test]
fn without_warnings_there_is_nothing_of_them() {
    let objects = render("{webhook: {workloadWarnings: false}}");
    assert!(objects.of("ValidatingWebhookConfiguration").is_empty());
    let role = objects.the("ClusterRole").to_string();
    assert!(!role.contains("validating"), "{role}");
    let args = objects.the("Deployment")["spec"]["template"].to_string();
    assert!(!args.contains("validating"), "{args}");
}

#[test]
fn the_service_leads_to_the_webhooks_port() {
    let objects = render("{}");
    let service = objects.the("Service");
    let client = &webhook(&objects)["clientConfig"]["service"];
    assert_eq!(client["name"], service["metadata"]["name"]);
    assert_eq!(client["namespace"], service["metadata"]["namespace"]);
    let ports = service["spec"]["ports"].as_array().unwrap();
    let port = ports
        .iter()
        .find(|port| port["port"] == client["port"])
        .expect("the Service should have the webhook's port");
    let container = &objects.the("Deployment")["spec"]["template"]["spec"]["containers"][0];
    let named = |name: &Value| {
        container["ports"]
            .as_array()
            .unwrap()
            .iter()
            .any(|port| &port["name"] == name)
    };
    assert!(ports.iter().all(|port| named(&port["targetPort"])));
    assert_eq!(port["targetPort"], "https");
}

/// Argo CD and Flux would take away what the webhook applies, were it stated here.
#[test]
fn the_ca_is_left_to_the_webhook_in_auto_mode() {
    let objects = render("{}");
    for webhook in [webhook(&objects), check(&objects)] {
        assert!(webhook["clientConfig"].get("caBundle").is_none());
    }
}

#[test]
fn manual_mode_takes_the_users_ca() {
    let pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";
    let values =
        json!({"tls": {"mode": "manual", "manual": {"caBundle": pem, "secretName": "own"}}})
            .to_string();
    let objects = render(&values);
    for webhook in [webhook(&objects), check(&objects)] {
        assert_eq!(
            webhook["clientConfig"]["caBundle"],
            BASE64_STANDARD.encode(pem)
        );
    }
    let pod = &objects.the("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][1]["secret"]["secretName"], "own");
    let message = refusal("{tls: {mode: manual}}");
    assert!(
        message.contains("tls.mode manual needs tls.manual.caBundle"),
        "{message}"
    );
}
