//! The application's first line runs when its file is there, however slow Keeper is.

use keeper_e2e::{Namespace, pods};

#[test]
fn the_file_is_there_before_the_first_line() {
    starts_with_its_secret("at-once", None);
}

#[test]
fn the_file_is_there_before_the_first_line_with_keeper_5_s_slow() {
    starts_with_its_secret("slow-5", Some("5000"));
}

#[test]
fn the_file_is_there_before_the_first_line_with_keeper_20_s_slow() {
    starts_with_its_secret("slow-20", Some("20000"));
}

/// Every shape that the webhook chooses: a sidecar with a hook, an init container before the sidecar, one before an ordinary
/// sidecar, an init container alone.
fn starts_with_its_secret(name: &str, milliseconds: Option<&str>) {
    const SCRIPT: &str = "cat /keeper/secrets/password && echo && exec sleep 3600";
    let namespace = Namespace::new(name);
    if let Some(milliseconds) = milliseconds {
        namespace.keeper().run(&["fault", "latency", milliseconds]);
    }
    let secret = ("secret-password", "database-credentials[password]");
    let shapes = [
        ("native", pods::annotated("native", &[secret], SCRIPT)),
        (
            "never",
            pods::once(pods::annotated("never", &[secret], SCRIPT)),
        ),
        (
            "classic",
            pods::annotated("classic", &[secret, ("sidecar-mode", "classic")], SCRIPT),
        ),
        (
            "init-only",
            pods::annotated("init-only", &[secret, ("init-only", "true")], SCRIPT),
        ),
    ];
    for (_, pod) in &shapes {
        namespace.apply(pod);
    }
    for (shape, _) in &shapes {
        namespace.wait_for(&format!("pod/{shape}"), "condition=Ready", 150);
        assert_eq!(
            namespace.logs(shape, pods::APP),
            "first-password\n",
            "{shape}"
        );
        assert_eq!(
            pods::status(&namespace.get("pod", shape), pods::APP)["restartCount"],
            0,
            "{shape}"
        );
    }
}
