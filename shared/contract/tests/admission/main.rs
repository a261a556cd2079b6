//! What becomes of a pod, from the outside: `admit`, and the pod after its patch.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod again;
mod annotations;
mod asked;
mod config;
mod identity;
mod namespace;
mod outputs;
mod paths;
mod policy;
mod properties;
mod reload;
mod restricted;
mod shapes;
mod variables;

use keeper_contract::{
    AgentConfig, Cluster, Decision, Denial, Injection, Reason, Settings, admit, layout,
};
use serde_json::{Value, json};

const CURRENT: Cluster = Cluster { minor: 35 };
const PREFIX: &str = "keeper.security/";

fn settings() -> Settings {
    settings_with(json!({}))
}

/// Settings with these cluster-wide defaults.
fn settings_with(defaults: Value) -> Settings {
    serde_json::from_value(json!({
        "sidecarImage": "keeper/injector-sidecar:0.1.0",
        "ownNamespace": "keeper-security",
        "excludedNamespaces": ["monitoring"],
        "defaults": defaults,
    }))
    .unwrap()
}

/// A pod with one container that asks for injection with a config, and these annotations beside.
fn pod(annotations: &[(&str, &str)]) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app", "annotations": {}},
        "spec": {"containers": [{"name": "app", "image": "busybox"}]},
    });
    let common = [("inject", "true"), ("ksm-config", "keeper-auth")];
    for (name, value) in common.iter().chain(annotations) {
        annotate(&mut pod, name, json!(value));
    }
    pod
}

fn annotate(pod: &mut Value, name: &str, value: Value) {
    pod["metadata"]["annotations"][format!("{PREFIX}{name}")] = value;
}

fn decide(pod: &Value) -> Decision {
    admit(pod, "default", &settings(), &CURRENT)
}

#[track_caller]
fn injected(pod: &Value) -> Injection {
    injection(decide(pod))
}

#[track_caller]
fn injection(decision: Decision) -> Injection {
    match decision {
        Decision::Injected(injection) => injection,
        Decision::Skipped(reason) => panic!("skipped: {reason}"),
        Decision::Denied(denial) => panic!("denied: {denial}"),
    }
}

#[track_caller]
fn denied(pod: &Value) -> Denial {
    denial(decide(pod))
}

#[track_caller]
fn denial(decision: Decision) -> Denial {
    match decision {
        Decision::Denied(denial) => denial,
        other => panic!("not denied: {other:?}"),
    }
}

/// The pod after the patch.
#[track_caller]
fn apply(pod: &Value, injection: &Injection) -> Value {
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &injection.patch.operations().unwrap()).unwrap();
    patched
}

/// The pod after its injection.
#[track_caller]
fn patched(pod: &Value) -> Value {
    apply(pod, &injected(pod))
}

/// The agents' config in a patched pod.
#[track_caller]
fn config(patched: &Value) -> AgentConfig {
    let text = patched["spec"]["initContainers"][0]["env"][0]["value"]
        .as_str()
        .unwrap();
    assert_eq!(
        patched["spec"]["initContainers"][0]["env"][0]["name"],
        layout::CONFIG_ENV
    );
    serde_json::from_str(&text.replace("$$", "$")).unwrap()
}

/// The same, wherever our containers stand.
fn config_of(patched: &Value) -> AgentConfig {
    let containers = patched["spec"]["initContainers"].as_array().unwrap();
    let ours = containers
        .iter()
        .find(|c| c["env"][0]["name"] == layout::CONFIG_ENV)
        .unwrap();
    let text = ours["env"][0]["value"].as_str().unwrap();
    serde_json::from_str(&text.replace("$$", "$")).unwrap()
}

/// The problems of a denial as annotation (without prefix) and reason.
fn reasons(denial: &Denial) -> Vec<(String, Reason)> {
    denial
        .problems
        .iter()
        .map(|p| (p.annotation.trim_start_matches(PREFIX).to_owned(), p.reason))
        .collect()
}
