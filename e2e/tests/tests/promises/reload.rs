//! An application that is told of a change, and what it may not see of the agent meanwhile.

use keeper_e2e::{Namespace, pods, until};
use serde_json::{Value, json};

const ANNOTATIONS: [(&str, &str); 2] =
    [("secret-p", "pair[password]"), ("refresh-interval", "15s")];
/// One interval, and the pauses between the attempts.
const SOON: u64 = 50;

/// Says what it reads, at its start and at each SIGHUP.
const READER: &str = r#"
say() { echo "read $(cat /keeper/secrets/p)"; }
trap say HUP
say
while :; do sleep 1; done
"#;

fn reader(name: &str, more: &[(&str, &str)], spec: &Value) -> Value {
    let annotations: Vec<_> = ANNOTATIONS.iter().chain(more).copied().collect();
    let mut pod = pods::annotated(name, &annotations, READER);
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

/// A metric of a pod's sidecar.
fn told(namespace: &Namespace, pod: &str, labels: &str) -> u64 {
    let metrics = namespace.metrics(pod);
    let name = format!("keeper_sidecar_reloads_total{{{labels}}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

/// Changes the secret, and waits until the application has read it.
fn changed(namespace: &Namespace, pod: &str, password: &str) {
    namespace
        .keeper()
        .set("pair", &[&format!("password={password}")]);
    let line = format!("read {password}\n");
    until("the word of the change", SOON, || {
        namespace
            .logs(pod, pods::APP)
            .ends_with(&line)
            .then_some(())
    });
}

#[test]
fn a_signal_reaches_an_application_with_a_stated_uid_and_no_capability() {
    let namespace = Namespace::with_labels(
        "signal",
        &[("pod-security.kubernetes.io/enforce", "restricted")],
    );
    let strict = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let mut pod = reader(
        "app",
        &[("signal", "SIGHUP")],
        &json!({"securityContext": {
            "runAsUser": 101, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}}),
    );
    pod["spec"]["containers"][0]["securityContext"] = strict.clone();
    let mut neighbour = pod["spec"]["containers"][0].clone();
    neighbour["name"] = json!("neighbour");
    neighbour["command"] = json!([
        "/bin/sh",
        "-c",
        "trap : HUP; while :; do sleep 1; done # peer"
    ]);
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(neighbour);
    namespace.apply(&pod);
    namespace.wait_for("pod/app", "condition=Ready", 60);
    changed(&namespace, "app", "second");
    // Once at the start, once for the change: nothing for what it started with.
    let log = namespace.logs("app", pods::APP);
    assert_eq!(log.lines().count(), 2, "{log}");
    assert_eq!(told(&namespace, "app", r#"kind="signal",result="ok""#), 1);
    let seen = namespace.get("pod", "app");
    for container in ["app", "neighbour", "keeper-sidecar"] {
        assert_eq!(
            pods::status(&seen, container)["restartCount"],
            0,
            "{container}"
        );
    }

    // With one UID the neighbour is an open book, and the agent a closed one.
    let look = |mark: &str| {
        let script = format!(
            "for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline | grep -q '{mark}'; then \
             cat $p/environ > /tmp/x 2>/dev/null || cat $p/environ >/dev/null 2>&1 && echo environ; \
             ls $p/root/ >/dev/null 2>&1 && echo root; head -c 0 $p/mem 2>/dev/null && echo mem; \
             echo seen; break; fi; done"
        );
        namespace.exec("app", pods::APP, &["/bin/sh", "-c", &script])
    };
    assert_eq!(look("# [p]eer"), "environ\nroot\nmem\nseen\n");
    assert_eq!(look("^/keeper-sidecar ru[n]"), "seen\n");
}

#[test]
fn root_without_a_stated_uid_is_signalled_with_kill_alone() {
    let namespace = Namespace::new("signal-root");
    let pod = reader("app", &[("signal", "hup")], &json!({}));
    let applied = namespace.try_apply(&pod);
    assert!(applied.success, "{}", applied.stderr);
    assert!(
        applied.stderr.contains("capability KILL alone"),
        "{}",
        applied.stderr
    );
    namespace.wait_for("pod/app", "condition=Ready", 60);
    changed(&namespace, "app", "second");
    changed(&namespace, "app", "third");
    let seen = namespace.get("pod", "app");
    assert_eq!(pods::status(&seen, pods::APP)["restartCount"], 0);
}

#[test]
fn a_signal_by_name_reaches_that_program_and_not_the_shell_that_started_it() {
    let namespace = Namespace::new("signal-process");
    let by_name = [("signal", "SIGHUP"), ("signal-process", "reader")];
    let spec = json!({"securityContext": {"runAsUser": 101}});
    let mut pod = reader("app", &by_name, &spec);
    let script = format!(
        "cat > /tmp/reader <<'END'\n#!/bin/sh{READER}END\nchmod +x /tmp/reader\n\
         trap 'echo the shell was told' HUP\n/tmp/reader &\nwhile :; do sleep 1; done"
    );
    pod["spec"]["containers"][0]["command"][2] = json!(script);
    namespace.apply(&pod);
    namespace.wait_for("pod/app", "condition=Ready", 60);
    changed(&namespace, "app", "second");
    // What the shell has to say about the first change stands before the second.
    changed(&namespace, "app", "third");
    let log = namespace.logs("app", pods::APP);
    assert_eq!(log, "read same-0\nread second\nread third\n");
}

#[test]
fn a_url_of_the_pod_gets_a_post() {
    let namespace = Namespace::new("reload-url");
    let url = ("reload-url", "http://localhost:8080/cgi-bin/reload");
    let mut pod = reader("app", &[url], &json!({}));
    let server = r#"
mkdir -p /www/cgi-bin
cat > /www/cgi-bin/reload <<'CGI'
#!/bin/sh
echo "$REQUEST_METHOD $(cat /keeper/secrets/p)" >> /www/log
printf 'Content-Type: text/plain\r\n\r\n'
CGI
chmod +x /www/cgi-bin/reload
exec busybox httpd -f -p 127.0.0.1:8080 -h /www
"#;
    pod["spec"]["containers"][0]["command"][2] = json!(server);
    namespace.apply(&pod);
    namespace.wait_for("pod/app", "condition=Ready", 60);
    namespace.keeper().set("pair", &["password=second"]);
    let ok = r#"kind="url",result="ok""#;
    until("the word of the change", SOON, || {
        (told(&namespace, "app", ok) == 1).then_some(())
    });
    let log = namespace.exec("app", pods::APP, &["cat", "/www/log"]);
    assert_eq!(log, "POST second\n");
    assert!(
        namespace.get("pod", "app")["spec"]
            .get("shareProcessNamespace")
            .is_none()
    );
}
