//! What a pod's namespace says about it.

use std::collections::BTreeMap;

use keeper_contract::annotations::{Scope, Status, TABLE};
use keeper_contract::{
    AgentConfig, Auth, Decision, Namespace, NamespaceSettings, Reason, SkipReason, admit,
};
use serde_json::{Value, json};

use crate::{
    CURRENT, PREFIX, apply, config, denial, injection, pod, reasons, settings, settings_with,
};

fn says(annotations: &[(&str, &str)]) -> NamespaceSettings {
    let of = |(name, value): &(&str, &str)| (format!("{PREFIX}{name}"), (*value).to_owned());
    NamespaceSettings::read(&BTreeMap::new(), &annotations.iter().map(of).collect())
}

/// The decision on a pod in the namespace `shop` with these annotations.
fn decide(pod: &Value, namespace: &[(&str, &str)], chart: Value) -> Decision {
    let namespace = says(namespace);
    let shop = Namespace {
        name: "shop",
        settings: Some(&namespace),
    };
    admit(pod, shop, &settings_with(chart), &CURRENT)
}

#[track_caller]
fn agents(pod: &Value, namespace: &[(&str, &str)], chart: Value) -> AgentConfig {
    config(&apply(pod, &injection(decide(pod, namespace, chart))))
}

/// A pod that says nothing but that it wants to be injected.
fn bare(annotations: &[(&str, &str)]) -> Value {
    let mut pod = pod(annotations);
    let all = pod["metadata"]["annotations"].as_object_mut().unwrap();
    if !annotations.iter().any(|(name, _)| *name == "ksm-config") {
        all.remove("keeper.security/ksm-config");
    }
    pod
}

/// The pod with what the examples of some annotations speak of.
fn roomy(mut pod: Value) -> Value {
    let container = |name: &str| json!({"name": name, "image": "busybox"});
    pod["spec"] = json!({
        "containers": [container("app"), container("migrate")],
        "securityContext": {"runAsUser": 1000},
    });
    pod
}

fn secret(config: &AgentConfig) -> &str {
    let Auth::Secret { secret_name, .. } = &config.auth;
    secret_name
}

#[test]
fn the_pod_goes_before_its_namespace_and_that_before_the_chart() {
    let chart = || json!({"ksm-config": "charts", "refresh-interval": "1h", "cache": "3h"});
    let namespace = [("ksm-config", "namespaces"), ("refresh-interval", "10m")];
    let own = [("refresh-interval", "1m")];
    let got = agents(&bare(&own), &namespace, chart());
    assert_eq!(secret(&got), "namespaces");
    assert_eq!(
        (got.refresh_interval_seconds, got.cache_seconds),
        (60, 10_800)
    );
    assert_eq!(
        agents(&bare(&[]), &namespace, chart()).refresh_interval_seconds,
        600
    );
    assert_eq!(
        agents(&bare(&[]), &[], chart()).refresh_interval_seconds,
        3600
    );
    // The old name goes together with the new one.
    let old = bare(&[("auth-secret", "own")]);
    assert_eq!(secret(&agents(&old, &namespace, chart())), "own");
    let old = [("auth-secret", "namespaces")];
    assert_eq!(secret(&agents(&bare(&[]), &old, chart())), "namespaces");
}

#[test]
fn a_trust_root_comes_from_one_place_with_its_key() {
    let volume = |pod: &Value, namespace: &[(&str, &str)]| {
        let chart = json!({"ca-cert-configmap": "charts", "ca-cert-key": "chart.pem"});
        let patched = apply(pod, &injection(decide(pod, namespace, chart)));
        let volumes = patched["spec"]["volumes"].as_array().unwrap().clone();
        let ca = volumes.into_iter().find(|v| v["name"] == "keeper-ca");
        let ca = ca.unwrap();
        let source = [&ca["secret"], &ca["configMap"]];
        let source = source.into_iter().find(|source| source.is_object());
        let source = source.unwrap();
        let name = [&source["secretName"], &source["name"]];
        let name = name.into_iter().find_map(Value::as_str).unwrap();
        format!("{name}/{}", source["items"][0]["key"].as_str().unwrap())
    };
    let key = [("ca-cert-key", "ns.pem")];
    let source = [("ca-cert-secret", "ns")];
    assert_eq!(volume(&pod(&[]), &[]), "charts/chart.pem");
    assert_eq!(volume(&pod(&[]), &key), "charts/ns.pem");
    assert_eq!(volume(&pod(&[]), &source), "ns/ca.crt");
    assert_eq!(volume(&pod(&[]), &[source, key].concat()), "ns/ns.pem");
    let own_key = pod(&[("ca-cert-key", "own.pem")]);
    assert_eq!(volume(&own_key, &[source, key].concat()), "ns/own.pem");
    let own = pod(&[("ca-cert-configmap", "own")]);
    assert_eq!(volume(&own, &[source, key].concat()), "own/ca.crt");
}

#[test]
fn every_default_of_the_table_may_stand_on_a_namespace() {
    for annotation in TABLE {
        let name = annotation
            .name
            .replace("<name>", "x")
            .replace("<NAME>", "X");
        let mut namespace = vec![(name.as_str(), annotation.example)];
        // What needs another.
        match annotation.name {
            "ca-cert-key" => namespace.push(("ca-cert-secret", "ca")),
            "signal-process" => namespace.push(("signal", "SIGHUP")),
            _ => {}
        }
        let got = decide(&roomy(pod(&[])), &namespace, json!({}));
        let want = match (annotation.scope, annotation.status) {
            (Scope::Defaultable, Status::Working) => {
                drop(injection(got));
                continue;
            }
            (Scope::Defaultable, Status::NotYet) => Reason::NotYet,
            (Scope::Pod, _) => Reason::Conflict,
        };
        let denial = denial(got);
        assert_eq!(reasons(&denial), [(name.clone(), want)]);
        let said = format!("{PREFIX}{name}, an annotation of the namespace shop: ");
        assert!(denial.to_string().starts_with(&said), "{denial}");
    }
}

#[test]
fn a_bad_default_denies_the_pods_that_would_take_it() {
    for annotation in TABLE {
        let taken = annotation.scope == Scope::Defaultable && annotation.status == Status::Working;
        if !taken {
            continue;
        }
        let name = annotation.name;
        let namespace = [(name, "no such:\u{1}value")];
        let chart = json!({"ksm-config": "charts"});
        let denial = denial(decide(&bare(&[]), &namespace, chart));
        assert!(
            denial
                .problems
                .iter()
                .all(|p| p.namespace.as_deref() == Some("shop")),
            "{denial}"
        );
        assert!(
            reasons(&denial).iter().all(|(found, _)| found == name),
            "{denial}"
        );
        let own = roomy(pod(&[(name, annotation.example)]));
        match name {
            "ca-cert-key" | "signal-process" => continue,
            _ => drop(injection(decide(&own, &namespace, json!({})))),
        }
    }
}

#[test]
fn what_is_wrong_on_the_namespace_is_told_apart() {
    let namespace = [
        ("refresh-intervall", "5m"),
        ("secret", "Orders DB"),
        ("inject", "true"),
        ("refresh-interval", "soon"),
        ("cache", "long"),
    ];
    let own = pod(&[("cache", "1h"), ("log-level", "loud"), ("secret", "a]")]);
    let text = denial(decide(&own, &namespace, json!({}))).to_string();
    let of_namespace =
        |name: &str| format!("{PREFIX}{name}, an annotation of the namespace shop: ");
    for part in [
        of_namespace("refresh-intervall"),
        "did you mean keeper.security/refresh-interval?".to_owned(),
        of_namespace("secret"),
        of_namespace("inject"),
        "the namespace label keeper.security/inject=disabled leaves".to_owned(),
        of_namespace("refresh-interval"),
        format!("{PREFIX}log-level: "),
        format!("{PREFIX}secret: `a]`"),
    ] {
        assert!(text.contains(&part), "{part} is missing in: {text}");
    }
    // The pod's own value goes before it, so nobody takes the wrong one.
    assert!(!text.contains("cache"), "{text}");
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn warnings_and_conflicts_name_the_namespace_too() {
    let warned = injection(decide(
        &pod(&[("secret", "x")]),
        &[("refresh-interval", "1s")],
        json!({}),
    ));
    assert_eq!(warned.warnings.len(), 1);
    assert!(warned.warnings[0].contains("annotation of the namespace shop: is raised to 15s"));
    // Each of the two is good by itself.
    let pod = pod(&[("metrics-port", "0")]);
    let denial = denial(decide(&pod, &[("on-stale", "unready")], json!({})));
    assert_eq!(denial.problems[0].namespace.as_deref(), Some("shop"));
    assert_eq!(reasons(&denial), [("on-stale".into(), Reason::Conflict)]);
}

/// A pod can't say that nobody is to be told.
#[test]
fn a_signal_of_the_namespace_is_for_pods_that_are_refreshed() {
    let namespace = [("signal", "SIGHUP"), ("reload-url", "http://localhost/")];
    let reload =
        |annotations: &[(&str, &str)]| agents(&pod(annotations), &namespace, json!({})).reload;
    assert!(reload(&[]).is_some_and(|r| r.signal.is_some() && r.url.is_some()));
    assert!(reload(&[("init-only", "true")]).is_none());
}

/// What was decided at first holds when the API server asks again.
#[test]
fn containers_of_the_namespace_are_still_those_when_asked_again() {
    let mut pod = pod(&[("secret", "x")]);
    pod["spec"]["containers"] =
        json!([{"name": "app", "image": "x"}, {"name": "proxy", "image": "x"}]);
    let namespace = [("containers", "app")];
    let patched = apply(&pod, &injection(decide(&pod, &namespace, json!({}))));
    let mounts = |index: usize| patched["spec"]["containers"][index]["volumeMounts"].is_array();
    assert_eq!([mounts(0), mounts(1)], [true, false]);
    let again = decide(&patched, &namespace, json!({}));
    assert_eq!(again, Decision::Skipped(SkipReason::AlreadyInjected));
}

#[test]
fn a_label_leaves_all_pods_alone_whatever_they_say() {
    let labels = BTreeMap::from([("keeper.security/inject".to_owned(), "disabled".to_owned())]);
    let namespace = NamespaceSettings::read(&labels, &BTreeMap::new());
    let shop = Namespace {
        name: "shop",
        settings: Some(&namespace),
    };
    let decision = admit(&pod(&[("nonsense", "x")]), shop, &settings(), &CURRENT);
    assert_eq!(decision, Decision::Skipped(SkipReason::Namespace));
}

#[test]
fn too_much_is_not_taken() {
    let denial = denial(decide(
        &pod(&[]),
        &[("proxy", &"x".repeat(9000))],
        json!({}),
    ));
    assert_eq!(reasons(&denial), [("inject".into(), Reason::TooLarge)]);
    let text = denial.to_string();
    assert!(
        text.contains("namespace shop take 9005 bytes, at most 8192"),
        "{text}"
    );
}
