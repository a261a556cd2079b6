//! Pods of every kind keep what makes them what they are.

use keeper_e2e::{Namespace, node, pods, until};
use serde_json::{Value, json};

const PRINT: &str = "cat /keeper/secrets/database-credentials.json";
const SECRET: (&str, &str) = ("secret", "database-credentials");

#[test]
fn a_later_init_container_reads_the_file() {
    let namespace = Namespace::new("init");
    let mut pod = pods::annotated("init", &[SECRET], "exec sleep 3600");
    pod["spec"]["initContainers"] =
        json!([{"name": "migrate", "image": "busybox", "command": ["/bin/sh", "-c", PRINT]}]);
    namespace.apply(&pod);
    namespace.wait_for("pod/init", "condition=Ready", 60);
    assert!(namespace.logs("init", "migrate").contains("first-password"));
    assert_eq!(
        pods::status(&namespace.get("pod", "init"), "migrate")["restartCount"],
        0
    );
}

#[test]
fn a_job_completes_although_there_is_a_sidecar() {
    let namespace = Namespace::new("job");
    for (name, policy) in [("never", "Never"), ("on-failure", "OnFailure")] {
        namespace.apply(&job(name, policy, "database-credentials"));
    }
    namespace.wait_for("job/never", "condition=Complete", 90);
    namespace.wait_for("job/on-failure", "condition=Complete", 90);
}

#[test]
fn a_job_whose_record_is_missing_fails() {
    let namespace = Namespace::new("job-fails");
    namespace.apply(&job("job", "Never", "database-credentails"));
    namespace.wait_for("job/job", "condition=Failed", 90);
    let description = namespace.kubectl(&["describe", "pods", "--selector=job-name=job"]);
    assert!(
        description.contains("database-credentails")
            && description.contains("database-credentials"),
        "{description}"
    );
}

fn job(name: &str, policy: &str, record: &str) -> Value {
    let secret = format!("{record}:/keeper/secrets/database-credentials.json");
    let mut template = pods::annotated(name, &[("secret", &secret)], PRINT);
    template["spec"]["restartPolicy"] = json!(policy);
    let annotations = template["metadata"]["annotations"].take();
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"annotations": annotations}, "spec": template["spec"]}},
    })
}

#[test]
fn our_containers_hold_no_token_and_the_app_keeps_its_own() {
    const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let namespace = Namespace::new("token");
    namespace.apply(&pods::annotated("token", &[SECRET], "exec sleep 3600"));
    namespace.wait_for("pod/token", "condition=Ready", 60);
    let pod = namespace.get("pod", "token");
    for container in pods::injected(&pod) {
        let id = pods::status(&pod, container["name"].as_str().unwrap())["containerID"]
            .as_str()
            .unwrap();
        let process = node::process_of(id);
        assert_eq!(
            node::exec(&["ls", "-A", &format!("/proc/{process}/root{TOKEN}")]),
            ""
        );
    }
    assert!(
        namespace
            .exec("token", pods::APP, &["ls", TOKEN])
            .contains("token")
    );
}

#[test]
fn a_pod_without_a_service_account_token_gets_its_secrets() {
    let namespace = Namespace::new("no-token");
    let mut pod = pods::once(pods::annotated("no-token", &[SECRET], PRINT));
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    namespace.apply(&pod);
    namespace.wait_for_success("no-token", 60);
    let volumes = namespace.get("pod", "no-token")["spec"]["volumes"].to_string();
    assert!(!volumes.contains("serviceAccountToken"), "{volumes}");
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let namespace = Namespace::new("guaranteed");
    let mut pod = pods::annotated("guaranteed", &[SECRET], "exec sleep 3600");
    pod["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "50m", "memory": "16Mi"}});
    namespace.apply(&pod);
    namespace.wait_for("pod/guaranteed", "condition=Ready", 60);
    assert_eq!(
        namespace.get("pod", "guaranteed")["status"]["qosClass"],
        "Guaranteed"
    );
}

#[test]
fn a_deleted_pod_goes_at_once() {
    let namespace = Namespace::new("delete");
    let mut pod = pods::annotated(
        "delete",
        &[SECRET],
        "trap 'exit 0' TERM; while :; do sleep 0.2; done",
    );
    pod["spec"]["terminationGracePeriodSeconds"] = json!(60);
    namespace.apply(&pod);
    namespace.wait_for("pod/delete", "condition=Ready", 60);
    namespace.kubectl(&["delete", "pod", "delete", "--wait=false"]);
    // Well under the grace period that a sidecar without a handler for SIGTERM would use up.
    until("the pod to go", 15, || {
        (!namespace
            .try_kubectl(&["get", "pod", "delete"], None)
            .success)
            .then_some(())
    });
}
