//! Outputs anywhere: what is mounted where, and what is near it.

use keeper_contract::{Decision, Place, Reason, SkipReason};
use serde_json::{Value, json};

use crate::{annotate, apply, config, decide, denied, injected, patched, pod, reasons};

type Directories = Vec<(String, String, Place)>;
type Outputs = Vec<(usize, String)>;

/// Each directory as mount path, path in the volume, place; and each output as directory and path.
fn layout(patched: &Value) -> (Directories, Outputs) {
    let config = config(patched);
    let directories = config.directories.into_iter();
    let outputs = config.outputs.into_iter();
    (
        directories
            .map(|d| (d.mount_path, d.sub_path, d.place))
            .collect(),
        outputs.map(|o| (o.directory, o.path)).collect(),
    )
}

/// Our mounts of a container, as path, volume and path in it.
fn mounts(container: &Value) -> Vec<(&str, &str, Option<&str>)> {
    let mounts = container["volumeMounts"].as_array();
    let ours = mounts.into_iter().flatten();
    ours.filter(|m| m["readOnly"] == true)
        .map(|m| {
            (
                m["mountPath"].as_str().unwrap(),
                m["name"].as_str().unwrap(),
                m["subPath"].as_str(),
            )
        })
        .collect()
}

/// The app's container mounts a volume in memory at each of these paths.
fn with_mounts(annotations: &[(&str, &str)], mounts: &[(&str, &str)]) -> Value {
    let mut pod = pod(annotations);
    let mounts = mounts
        .iter()
        .map(|(name, at)| json!({"name": name, "mountPath": at}));
    pod["spec"]["containers"][0]["volumeMounts"] = mounts.collect();
    pod["spec"]["volumes"] = json!([
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "more", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "config", "configMap": {"name": "x"}},
    ]);
    pod
}

fn shared(at: &str, index: usize) -> (String, String, Place) {
    (at.to_owned(), format!("dirs/{index}"), Place::Shared)
}

#[test]
fn the_directory_of_an_output_is_mounted_and_the_user_told_what_that_hides() {
    let pod = pod(&[
        ("secret", "Orders"),
        ("secret-crt", "TLS[crt]:/etc/nginx/tls/tls.crt"),
        ("secret-key", "TLS[key]:/etc/nginx/tls//tls.key/"),
        ("secret-api", "API[key]:/data/api"),
    ]);
    let injection = injected(&pod);
    let got = apply(&pod, &injection);
    let (directories, outputs) = layout(&got);
    assert_eq!(
        directories,
        [
            shared("/data", 0),
            shared("/etc/nginx/tls", 1),
            shared("/keeper/secrets", 2)
        ]
    );
    let want = [
        (2, "orders.json"),
        (0, "api"),
        (1, "tls.crt"),
        (1, "tls.key"),
    ];
    assert_eq!(outputs, want.map(|(i, path)| (i, path.to_owned())));
    assert_eq!(
        mounts(&got["spec"]["containers"][0]),
        [
            ("/data", "keeper-secrets", Some("dirs/0")),
            ("/etc/nginx/tls", "keeper-secrets", Some("dirs/1")),
            ("/keeper/secrets", "keeper-secrets", Some("dirs/2")),
        ]
    );
    assert_eq!(
        injection.warnings,
        [
            "keeper.security/secret-api: what the image has in `/data` is hidden by the directory of the secrets",
            "keeper.security/secret-crt: what the image has in `/etc/nginx/tls` is hidden by the directory of the secrets",
        ]
    );
}

#[test]
fn nested_directories_are_one() {
    for (paths, directories, outputs) in [
        (
            vec!["/data/a/b/x", "/data/a/y", "/data/a/b/c/z"],
            vec!["/data/a"],
            vec!["b/x", "y", "b/c/z"],
        ),
        (
            vec!["/data/a/x", "/data/ab/y"],
            vec!["/data/a", "/data/ab"],
            vec!["x", "y"],
        ),
        (
            vec!["/keeper/secrets/deep/x"],
            vec!["/keeper/secrets"],
            vec!["deep/x"],
        ),
        (
            vec!["/keeper/secrets/deep/x", "/keeper/y"],
            vec!["/keeper"],
            vec!["secrets/deep/x", "y"],
        ),
        (
            vec!["/var/run/secrets/x", "/run/secrets/y"],
            vec!["/run/secrets", "/var/run/secrets"],
            vec!["x", "y"],
        ),
    ] {
        let mut pod = pod(&[]);
        for (index, path) in paths.iter().enumerate() {
            annotate(
                &mut pod,
                &format!("secret-{index}"),
                json!(format!("R:{path}")),
            );
        }
        let config = config(&patched(&pod));
        let got: Vec<_> = config.directories.iter().map(|d| &d.mount_path).collect();
        assert_eq!(got, directories, "{paths:?}");
        let got: Vec<_> = config.outputs.iter().map(|o| &o.path).collect();
        assert_eq!(got, outputs, "{paths:?}");
        // A place for the token that Kubernetes may mount after us.
        for directory in &config.directories {
            let token = directory.mount_path.ends_with("run/secrets");
            let want: &[&str] = if token {
                &["kubernetes.io/serviceaccount"]
            } else {
                &[]
            };
            assert_eq!(directory.mount_points, want);
        }
    }
}

#[test]
fn nothing_is_mounted_over_what_a_container_needs() {
    for path in [
        "/x",
        "/etc/x",
        "/bin/x",
        "/lib/x",
        "/var/x",
        "/opt/x",
        "/home/x",
        "/root/x",
        "/tmp/x",
        "/app/x",
        "/app//x/",
        "/usr/x",
        "/usr/share/app/x",
    ] {
        let annotations = [("secret-x", &*format!("R:{path}"))];
        let denial = denied(&pod(&annotations));
        assert_eq!(
            reasons(&denial),
            [("secret-x".into(), Reason::BadPath)],
            "{path}"
        );
        assert!(denial.to_string().contains("mount-mode: file"), "{denial}");
        let single = [annotations[0], ("mount-mode", "file")];
        assert_eq!(injected(&pod(&single)).outputs, 1, "{path}");
    }
    for path in [
        "/app/config/x",
        "/etc/app/x",
        "/usrx/x",
        "/srv/x",
        "/home/app/x",
    ] {
        injected(&pod(&[("secret-x", &format!("R:{path}"))]));
    }
    // Nor does mount-mode open these.
    for path in [
        "/proc/x",
        "/sys/x",
        "/dev/x",
        "/var/run/secrets/kubernetes.io/x",
    ] {
        let annotations = [("secret-x", &*format!("R:{path}")), ("mount-mode", "file")];
        assert_eq!(
            reasons(&denied(&pod(&annotations))),
            [("secret-x".into(), Reason::BadPath)],
            "{path}"
        );
    }
}

#[test]
fn single_files_are_mounted_one_by_one() {
    let pod = pod(&[
        ("mount-mode", "file"),
        ("secret", "Orders"),
        ("secret-a", "A:/etc/app.conf"),
        ("secret-b", "B:/etc/b.conf"),
        ("secret-c", "C:/c"),
    ]);
    let injection = injected(&pod);
    assert_eq!(injection.warnings, [""; 0]);
    let got = apply(&pod, &injection);
    let (directories, outputs) = layout(&got);
    let files = |at: &str, index| (at.to_owned(), format!("files/{index}"), Place::Files);
    assert_eq!(
        directories,
        [
            shared("/keeper/secrets", 0),
            files("/etc", 1),
            files("/", 2)
        ]
    );
    let want = [(0, "orders.json"), (1, "app.conf"), (1, "b.conf"), (2, "c")];
    assert_eq!(outputs, want.map(|(i, path)| (i, path.to_owned())));
    assert_eq!(
        mounts(&got["spec"]["containers"][0]),
        [
            ("/keeper/secrets", "keeper-secrets", Some("dirs/0")),
            ("/etc/app.conf", "keeper-secrets", Some("files/1/app.conf")),
            ("/etc/b.conf", "keeper-secrets", Some("files/1/b.conf")),
            ("/c", "keeper-secrets", Some("files/2/c")),
        ]
    );
    assert_eq!(decide(&got), Decision::Skipped(SkipReason::AlreadyInjected));
    // Nothing of the pod's own at, above or below such a file.
    for at in ["/etc", "/etc/app.conf", "/etc/app.conf/x", "/"] {
        let annotations = [("mount-mode", "file"), ("secret-a", "A:/etc/app.conf")];
        let denial = denied(&with_mounts(&annotations, &[("memory", at)]));
        assert_eq!(
            reasons(&denial),
            [("secret-a".into(), Reason::MountConflict)],
            "{at}"
        );
    }
}

#[test]
fn a_volume_in_memory_of_the_pods_own_is_published_into() {
    for at in ["/keeper/secrets", "/keeper//secrets/", "/data/x"] {
        let clean = at.replace("//", "/");
        let clean = clean.trim_end_matches('/');
        let path = format!("R:{clean}/sub/x");
        let direct = format!("R:{clean}/y");
        let mut pod = with_mounts(
            &[("secret-x", &path), ("secret-y", &direct)],
            &[("memory", at)],
        );
        let second = json!({"name": "second", "image": "x"});
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(second);
        let injection = injected(&pod);
        assert_eq!(
            injection.warnings, [""; 0],
            "the pod itself hides what is there"
        );
        let got = apply(&pod, &injection);
        let (directories, outputs) = layout(&got);
        let place = Place::PodVolume("/keeper/pod-volumes/0".into());
        assert_eq!(directories, [(clean.to_owned(), String::new(), place)]);
        assert_eq!(outputs, [(0, "sub/x".to_owned()), (0, "y".to_owned())]);
        let ours = &got["spec"]["initContainers"][0]["volumeMounts"];
        let mount = json!({"name": "memory", "mountPath": "/keeper/pod-volumes/0"});
        assert!(ours.as_array().unwrap().contains(&mount), "{ours}");
        // Who mounts it keeps that, who doesn't gets it.
        let app = |i: usize| got["spec"]["containers"][i]["volumeMounts"].clone();
        assert_eq!(app(0), pod["spec"]["containers"][0]["volumeMounts"]);
        assert_eq!(
            app(1),
            json!([{"name": "memory", "mountPath": clean, "readOnly": true}])
        );
        assert_eq!(decide(&got), Decision::Skipped(SkipReason::AlreadyInjected));
    }
}

#[test]
fn a_part_of_a_volume_is_published_into() {
    let mut pod = with_mounts(&[("secret", "R")], &[("memory", "/keeper/secrets")]);
    pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("part");
    pod["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    let got = patched(&pod);
    let ours = got["spec"]["initContainers"][0]["volumeMounts"]
        .as_array()
        .unwrap();
    let mount = json!({"name": "memory", "mountPath": "/keeper/pod-volumes/0", "subPath": "part"});
    assert!(ours.contains(&mount), "{ours:?}");
    assert_eq!(
        mounts(&got["spec"]["initContainers"][1]),
        [("/keeper/secrets", "memory", Some("part"))]
    );
    // A container that comes later gets the same.
    let mut late = got;
    let proxy = json!({"name": "proxy"});
    late["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(proxy);
    assert_eq!(
        mounts(&patched(&late)["spec"]["containers"][1]),
        [("/keeper/secrets", "memory", Some("part"))]
    );
    pod["spec"]["containers"][0]["volumeMounts"][0] =
        json!({"name": "memory", "mountPath": "/keeper/secrets", "subPathExpr": "$(X)"});
    let denial = denied(&pod);
    assert!(denial.to_string().contains("write subPath"), "{denial}");
}

#[test]
fn volumes_that_cannot_be_published_into() {
    let secret = [("secret", "R")];
    for (volume, says) in [
        ("disk", "emptyDir: {medium: Memory}"),
        ("config", "emptyDir: {medium: Memory}"),
        ("nowhere", "emptyDir: {medium: Memory}"),
    ] {
        let denial = denied(&with_mounts(&secret, &[(volume, "/keeper/secrets")]));
        assert_eq!(reasons(&denial), [("secret".into(), Reason::MountConflict)]);
        let text = denial.to_string();
        assert!(text.contains(says) && text.contains(volume), "{text}");
    }
    let mut two = with_mounts(&secret, &[("memory", "/keeper/secrets")]);
    let other = json!({"name": "other", "volumeMounts": [{"name": "more", "mountPath": "/keeper/secrets"}]});
    two["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(other);
    let denial = denied(&two);
    assert_eq!(reasons(&denial), [("secret".into(), Reason::MountConflict)]);
    assert!(
        denial.to_string().contains("mount the same one in both"),
        "{denial}"
    );
    // It would be right if the other got no secrets.
    annotate(&mut two, "containers", json!("app"));
    injected(&two);
    // One volume at two places.
    let twice = with_mounts(
        &[("secret", "R"), ("secret-x", "R:/data/x")],
        &[("memory", "/keeper/secrets"), ("memory", "/data")],
    );
    let denial = denied(&twice);
    assert_eq!(reasons(&denial), [("secret".into(), Reason::MountConflict)]);
    assert!(denial.to_string().contains("twice"), "{denial}");
}

#[test]
fn mounts_of_the_pods_own_below_and_above() {
    let annotations = [("secret-x", "R:/data/a/x"), ("secret-y", "R:/data/a/b/y")];
    // Below: a mount point. In it: published there, if that is a volume in memory.
    let got = patched(&with_mounts(
        &annotations,
        &[("disk", "/data/a/c"), ("config", "/data/a/b/d")],
    ));
    assert_eq!(config(&got).directories[0].mount_points, ["b/d", "c"]);
    let got = patched(&with_mounts(&annotations, &[("memory", "/data/a/b")]));
    let (directories, outputs) = layout(&got);
    let place = Place::PodVolume("/keeper/pod-volumes/1".into());
    assert_eq!(
        directories,
        [
            shared("/data/a", 0),
            ("/data/a/b".into(), String::new(), place)
        ]
    );
    assert_eq!(outputs, [(0, "x".to_owned()), (1, "y".to_owned())]);
    assert_eq!(config(&got).directories[0].mount_points, ["b"]);
    for (volume, at, who) in [
        ("memory", "/data", "secret-x"),
        ("disk", "/data/a", "secret-x"),
        ("disk", "/data/a/b", "secret-y"),
        ("memory", "/data/a/x", "secret-x"),
        ("memory", "/data/a/b/y/z", "secret-y"),
        ("memory", "/data/a/..b", "secret-x"),
    ] {
        let denial = denied(&with_mounts(&annotations, &[(volume, at)]));
        assert_eq!(
            reasons(&denial),
            [(who.to_owned(), Reason::MountConflict)],
            "{at}: {denial}"
        );
        let text = denial.to_string();
        assert!(text.contains("container `app` mounts volume"), "{text}");
    }
}

#[test]
fn last_words_have_no_place_among_the_secrets() {
    for (at, good) in [
        ("/dev/termination-log", true),
        ("/datax", true),
        ("/data/last", false),
        ("/data/", false),
    ] {
        let mut pod = pod(&[("secret-x", "R:/data/x")]);
        pod["spec"]["containers"][0]["terminationMessagePath"] = json!(at);
        if good {
            injected(&pod);
            continue;
        }
        let denial = denied(&pod);
        assert_eq!(
            reasons(&denial),
            [("secret-x".into(), Reason::MountConflict)],
            "{at}"
        );
    }
}

#[test]
fn only_the_containers_that_are_named_get_the_files() {
    let spec = json!({
        "containers": [{"name": "app"}, {"name": "log", "volumeMounts": [{"name": "x", "mountPath": "/keeper"}]}],
        "initContainers": [{"name": "migrate"}, {"name": "setup"}],
    });
    let with = |annotations: &[(&str, &str)]| {
        let mut pod = pod(annotations);
        pod["spec"] = spec.clone();
        annotate(&mut pod, "secret", json!("R"));
        pod
    };
    let has = |patched: &Value| -> Vec<String> {
        let all = ["initContainers", "containers"];
        let all = all
            .iter()
            .flat_map(|list| patched["spec"][list].as_array().unwrap());
        all.filter(|c| mounts(c).iter().any(|m| m.0 == "/keeper/secrets"))
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    // The mount of the container that isn't named is in nobody's way.
    assert_eq!(
        reasons(&denied(&with(&[]))),
        [("secret".into(), Reason::MountConflict)]
    );
    for mode in ["native", "classic"] {
        let named = with(&[("containers", "migrate, app"), ("sidecar-mode", mode)]);
        let mut got = patched(&named);
        assert_eq!(has(&got), ["migrate", "app"]);
        // Who comes later isn't named.
        got["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "proxy"}));
        assert_eq!(decide(&got), Decision::Skipped(SkipReason::AlreadyInjected));
    }
    let denial = denied(&with(&[("containers", "app, migrat, looger")]));
    assert_eq!(
        reasons(&denial),
        [
            ("containers".into(), Reason::BadValue),
            ("containers".into(), Reason::BadValue)
        ]
    );
    let text = denial.to_string();
    assert!(
        text.contains("no container `looger`: did you mean `log`?"),
        "{text}"
    );
    assert!(
        text.contains("no container `migrat`: did you mean `migrate`?"),
        "{text}"
    );
}

#[test]
fn init_containers_before_ours_get_no_files() {
    for (mode, policy, names) in [
        (
            "native",
            "Always",
            vec!["migrate", "setup", "keeper-sidecar"],
        ),
        (
            "native",
            "Never",
            vec!["migrate", "setup", "keeper-init", "keeper-sidecar"],
        ),
        ("classic", "Always", vec!["migrate", "setup", "keeper-init"]),
    ] {
        let mut pod = pod(&[
            ("secret", "R"),
            ("init-position", "last"),
            ("sidecar-mode", mode),
        ]);
        pod["spec"]["restartPolicy"] = json!(policy);
        pod["spec"]["initContainers"] = json!([{"name": "migrate"}, {"name": "setup"}]);
        let injection = injected(&pod);
        assert_eq!(
            injection.warnings,
            [
                "keeper.security/init-position: gets no files, as it runs before they are there: `migrate`, `setup`"
            ]
        );
        let got = apply(&pod, &injection);
        let list = got["spec"]["initContainers"].as_array().unwrap();
        let found: Vec<_> = list.iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(found, names);
        assert_eq!(got["spec"]["initContainers"][0], json!({"name": "migrate"}));
        assert_eq!(mounts(&got["spec"]["containers"][0]).len(), 1);
        assert_eq!(decide(&got), Decision::Skipped(SkipReason::AlreadyInjected));
        // Others behind ours do.
        let mut late = got;
        late["spec"]["initContainers"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "late"}));
        let again = patched(&late);
        let last = again["spec"]["initContainers"]
            .as_array()
            .unwrap()
            .last()
            .unwrap();
        assert_eq!(mounts(last).len(), 1);

        annotate(&mut pod, "containers", json!("migrate,app"));
        assert_eq!(
            reasons(&denied(&pod)),
            [("containers".into(), Reason::Conflict)]
        );
    }
    // No init containers: first and last are one.
    let alone = pod(&[("secret", "R"), ("init-position", "last")]);
    assert_eq!(injected(&alone).warnings, [""; 0]);
}

#[test]
fn every_problem_of_paths_is_told_at_once() {
    let mut pod = with_mounts(
        &[
            ("secret-a", "R:/etc/x"),
            ("secret-b", "R:/proc/x"),
            ("secret-c", "R:/data/x"),
            ("secret-d", "R:/data/x/"),
            ("secret-e", "R:/data/x/y"),
            ("secret-f", "R:/mnt/x"),
            ("containers", "ap"),
            ("output-mode", "440 please"),
            ("mount-mode", "dir"),
            ("init-position", "middle"),
            ("run-as-same-user", "maybe"),
        ],
        &[],
    );
    let mounts = json!([{"name": "disk", "mountPath": "/mnt"}]);
    pod["spec"]["containers"][0]["volumeMounts"] = mounts;
    let mut found = reasons(&denied(&pod));
    found.sort();
    let mut want = vec![
        ("containers", Reason::BadValue),
        ("init-position", Reason::BadValue),
        ("mount-mode", Reason::BadValue),
        ("output-mode", Reason::BadValue),
        ("run-as-same-user", Reason::BadValue),
        ("secret-a", Reason::BadPath),
        ("secret-b", Reason::BadPath),
        ("secret-d", Reason::PathTaken),
        ("secret-e", Reason::PathTaken),
    ];
    // No container is named rightly, so no mount is in the way.
    want.sort();
    assert_eq!(
        found,
        want.into_iter()
            .map(|(n, r)| (n.to_owned(), r))
            .collect::<Vec<_>>()
    );
}
