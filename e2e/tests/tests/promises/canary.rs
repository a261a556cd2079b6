//! The canary hunt: values that exist nowhere else are put into the vault, pods of every shape read them, and then everything
//! that keeps or shows anything is searched for them.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keeper_e2e::{CLIENT, Namespace, kubectl, node, pods, until};
use serde_json::json;

const BEFORE: &str = "canary-5f0c2a7e91b34d68-before";
const AFTER: &str = "canary-5f0c2a7e91b34d68-after";
/// In an annotation, an environment and a log: to see that the hunt would have found one.
const DECOY: &str = "decoy-77b1e6d04c9f4a12";

#[test]
fn no_value_of_the_vault_is_kept_or_shown_anywhere() {
    let namespace = Namespace::new("canary");
    let keeper = namespace.keeper();
    keeper.run(&["add", "canary", &format!("password={BEFORE}")]);
    keeper.run(&["mkdir", "Canaries"]);
    let password = format!("password={BEFORE}");
    keeper.run(&["add", "canary in a folder", &password, "--folder=Canaries"]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(BEFORE.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    keeper.run(&["attach", "canary", path, "--name=canary.txt"]);
    drop(file);
    let annotations = [
        ("secret", "canary"),
        ("secret-word", "canary[password]"),
        ("refresh-interval", "15s"),
        ("log-level", "debug"),
        ("file-canary", "canary:canary.txt"),
        ("folder", "Canaries"),
    ];
    let init_only = [
        annotations[0],
        annotations[1],
        annotations[3],
        ("init-only", "true"),
    ];
    let failing = [
        ("secret", "canary"),
        ("secret-other", "canary[pasword]"),
        ("log-level", "debug"),
    ];
    let script = format!("echo {DECOY}; exec sleep 3600");
    let mut native = pods::annotated("native", &annotations, &script);
    native["metadata"]["annotations"]["example.com/decoy"] = json!(DECOY);
    native["spec"]["containers"][0]["env"] = json!([{"name": "DECOY", "value": DECOY}]);
    namespace.apply(&native);
    namespace.apply(&pods::once(pods::annotated(
        "once",
        &annotations,
        "exec sleep 3600",
    )));
    namespace.apply(&pods::annotated("init-only", &init_only, "exec sleep 3600"));
    namespace.apply(&pods::annotated("failing", &failing, "exec sleep 3600"));
    for pod in ["native", "once", "init-only"] {
        namespace.wait_for(&format!("pod/{pod}"), "condition=Ready", 90);
    }
    // A change, a bad time, and a good end: all that an agent has to say.
    keeper.set("canary", &[&format!("password={AFTER}")]);
    until("the new value", 40, || {
        let read = |pod| namespace.exec(pod, pods::APP, &["cat", "/keeper/secrets/word"]);
        (read("native") == AFTER && read("once") == AFTER).then_some(())
    });
    keeper.run(&["fault", "corrupt-tag"]);
    until("a failure", 90, || {
        namespace
            .logs("native", "keeper-sidecar")
            .contains(r#""level":"error""#)
            .then_some(())
    });
    keeper.run(&["fault", "clear"]);
    assert!(keeper.fetches(CLIENT) > 0);

    // What can be looked through as text, and whether the decoy must be in it.
    let texts = [
        ("objects", every_object(), true),
        (
            "container logs",
            node::exec(&["sh", "-c", "cat /var/log/pods/*/*/*.log"]),
            true,
        ),
        ("component logs", component_logs(), false),
        ("metrics", metrics(&namespace), false),
        (
            "command lines and environments",
            node::exec(&[
                "sh",
                "-c",
                "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true",
            ]),
            true,
        ),
    ];
    for (place, text, decoy) in &texts {
        for needle in needles() {
            assert!(!text.contains(&needle), "{needle} is in the {place}");
        }
        assert!(
            !decoy || text.contains(DECOY),
            "the hunt does not see the {place}"
        );
    }
    // Files: etcd's, and all that the node has written outside of memory volumes, which are file systems of their own.
    let decoys = files_with(&[DECOY.to_owned()]);
    assert!(
        decoys.contains("/var/lib/etcd/"),
        "the hunt does not see etcd's files: {decoys}"
    );
    assert_eq!(files_with(&needles()), "");
}

/// Both values, and what base64 makes of them wherever they stand in what is encoded.
fn needles() -> Vec<String> {
    let mut needles = Vec::new();
    for value in [BEFORE, AFTER] {
        needles.push(value.to_owned());
        for offset in 0..3 {
            let encoded = STANDARD.encode(format!("{}{value}", "x".repeat(offset)));
            // The characters at both ends depend on the neighbours.
            needles.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    needles
}

/// Names of the node's files that contain one of the strings.
pub(crate) fn files_with(strings: &[String]) -> String {
    let find = r#"find /var /run -xdev -type f -exec grep -lF "$@" {} + 2>/dev/null || true"#;
    let mut command = vec!["sh", "-c", find, "sh"];
    for string in strings {
        command.extend(["-e", string]);
    }
    node::exec(&command)
}

pub(crate) fn every_object() -> String {
    let kinds = kubectl(&["api-resources", "--verbs=list", "--output=name"]);
    let list = kinds.split_whitespace().collect::<Vec<_>>().join(",");
    kubectl(&[
        "get",
        &list,
        "--all-namespaces",
        "--output=json",
        "--show-managed-fields",
    ])
}

fn component_logs() -> String {
    let logs = std::fs::read_dir(node::logs())
        .unwrap()
        .map(|log| std::fs::read(log.unwrap().path()).unwrap());
    logs.map(|log| String::from_utf8_lossy(&log).into_owned())
        .collect()
}

fn metrics(namespace: &Namespace) -> String {
    let webhook =
        "/api/v1/namespaces/keeper-security/services/keeper-injector-webhook:metrics/proxy/metrics";
    namespace.metrics("native") + &namespace.metrics("once") + &kubectl(&["get", "--raw", webhook])
}
