//! The pod after its patch, field by field.

use keeper_contract::{Reason, Shape};
use serde_json::{Value, json};

use crate::{annotate, config, denied, injected, patched, pod, reasons};

/// The config's place in an expected container.
fn env(patched: &Value) -> Value {
    let text = patched["spec"]["initContainers"][0]["env"][0]["value"].clone();
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    json!([
        {"name": "KEEPER_AGENT_CONFIG", "value": text},
        field("KEEPER_POD_NAME", "metadata.name"),
        field("KEEPER_POD_NAMESPACE", "metadata.namespace"),
        field("KEEPER_POD_UID", "metadata.uid"),
    ])
}

#[test]
fn the_native_shape() {
    let got = patched(&pod(&[("secret", "Orders")]));
    let env = env(&got);
    let want = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "app",
            "labels": {"keeper.security/injected": "true"},
            "annotations": {
                "keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth",
                "keeper.security/secret": "Orders", "keeper.security/injected": "true"
            },
        },
        "spec": {
            "initContainers": [{
                "name": "keeper-sidecar",
                "image": "keeper/injector-sidecar:0.1.0",
                "command": ["/keeper-sidecar"],
                "args": ["run"],
                "restartPolicy": "Always",
                "lifecycle": {"postStart": {"exec": {"command": ["/keeper-sidecar", "wait"]}}},
                "env": env,
                "ports": [{"name": "keeper-metrics", "containerPort": 9790, "protocol": "TCP"}],
                "resources": {
                    "requests": {"cpu": "5m", "memory": "8Mi"},
                    "limits": {"memory": "20608Ki"},
                },
                "volumeMounts": [
                    {"name": "keeper-secrets", "mountPath": "/keeper/volume"},
                    {"name": "keeper-auth", "mountPath": "/keeper/auth", "readOnly": true},
                    {"name": "keeper-no-token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
                ],
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "privileged": false,
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationMessagePolicy": "FallbackToLogsOnError",
            }],
            "containers": [{
                "name": "app", "image": "busybox",
                "volumeMounts": [{"name": "keeper-secrets", "mountPath": "/keeper/secrets", "subPath": "dirs/0", "readOnly": true}],
            }],
            "volumes": [
                {"name": "keeper-secrets", "emptyDir": {"medium": "Memory", "sizeLimit": "4224Ki"}},
                {"name": "keeper-auth", "secret": {"secretName": "keeper-auth", "defaultMode": 292, "optional": false}},
                {"name": "keeper-no-token", "emptyDir": {"medium": "Memory", "sizeLimit": "4Ki"}},
            ],
        },
    });
    assert_eq!(got, want, "{got:#}");
    let config = serde_json::to_value(config(&got)).unwrap();
    assert_eq!(
        config,
        json!({
            "auth": {"method": "secret", "secretName": "keeper-auth", "file": "/keeper/auth/config"},
            "directories": [{"mountPath": "/keeper/secrets", "subPath": "dirs/0"}],
            "outputs": [{
                "directory": 0, "path": "orders.json", "selection": {"record": "Orders"}, "format": "json",
                "annotation": "keeper.security/secret",
            }],
            "refreshIntervalSeconds": 300, "failOnError": true, "cacheSeconds": 86400, "onStale": "serve", "strictLookup": false, "fileMode": "0444", "metricsPort": 9790,
            "logLevel": "info", "logFormat": "json",
        })
    );
}

#[test]
fn a_pod_that_never_restarts_has_a_first_fetch_before_and_no_hook() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["restartPolicy"] = json!("Never");
    pod["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    let got = patched(&pod);
    let containers = &got["spec"]["initContainers"];
    let names: Vec<_> = containers
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["keeper-init", "keeper-sidecar", "migrate"]);
    let (init, sidecar) = (&containers[0], &containers[1]);
    assert_eq!(init["command"], json!(["/keeper-init"]));
    for absent in ["args", "restartPolicy", "lifecycle", "ports"] {
        assert_eq!(init[absent], Value::Null, "{absent}");
    }
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["args"], json!(["run"]));
    assert_eq!(sidecar["lifecycle"], Value::Null);
    for same in [
        "env",
        "resources",
        "volumeMounts",
        "securityContext",
        "image",
    ] {
        assert_eq!(init[same], sidecar[same], "{same}");
    }
}

#[test]
fn a_classic_sidecar_stands_behind_the_pods_own_containers() {
    let mut pod = pod(&[
        ("secret", "Orders"),
        ("sidecar-mode", "classic"),
        ("on-stale", "unready"),
    ]);
    pod["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    pod["spec"]["containers"] = json!([{"name": "app"}, {"name": "helper"}]);
    let got = patched(&pod);
    let names = |list: &str| -> Vec<String> {
        let containers = got["spec"][list].as_array().unwrap().iter();
        containers
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names("initContainers"), ["keeper-init", "migrate"]);
    assert_eq!(names("containers"), ["app", "helper", "keeper-sidecar"]);
    let (init, sidecar) = (
        &got["spec"]["initContainers"][0],
        &got["spec"]["containers"][2],
    );
    assert_eq!(init["command"], json!(["/keeper-init"]));
    for absent in [
        "args",
        "restartPolicy",
        "lifecycle",
        "ports",
        "readinessProbe",
    ] {
        assert_eq!(init[absent], Value::Null, "{absent}");
    }
    assert_eq!(sidecar["command"], json!(["/keeper-sidecar"]));
    assert_eq!(sidecar["args"], json!(["run"]));
    assert_eq!(sidecar["ports"][0]["containerPort"], 9790);
    assert_eq!(sidecar["readinessProbe"]["httpGet"]["port"], 9790);
    for absent in ["restartPolicy", "lifecycle"] {
        assert_eq!(sidecar[absent], Value::Null, "{absent}");
    }
    for same in [
        "env",
        "resources",
        "volumeMounts",
        "securityContext",
        "image",
    ] {
        assert_eq!(init[same], sidecar[same], "{same}");
    }
}

#[test]
fn a_classic_sidecar_would_keep_a_job_from_ending() {
    for policy in ["Never", "OnFailure"] {
        let mut pod = pod(&[("secret", "Orders"), ("sidecar-mode", "classic")]);
        pod["spec"]["restartPolicy"] = json!(policy);
        let injection = injected(&pod);
        assert_eq!(injection.shape, Shape::InitOnly);
        assert!(
            injection.warnings[0].contains("completing"),
            "{:?}",
            injection.warnings
        );
        let got = crate::apply(&pod, &injection);
        assert_eq!(got["spec"]["containers"].as_array().unwrap().len(), 1);
        assert_eq!(config(&got).metrics_port, None);
    }
}

#[test]
fn the_agents_of_a_pod_that_runs_to_completion_know_it() {
    for (policy, known) in [("Always", false), ("OnFailure", true), ("Never", true)] {
        let mut pod = pod(&[("secret", "Orders")]);
        pod["spec"]["restartPolicy"] = json!(policy);
        assert_eq!(config(&patched(&pod)).runs_to_completion, known, "{policy}");
    }
}

#[test]
fn init_only_is_the_first_fetch_alone() {
    let got = patched(&pod(&[("secret", "Orders"), ("init-only", "True")]));
    let containers = got["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0]["name"], "keeper-init");
    assert_eq!(containers[0]["restartPolicy"], Value::Null);
    assert_eq!(config(&got).metrics_port, None);
}

#[test]
fn all_containers_of_the_user_get_the_mount_and_keep_their_own() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["initContainers"] =
        json!([{"name": "first"}, {"name": "second", "volumeMounts": []}]);
    pod["spec"]["containers"] = json!([
        {"name": "a", "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
        {"name": "b", "volumeMounts": null},
    ]);
    pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let got = patched(&pod);
    let mount = json!({"name": "keeper-secrets", "mountPath": "/keeper/secrets", "subPath": "dirs/0", "readOnly": true});
    let mounts = |list: &str, i: usize| got["spec"][list][i]["volumeMounts"].clone();
    assert_eq!(got["spec"]["initContainers"][0]["name"], "keeper-sidecar");
    assert_eq!(mounts("initContainers", 1), json!([mount]));
    assert_eq!(mounts("initContainers", 2), json!([mount]));
    assert_eq!(
        mounts("containers", 0),
        json!([{"name": "data", "mountPath": "/data"}, mount])
    );
    assert_eq!(mounts("containers", 1), json!([mount]));
    assert_eq!(got["spec"]["volumes"][0]["name"], "data");
}

#[test]
fn names_of_the_pods_own_are_not_taken() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["containers"] = json!([{"name": "keeper-sidecar"}, {"name": "app"}]);
    pod["spec"]["volumes"] = json!([{"name": "keeper-secrets"}, {"name": "keeper-secrets-2"}]);
    let got = patched(&pod);
    let sidecar = &got["spec"]["initContainers"][0];
    assert_eq!(sidecar["name"], "keeper-sidecar-2");
    assert_eq!(sidecar["volumeMounts"][0]["name"], "keeper-secrets-3");
    assert_eq!(got["spec"]["volumes"][2]["name"], "keeper-secrets-3");
    for container in got["spec"]["containers"].as_array().unwrap() {
        assert_eq!(container["volumeMounts"][0]["name"], "keeper-secrets-3");
    }
}

#[test]
fn a_dollar_in_the_config_is_doubled() {
    let got = patched(&pod(&[("secret", "a$(HOME)b:/keeper/secrets/x")]));
    let text = got["spec"]["initContainers"][0]["env"][0]["value"]
        .as_str()
        .unwrap();
    assert!(text.contains("a$$(HOME)b"), "{text}");
    assert_eq!(
        config(&got).outputs[0].selection.record().title(),
        "a$(HOME)b"
    );
}

#[test]
fn an_fs_group_reads_by_group() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["securityContext"] = json!({"fsGroup": 2000, "runAsUser": 1000});
    let got = patched(&pod);
    assert_eq!(config(&got).file_mode, 0o440);
    let security = &got["spec"]["initContainers"][0]["securityContext"];
    assert_eq!(
        (&security["runAsUser"], &security["runAsGroup"]),
        (&json!(1000), &json!(2000))
    );
}

#[test]
fn mounts_of_the_pods_own_near_ours() {
    let with = |annotations: &[(&str, &str)], path: &str| {
        let mut pod = pod(annotations);
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": path}]);
        pod
    };
    let one = [("secret-x", "Orders:/keeper/secrets/a/x.json")];
    for (path, points) in [
        ("/data", vec![]),
        ("/keeper/secretsx", vec![]),
        ("/keeper/secrets/b/", vec!["b"]),
        ("/keeper/secrets/a/b", vec!["a/b"]),
        ("/keeper/secrets/a/x.jso", vec!["a/x.jso"]),
        ("/keeper/secrets/a/x.json2", vec!["a/x.json2"]),
    ] {
        let config = config(&patched(&with(&one, path)));
        assert_eq!(config.directories[0].mount_points, points, "{path}");
    }
    for (path, reason) in [
        ("/keeper/secrets", Reason::MountConflict),
        ("/keeper/secrets/", Reason::MountConflict),
        ("/keeper", Reason::MountConflict),
        ("/", Reason::MountConflict),
        ("/keeper/secrets/a", Reason::MountConflict),
        ("/keeper/secrets/a/x.json", Reason::MountConflict),
        ("/keeper/secrets/a/x.json/y", Reason::MountConflict),
        ("/keeper/secrets/..data", Reason::MountConflict),
        ("/x/../keeper/./secrets/a", Reason::MountConflict),
    ] {
        let denial = denied(&with(&one, path));
        assert_eq!(
            reasons(&denial),
            [("secret-x".into(), reason)],
            "{path}: {denial}"
        );
        // Nothing selected, nothing mounted: no conflict.
        injected(&with(&[], path));
    }
}

#[test]
fn resources_from_annotations_and_settings() {
    let resources = |annotations: &[(&str, &str)]| {
        patched(&pod(annotations))["spec"]["initContainers"][0]["resources"].clone()
    };
    let want = |cpu: &str, memory: &str, cpu_limit: Option<&str>, memory_limit: &str| {
        let mut limits = json!({"memory": memory_limit});
        if let Some(limit) = cpu_limit {
            limits["cpu"] = json!(limit);
        }
        json!({"requests": {"cpu": cpu, "memory": memory}, "limits": limits})
    };
    assert_eq!(resources(&[]), want("5m", "8Mi", None, "20Mi"));
    assert_eq!(
        resources(&[("tmpfs-size", "8Mi")]),
        want("5m", "8Mi", None, "24Mi")
    );
    assert_eq!(
        resources(&[
            ("sidecar-cpu-limit", "0.1"),
            ("sidecar-memory-limit", "64Mi")
        ]),
        want("5m", "8Mi", Some("100m"), "64Mi")
    );
    // A default gives way to what is written.
    assert_eq!(
        resources(&[("sidecar-memory-request", "64Mi")]),
        want("5m", "64Mi", None, "64Mi")
    );
    assert_eq!(
        resources(&[("sidecar-memory-limit", "4Mi"), ("sidecar-cpu-limit", "2m")]),
        want("2m", "4Mi", Some("2m"), "4Mi")
    );
    for (annotations, want) in [
        (
            vec![
                ("sidecar-cpu-request", "200m"),
                ("sidecar-cpu-limit", "0.1"),
            ],
            ("sidecar-cpu-request", Reason::Conflict),
        ),
        (
            vec![("sidecar-memory-limit", "0")],
            ("sidecar-memory-limit", Reason::BadValue),
        ),
        (
            vec![("sidecar-memory-limit", "lots")],
            ("sidecar-memory-limit", Reason::BadValue),
        ),
        (
            vec![("tmpfs-size", "1Ki")],
            ("tmpfs-size", Reason::BadValue),
        ),
    ] {
        assert_eq!(
            reasons(&denied(&pod(&annotations))),
            [(want.0.to_owned(), want.1)]
        );
    }
    // Whole pages.
    let got = patched(&pod(&[("tmpfs-size", "100000")]));
    assert_eq!(got["spec"]["volumes"][0]["emptyDir"]["sizeLimit"], "100Ki");
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "50m", "memory": "16Mi"}});
    let resources = |pod: &Value| patched(pod)["spec"]["initContainers"][0]["resources"].clone();
    let equal = |cpu: &str, memory: &str| {
        let amounts = json!({"cpu": cpu, "memory": memory});
        json!({"requests": amounts, "limits": amounts})
    };
    assert_eq!(resources(&pod), equal("50m", "20608Ki"));
    annotate(&mut pod, "sidecar-cpu-request", json!("80m"));
    assert_eq!(resources(&pod), equal("80m", "20608Ki"));
    annotate(&mut pod, "sidecar-cpu-limit", json!("100m"));
    assert_eq!(resources(&pod), equal("100m", "20608Ki"));
    assert!(injected(&pod).warnings[0].contains("to keep the pod Guaranteed"));
    annotate(&mut pod, "sidecar-mode", json!("classic"));
    assert_eq!(resources(&pod), equal("100m", "20608Ki"));
    let sidecar = &patched(&pod)["spec"]["containers"][1];
    assert_eq!(sidecar["resources"], equal("100m", "20608Ki"));
}

/// Which release a pod is from, told by a label of the one that injects it, and by no other that sees it later.
#[test]
fn a_release_with_a_revision_leaves_it_on_the_pod() {
    let of = |revision: &str| -> keeper_contract::Settings {
        let settings = json!({
            "sidecarImage": "x", "ownNamespace": "keeper-security", "revision": revision,
        });
        serde_json::from_value(settings).unwrap()
    };
    let decide = |pod: &Value, revision: &str| {
        let settings = of(revision);
        keeper_contract::admit(pod, "default", &settings, &crate::CURRENT)
    };
    const LABEL: &str = "keeper.security/revision";
    let pod = pod(&[("secret", "Orders")]);
    assert!(patched(&pod)["metadata"]["labels"][LABEL].is_null());
    for labels in [None, Some(json!({})), Some(json!({LABEL: "other"}))] {
        let mut pod = pod.clone();
        if let Some(labels) = labels {
            pod["metadata"]["labels"] = labels;
        }
        let got = crate::apply(&pod, &crate::injection(decide(&pod, "canary")));
        assert_eq!(
            got["metadata"]["labels"],
            json!({LABEL: "canary", "keeper.security/injected": "true"})
        );
        let again = decide(&got, "next");
        assert!(
            matches!(again, keeper_contract::Decision::Skipped(_)),
            "{again:?}"
        );
    }
}

#[test]
fn what_we_do_not_know_survives() {
    let mut pod = pod(&[("secret", "Orders")]);
    pod["spec"]["fieldOfTomorrow"] = json!({"a": [1, null, {"b": 1.5}]});
    pod["spec"]["containers"][0]["alsoNew"] = json!(["x"]);
    pod["metadata"]["labels"] = json!({"app.kubernetes.io/name": "x", "a~b": "y"});
    let got = patched(&pod);
    assert_eq!(
        got["spec"]["fieldOfTomorrow"],
        pod["spec"]["fieldOfTomorrow"]
    );
    assert_eq!(got["spec"]["containers"][0]["alsoNew"], json!(["x"]));
    assert_eq!(got["metadata"]["labels"]["a~b"], "y");
    assert_eq!(
        got["metadata"]["labels"]["keeper.security/injected"],
        "true"
    );
}
