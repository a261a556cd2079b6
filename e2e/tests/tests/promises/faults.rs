//! Bad answers from Keeper, and bad requests to the webhook, on the node; the clients' and servers' own tests go further.

use keeper_e2e::{Namespace, kubectl, node, pods, try_kubectl, until};
use serde_json::Value;
use std::path::Path;
use std::{fs, io};

#[test]
fn garbage_from_keeper_loses_nothing() {
    survives("garbage");
}

#[test]
fn a_truncated_answer_loses_nothing() {
    survives("truncate");
}

#[test]
fn an_answer_under_a_wrong_key_loses_nothing() {
    survives("corrupt-tag");
}

#[test]
fn a_huge_answer_loses_nothing() {
    survives("huge");
}

#[test]
fn a_keeper_that_hangs_loses_nothing() {
    survives("hang");
}

#[test]
fn a_certificate_of_a_stranger_loses_nothing() {
    survives("untrusted-certificate");
}

/// A published file stays as it is while every call fails; the failure is counted and logged; what changed meanwhile arrives
/// when Keeper answers again.
fn survives(fault: &str) {
    let namespace = Namespace::new(fault);
    let annotations = [
        ("secret-password", "database-credentials[password]"),
        ("refresh-interval", "15s"),
    ];
    namespace.apply(&pods::annotated("pod", &annotations, "exec sleep 3600"));
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    let password = || namespace.exec("pod", pods::APP, &["cat", "/keeper/secrets/password"]);
    assert_eq!(password(), "first-password");

    let arguments: &[&str] = if fault == "huge" {
        &["fault", fault, "1000000000"]
    } else {
        &["fault", fault]
    };
    namespace.keeper().run(arguments);
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    until("a logged failure", 90, || {
        namespace
            .logs("pod", "keeper-sidecar")
            .contains(r#""level":"error""#)
            .then_some(())
    });
    let failures = namespace.metrics("pod");
    assert!(
        !failures.contains("keeper_sidecar_refresh_errors_total 0"),
        "{failures}"
    );
    assert_eq!(password(), "first-password");

    namespace.keeper().run(&["fault", "clear"]);
    // After two failures in a row the next try is at most four frames away.
    until("the new password", 100, || {
        (password() == "second-password").then_some(())
    });
    assert_eq!(
        pods::status(&namespace.get("pod", "pod"), "keeper-sidecar")["restartCount"],
        0
    );
}

#[test]
fn a_throttled_start_is_waited_out() {
    let namespace = Namespace::new("throttled-start");
    namespace.keeper().run(&["fault", "throttled"]);
    let secret = ("secret-password", "database-credentials[password]");
    namespace.apply(&pods::annotated("pod", &[secret], "exec sleep 3600"));
    until("a logged failure", 60, || {
        let log = namespace.try_kubectl(&["logs", "pod", "--container=keeper-sidecar"], None);
        log.stdout
            .contains("Keeper throttles this application")
            .then_some(())
    });
    let app = pods::status(&namespace.get("pod", "pod"), pods::APP)["containerID"].clone();
    assert!(app.is_null(), "the app has not started: {app}");
    namespace.keeper().run(&["fault", "clear"]);
    namespace.wait_for("pod/pod", "condition=Ready", 120);
    let file = ["cat", "/keeper/secrets/password"];
    assert_eq!(namespace.exec("pod", pods::APP, &file), "first-password");
}

#[test]
fn an_agent_killed_in_an_outage_keeps_the_files_and_goes_on() {
    let namespace = Namespace::new("killed");
    let annotations = [
        ("secret-password", "database-credentials[password]"),
        ("refresh-interval", "15s"),
    ];
    namespace.apply(&pods::annotated("pod", &annotations, "exec sleep 3600"));
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    let password = || namespace.exec("pod", pods::APP, &["cat", "/keeper/secrets/password"]);
    let sidecar = || pods::status(&namespace.get("pod", "pod"), "keeper-sidecar").clone();

    namespace.keeper().run(&["fault", "bad-gateway"]);
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    let process = node::process_of(sidecar()["containerID"].as_str().unwrap());
    let _ = node::exec(&["kill", "-KILL", &process]);
    until("a restart", 60, || {
        (sidecar()["restartCount"] == 1 && sidecar()["ready"] == true).then_some(())
    });
    assert_eq!(password(), "first-password");
    until("the new process's failure", 90, || {
        namespace
            .logs("pod", "keeper-sidecar")
            .contains("using cached secrets")
            .then_some(())
    });
    assert_eq!(password(), "first-password");
    namespace.keeper().run(&["fault", "clear"]);
    until("the new password", 100, || {
        (password() == "second-password").then_some(())
    });
    assert_eq!(sidecar()["restartCount"], 1);
}

/// The container's limit is lowered to what it takes, and then Keeper's answer grows: the kernel kills the agent in the middle of
/// a refresh. The next container has the limit of the pod's spec.
#[test]
fn an_agent_that_wants_too_much_memory_is_killed_and_recovers() {
    let namespace = Namespace::new("oom");
    let annotations = [
        ("secret-password", "database-credentials[password]"),
        ("refresh-interval", "15s"),
    ];
    namespace.apply(&pods::annotated("pod", &annotations, "exec sleep 3600"));
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    let length = || {
        let file = ["wc", "-c", "/keeper/secrets/password"];
        let printed = namespace.exec("pod", pods::APP, &file);
        printed.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let sidecar = || pods::status(&namespace.get("pod", "pod"), "keeper-sidecar").clone();
    let before = length();

    let process = node::process_of(sidecar()["containerID"].as_str().unwrap());
    let cgroup = node::memory_cgroup(&process);
    until("the lower limit", 10, || lower_limit(&cgroup).ok());
    let large = format!("password={}", "x".repeat(100_000));
    namespace.keeper().set("database-credentials", &[&large]);
    let ended = until("the kill", 60, || {
        let ended = sidecar()["lastState"]["terminated"].clone();
        ended.is_object().then_some(ended)
    });
    assert_eq!(ended["reason"], "OOMKilled");
    // The next process may be that quick.
    assert!([before, 100_000].contains(&length()), "{}", length());
    until("the large password", 60, || {
        (length() == 100_000).then_some(())
    });
    assert_eq!(sidecar()["restartCount"], 1);
}

/// Leaves a cgroup, of version 1 or 2, nothing beyond what it takes. Version 1 refuses less than that.
fn lower_limit(cgroup: &Path) -> io::Result<()> {
    let [used, limit] = if cgroup.join("memory.max").exists() {
        ["memory.current", "memory.max"]
    } else {
        ["memory.usage_in_bytes", "memory.limit_in_bytes"]
    };
    let used = fs::read_to_string(cgroup.join(used))?;
    fs::write(cgroup.join(limit), used.trim())
}

#[test]
fn a_full_volume_keeps_what_is_published() {
    let namespace = Namespace::new("full");
    let annotations = [
        ("secret-password", "database-credentials[password]"),
        ("tmpfs-size", "64Ki"),
        ("refresh-interval", "15s"),
    ];
    namespace.apply(&pods::annotated("pod", &annotations, "exec sleep 3600"));
    namespace.wait_for("pod/pod", "condition=Ready", 60);
    let password = || namespace.exec("pod", pods::APP, &["cat", "/keeper/secrets/password"]);
    let large = format!("password={}", "x".repeat(100_000));
    namespace.keeper().set("database-credentials", &[&large]);
    until("a failure that names the cure", 60, || {
        namespace
            .logs("pod", "keeper-sidecar")
            .contains("raise the annotation keeper.security/tmpfs-size")
            .then_some(())
    });
    assert_eq!(password(), "first-password");
    namespace
        .keeper()
        .set("database-credentials", &["password=second-password"]);
    until("the new password", 60, || {
        (password() == "second-password").then_some(())
    });
}

#[test]
fn the_webhook_refuses_what_is_no_review_and_goes_on() {
    let namespace = Namespace::new("no-review");
    let configuration: Value = serde_json::from_str(&kubectl(&[
        "get",
        "mutatingwebhookconfiguration",
        "keeper-injector",
        "--output=json",
    ]))
    .unwrap();
    let service = &configuration["webhooks"][0]["clientConfig"]["service"];
    let path = format!(
        "/api/v1/namespaces/{}/services/https:{}:{}/proxy{}",
        service["namespace"].as_str().unwrap(),
        service["name"].as_str().unwrap(),
        service["port"],
        service["path"].as_str().unwrap(),
    );
    let truncated =
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"#;
    let huge = format!(r#"{{"kind":"{}"}}"#, "x".repeat(20_000_000));
    for body in ["\u{1}garbage", "", "[]", truncated, &huge] {
        let answer = try_kubectl(&["create", "--raw", &path, "--filename=-"], Some(body));
        assert!(!answer.success, "{}", answer.stdout);
    }
    let pods: Value = serde_json::from_str(&kubectl(&[
        "get",
        "pods",
        "--namespace=keeper-security",
        "--output=json",
    ]))
    .unwrap();
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    }
    namespace.apply(&pods::annotated(
        "after",
        &[("secret", "database-credentials")],
        "true",
    ));
}
