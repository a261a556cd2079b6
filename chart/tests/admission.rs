//! Which pods the API server sends to the webhook, and how it finds it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::helm::{Objects, refusal, render};

fn webhook(objects: &Objects) -> &Value {
    let webhooks = objects.the("MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    assert_eq!(webhooks.len(), 1);
    &webhooks[0]
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
            "expression": "object.metadata.?annotations[?'keeper.security/inject'].orValue('false').lowerAscii() != 'false'",
        }])
    );
    assert_eq!(
        webhook["rules"],
        json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "scope": "Namespaced"}])
    );
    assert_eq!(webhook["failurePolicy"], "Fail");
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
    assert_eq!(webhook["timeoutSeconds"], 10);
    assert_eq!(webhook["admissionReviewVersions"], json!(["v1"]));
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
    assert!(webhook(&objects)["clientConfig"].get("caBundle").is_none());
}

#[test]
fn manual_mode_takes_the_users_ca() {
    let pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";
    let values =
        json!({"tls": {"mode": "manual", "manual": {"caBundle": pem, "secretName": "own"}}})
            .to_string();
    let objects = render(&values);
    assert_eq!(
        webhook(&objects)["clientConfig"]["caBundle"],
        BASE64_STANDARD.encode(pem)
    );
    let pod = &objects.the("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][1]["secret"]["secretName"], "own");
    let message = refusal("{tls: {mode: manual}}");
    assert!(
        message.contains("tls.mode manual needs tls.manual.caBundle"),
        "{message}"
    );
}
