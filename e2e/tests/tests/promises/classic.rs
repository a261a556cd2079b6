//! The shape of clusters without native sidecars: an init container, and an ordinary one that goes on from what it left.

use keeper_e2e::{CLIENT, Namespace, pods, until};
use serde_json::json;

const SECRET: (&str, &str) = ("secret-password", "database-credentials[password]");
const CLASSIC: (&str, &str) = ("sidecar-mode", "classic");
const APP_THAT_ENDS: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

#[test]
fn the_sidecar_starts_without_a_second_fetch() {
    let namespace = Namespace::new("classic-start");
    // A day's regular slot is most likely not within this test, and its call, if it is, not the one at the start.
    let annotations = [SECRET, CLASSIC, ("refresh-interval", "24h")];
    namespace.apply(&pods::annotated("pod", &annotations, APP_THAT_ENDS));
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    let password = namespace.exec("pod", pods::APP, &["cat", "/keeper/secrets/password"]);
    assert_eq!(password, "first-password");
    let pod = namespace.get("pod", "pod");
    assert_eq!(pod["spec"]["containers"][0]["name"], pods::APP);
    assert_eq!(pod["spec"]["containers"][1]["name"], "keeper-sidecar");
    // The sidecar is at work: its metrics stand before it waits for its first slot.
    until("the sidecar", 30, || {
        namespace
            .try_kubectl(&["get", "--raw", &namespace.metrics_path("pod")], None)
            .success
            .then_some(())
    });
    assert!(namespace.metrics("pod").contains("keeper_sidecar_stale 0"));
    assert_eq!(namespace.keeper().fetches(CLIENT), 1);
}

#[test]
fn the_sidecar_brings_a_change_and_ends_with_its_pod() {
    let namespace = Namespace::new("classic-refresh");
    let annotations = [SECRET, CLASSIC, ("refresh-interval", "15s")];
    let mut pod = pods::annotated("pod", &annotations, APP_THAT_ENDS);
    pod["spec"]["terminationGracePeriodSeconds"] = json!(60);
    namespace.apply(&pod);
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    let password = || namespace.exec("pod", pods::APP, &["cat", "/keeper/secrets/password"]);
    assert_eq!(password(), "first-password");
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    until("the new password", 30, || {
        (password() == "second-password").then_some(())
    });
    namespace.kubectl(&["delete", "pod", "pod", "--wait=false"]);
    until("the pod to go", 15, || {
        (!namespace.try_kubectl(&["get", "pod", "pod"], None).success).then_some(())
    });
}

#[test]
fn a_job_ends_and_the_user_is_told_what_it_does_without() {
    let namespace = Namespace::new("classic-job");
    let template = pods::annotated("job", &[SECRET, CLASSIC], "cat /keeper/secrets/password");
    let mut pod = pods::once(template.clone());
    let applied = namespace.try_apply(&pod);
    assert!(
        applied.success && applied.stderr.contains("keep this pod from completing"),
        "{}",
        applied.stderr
    );
    namespace.wait_for_success("job", 60);
    pod["spec"]["restartPolicy"] = json!("OnFailure");
    namespace.apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"},
        "spec": {"template": {"metadata": {"annotations": template["metadata"]["annotations"]}, "spec": pod["spec"]}},
    }));
    namespace.wait_for("job/job", "condition=Complete", 60);
}
