//! What one can ask a sidecar, and what it leaves behind when it is killed or its pod deleted.

use keeper_e2e::{CLIENT, Namespace, node, pods, until};
use serde_json::{Value, json};

const SIDECAR: &str = "keeper-sidecar";
const SECRET: (&str, &str) = ("secret-password", "database-credentials[password]");
const RARELY: (&str, &str) = ("refresh-interval", "24h");

#[test]
fn status_and_refresh_work_in_the_container() {
    let namespace = Namespace::new("asking");
    let annotations = [SECRET, RARELY];
    namespace.apply(&pods::annotated("pod", &annotations, "exec sleep 3600"));
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    let said = namespace.exec("pod", SIDECAR, &["/keeper-sidecar", "refresh", "--wait"]);
    assert!(said.contains("files changed: 1"), "{said}");
    let password = namespace.exec("pod", pods::APP, &["cat", "/keeper/secrets/password"]);
    assert_eq!(password, "second-password");
    let status = namespace.exec("pod", SIDECAR, &["/keeper-sidecar", "status", "-o", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["standing"], "good");
    assert_eq!(status["outputs"][0]["path"], "/keeper/secrets/password");
}

#[test]
fn a_killed_sidecar_comes_back_to_its_files_without_a_call() {
    let namespace = Namespace::new("killed");
    for mode in ["native", "classic"] {
        let annotations = [SECRET, RARELY, ("sidecar-mode", mode)];
        namespace.apply(&pods::annotated(mode, &annotations, "exec sleep 3600"));
    }
    for mode in ["native", "classic"] {
        namespace.wait_for(&format!("pod/{mode}"), "condition=Ready", 60);
        let pod = namespace.get("pod", mode);
        let id = pods::status(&pod, SIDECAR)["containerID"].as_str().unwrap();
        let _ = node::exec(&["kill", "-9", &node::process_of(id)]);
        until("the restarted sidecar", 60, || {
            let pod = namespace.get("pod", mode);
            let status = pods::status(&pod, SIDECAR);
            (status["restartCount"] == 1 && status["state"]["running"].is_object()).then_some(())
        });
        let files = namespace.exec(mode, pods::APP, &["ls", "-A", "/keeper/secrets"]);
        assert_eq!(files.lines().count(), 3, "{files}");
        let password = namespace.exec(mode, pods::APP, &["cat", "/keeper/secrets/password"]);
        assert_eq!(password, "first-password");
    }
    assert_eq!(namespace.keeper().fetches(CLIENT), 2, "one for each pod");
}

#[test]
fn a_pod_that_is_deleted_while_it_waits_goes_within_the_bound_of_its_hook() {
    let namespace = Namespace::new("waiting");
    namespace.keeper().run(&["fault", "hang"]);
    let mut pod = pods::annotated("pod", &[SECRET], "exec sleep 3600");
    pod["spec"]["terminationGracePeriodSeconds"] = json!(2);
    namespace.apply(&pod);
    until("the hook", 60, || {
        (namespace.keeper().fetches(CLIENT) == 1).then_some(())
    });
    namespace.kubectl(&["delete", "pod", "pod", "--wait=false"]);
    // 30 s of the hook, the grace period, and the kubelet's own time.
    until("the pod to go", 30 + 2 + 8, || {
        (!namespace.try_kubectl(&["get", "pod", "pod"], None).success).then_some(())
    });
}
