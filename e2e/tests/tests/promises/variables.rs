//! Environment variables on a real node: both ways into a container, and where their values are not.

use keeper_e2e::{Namespace, node, pods, until};
use serde_json::{Value, json};

use crate::canary::{every_object, files_with};

/// Something has a meaning in each way, and nothing that Kubernetes can't read.
const PASSWORD: &str = "a \"$HOME\" \\ = # $(id)\n  second line ü";
/// Values that exist nowhere else.
const THROUGH_EXEC: &str = "canary-2b9e61f7d0-through-exec";
const THROUGH_KUBERNETES: &str = "canary-2b9e61f7d0-through-kubernetes";

/// Prints a variable and nothing else.
const SHOW: &str = "printf %s \"$DB_PASSWORD\"";

fn show(name: &str, annotations: &[(&str, &str)]) -> Value {
    pods::once(pods::annotated(name, annotations, SHOW))
}

#[test]
fn an_app_reads_its_variables_in_each_way_and_shape() {
    let namespace = Namespace::new("variables");
    namespace
        .keeper()
        .set("pair", &["login=orders", &format!("password={PASSWORD}")]);
    let written = ("env-DB_PASSWORD", "pair[password]");
    let all = [
        ("inject-env-vars", "true"),
        ("env-prefix", "DB_"),
        ("secret", "pair"),
    ];
    let job = |mut pod: Value| {
        pod["spec"]["restartPolicy"] = json!("OnFailure");
        let metadata = json!({"annotations": pod["metadata"]["annotations"]});
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
            "spec": {"backoffLimit": 0, "template": {"metadata": metadata, "spec": pod["spec"]}}})
    };
    namespace.apply(&show("exec", &[written]));
    namespace.apply(&show("all", &all));
    namespace.apply(&show(
        "file-key-ref",
        &[written, ("env-method", "file-key-ref")],
    ));
    namespace.apply(&show("classic", &[written, ("sidecar-mode", "classic")]));
    namespace.apply(&show("init-only", &[written, ("init-only", "true")]));
    namespace.apply(&job(pods::annotated("job", &all, SHOW)));
    // Nobody but the image knows the command: only Kubernetes can give it variables.
    let mut bare = show("bare", &[written]);
    let app = bare["spec"]["containers"][0].as_object_mut().unwrap();
    app.remove("command");
    app.insert("args".into(), json!(["sh", "-c", SHOW]));
    namespace.apply(&bare);
    let mut init = show("init", &[written]);
    let app = init["spec"]["containers"][0].clone();
    init["spec"]["initContainers"] =
        json!([{"name": "migrate", "image": app["image"], "command": app["command"]}]);
    namespace.apply(&init);
    let mut other_user = show("other-user", &[written]);
    other_user["spec"]["securityContext"] =
        json!({"runAsUser": 1234, "runAsGroup": 1234, "runAsNonRoot": true});
    namespace.apply(&other_user);

    for pod in [
        "exec",
        "all",
        "file-key-ref",
        "classic",
        "init-only",
        "bare",
        "init",
        "other-user",
    ] {
        namespace.wait_for_success(pod, 120);
        assert_eq!(namespace.logs(pod, pods::APP), PASSWORD, "{pod}");
    }
    assert_eq!(namespace.logs("init", "migrate"), PASSWORD);
    namespace.wait_for("job/job", "condition=Complete", 90);
    assert_eq!(
        namespace.kubectl(&["logs", "job/job", "--container=app"]),
        PASSWORD
    );
}

#[test]
fn what_cannot_be_is_denied_or_said_at_the_start() {
    let namespace = Namespace::new("variables-denied");
    let mut bare = pods::annotated(
        "bare",
        &[("inject-env-vars", "true"), ("secret", "pair")],
        SHOW,
    );
    bare["spec"]["containers"][0]
        .as_object_mut()
        .unwrap()
        .remove("command");
    let denied = namespace.try_apply(&bare);
    assert!(
        !denied.success && denied.stderr.contains("give container `app` its command"),
        "{}",
        denied.stderr
    );

    // What the kubelet can't read stops the start, before it costs the pod all variables.
    namespace.keeper().set("pair", &["password=it's"]);
    let asked = [
        ("env-DB_PASSWORD", "pair[password]"),
        ("env-method", "file-key-ref"),
    ];
    namespace.apply(&pods::annotated("quote", &asked, SHOW));
    let said = until("the reason", 60, || {
        let pod = namespace.get("pod", "quote");
        let status = pods::status(&pod, "keeper-sidecar");
        let message = |state: &str| {
            status[state]["terminated"]["message"]
                .as_str()
                .map(str::to_owned)
        };
        message("lastState").or_else(|| message("state"))
    });
    for part in [
        "keeper.security/env-DB_PASSWORD",
        "`password` of the record `pair`",
        "a single quote",
        "env-method to exec",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }

    // The container runtime sets HOSTNAME in each container.
    namespace
        .keeper()
        .run(&["add", "host", "hostname=db.example"]);
    namespace.apply(&show(
        "taken",
        &[("inject-env-vars", "true"), ("secret", "host")],
    ));
    let logs = until("the refusal", 60, || {
        let logs = namespace.try_kubectl(&["logs", "taken", "--container=app"], None);
        (logs.success && !logs.stdout.is_empty()).then_some(logs.stdout)
    });
    assert!(
        logs.contains("the variable HOSTNAME") && logs.contains("keeper.security/env-prefix"),
        "{logs}"
    );
    // The log is there before the kubelet has told of the end.
    let code = until("the container's end", 60, || {
        let pod = namespace.get("pod", "taken");
        let status = pods::status(&pod, pods::APP);
        ["state", "lastState"]
            .iter()
            .find_map(|state| status[state]["terminated"]["exitCode"].as_i64())
    });
    assert_eq!(code, 125);
}

#[test]
fn no_value_of_a_variable_is_in_the_cluster() {
    let namespace = Namespace::new("variables-canary");
    let keeper = namespace.keeper();
    keeper.run(&[
        "add",
        "canary",
        &format!("password={THROUGH_EXEC}"),
        &format!("login={THROUGH_KUBERNETES}"),
    ]);
    let script = "printf %s \"$CANARY\" | wc -c; exec sleep 3600";
    namespace.apply(&pods::annotated(
        "exec",
        &[("env-CANARY", "canary[password]")],
        script,
    ));
    let method = ("env-method", "file-key-ref");
    namespace.apply(&pods::annotated(
        "file",
        &[("env-CANARY", "canary[login]"), method],
        script,
    ));
    for (pod, value) in [("exec", THROUGH_EXEC), ("file", THROUGH_KUBERNETES)] {
        namespace.wait_for(&format!("pod/{pod}"), "condition=Ready", 90);
        assert_eq!(
            namespace.logs(pod, pods::APP).trim(),
            value.len().to_string()
        );
    }
    let objects = every_object();
    let lines = node::exec(&["sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null || true"]);
    let ours = node::exec(&[
        "sh",
        "-c",
        "for p in $(pgrep '^keeper-'); do cat /proc/$p/environ; done 2>/dev/null || true",
    ]);
    assert!(lines.contains("/keeper-sidecar") && ours.contains("KEEPER_AGENT_CONFIG"));
    for value in [THROUGH_EXEC, THROUGH_KUBERNETES] {
        for (place, text) in [
            ("an object", &objects),
            ("a command line", &lines),
            ("the agents' environment", &ours),
        ] {
            assert!(!text.contains(value), "{value} is in {place}");
        }
    }
    // Nor on a disk. What Kubernetes reads, it hands to the container runtime, which keeps it as all variables.
    assert_eq!(files_with(&[THROUGH_EXEC.to_owned()]), "");
    let files = files_with(&[THROUGH_KUBERNETES.to_owned()]);
    for file in files.lines() {
        assert!(file.contains("/containerd/"), "{file}");
    }
}
