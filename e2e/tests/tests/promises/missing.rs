//! A pod whose record does not exist.

use keeper_e2e::{Namespace, pods, until};
use serde_json::Value;

/// As if the user had mistyped `database-credentials`.
const TYPO: (&str, &str) = ("secret", "database-credentails:/keeper/secrets/x.json");

#[test]
fn the_app_never_starts_and_describe_says_why() {
    let namespace = Namespace::new("missing");
    let init_only = [TYPO, ("init-only", "true")];
    namespace.apply(&pods::annotated("native", &[TYPO], "exec sleep 3600"));
    namespace.apply(&pods::annotated("init-only", &init_only, "exec sleep 3600"));
    let classic = [TYPO, ("sidecar-mode", "classic")];
    namespace.apply(&pods::annotated("classic", &classic, "exec sleep 3600"));
    namespace.apply(&pods::once(pods::annotated(
        "once",
        &[TYPO],
        "exec sleep 3600",
    )));
    for pod in ["native", "classic", "init-only", "once"] {
        until("a description that says what is wrong", 60, || {
            let description = namespace.kubectl(&["describe", "pod", pod]);
            // The name as it was asked for stands in the annotation too; the right one only in the message.
            let message = description.lines().find(|line| {
                line.contains("database-credentails") && line.contains("database-credentials")
            });
            message.map(|_| ())
        });
    }
    // Trying again does not help, and does not let the app in.
    until("restarts", 60, || {
        let tried = ["native", "classic", "init-only"]
            .iter()
            .all(|pod| restarts(&namespace.get("pod", pod)) >= 2);
        tried.then_some(())
    });
    for pod in ["native", "classic", "init-only", "once"] {
        let status = namespace.get("pod", pod);
        assert!(
            pods::status(&status, pods::APP)["containerID"].is_null(),
            "{pod}: {status}"
        );
    }
    namespace.wait_for("pod/once", "jsonpath={.status.phase}=Failed", 30);
}

#[test]
fn the_app_starts_once_the_record_is_there() {
    let namespace = Namespace::new("appears");
    namespace.apply(&pods::annotated(
        "late",
        &[("secret", "late")],
        "cat /keeper/secrets/late.json; exec sleep 3600",
    ));
    until("a first failure", 60, || {
        (restarts(&namespace.get("pod", "late")) >= 1).then_some(())
    });
    namespace.keeper().run(&["add", "late", "password=at-last"]);
    namespace.wait_for("pod/late", "condition=Ready", 120);
    assert!(namespace.logs("late", pods::APP).contains("at-last"));
}

#[test]
fn a_pod_that_may_start_without_its_secrets_does_and_gets_them_later() {
    let namespace = Namespace::new("optional");
    let annotations = [
        ("secret", "late"),
        ("fail-on-error", "false"),
        ("refresh-interval", "15s"),
    ];
    namespace.apply(&pods::annotated(
        "optional",
        &annotations,
        "exec sleep 3600",
    ));
    namespace.wait_for("pod/optional", "condition=Ready", 60);
    namespace.keeper().run(&["add", "late", "password=at-last"]);
    until("the file", 90, || {
        let cat = namespace.try_kubectl(
            &[
                "exec",
                "optional",
                "--container",
                pods::APP,
                "--",
                "cat",
                "/keeper/secrets/late.json",
            ],
            None,
        );
        cat.stdout.contains("at-last").then_some(())
    });
}

/// Of the injected containers.
fn restarts(pod: &Value) -> u64 {
    let counts = pods::injected(pod).filter_map(|container| {
        pods::status(pod, container["name"].as_str()?)["restartCount"].as_u64()
    });
    counts.sum()
}
