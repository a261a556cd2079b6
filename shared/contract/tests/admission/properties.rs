//! What holds for any pod: no panic, no change of what is the user's, and nothing happens twice.

use std::collections::BTreeMap;

use keeper_contract::annotations::TABLE;
use keeper_contract::{Cluster, Decision, Namespace, NamespaceSettings, SkipReason, admit};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{apply, settings_with};

/// Any JSON, with the keys that admission looks at more often than others.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "true",
            "keeper-sidecar",
            "KEEPER_AGENT_CONFIG",
            "/keeper/secrets",
            "windows"
        ])
        .prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "name",
            "env",
            "value",
            "volumeMounts",
            "command",
            "args",
            "valueFrom",
            "mountPath",
            "ports",
            "containerPort",
            "resources",
            "limits",
            "requests",
            "cpu",
            "memory",
            "securityContext",
            "runAsUser",
            "runAsNonRoot",
            "shareProcessNamespace",
            "hostPID",
            "fsGroup",
            "os",
            "nodeSelector",
        ])
        .prop_map(str::to_owned),
        ".{0,8}",
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
}

/// Annotations of ours with any values, most of them nonsense.
fn any_annotations() -> impl Strategy<Value = Map<String, Value>> {
    let names: Vec<String> = TABLE
        .iter()
        .map(|a| a.name.replace("<name>", "x").replace("<NAME>", "X"))
        .collect();
    let name = prop_oneof![4 => prop::sample::select(names), 1 => ".{0,12}"];
    let examples: Vec<&str> = TABLE.iter().map(|a| a.example).collect();
    let value = prop_oneof![
        prop::sample::select(examples).prop_map(Value::from),
        r"[a-z:/\\\[\],. 0-9$ä-]{0,24}".prop_map(Value::from),
        ".{0,24}".prop_map(Value::from),
        any_json(),
    ];
    prop::collection::vec((name, value), 0..8).prop_map(|pairs| {
        let pairs = pairs
            .into_iter()
            .map(|(name, value)| (format!("keeper.security/{name}"), value));
        Map::from_iter(pairs)
    })
}

/// Pods that are right, with things of their own near ours.
fn good_pod() -> impl Strategy<Value = Value> {
    let selection = prop::sample::select(vec![
        ("secret", "Orders, Mail[password]"),
        ("secrets", "Prod/db/type"),
        ("secret-a", "Orders:/keeper/secrets/deep/er/x.json"),
        ("secret-b", "R$x[login]"),
        ("file-c", "R$x:a.pem"),
        ("folder", "Prod$/x"),
        (
            "config",
            "{secrets: [{record: R$x, fields: [a]}], folders: [{path: F, outputPath: /keeper/secrets/f}]}",
        ),
        ("init-only", "true"),
        ("sidecar-mode", "classic"),
        ("fail-on-error", "false"),
        ("ca-cert-configmap", "ca"),
        ("metrics-port", "0"),
        ("tmpfs-size", "8Mi"),
        ("refresh-interval", "1s"),
        ("signal", "SIGHUP"),
        ("reload-url", "http://localhost/"),
    ]);
    let container = (
        "[a-z]{1,8}",
        prop::option::of(prop::collection::vec(
            prop::sample::select(vec!["/data", "/keeper/secrets/mine", "/cache/"]),
            0..3,
        )),
        any::<bool>(),
    )
        .prop_map(|(name, mounts, full)| {
            let mut container = json!({"name": name, "image": "x", "unknown": [1, {"a": null}]});
            if let Some(mounts) = mounts {
                let mounts = mounts
                    .into_iter()
                    .map(|path| json!({"name": "data", "mountPath": path}));
                container["volumeMounts"] = mounts.collect();
            }
            if full {
                container["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
            }
            container
        });
    let volumes = prop::option::of(prop::sample::subsequence(
        vec!["data", "keeper-secrets", "keeper-auth"],
        0..3,
    ));
    (
        prop::collection::vec(selection, 0..6),
        prop::collection::vec(container.clone(), 1..4),
        prop::option::of(prop::collection::vec(container, 0..3)),
        volumes,
        prop::sample::select(vec!["Always", "Never", "OnFailure"]),
        prop::option::of(any::<bool>()),
        prop::option::of(0i64..3000),
    )
        .prop_map(|(selections, containers, init, volumes, policy, labels, group)| {
            let told = |(name, _): &(&str, &str)| ["signal", "reload-url"].contains(name);
            let init_only = selections.iter().any(|(name, _)| *name == "init-only");
            let selections: Vec<_> = selections.into_iter().filter(|s| !(init_only && told(s))).collect();
            let mut pod = crate::pod(&selections);
            pod["spec"] = json!({"containers": containers, "restartPolicy": policy, "unknown": {"x": "y"}});
            if let Some(init) = init {
                pod["spec"]["initContainers"] = json!(init);
            }
            if let Some(volumes) = volumes {
                pod["spec"]["volumes"] = volumes.into_iter().map(|name| json!({"name": name})).collect();
            }
            if labels.is_some() {
                pod["metadata"]["labels"] = json!({"app": "x"});
            }
            if let Some(group) = group {
                pod["spec"]["securityContext"] = json!({"fsGroup": group});
            }
            pod
        })
}

/// The same, with what decides on paths, containers and users: not all of them can be injected.
fn pod_with_paths() -> impl Strategy<Value = Value> {
    let annotation = prop::sample::select(vec![
        ("secret-c", "Orders:/data/x.json"),
        ("secret-d", "Orders:/data/deep/er/y.json"),
        ("secret-e", "TLS[key]:/etc/nginx/tls/key"),
        ("secret-f", "R:/etc/x.conf"),
        ("secret-g", "R:/var/run/secrets/x"),
        ("secret-h", "R:/cache/h"),
        ("mount-mode", "file"),
        ("init-position", "last"),
        ("run-as-same-user", "false"),
        ("run-as-same-user", "true"),
        ("output-mode", "0400"),
    ]);
    let mount = (
        0usize..3,
        prop::sample::select(vec!["memory", "more", "data"]),
        prop::sample::select(vec![
            "/keeper/secrets",
            "/data",
            "/data/deep",
            "/cache",
            "/etc",
            "/etc/nginx/tls/more",
            "/x",
        ]),
        prop::sample::select(vec!["", "part"]),
    );
    (
        good_pod(),
        prop::collection::vec(annotation, 0..5),
        prop::collection::vec(mount, 0..3),
        prop::option::of(0usize..3),
        prop::option::of(0i64..3),
    )
        .prop_map(|(mut pod, annotations, mounts, named, user)| {
            for (name, value) in annotations {
                pod["metadata"]["annotations"][format!("keeper.security/{name}")] = json!(value);
            }
            let volumes =
                ["memory", "more"].map(|v| json!({"name": v, "emptyDir": {"medium": "Memory"}}));
            pod["spec"]["volumes"] = json!(volumes);
            pod["spec"]["volumes"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "data"}));
            let containers = pod["spec"]["containers"].as_array_mut().unwrap();
            let count = containers.len();
            for (index, volume, at, part) in mounts {
                let container = &mut containers[index % count];
                if !container["volumeMounts"].is_array() {
                    container["volumeMounts"] = json!([]);
                }
                let mount = json!({"name": volume, "mountPath": at, "subPath": part});
                container["volumeMounts"]
                    .as_array_mut()
                    .unwrap()
                    .push(mount);
            }
            if let Some(index) = named {
                let name = containers[index % count]["name"].clone();
                pod["metadata"]["annotations"]["keeper.security/containers"] = name;
            }
            if let Some(user) = user {
                pod["spec"]["securityContext"]["runAsUser"] = json!(user);
            }
            pod
        })
}

/// What the API server checks of containers, mounts and volumes, as far as we add any.
fn unsound(patched: &Value, original: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let volumes = patched["spec"]["volumes"].as_array().unwrap();
    let volumes: Vec<_> = volumes
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    for (list, before) in
        ["initContainers", "containers"].map(|l| (&patched["spec"][l], &original["spec"][l]))
    {
        let ours = |c: &&Value| c["env"][0]["name"] == "KEEPER_AGENT_CONFIG";
        let all = || list.as_array().into_iter().flatten();
        let nothing = json!([]);
        let old = before.as_array().into_iter().flatten();
        let old = old.chain(std::iter::repeat(&nothing));
        // The pod's own, each with what it was, and then ours.
        let own = all()
            .filter(|c| !ours(c))
            .chain(all().filter(ours))
            .zip(old);
        for (container, old) in own {
            let name = &container["name"];
            let old = old["volumeMounts"].as_array().map_or(0, Vec::len);
            let mounts = container["volumeMounts"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            for (index, mount) in mounts.iter().enumerate().skip(old) {
                let (at, sub_path) = (
                    mount["mountPath"].as_str().unwrap(),
                    mount["subPath"].as_str().unwrap_or("x"),
                );
                let clean =
                    |text: &str| text.split('/').all(|part| !matches!(part, "" | "." | ".."));
                if !clean(&at[1..]) || at.contains(':') || !clean(sub_path) {
                    found.push(format!("{name}: {mount}"));
                }
                if mounts[..index].iter().any(|m| m["mountPath"] == at) {
                    found.push(format!("{name}: twice at {at}"));
                }
                if !volumes.contains(&mount["name"].as_str().unwrap()) {
                    found.push(format!("{name}: no volume for {mount}"));
                }
            }
        }
    }
    found
}

/// The patched pod without what we added, told by what the original lacks.
fn stripped(patched: &Value, original: &Value) -> Value {
    match (patched, original) {
        (Value::Object(patched), Value::Object(original)) => patched
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), stripped(value, original.get(key)?))))
            .collect(),
        (Value::Array(patched), Value::Array(original)) => {
            // Init containers go in front, everything else behind.
            let more = patched.len() - original.len();
            let front = patched
                .first()
                .is_some_and(|c| c["env"][0]["name"] == "KEEPER_AGENT_CONFIG");
            let skip = if front { more } else { 0 };
            let kept = patched.iter().skip(skip).zip(original);
            kept.map(|(p, o)| stripped(p, o)).collect()
        }
        (other, _) => other.clone(),
    }
}

proptest! {
    #[test]
    fn no_pod_panics(mut pod in any_json(), spec in any_json(), annotations in any_annotations(), minor in 0u32..40) {
        let settings = settings_with(json!({"ksm-config": "keeper-auth"}));
        let cluster = Cluster { minor };
        let _ = admit(&pod, "default", &settings, &cluster);
        let mut annotations = annotations;
        annotations.insert("keeper.security/inject".into(), json!("true"));
        pod = json!({"metadata": {"annotations": annotations}, "spec": spec});
        let _ = admit(&pod, "default", &settings, &cluster);
        // Somewhat sounder each time, so that what lies deeper is reached.
        pod["spec"] = json!({"containers": [{"x": spec}], "initContainers": [spec], "volumes": [spec]});
        let _ = admit(&pod, "default", &settings, &cluster);
        pod["spec"] = json!({"containers": [{"name": "a", "volumeMounts": [spec], "ports": [spec], "resources": spec}]});
        if let Decision::Injected(injection) = admit(&pod, "default", &settings, &cluster) {
            let patched = apply(&pod, &injection);
            prop_assert_eq!(
                admit(&patched, "default", &settings, &cluster),
                Decision::Skipped(SkipReason::AlreadyInjected)
            );
        }
    }

    #[test]
    fn any_annotations_are_decided_on(annotations in any_annotations(), defaults in any_annotations()) {
        let mut pod = crate::pod(&[]);
        for (name, value) in annotations {
            pod["metadata"]["annotations"][name] = value;
        }
        let text = |(name, value): (String, Value)| Some((name, value.as_str()?.to_owned()));
        let defaults = defaults.into_iter().filter_map(text).collect();
        let settings = NamespaceSettings::read(&BTreeMap::new(), &defaults);
        let namespace = Namespace { name: "shop", settings: Some(&settings) };
        match admit(&pod, namespace, &crate::settings(), &crate::CURRENT) {
            Decision::Injected(injection) => {
                prop_assert!(injection.warnings.iter().all(|w| w.chars().count() <= 256));
                apply(&pod, &injection);
            }
            Decision::Denied(denial) => {
                prop_assert!(!denial.problems.is_empty());
                let text = denial.to_string();
                prop_assert_eq!(text.lines().count(), denial.problems.len(), "{}", text);
            }
            Decision::Skipped(_) => {}
        }
    }

    #[test]
    fn a_pod_with_paths_is_patched_soundly_or_denied(pod in pod_with_paths()) {
        match crate::decide(&pod) {
            Decision::Injected(injection) => {
                let patched = apply(&pod, &injection);
                prop_assert_eq!(&stripped(&patched, &pod), &pod);
                prop_assert_eq!(unsound(&patched, &pod), [""; 0]);
                prop_assert_eq!(crate::decide(&patched), Decision::Skipped(SkipReason::AlreadyInjected));
                let config = crate::config_of(&patched);
                // Each output is in a directory that is there, and two are never in one place.
                let of_files = config.outputs.iter().map(|o| (o.directory, &o.path, ""));
                let of_folders = config.folders.iter().map(|f| (f.directory, &f.path, "/"));
                let mut places: Vec<_> = of_files
                    .chain(of_folders)
                    .map(|(at, path, end)| format!("{}/{path}{end}", config.directories[at].mount_path))
                    .collect();
                places.sort();
                places.dedup();
                prop_assert_eq!(places.len(), injection.outputs);
            }
            Decision::Denied(denial) => prop_assert!(!denial.problems.is_empty()),
            Decision::Skipped(reason) => prop_assert!(false, "{}", reason),
        }
    }

    #[test]
    fn a_good_pod_keeps_what_is_its_own(pod in good_pod()) {
        // `metrics-port` and others may stand twice in the list; the map keeps one.
        let injection = crate::injected(&pod);
        let patched = apply(&pod, &injection);
        prop_assert_eq!(&stripped(&patched, &pod), &pod);
        prop_assert_eq!(crate::decide(&patched), Decision::Skipped(SkipReason::AlreadyInjected));
        // The user's containers all have the secrets, if there are any.
        let outputs = injection.outputs > 0;
        for list in ["containers", "initContainers"] {
            for container in patched["spec"][list].as_array().into_iter().flatten() {
                if container["env"][0]["name"] == "KEEPER_AGENT_CONFIG" {
                    continue;
                }
                let has = container["volumeMounts"].as_array().is_some_and(|mounts| {
                    mounts.iter().any(|m| m["mountPath"] == "/keeper/secrets")
                });
                prop_assert_eq!(has, outputs);
            }
        }
    }
}
