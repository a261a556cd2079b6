//! What the safety net lets through while the webhook is there. What it refuses is in the program `outage`: as long as the webhook
//! answers, nothing that lacks our containers gets that far.

use keeper_e2e::{kubectl, node, pods, try_kubectl, until};
use serde_json::{Value, json};

const SECRET: (&str, &str) = ("secret", "database-credentials");

/// The pod as it would be stored. Nothing comes to run, so there is no Keeper, nor a namespace of the test's own.
fn created_in(namespace: &str, pod: &Value) -> Value {
    let arguments = [
        "create",
        "--dry-run=server",
        "--output=json",
        "--filename=-",
        "--namespace",
        namespace,
    ];
    let text = try_kubectl(&arguments, Some(&pod.to_string())).expect_success("a dry run");
    serde_json::from_str(&text).unwrap()
}

fn created(pod: &Value) -> Value {
    created_in("default", pod)
}

#[test]
fn every_shape_passes() {
    let pod = |more: &[(&str, &str)]| {
        let annotations: Vec<_> = [SECRET].into_iter().chain(more.iter().copied()).collect();
        pods::annotated("pod", &annotations, "true")
    };
    let mut taken = pod(&[]);
    taken["spec"]["initContainers"] = json!([{"name": "keeper-sidecar", "image": "busybox"}]);
    for (pod, names) in [
        (pod(&[]), &["keeper-sidecar"][..]),
        (pods::once(pod(&[])), &["keeper-init", "keeper-sidecar"]),
        (
            pod(&[("sidecar-mode", "classic")]),
            &["keeper-init", "keeper-sidecar"],
        ),
        (pod(&[("init-only", "true")]), &["keeper-init"]),
        (pod(&[("init-position", "last")]), &["keeper-sidecar"]),
        (pod(&[("inject", " TRUE ")]), &["keeper-sidecar"]),
        (taken, &["keeper-sidecar-2"]),
    ] {
        let made = created(&pod);
        let found: Vec<&Value> = pods::injected(&made).map(|found| &found["name"]).collect();
        assert_eq!(found, names, "{pod}");
    }
}

/// An injected pod of another time: copied, restored, or made by a webhook of the version before, in the middle of an upgrade.
#[test]
fn an_injected_pod_with_another_image_passes() {
    let mut pod = created(&pods::annotated("pod", &[SECRET], "true"));
    pod["metadata"] = json!({"name": "restored", "annotations": pod["metadata"]["annotations"]});
    pod["spec"]["initContainers"][0]["image"] = json!("mirror.example.com/injector:0.0.1");
    assert_eq!(created(&pod)["metadata"]["name"], "restored");
}

#[test]
fn what_asks_for_nothing_passes() {
    for value in ["false", "False", " false "] {
        let mut pod = pods::annotated("declined", &[SECRET], "true");
        pod["metadata"]["annotations"]["keeper.security/inject"] = json!(value);
        assert_eq!(pods::injected(&created(&pod)).count(), 0, "{value:?}");
    }
    let mut marked = pods::plain("marked", "true");
    marked["metadata"]["labels"] = json!({"keeper.security/injected": "true"});
    assert_eq!(pods::injected(&created(&marked)).count(), 0);
}

/// The kubelet's picture of a static pod runs already: it passes, and the webhook isn't asked about it.
#[test]
fn a_mirror_pod_passes_unseen() {
    let name = format!("mirror-{}", std::process::id());
    let mut mirror = pods::annotated(&name, &[SECRET], "true");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("x");
    mirror["spec"]["nodeName"] = json!("node");
    mirror["spec"]["automountServiceAccountToken"] = json!(false);
    assert_eq!(pods::injected(&created(&mirror)).count(), 0);
    let event = until("the audit log to have it", 20, || {
        let mut events = node::created_pods("default").into_iter();
        events.find(|event| event["objectRef"]["name"] == *name)
    });
    let annotations = event["annotations"].to_string();
    assert!(!annotations.contains("mutation.webhook"), "{annotations}");
}

#[test]
fn what_is_in_an_excluded_namespace_passes() {
    let name = format!("net-excluded-{}", std::process::id());
    let labels = json!({"keeper.security/inject": "disabled"});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let made = try_kubectl(&["create", "--filename=-"], Some(&namespace.to_string()));
    let _ = made.expect_success("a namespace");
    let pod = pods::annotated("pod", &[SECRET], "true");
    assert_eq!(pods::injected(&created_in(&name, &pod)).count(), 0);
    let _ = kubectl(&["delete", "namespace", &name, "--wait=false"]);
}
