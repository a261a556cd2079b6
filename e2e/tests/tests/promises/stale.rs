//! A pod whose access to Keeper was withdrawn keeps its files; whether it stays ready is its own choice.

use keeper_e2e::{CLIENT, Namespace, pods, until};

#[test]
fn a_pod_without_access_keeps_its_files_and_may_turn_unready() {
    let namespace = Namespace::new("stale");
    let secret = ("secret-password", "database-credentials[password]");
    let interval = ("refresh-interval", "15s");
    for on_stale in ["serve", "unready"] {
        namespace.apply(&pods::annotated(
            on_stale,
            &[secret, interval, ("on-stale", on_stale)],
            "exec sleep 3600",
        ));
        namespace.wait_for(&format!("pod/{on_stale}"), "condition=Ready", 60);
    }
    namespace.keeper().run(&["revoke", CLIENT]);
    namespace.wait_for("pod/unready", "condition=Ready=false", 90);
    for pod in ["serve", "unready"] {
        let file = ["cat", "/keeper/secrets/password"];
        assert_eq!(namespace.exec(pod, pods::APP, &file), "first-password");
    }
    until("the other pod's verdict", 90, || {
        let metrics = namespace.metrics("serve");
        metrics.contains("\nkeeper_sidecar_stale 1\n").then_some(())
    });
    namespace.wait_for("pod/serve", "condition=Ready", 5);
    namespace.keeper().run(&["unrevoke", CLIENT]);
    namespace.wait_for("pod/unready", "condition=Ready", 120);
}
