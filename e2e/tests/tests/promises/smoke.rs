//! The commands that the documentation tells users to try first.

use keeper_e2e::{CLIENT, Namespace, pods, repository, until};
use std::process::Command;

const INJECT: &str = "--annotations=keeper.security/inject=true";
const CONFIG: &str = "--annotations=keeper.security/ksm-config=keeper-auth";

#[test]
fn the_documented_smoke_test_authenticates_once() {
    let namespace = Namespace::new("smoke");
    let run = namespace.try_kubectl(&["run", "test", "--image=busybox", INJECT, CONFIG], None);
    assert!(run.success, "{}", run.stderr);
    assert!(
        run.stderr.contains("Warning:"),
        "a pod that selects nothing is worth a warning: {}",
        run.stderr
    );

    // busybox without a command is a shell that ends at once; it has run when its container has an ID.
    let pod = until("the app to run", 60, || {
        let pod = namespace.get("pod", "test");
        pods::status(&pod, "test")["containerID"]
            .is_string()
            .then_some(pod)
    });
    assert_eq!(
        pod["metadata"]["labels"]["keeper.security/injected"],
        "true"
    );
    assert_eq!(
        pod["metadata"]["annotations"]["keeper.security/injected"],
        "true"
    );
    assert_eq!(pods::injected(&pod).count(), 1);
    assert_eq!(namespace.keeper().fetches(CLIENT), 1);
}

#[test]
fn a_secret_is_printed_by_kubectl_run() {
    let namespace = Namespace::new("cat");
    let secret = "--annotations=keeper.security/secret=database-credentials";
    let cat = ["cat", "/keeper/secrets/database-credentials.json"];
    namespace.kubectl(&[
        "run",
        "test",
        "--image=busybox",
        INJECT,
        CONFIG,
        secret,
        "--restart=Never",
        "--",
        cat[0],
        cat[1],
    ]);
    namespace.wait_for_success("test", 60);
    let expected = "{\n  \"login\": \"orders\",\n  \"password\": \"first-password\",\n  \"url\": \"postgres://db:5432\"\n}";
    assert_eq!(namespace.logs("test", "test").trim_end(), expected);
}

#[test]
fn the_example_script_says_that_the_installation_works() {
    let namespace = Namespace::new("script");
    let kubectl = repository().join("e2e/cluster/kubectl");
    let output = Command::new("timeout")
        .arg("120")
        .arg(repository().join("examples/smoke-test.sh"))
        .arg("database-credentials")
        .env(
            "KUBECTL",
            format!("{} --namespace={}", kubectl.display(), namespace.name()),
        )
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
