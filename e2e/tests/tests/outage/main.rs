//! What the product promises when the webhook is not there, or is only just starting. These tests take it away from everybody,
//! so they run one at a time, and never beside those of `promises`.
#![expect(clippy::print_stderr, reason = "a test that fails prints what it saw")]

mod uninstall;

use keeper_e2e::webhook::{OWN, Replica, Webhook};
use keeper_e2e::{Namespace, kubectl, node, pods, try_kubectl, until};
use serde_json::{Value, json};

const TLS_SECRET: &str = "keeper-injector-tls";

#[test]
fn without_the_webhook_other_pods_start_and_annotated_ones_are_refused() {
    let webhook = Webhook::take();
    let namespace = Namespace::new("outage");
    webhook.scale(0);
    until("the webhook's endpoints to go", 30, || {
        let endpoints = kubectl(&[
            "get",
            "endpointslices",
            OWN,
            "--output=jsonpath={.items[*].endpoints[*].addresses}",
        ]);
        endpoints.trim().is_empty().then_some(())
    });

    for place in [
        namespace.name(),
        "default",
        "kube-system",
        "keeper-security",
    ] {
        let place = format!("--namespace={place}");
        let pod = pods::plain("plain-in-an-outage", "exec sleep 3600").to_string();
        let created = try_kubectl(&["create", &place, "--filename=-"], Some(&pod));
        assert!(created.success, "{place}: {}", created.stderr);
        let _ = kubectl(&[
            "wait",
            "pod/plain-in-an-outage",
            &place,
            "--for=condition=Ready",
            "--timeout=60s",
        ]);
        let _ = kubectl(&[
            "delete",
            "pod",
            "plain-in-an-outage",
            &place,
            "--now",
            "--wait=false",
        ]);
    }

    let refused = namespace.try_apply(&pods::annotated(
        "annotated",
        &[("secret", "database-credentials")],
        "true",
    ));
    assert!(!refused.success);
    for part in ["failed calling webhook", "keeper"] {
        assert!(
            refused.stderr.contains(part),
            "{part} is missing in: {}",
            refused.stderr
        );
    }
    // What makes pods is written all the same; only its warnings are missing.
    let mut template = pods::annotated("x", &[("no-such", "annotation")], "exec sleep 3600");
    template["metadata"]["labels"] = json!({"app": "x"});
    let workload = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "workload"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    });
    let applied = namespace.try_apply(&workload);
    assert_eq!((applied.success, applied.stderr.as_str()), (true, ""));
    drop(webhook);
    until("admission to work again", 30, || {
        let pod = pods::annotated(
            "afterwards",
            &[("secret", "database-credentials")],
            "exec sleep 3600",
        );
        namespace.try_apply(&pod).success.then_some(())
    });
}

/// `failurePolicy: Ignore`, as long as it lives.
struct Ignoring;

impl Ignoring {
    fn begin() -> Self {
        Self::set("Ignore");
        Self
    }

    /// Of the last try, whose failure counts.
    fn set(policy: &str) {
        let name = "mutatingwebhookconfiguration/keeper-injector";
        let tries = kubectl(&["get", name, "--output=jsonpath={.webhooks[*].name}"]);
        let last = tries.split_whitespace().count() - 1;
        let path = format!("/webhooks/{last}/failurePolicy");
        let patch = json!([{"op": "replace", "path": path, "value": policy}]);
        let patch = format!("--patch={patch}");
        let patched = try_kubectl(&["patch", name, "--type=json", &patch], None);
        assert!(
            patched.success || std::thread::panicking(),
            "{}",
            patched.stderr
        );
    }
}

impl Drop for Ignoring {
    fn drop(&mut self) {
        Self::set("Fail");
    }
}

#[test]
fn where_an_outage_is_ignored_the_safety_net_refuses_pods_without_our_containers() {
    let webhook = Webhook::take();
    let ignoring = Ignoring::begin();
    webhook.scale(0);
    let create = |pod: &Value, namespace: &str| {
        let arguments = [
            "create",
            "--dry-run=server",
            "--filename=-",
            "--namespace",
            namespace,
        ];
        try_kubectl(&arguments, Some(&pod.to_string()))
    };
    let secret = [("secret", "database-credentials")];
    let annotated = pods::annotated("pod", &secret, "true");
    // Once the API server's own view of the configuration has the policy.
    let message = until("the safety net", 30, || {
        let said = create(&annotated, "default").stderr;
        said.contains("keeper-injector-safety-net").then_some(said)
    });
    for part in [
        "keeper.security/inject",
        "--namespace keeper-security get pods",
    ] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }

    // What says that it is injected, and isn't.
    let mut marked = annotated.clone();
    marked["metadata"]["labels"] = json!({"keeper.security/injected": "true"});
    marked["metadata"]["annotations"]["keeper.security/injected"] = json!("true");
    let mut named = marked.clone();
    named["spec"]["initContainers"] = json!([{"name": "keeper-sidecar", "image": "busybox"}]);
    let config = json!([{"name": "KEEPER_AGENT_CONFIG", "value": "{}"}]);
    let mut other_name = marked.clone();
    other_name["spec"]["initContainers"] =
        json!([{"name": "keeper-sidecar-x", "image": "busybox", "env": config}]);
    // Nothing would hold the application back until it has fetched.
    let mut beside = marked.clone();
    let ours = json!({"name": "keeper-sidecar", "image": "busybox", "env": config});
    beside["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(ours);
    let mut unclear = annotated.clone();
    unclear["metadata"]["annotations"]["keeper.security/inject"] = json!("maybe");
    for pod in [marked, named, other_name, beside, unclear] {
        let refused = create(&pod, "default");
        assert!(
            !refused.success && refused.stderr.contains("keeper-injector-safety-net"),
            "{pod}\n{}",
            refused.stderr
        );
    }

    let mut declined = annotated.clone();
    declined["metadata"]["annotations"]["keeper.security/inject"] = json!(" False ");
    for (pod, namespace) in [
        (pods::plain("plain", "true"), "default"),
        (declined, "default"),
        (annotated.clone(), "kube-public"),
        (annotated.clone(), "keeper-security"),
    ] {
        let _ = create(&pod, namespace).expect_success(namespace);
    }

    drop(webhook);
    until("admission to work again", 30, || {
        create(&annotated, "default").success.then_some(())
    });
    drop(ignoring);
}

#[test]
fn two_replicas_that_start_at_once_agree_on_one_authority() {
    let webhook = Webhook::take();
    webhook.scale(0);
    let _ = kubectl(&["delete", "secret", TLS_SECRET, OWN]);
    webhook.scale(2);
    assert_eq!(served_by_each(), 2);
    drop(webhook);
}

#[test]
fn a_new_certificate_is_served_without_a_restart() {
    let webhook = Webhook::take();
    webhook.scale(2);
    let names = || {
        let replicas = webhook.replicas().into_iter();
        replicas
            .map(|replica| replica.name().to_owned())
            .collect::<Vec<_>>()
    };
    let before = names();
    let authority = ca_bundle();
    let _ = kubectl(&["delete", "secret", TLS_SECRET, OWN]);
    until("a new authority", 90, || {
        (ca_bundle() != authority).then_some(())
    });
    until("both replicas to serve it", 90, || {
        (served_by_each() == 2).then_some(())
    });
    assert_eq!(names(), before);
    assert!(
        webhook
            .replicas()
            .iter()
            .all(|replica| replica.restarts() == 0)
    );
    drop(webhook);
}

fn ca_bundle() -> String {
    kubectl(&[
        "get",
        "mutatingwebhookconfiguration",
        "keeper-injector",
        "--output=jsonpath={.webhooks[0].clientConfig.caBundle}",
    ])
}

/// How many replicas serve a certificate that the API server would accept.
fn served_by_each() -> usize {
    let check = "echo \"$2\" | base64 -d >/run/ca.crt && openssl s_client -connect \"$1:8443\" -CAfile /run/ca.crt \
        -servername keeper-injector-webhook.keeper-security.svc -verify_hostname keeper-injector-webhook.keeper-security.svc \
        </dev/null 2>/dev/null || true";
    let bundle = ca_bundle();
    let replicas = Webhook::all();
    let addresses = replicas.iter().filter_map(Replica::address);
    let answers = addresses
        .map(|address| node::exec(&["sh", "-c", check, "sh", &address.to_string(), &bundle]));
    answers
        .filter(|answer| answer.contains("Verify return code: 0 (ok)"))
        .count()
}
