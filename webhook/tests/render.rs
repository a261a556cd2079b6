//! `keeper-webhook render` as people and their CI run it: what is printed where, and the exit codes.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A Deployment that says what it should.
const GOOD: &str = r#"# web and its Service
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations:
        keeper.security/inject: "true"
        keeper.security/ksm-config: keeper-auth
        keeper.security/secret-db: database-credentials:/keeper/secrets/db.json
    spec:
      containers:
        - name: web
          image: nginx
          args: ["--mode", "0440", "yes"]
"#;

/// Three mistakes in a CronJob, and annotations in a place where nobody reads them.
const BAD: &str = r#"apiVersion: batch/v1
kind: CronJob
metadata: {name: report}
spec:
  schedule: "@daily"
  jobTemplate:
    spec:
      template:
        metadata:
          annotations:
            keeper.security/inject: "true"
            keeper.security/refresh-intervall: 1m
            keeper.security/secret-db: db:/etc/db.json
        spec:
          restartPolicy: Never
          containers: [{name: report, image: busybox}]
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
  annotations: {keeper.security/inject: "true"}
spec:
  template:
    spec:
      containers: [{name: api, image: busybox}]
"#;

struct Ran {
    code: i32,
    out: String,
    log: String,
}

/// Runs the binary in a folder with these files.
fn render(files: &[(&str, &str)], arguments: &[&str], input: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    run(folder.path(), arguments, input)
}

fn run(folder: &Path, arguments: &[&str], input: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keeper-webhook"))
        .arg("render")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A process that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        log: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn the_patched_pod_as_yaml() {
    let ran = render(&[("web.yaml", GOOD)], &["-f", "web.yaml"], "");
    assert_eq!(
        (ran.code, ran.log.as_str()),
        (
            0,
            "injected: 1, left as they are: 0, errors: 0, warnings: 0\n"
        )
    );
    let head = "---\n# web.yaml:7: Deployment shop/web\napiVersion: v1\nkind: Pod\n";
    assert!(ran.out.starts_with(head), "{}", ran.out);
    let pod: Value = serde_saphyr::from_str(&ran.out).unwrap();
    assert_eq!(pod["metadata"]["generateName"], "web-");
    assert_eq!(pod["metadata"]["labels"]["app"], "web");
    assert_eq!(
        pod["metadata"]["labels"]["keeper.security/injected"],
        "true"
    );
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "keeper-sidecar");
    assert_eq!(pod["spec"]["initContainers"][0]["restartPolicy"], "Always");
    // What is text stays text, for every reader of YAML.
    assert!(
        ran.out.contains("'0440'") || ran.out.contains("\"0440\""),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("'yes'") || ran.out.contains("\"yes\""),
        "{}",
        ran.out
    );
}

#[test]
fn the_patch_as_a_diff() {
    let ran = render(&[("web.yaml", GOOD)], &["-f", "web.yaml", "-o", "diff"], "");
    assert_eq!(ran.code, 0, "{}", ran.log);
    let head =
        "--- web.yaml:7 Deployment shop/web\n+++ web.yaml:7 Deployment shop/web (injected)\n@@ ";
    assert!(ran.out.starts_with(head), "{}", ran.out);
    let of = |sign: char| {
        ran.out
            .lines()
            .skip(2)
            .filter(move |line| line.starts_with(sign))
    };
    assert!(
        of('+').any(|line| line.contains("name: keeper-sidecar")),
        "{}",
        ran.out
    );
    assert_eq!(of('-').next(), None, "nothing of the user's goes");
}

#[test]
fn every_problem_with_its_file_document_and_annotation() {
    let ran = render(
        &[("bad.yaml", BAD), ("web.yaml", GOOD)],
        &["-f", "bad.yaml", "web.yaml"],
        "",
    );
    assert_eq!(ran.code, 1);
    let lines: Vec<&str> = ran.log.lines().collect();
    let starts = [
        "bad.yaml:1: error: CronJob report: keeper.security/refresh-intervall: \
         unknown annotation: did you mean keeper.security/refresh-interval?",
        "bad.yaml:1: error: CronJob report: keeper.security/secret-db: ",
        "bad.yaml:1: error: CronJob report: keeper.security/ksm-config: no KSM config",
        "bad.yaml:18: error: Deployment api: keeper.security/inject: not read on the Deployment itself",
        "injected: 1, left as they are: 0, errors: 4, warnings: 0",
    ];
    for start in starts {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{start} is not in\n{}",
            ran.log
        );
    }
    assert_eq!(lines.len(), starts.len(), "{}", ran.log);
    assert!(
        ran.out.contains("Deployment shop/web"),
        "the good one is printed"
    );
}

#[test]
fn a_namespace_among_the_manifests_gives_its_defaults() {
    let bare = GOOD.replace("        keeper.security/ksm-config: keeper-auth\n", "");
    let space = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, annotations: {{keeper.security/ksm-config: shared}}}}\n"
        )
    };
    for (name, code) in [("shop", 0), ("other", 1)] {
        let files = [("web.yaml", bare.as_str()), ("space.yaml", &space(name))];
        let ran = render(&files, &["-f", "web.yaml", "space.yaml"], "");
        assert_eq!(ran.code, code, "{name}: {}", ran.log);
        assert_eq!(
            ran.out.contains("secretName: shared"),
            code == 0,
            "{}",
            ran.out
        );
    }
}

#[test]
fn warnings_are_no_problems_unless_they_are_taken_for_some() {
    let short = GOOD.replace(
        "secret-db:",
        "refresh-interval: 1s\n        keeper.security/secret-db:",
    );
    let files = [("web.yaml", short.as_str())];
    let ran = render(&files, &["-f", "web.yaml"], "");
    assert_eq!(ran.code, 0);
    let warning = "web.yaml:7: warning: Deployment shop/web: keeper.security/refresh-interval: ";
    assert!(ran.log.starts_with(warning), "{}", ran.log);
    assert_eq!(render(&files, &["-f", "web.yaml", "--strict"], "").code, 1);
}

#[test]
fn standard_input_and_the_clusters_settings_and_version() {
    let without = GOOD.replace("        keeper.security/ksm-config: keeper-auth\n", "");
    assert_eq!(render(&[], &["-f", "-"], &without).code, 1);
    let settings = "
        sidecarImage: registry.example/sidecar:1
        ownNamespace: keeper-security
        defaults: {ksm-config: keeper-auth}
    ";
    let arguments = [
        "-f",
        "-",
        "--settings",
        "s.yaml",
        "--kubernetes-version",
        "1.30",
    ];
    let ran = render(&[("s.yaml", settings)], &arguments, &without);
    assert_eq!(ran.code, 0, "{}", ran.log);
    let pod: Value = serde_saphyr::from_str(&ran.out).unwrap();
    let containers = pod["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers[1]["image"], "registry.example/sidecar:1");
    assert!(ran.out.starts_with("---\n# stdin:7: "), "{}", ran.out);
}

#[test]
fn a_namespace_that_is_left_alone_is_a_problem_of_who_asks_there() {
    let own = GOOD.replace("  namespace: shop\n", "");
    let ran = render(&[], &["-f", "-", "-n", "keeper-security"], &own);
    assert_eq!(ran.code, 1);
    assert!(
        ran.log
            .contains("pods of this namespace are never injected"),
        "{}",
        ran.log
    );
    assert_eq!(ran.out, "");
}

#[test]
fn what_cannot_be_read_ends_with_two() {
    for (files, arguments, input, says) in [
        (vec![], vec![], "", "--file"),
        (
            vec![],
            vec!["-f", "none.yaml"],
            "",
            "none.yaml: error: cannot be read: ",
        ),
        (
            vec![],
            vec!["-f", "-"],
            "",
            "stdin: error: holds no Kubernetes object",
        ),
        (
            vec![],
            vec!["-f", "-"],
            "a: [\n",
            "stdin: error: is not YAML: ",
        ),
        (
            vec![],
            vec!["-f", "-"],
            "a: 1\n",
            "stdin: error: line 1: no Kubernetes object",
        ),
        (vec![], vec!["-f", "-", "-o", "json"], "", "json"),
        (
            vec![],
            vec!["-f", "-", "--kubernetes-version", "35"],
            "",
            "is not a version like 1.35",
        ),
        (
            vec![],
            vec!["-f", "-", "--settings", "none"],
            GOOD,
            "cannot read the settings none",
        ),
        (
            vec![("s.yaml", "sidecarImage: x\nownNamespace: y\nnope: 1\n")],
            vec!["-f", "-", "--settings", "s.yaml"],
            GOOD,
            "nope",
        ),
        // The rest is looked at all the same.
        (
            vec![("bad.yaml", BAD)],
            vec!["-f", "none.yaml", "bad.yaml"],
            "",
            "refresh-intervall",
        ),
    ] {
        let ran = render(&files, &arguments, input);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.log);
        assert!(ran.log.contains(says), "{arguments:?}: {}", ran.log);
    }
}

/// Every manifest that we show can be admitted.
#[test]
fn our_examples_are_fine() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files: Vec<String> = std::fs::read_dir(&examples)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    assert!(files.len() > 5, "{files:?}");
    let mut arguments = vec!["-f"];
    arguments.extend(files.iter().map(String::as_str));
    let ran = run(&examples, &arguments, "");
    assert_eq!(ran.code, 0, "{}", ran.log);
    assert!(ran.log.contains(" errors: 0,"), "{}", ran.log);
}
