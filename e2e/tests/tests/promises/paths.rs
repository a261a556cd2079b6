//! Files anywhere in the containers, in every shape that an injected pod has.

use keeper_e2e::{Namespace, pods, until};
use serde_json::{Value, json};

const SLEEP: &str = "exec sleep 3600";
/// A pod's name, an annotation by which it gets its shape, and its restart policy.
const SHAPES: [(&str, (&str, &str), &str); 4] = [
    ("native", ("sidecar-mode", "native"), "Always"),
    ("init-and-native", ("sidecar-mode", "native"), "Never"),
    ("classic", ("sidecar-mode", "classic"), "Always"),
    ("init-only", ("init-only", "true"), "Always"),
];
const SOON: u64 = 60;

/// A pod of this shape whose init container reads all of `files`, too.
fn shaped(shape: usize, more: &[(&str, &str)], files: &[&str]) -> Value {
    let (name, annotation, policy) = SHAPES[shape];
    let annotations: Vec<_> = more.iter().copied().chain([annotation]).collect();
    let mut pod = pods::annotated(name, &annotations, SLEEP);
    pod["spec"]["restartPolicy"] = json!(policy);
    let read = format!("cat {}", files.join(" "));
    pod["spec"]["initContainers"] =
        json!([{"name": "early", "image": "busybox", "command": ["/bin/sh", "-c", read]}]);
    pod
}

/// What the app reads, once the pod runs.
fn read(namespace: &Namespace, pod: &str, file: &str) -> String {
    namespace.exec(pod, pods::APP, &["cat", file])
}

#[test]
fn directories_and_nested_mounts_anywhere() {
    let namespace = Namespace::new("paths");
    let annotations = [
        ("secret-a", "pair[login]:/data/a/login"),
        ("secret-b", "pair[password]:/data/a/deep/er/password"),
        ("secret-c", "pair[password]:/etc/app/tls/key"),
        ("secret-d", "pair[password]:/keeper/secrets/p"),
        ("secret-e", "pair[login]:/var/run/secrets/login"),
        ("refresh-interval", "15s"),
    ];
    let files = [
        "/data/a/login",
        "/data/a/deep/er/password",
        "/etc/app/tls/key",
        "/keeper/secrets/p",
        "/var/run/secrets/login",
    ];
    for shape in 0..SHAPES.len() {
        let mut pod = shaped(shape, &annotations, &files);
        // Volumes of the pod's own below ours, which are read-only there.
        let mounts = json!([{"name": "own", "mountPath": "/data/a/deep/own"}, {"name": "own", "mountPath": "/keeper/secrets/own"}]);
        pod["spec"]["containers"][0]["volumeMounts"] = mounts;
        pod["spec"]["volumes"] = json!([{"name": "own", "emptyDir": {}}]);
        let applied = namespace.try_apply(&pod);
        assert!(applied.success, "{}", applied.stderr);
        assert!(
            applied
                .stderr
                .contains("what the image has in `/data/a` is hidden"),
            "{}",
            applied.stderr
        );
    }
    for (name, ..) in SHAPES {
        namespace.wait_for(&format!("pod/{name}"), "condition=Ready", 120);
        for file in files {
            assert_eq!(read(&namespace, name, file), "same-0", "{name} {file}");
        }
        let _ = namespace.exec(
            name,
            pods::APP,
            &[
                "sh",
                "-c",
                "echo x > /data/a/deep/own/x && cat /keeper/secrets/own/x",
            ],
        );
        // The token that Kubernetes mounts is where it always is.
        let _ = namespace.exec(
            name,
            pods::APP,
            &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"],
        );
    }
    namespace
        .keeper()
        .set("pair", &["login=same-1", "password=same-1"]);
    for (name, ..) in &SHAPES[..3] {
        for file in files {
            until("the change", SOON, || {
                (read(&namespace, name, file) == "same-1").then_some(())
            });
        }
    }
}

#[test]
fn single_files_in_system_directories() {
    let namespace = Namespace::new("single");
    let annotations = [
        ("mount-mode", "file"),
        ("secret-a", "pair[login]:/etc/app.conf"),
        ("secret-b", "pair[password]:/usr/share/app/password"),
        ("secret-c", "pair[password]:/keeper/secrets/p"),
        ("refresh-interval", "15s"),
    ];
    let files = [
        "/etc/app.conf",
        "/usr/share/app/password",
        "/keeper/secrets/p",
    ];
    for shape in 0..SHAPES.len() {
        let mut pod = shaped(shape, &annotations, &files);
        // A stated user, so that the files are private: who writes them has to be able to, too.
        pod["spec"]["securityContext"] = json!({"runAsUser": 1000});
        namespace.apply(&pod);
    }
    for (name, ..) in SHAPES {
        namespace.wait_for(&format!("pod/{name}"), "condition=Ready", 120);
        for file in files {
            assert_eq!(read(&namespace, name, file), "same-0", "{name} {file}");
        }
        let kind = namespace.exec(
            name,
            pods::APP,
            &["stat", "-c", "%F %a %u", "/etc/app.conf"],
        );
        assert_eq!(kind, "regular file 440 1000\n");
        // What else is in that directory is still there.
        let _ = namespace.exec(name, pods::APP, &["cat", "/etc/hosts"]);
    }
    namespace
        .keeper()
        .set("pair", &["login=1", "password=a-longer-one"]);
    for (name, ..) in &SHAPES[..3] {
        for (file, value) in [
            ("/etc/app.conf", "1"),
            ("/usr/share/app/password", "a-longer-one"),
        ] {
            until("the change", SOON, || {
                (read(&namespace, name, file) == value).then_some(())
            });
        }
    }
}

/// A pod with a volume in memory of its own at `/keeper/secrets`, where somebody runs this script before us; a second container doesn't
/// mount it.
fn with_own_volume(name: &str, user: &Value, before: &str) -> Value {
    let annotations = [
        ("secret-a", "pair[login]:/keeper/secrets/login"),
        ("secret-b", "pair[password]:/keeper/secrets/deep/password"),
        ("refresh-interval", "15s"),
        ("init-position", "last"),
    ];
    let mount = json!([{"name": "memory", "mountPath": "/keeper/secrets"}]);
    let mut pod = pods::annotated(name, &annotations, SLEEP);
    pod["spec"]["securityContext"] = user.clone();
    pod["spec"]["volumes"] =
        json!([{"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = mount.clone();
    let mut second = pod["spec"]["containers"][0].clone();
    second["name"] = json!("second");
    second["volumeMounts"] = json!([]);
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(second);
    let script = format!("cd /keeper/secrets && {before}");
    pod["spec"]["initContainers"] = json!([{
        "name": "before", "image": "busybox", "command": ["/bin/sh", "-c", script], "volumeMounts": mount}]);
    pod
}

/// Links where our names are, which lead elsewhere.
const HOSTILE: &str = "ln -s /etc ..data && ln -s /etc/passwd login && ln -s /etc deep && mkdir ..old && ln -s / ..old/root && echo mine > mine";

#[test]
fn a_volume_of_the_pods_own_gets_the_files() {
    let namespace = Namespace::new("own-volume");
    // Of root's things we can't remove any.
    let pods: [(&str, Value, &str); 3] = [
        (
            "root",
            json!({}),
            "mkdir ..old && echo x > ..old/x && echo mine > mine",
        ),
        ("user", json!({"runAsUser": 1000}), HOSTILE),
        (
            "group",
            json!({"runAsUser": 1000, "fsGroup": 2000}),
            HOSTILE,
        ),
    ];
    for (name, user, before) in &pods {
        namespace.apply(&with_own_volume(name, user, before));
    }
    for (name, ..) in &pods {
        namespace.wait_for(&format!("pod/{name}"), "condition=Ready", 120);
    }
    let each = |value: &str, seconds| {
        for (pod, ..) in &pods {
            for container in [pods::APP, "second"] {
                for file in ["/keeper/secrets/login", "/keeper/secrets/deep/password"] {
                    until("the value", seconds, || {
                        (namespace.exec(pod, container, &["cat", file]) == value).then_some(())
                    });
                }
            }
        }
    };
    each("same-0", 1);
    namespace
        .keeper()
        .set("pair", &["login=same-1", "password=same-1"]);
    each("same-1", SOON);
    // What isn't ours stays, and the app may write where it mounts the volume so.
    for (pod, ..) in &pods {
        let script = "cat /keeper/secrets/mine && echo more > /keeper/secrets/more";
        assert_eq!(
            namespace.exec(pod, pods::APP, &["sh", "-c", script]),
            "mine\n"
        );
    }
}

#[test]
fn what_is_in_the_way_in_a_volume_of_the_pods_own_is_told() {
    let namespace = Namespace::new("taken");
    let mut disk = with_own_volume("disk", &json!({}), "true");
    disk["spec"]["volumes"] = json!([{"name": "memory", "emptyDir": {}}]);
    let applied = namespace.try_apply(&disk);
    assert!(
        !applied.success && applied.stderr.contains("emptyDir: {medium: Memory}"),
        "{}",
        applied.stderr
    );
    // Root's links, which another user can't replace.
    namespace.apply(&with_own_volume("taken", &json!({}), HOSTILE));
    until("the reason", SOON, || {
        let pod = namespace.get("pod", "taken");
        let status = pods::status(&pod, "keeper-sidecar").to_string();
        status
            .contains("is taken in the pod's own volume")
            .then_some(())
    });
}

#[test]
fn only_named_containers_and_only_those_after_ours_have_the_files() {
    let namespace = Namespace::new("containers");
    const TEST: &str = "if [ -e /keeper/secrets/p ]; then echo has; else echo lacks; fi";
    let secret = ("secret-p", "pair[password]");
    let container = |name: &str, script: &str| json!({"name": name, "image": "busybox", "command": ["/bin/sh", "-c", script]});
    let with = |name: &str, more: &[(&str, &str)]| {
        let annotations: Vec<_> = [secret].iter().chain(more).copied().collect();
        let mut pod = pods::annotated(name, &annotations, &format!("{TEST}; {SLEEP}"));
        pod["spec"]["initContainers"] = json!([container("early", TEST), container("late", TEST)]);
        let other = container("other", &format!("{TEST}; {SLEEP}"));
        pod["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(other);
        namespace.apply(&pod);
    };
    with("named", &[("containers", "late, app")]);
    with("last", &[("init-position", "last")]);
    for (pod, want) in [
        (
            "named",
            [
                ("early", "lacks"),
                ("late", "has"),
                ("app", "has"),
                ("other", "lacks"),
            ],
        ),
        (
            "last",
            [
                ("early", "lacks"),
                ("late", "lacks"),
                ("app", "has"),
                ("other", "has"),
            ],
        ),
    ] {
        namespace.wait_for(&format!("pod/{pod}"), "condition=Ready", 120);
        for (container, want) in want {
            let said = until("its word", 20, || {
                Some(namespace.logs(pod, container)).filter(|log| !log.is_empty())
            });
            assert_eq!(said.trim(), want, "{pod}/{container}");
        }
    }
}
