//! A release with a revision beside the one without: what they serve, that they share no object, and that no pod falls between them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{Objects, read, refusal, render};

const CANARY: &str = "{revision: canary}";
const LABEL: &str = "keeper.security/revision";

/// Everything that the chart makes only if it is asked.
const ALL: &str = "
metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}
alerts: {enabled: true}
dashboards: {enabled: true}
autoscaling: {enabled: true}
leaderElection: {trafficToLeaderOnly: false}
networkPolicy: {enabled: true, injectedPods: {namespaces: [shop]}}
resourceQuotas: [{namespace: shop, pods: 5}]
limitRanges: [{namespace: shop}]
externalSecrets: [{namespace: shop, name: keeper-auth, secretStoreRef: {name: vault}, remoteRef: {key: keeper}}]
";

fn identities(objects: &Objects) -> BTreeSet<String> {
    let identity = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{} {} {}",
            object["kind"], metadata["namespace"], metadata["name"]
        )
    };
    objects.0.iter().map(identity).collect()
}

fn spec<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    let found = objects.of(kind).into_iter();
    let mut found = found.filter(|object| object["metadata"]["name"] == name);
    &found.next().unwrap_or_else(|| panic!("{kind} {name}"))["spec"]
}

/// What the namespace selectors say of the label, of the webhooks and of the safety net.
fn of_the_label(objects: &Objects, net: &str) -> [Vec<Value>; 3] {
    let conditions = |selector: &Value| -> Vec<Value> {
        let all = selector["matchExpressions"].as_array().unwrap().iter();
        all.filter(|condition| condition["key"] == LABEL)
            .cloned()
            .collect()
    };
    let webhook = |kind: &str| conditions(&objects.the(kind)["webhooks"][0]["namespaceSelector"]);
    [
        webhook("MutatingWebhookConfiguration"),
        webhook("ValidatingWebhookConfiguration"),
        match objects
            .0
            .iter()
            .any(|object| object["metadata"]["name"] == net)
        {
            true => conditions(
                &spec(objects, "ValidatingAdmissionPolicy", net)["matchConstraints"]["namespaceSelector"],
            ),
            false => vec![json!("there is no net")],
        },
    ]
}

#[test]
fn each_serves_namespaces_that_the_other_leaves() {
    let canary = vec![json!({"key": LABEL, "operator": "In", "values": ["canary"]})];
    assert_eq!(
        of_the_label(&render(CANARY), "keeper-injector-canary-safety-net"),
        [canary.clone(), canary.clone(), canary]
    );
    let others = vec![json!({"key": LABEL, "operator": "DoesNotExist"})];
    assert_eq!(
        of_the_label(&render("{}"), "keeper-injector-safety-net"),
        [others.clone(), others, vec![]]
    );
}

/// Promise: no annotated pod starts without its secrets. Nobody would refuse those of a misspelt label.
#[test]
fn without_a_safety_net_labels_take_nothing_from_the_release_without_a_revision() {
    let objects = render("{safetyNet: {enabled: false}}");
    let [mutating, validating, _] = of_the_label(&objects, "keeper-injector-safety-net");
    assert_eq!((mutating, validating), (vec![], vec![]));
}

#[test]
fn the_safety_net_names_a_label_that_nobody_serves() {
    let net = |values: &str, name: &str| {
        let objects = render(values);
        spec(&objects, "ValidatingAdmissionPolicy", name)["validations"][0].clone()
    };
    let usual = net("{}", "keeper-injector-safety-net");
    let message = usual["messageExpression"].as_str().unwrap();
    assert!(
        message.starts_with("'keeper.security/revision' in namespaceObject"),
        "{message}"
    );
    // A line break in it would make it void.
    assert!(!message.contains('\n'), "{message}");
    let canary = net(CANARY, "keeper-injector-canary-safety-net");
    assert!(canary.get("messageExpression").is_none());
}

#[test]
fn two_releases_share_no_object() {
    for tls in [
        "{}",
        "{mode: cert-manager}",
        "{mode: manual, certificate: {crt: YQ==, key: YQ==, ca: YQ==}}",
    ] {
        for namespaced in ["", ALL] {
            let of = |revision: &str| {
                render(&format!("{namespaced}\ntls: {tls}\nrevision: '{revision}'"))
            };
            let [usual, canary, blue] = ["", "canary", "blue"].map(|name| identities(&of(name)));
            for (one, other) in [(&usual, &canary), (&canary, &blue)] {
                let both: BTreeSet<_> = one.intersection(other).collect();
                assert!(both.is_empty(), "{both:?}");
            }
            assert!(
                canary
                    .iter()
                    .all(|name| name.contains("keeper-injector-canary")),
                "{canary:?}"
            );
        }
    }
}

/// What an object names is the release's own.
#[test]
fn nothing_of_one_refers_to_the_other() {
    let rename = |text: String| {
        let text = text.replace("keeper-injector-canary-webhook", "keeper-injector-webhook");
        text.replace("keeper-injector-canary", "keeper-injector")
    };
    for values in [
        "tls: {mode: auto}",
        "tls: {mode: cert-manager}",
        "leaderElection: {trafficToLeaderOnly: true}",
    ] {
        let without_label = |objects: Objects| -> Vec<String> {
            let mut all = objects.0;
            for object in &mut all {
                // What is meant to differ.
                for pointer in [
                    "/webhooks/0/namespaceSelector",
                    "/spec/matchConstraints/namespaceSelector",
                ] {
                    if let Some(selector) = object.pointer_mut(pointer) {
                        *selector = json!(null);
                    }
                }
                for webhook in object["webhooks"].as_array_mut().into_iter().flatten() {
                    webhook["namespaceSelector"] = json!(null);
                }
                if let Some(validation) = object.pointer_mut("/spec/validations/0") {
                    validation
                        .as_object_mut()
                        .unwrap()
                        .remove("messageExpression");
                }
            }
            all.retain(|object| object["kind"] != "ConfigMap" && object["kind"] != "Pod");
            all.iter().map(ToString::to_string).collect()
        };
        let checksum = |text: String| match text.split_once("checksum/settings\":\"") {
            Some((before, rest)) => format!("{before}{}", &rest[64..]),
            None => text,
        };
        let usual: Vec<_> = without_label(render(values))
            .into_iter()
            .map(checksum)
            .collect();
        let canary = without_label(render(&format!("{{revision: canary, {values}}}")));
        let canary: Vec<_> = canary.into_iter().map(rename).map(checksum).collect();
        assert_eq!(canary, usual, "{values}");
    }
}

/// Beside the Service's own metrics, there is one of each for all releases.
#[test]
fn what_is_for_all_pods_is_made_once() {
    let objects = render(&format!("{ALL}\nrevision: canary"));
    for kind in [
        "PodMonitor",
        "PrometheusRule",
        "ResourceQuota",
        "LimitRange",
        "ExternalSecret",
    ] {
        assert!(objects.of(kind).is_empty(), "{kind}");
    }
    assert_eq!(objects.of("NetworkPolicy").len(), 1);
    assert_eq!(objects.of("ConfigMap").len(), 1);
    // The alerts see it as one of the webhook's, and count its replicas apart.
    assert_eq!(
        objects.the("ServiceMonitor")["spec"]["endpoints"][0]["relabelings"],
        json!([
            {"targetLabel": "job", "replacement": "keeper-injector-webhook"},
            {"targetLabel": "revision", "replacement": "canary"},
        ])
    );
    assert!(
        read("rules/alerts.yaml")
            .contains("(up{job=\"keeper-injector-webhook\", revision=\"\"}) < 2")
    );
}

#[test]
fn helm_test_asks_who_injected() {
    let field = |values: &str| {
        let objects = render(values);
        objects.the("Pod")["spec"]["volumes"][0]["downwardAPI"]["items"][0]["fieldRef"].clone()
    };
    assert_eq!(
        field(CANARY)["fieldPath"],
        "metadata.labels['keeper.security/revision']"
    );
    assert_eq!(
        field("{}")["fieldPath"],
        "metadata.labels['keeper.security/injected']"
    );
}

#[test]
fn a_revision_is_part_of_names() {
    for bad in ["Canary", "a.b", "-a", "a-", "a_b", "x".repeat(33).as_str()] {
        let message = refusal(&json!({"revision": bad}).to_string());
        assert!(message.contains("revision"), "{bad}: {message}");
    }
    render(&json!({"revision": "x".repeat(32)}).to_string());
}
