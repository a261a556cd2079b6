//! A pod that is injected already: nothing happens twice, and what was lost comes back.

use keeper_contract::{Decision, Shape, SkipReason};
use serde_json::{Value, json};

use crate::{annotate, apply, decide, injected, patched, pod};

const SKIPPED: Decision = Decision::Skipped(SkipReason::AlreadyInjected);

#[test]
fn planning_twice_is_planning_once() {
    for annotations in [
        vec![],
        vec![("secret", "Orders")],
        vec![("secret", "Orders"), ("init-only", "true")],
        vec![("secret", "Orders"), ("sidecar-mode", "classic")],
        vec![("secret", "a$$(b)c:/keeper/secrets/x")],
        vec![("inject-env-vars", "true"), ("env-X", "Orders[x]")],
    ] {
        let mut pod = pod(&annotations);
        pod["spec"]["containers"][0]["command"] = json!(["app"]);
        for policy in ["Always", "Never"] {
            pod["spec"]["restartPolicy"] = json!(policy);
            assert_eq!(decide(&patched(&pod)), SKIPPED, "{annotations:?}");
        }
    }
}

#[test]
fn a_name_with_a_number_is_known_again() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["containers"][0]["name"] = json!("keeper-sidecar");
    pod["spec"]["volumes"] = json!([{"name": "keeper-secrets", "emptyDir": {}}]);
    assert_eq!(decide(&patched(&pod)), SKIPPED);
}

#[test]
fn a_container_that_came_later_gets_the_mount() {
    for (mode, shape) in [("native", Shape::Native), ("classic", Shape::Classic)] {
        let mut pod = patched(&pod(&[("secret", "Orders"), ("sidecar-mode", mode)]));
        let containers = pod["spec"]["containers"].as_array_mut().unwrap();
        containers.insert(0, json!({"name": "proxy", "image": "x"}));
        let injection = injected(&pod);
        let operations = injection.patch.operations().unwrap().len();
        assert_eq!(
            (operations, injection.shape, injection.outputs),
            (1, shape, 1)
        );
        let again = apply(&pod, &injection);
        assert_eq!(
            again["spec"]["containers"][0]["volumeMounts"],
            again["spec"]["containers"][1]["volumeMounts"]
        );
        assert_eq!(decide(&again), SKIPPED);
    }
}

#[test]
fn a_lost_marker_comes_back() {
    let whole = patched(&pod(&[("secret", "Orders")]));
    let mut copy = whole.clone();
    copy["metadata"].as_object_mut().unwrap().remove("labels");
    assert_eq!(patched(&copy), whole);
    let mut copy = whole.clone();
    copy["metadata"]["annotations"]
        .as_object_mut()
        .unwrap()
        .remove("keeper.security/injected");
    assert_eq!(patched(&copy), whole);
}

#[test]
fn the_marker_alone_is_no_evidence() {
    let mut pod = pod(&[("secret", "Orders"), ("injected", "true")]);
    pod["metadata"]["labels"] = json!({"keeper.security/injected": "true"});
    assert_eq!(injected(&pod).shape, Shape::Native);
}

#[test]
fn a_container_that_only_has_our_name_is_not_ours() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["initContainers"] = json!([{"name": "keeper-init"}]);
    let got = patched(&pod);
    assert_eq!(got["spec"]["initContainers"][0]["name"], "keeper-sidecar");
    assert_eq!(
        got["spec"]["initContainers"][1]["volumeMounts"][0]["mountPath"],
        "/keeper/secrets"
    );
}

#[test]
fn a_container_of_ours_that_was_tampered_with_harms_nobody() {
    let whole = patched(&pod(&[("secret", "Orders")]));
    for config in ["", "{}", "not JSON", "$$$"] {
        let mut pod: Value = whole.clone();
        pod["spec"]["initContainers"][0]["env"][0]["value"] = json!(config);
        assert_eq!(decide(&pod), SKIPPED, "{config}");
    }
    let mut pod = whole;
    pod["spec"]["initContainers"][0]["volumeMounts"] = json!([]);
    assert_eq!(decide(&pod), SKIPPED);
    annotate(&mut pod, "inject", json!("false"));
    assert_eq!(decide(&pod), Decision::Skipped(SkipReason::Declined));
}
