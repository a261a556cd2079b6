//! The injected containers pass Pod Security *restricted*, by the rules of its page, in every shape.

use serde_json::{Value, json};

use crate::{patched, pod};

/// What *restricted* (and the baseline under it) asks of a container whose pod states nothing.
fn violations(container: &Value) -> Vec<&'static str> {
    let security = &container["securityContext"];
    let capabilities = &security["capabilities"];
    let host_port = |port: &Value| port.get("hostPort").is_some();
    let mut found = Vec::new();
    let mut check = |good: bool, what| {
        if !good {
            found.push(what);
        }
    };
    check(security["privileged"] != true, "privileged");
    check(
        security["allowPrivilegeEscalation"] == false,
        "allowPrivilegeEscalation",
    );
    check(capabilities["drop"] == json!(["ALL"]), "capabilities.drop");
    check(capabilities.get("add").is_none(), "capabilities.add");
    check(security["runAsNonRoot"] == true, "runAsNonRoot");
    check(
        security["runAsUser"].as_i64().is_none_or(|user| user != 0),
        "runAsUser",
    );
    check(
        security["seccompProfile"]["type"] == "RuntimeDefault",
        "seccompProfile",
    );
    check(security.get("procMount").is_none(), "procMount");
    check(security.get("seLinuxOptions").is_none(), "seLinuxOptions");
    check(
        !container["ports"]
            .as_array()
            .is_some_and(|p| p.iter().any(host_port)),
        "hostPort",
    );
    found
}

#[test]
fn our_containers_and_volumes_pass() {
    for (annotations, policy) in [
        (vec![("secret", "Orders")], "Always"),
        (vec![("secret", "Orders")], "Never"),
        (vec![("secret", "Orders"), ("init-only", "true")], "Always"),
        (vec![("ca-cert-configmap", "ca")], "Always"),
        (
            vec![("secret", "Orders"), ("sidecar-mode", "classic")],
            "Always",
        ),
    ] {
        let mut pod = pod(&annotations);
        pod["spec"]["restartPolicy"] = json!(policy);
        let got = patched(&pod);
        let added = got["spec"]["containers"].as_array().unwrap().iter().skip(1);
        for container in got["spec"]["initContainers"]
            .as_array()
            .unwrap()
            .iter()
            .chain(added)
        {
            assert_eq!(violations(container), [""; 0], "{container}");
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
            assert!(container["securityContext"]["runAsGroup"].is_i64());
        }
        for volume in got["spec"]["volumes"].as_array().unwrap() {
            let kinds: Vec<_> = volume.as_object().unwrap().keys().collect();
            let allowed = ["name", "emptyDir", "secret", "configMap"];
            assert!(
                kinds.iter().all(|k| allowed.contains(&k.as_str())),
                "{volume}"
            );
        }
    }
}

#[test]
fn the_check_sees_violations() {
    assert_eq!(violations(&json!({})).len(), 4);
    let bad = json!({"securityContext": {"privileged": true, "runAsUser": 0}, "ports": [{"hostPort": 1}]});
    assert_eq!(violations(&bad).len(), 7);
}
