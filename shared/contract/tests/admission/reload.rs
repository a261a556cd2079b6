//! What a pod gets that wants to be told of a change.

use keeper_contract::Reason;
use keeper_contract::reload::{Reload, SignalName, Target};
use serde_json::{Value, json};

use crate::{apply, config, denied, injected, patched, pod, reasons};

fn reload(patched: &Value) -> Reload {
    config(patched).reload.unwrap()
}

/// A pod with a signal, and these fields in its spec.
fn signalled(spec: Value) -> Value {
    let mut pod = pod(&[("secret", "TLS"), ("signal", "hup")]);
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

#[test]
fn a_url_needs_nothing_of_the_pod() {
    let pod = pod(&[("secret", "A"), ("reload-url", "http://localhost:80/x")]);
    let got = patched(&pod);
    assert!(got["spec"].get("shareProcessNamespace").is_none());
    let sidecar = &got["spec"]["initContainers"][0]["securityContext"];
    assert_eq!(sidecar["runAsUser"], 65532);
    assert_eq!(sidecar["capabilities"], json!({"drop": ["ALL"]}));
    let reload = reload(&got);
    assert_eq!(reload.url.unwrap().to_string(), "http://localhost:80/x");
    assert_eq!(reload.signal, None);
    assert_eq!(
        config(&patched(&crate::pod(&[("secret", "A")]))).reload,
        None
    );
}

#[test]
fn a_signal_goes_to_the_main_containers_or_to_a_process() {
    let containers = json!([{"name": "app"}, {"name": "log"}]);
    let init = json!([{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}]);
    let mut pod = signalled(json!({"containers": containers, "initContainers": init}));
    let got = patched(&pod);
    assert_eq!(got["spec"]["shareProcessNamespace"], true);
    let signal = reload(&got).signal.unwrap();
    assert_eq!(signal.name, SignalName::Hup);
    assert_eq!(
        signal.target,
        Target::Containers(vec!["app".into(), "log".into()])
    );
    crate::annotate(&mut pod, "signal-process", json!("nginx"));
    match reload(&patched(&pod)).signal.unwrap().target {
        Target::Process(name) => assert_eq!(name.as_str(), "nginx"),
        other @ Target::Containers(_) => panic!("{other:?}"),
    }
}

#[test]
fn processes_that_are_shared_already_are_left_so() {
    let pod = signalled(json!({"shareProcessNamespace": true}));
    let injection = injected(&pod);
    let operations = injection.patch.operations().unwrap();
    let touches = |path: &str| operations.iter().any(|op| op.path().as_str() == path);
    assert!(!touches("/spec/shareProcessNamespace"));
    assert_eq!(
        apply(&pod, &injection)["spec"]["shareProcessNamespace"],
        true
    );
}

#[test]
fn our_containers_run_as_the_uid_that_the_pod_states() {
    let stated = |user: i64| json!({"name": "b", "securityContext": {"runAsUser": user}});
    let plain = json!({"name": "a"});
    for (containers, security, user, warned) in [
        (json!([plain]), json!({"runAsUser": 101}), 101, false),
        (
            json!([plain]),
            json!({"runAsUser": 101, "runAsNonRoot": true}),
            101,
            false,
        ),
        (
            json!([stated(7), stated(7)]),
            json!({"runAsUser": 101}),
            7,
            false,
        ),
        (
            json!([stated(7), stated(7)]),
            json!({"runAsNonRoot": true}),
            7,
            false,
        ),
        (json!([plain]), json!({"runAsUser": 0}), 0, false),
        (json!([plain]), json!({}), 0, true),
        (json!([plain, stated(7)]), json!({}), 0, true),
        (
            json!([plain, stated(7)]),
            json!({"runAsUser": 101}),
            0,
            true,
        ),
    ] {
        for policy in ["Always", "Never"] {
            let pod = signalled(json!({
                "containers": containers, "securityContext": security, "restartPolicy": policy,
                // Whose process is over when the files change.
                "initContainers": [stated(5)],
            }));
            let injection = injected(&pod);
            assert_eq!(!injection.warnings.is_empty(), warned, "{pod}");
            let got = apply(&pod, &injection);
            let ours = got["spec"]["initContainers"].as_array().unwrap();
            for container in ours.iter().filter(|c| c["name"] != "b") {
                let security = &container["securityContext"];
                assert_eq!(security["runAsUser"], user, "{pod}");
                assert_eq!(security["runAsNonRoot"], user != 0);
                let add = if user == 0 {
                    json!(["KILL"])
                } else {
                    Value::Null
                };
                assert_eq!(security["capabilities"]["add"], add);
                assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
                assert_eq!(security["allowPrivilegeEscalation"], false);
            }
        }
    }
}

#[test]
fn what_is_in_the_way_of_a_signal_is_denied_with_the_cure() {
    let own = |security: Value| json!({"name": "b", "securityContext": security});
    for (spec, cure) in [
        (json!({"hostPID": true}), "remove hostPID"),
        (
            json!({"shareProcessNamespace": false}),
            "remove that, or use reload-url",
        ),
        (
            json!({"securityContext": {"runAsNonRoot": true}}),
            "state one runAsUser",
        ),
        (
            json!({"containers": [own(json!({"runAsNonRoot": true}))]}),
            "state one runAsUser",
        ),
        (
            json!({"containers": [own(json!({"runAsUser": 1})), own(json!({"runAsUser": 2}))],
                "securityContext": {"runAsNonRoot": true}}),
            "state one runAsUser",
        ),
    ] {
        let denial = denied(&signalled(spec));
        assert_eq!(reasons(&denial), [("signal".into(), Reason::Conflict)]);
        assert!(denial.to_string().contains(cure), "{denial}");
    }
}

#[test]
fn bad_values_are_denied_with_the_cure() {
    for (name, value, want, says) in [
        (
            "signal",
            "KILL",
            Reason::BadValue,
            "`KILL` is no signal to reload by: write SIGHUP,",
        ),
        ("signal-process", "nginx", Reason::Conflict, "set that too"),
        (
            "reload-url",
            "https://localhost/",
            Reason::BadValue,
            "write http://",
        ),
        (
            "reload-url",
            "http://u:hunter2@localhost/",
            Reason::BadValue,
            "up to the @",
        ),
        (
            "reload-url",
            "http://vault.example/",
            Reason::BadValue,
            "write localhost",
        ),
    ] {
        let denial = denied(&pod(&[("secret", "A"), (name, value)]));
        assert_eq!(reasons(&denial), [(name.into(), want)]);
        let text = denial.to_string();
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
    for (name, value) in [("signal", "HUP"), ("reload-url", "http://localhost/")] {
        let denial = denied(&pod(&[("init-only", "true"), (name, value)]));
        assert_eq!(reasons(&denial), [(name.into(), Reason::Conflict)]);
    }
}
