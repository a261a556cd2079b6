//! Settings that no other promise needs, each in a pod.

use keeper_e2e::{Namespace, kubectl, pods, until};

#[test]
fn the_old_name_a_folder_by_its_uid_another_port_and_stated_resources() {
    let namespace = Namespace::new("settings");
    let keeper = namespace.keeper();
    let uid = keeper.run(&["mkdir", "Team"]);
    keeper.run(&["add", "Wiki", "password=team-password", "--folder=Team"]);
    let annotations = [
        ("folder-uid", uid.trim()),
        ("metrics-port", "9800"),
        ("sidecar-cpu-request", "7m"),
        ("sidecar-cpu-limit", "500m"),
        ("sidecar-memory-request", "9Mi"),
        ("sidecar-memory-limit", "40Mi"),
        ("log-level", "error"),
    ];
    let mut pod = pods::annotated(
        "pod",
        &annotations,
        "cat /keeper/secrets/Wiki.json; exec sleep 3600",
    );
    let of_pod = pod["metadata"]["annotations"].as_object_mut().unwrap();
    let config = of_pod.remove("keeper.security/ksm-config").unwrap();
    of_pod.insert("keeper.security/auth-secret".into(), config);
    namespace.apply(&pod);
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    assert!(namespace.logs("pod", pods::APP).contains("team-password"));
    let created = namespace.get("pod", "pod");
    let sidecar = pods::container(&created, "keeper-sidecar");
    assert_eq!(
        sidecar["resources"],
        serde_json::json!({
            "requests": {"cpu": "7m", "memory": "9Mi"},
            "limits": {"cpu": "500m", "memory": "40Mi"},
        })
    );
    let metrics = kubectl(&[
        "get",
        "--raw",
        &namespace.metrics_path("pod").replace(":9790/", ":9800/"),
    ]);
    assert!(
        metrics.contains("keeper_sidecar_refresh_total"),
        "{metrics}"
    );
    let log = namespace.logs("pod", "keeper-sidecar");
    assert!(
        !log.contains("secrets updated"),
        "what is no error is said: {log}"
    );
}

#[test]
fn of_records_with_one_title_the_first_is_taken_or_none() {
    let namespace = Namespace::new("twins");
    for password in ["one", "two"] {
        let password = format!("password={password}");
        namespace.keeper().run(&["add", "twin", &password]);
    }
    let secret = ("secret", "twin");
    namespace.apply(&pods::annotated("lenient", &[secret], "exec sleep 3600"));
    let strict = [secret, ("strict-lookup", "true")];
    namespace.apply(&pods::annotated("strict", &strict, "exec sleep 3600"));
    namespace.wait_for("pod/lenient", "condition=Ready", 60);
    let log = namespace.logs("lenient", "keeper-sidecar");
    assert!(log.contains("several records have this title"), "{log}");
    until("a description that says what is wrong", 60, || {
        let description = namespace.kubectl(&["describe", "pod", "strict"]);
        let told = description
            .lines()
            .any(|line| line.contains("twin") && line.contains("several records fit"));
        told.then_some(())
    });
    let created = namespace.get("pod", "strict");
    assert!(pods::status(&created, pods::APP)["containerID"].is_null());
}
