//! Environment variables: what is asked for, how it reaches each container, and what is denied.

use keeper_contract::{Cluster, Decision, Exec, Naming, Selection, Settings, SkipReason, admit};
use serde_json::{Value, json};

use crate::{
    CURRENT, apply, config, decide, denial, denied, injected, injection, patched, pod, settings,
};

/// A pod with a command, and these annotations.
fn with_command(annotations: &[(&str, &str)]) -> Value {
    let mut pod = pod(annotations);
    pod["spec"]["containers"][0]["command"] = json!(["app", "--serve"]);
    pod["spec"]["containers"][0]["args"] = json!(["-v"]);
    pod
}

fn with_file_key_ref() -> Settings {
    Settings {
        file_key_ref: true,
        ..settings()
    }
}

/// The pod after its injection where `fileKeyRef` is there.
#[track_caller]
fn patched_with_file_key_ref(pod: &Value) -> Value {
    let decision = admit(pod, "default", &with_file_key_ref(), &CURRENT);
    apply(pod, &injection(decision))
}

/// `annotation: message` of the only problem.
#[track_caller]
fn problem(pod: &Value) -> String {
    let denial = denied(pod);
    assert_eq!(denial.problems.len(), 1, "{denial}");
    denial
        .to_string()
        .trim_start_matches("keeper.security/")
        .to_owned()
}

#[test]
fn a_command_is_started_through_keeper_exec() {
    let pod = with_command(&[("env-DB_PASSWORD", "Orders[password]")]);
    let patched = patched(&pod);
    let app = &patched["spec"]["containers"][0];
    let command = [
        "/keeper-exec/keeper-exec",
        "/keeper-exec/variables",
        "--",
        "app",
        "--serve",
    ];
    assert_eq!(app["command"], json!(command));
    assert_eq!((&app["args"], app.get("env")), (&json!(["-v"]), None));
    let mount = json!({"name": "keeper-secrets", "mountPath": "/keeper-exec", "subPath": "exec", "readOnly": true});
    assert_eq!(app["volumeMounts"], json!([mount]));
    let environment = config(&patched).environment.unwrap();
    assert!(!environment.file_key_ref);
    assert_eq!(
        environment.exec,
        Some(Exec {
            program: "/keeper-exec".into(),
            mount_path: "/keeper-exec".into()
        })
    );
    let [one] = &environment.variables[..] else {
        panic!("{environment:?}")
    };
    assert_eq!(one.annotation, "keeper.security/env-DB_PASSWORD");
    assert_eq!(one.naming, Naming::Written("DB_PASSWORD".into()));
    assert_eq!(
        decide(&patched),
        Decision::Skipped(SkipReason::AlreadyInjected)
    );
}

#[test]
fn kubernetes_reads_the_variables_of_a_container_without_a_command() {
    let pod = pod(&[
        ("env-DB_PASSWORD", "Orders[password]"),
        ("fail-on-error", "false"),
    ]);
    let patched = patched_with_file_key_ref(&pod);
    let app = &patched["spec"]["containers"][0];
    let reference = json!({"volumeName": "keeper-secrets", "path": "file-key-ref/variables", "key": "DB_PASSWORD", "optional": true});
    assert_eq!(
        app["env"],
        json!([{"name": "DB_PASSWORD", "valueFrom": {"fileKeyRef": reference}}])
    );
    assert_eq!((app.get("command"), app.get("volumeMounts")), (None, None));
    let environment = config(&patched).environment.unwrap();
    assert!(environment.file_key_ref && environment.exec.is_none());
    assert_eq!(
        decide(&patched),
        Decision::Skipped(SkipReason::AlreadyInjected)
    );
}

#[test]
fn each_container_gets_the_first_way_that_fits() {
    let mut pod = with_command(&[("env-A", "Orders[a]"), ("fail-on-error", "false")]);
    let more = json!({"name": "image", "image": "x", "env": [{"name": "B", "value": "x"}]});
    pod["spec"]["containers"].as_array_mut().unwrap().push(more);
    pod["spec"]["initContainers"] = json!([{"name": "migrate", "command": ["migrate"]}]);
    let patched = patched_with_file_key_ref(&pod);
    let spec = &patched["spec"];
    assert_eq!(spec["containers"][0]["command"][1], "--optional");
    assert_eq!(spec["containers"][1]["env"][0]["name"], "B");
    assert_eq!(spec["containers"][1]["env"][1]["name"], "A");
    assert_eq!(spec["initContainers"][1]["name"], "migrate");
    assert_eq!(
        spec["initContainers"][1]["command"][0],
        "/keeper-exec/keeper-exec"
    );
    let environment = config(&patched).environment.unwrap();
    assert!(environment.file_key_ref && environment.exec.is_some());
}

#[test]
fn the_version_or_the_administrator_says_that_kubernetes_can_read_files() {
    let pod = pod(&[("env-A", "Orders[a]")]);
    for (settings, minor, fits) in [
        (settings(), 37, false),
        (settings(), 38, true),
        (with_file_key_ref(), 34, false),
        (with_file_key_ref(), 35, true),
    ] {
        let decision = admit(&pod, "default", &settings, &Cluster { minor });
        assert_eq!(
            matches!(decision, Decision::Injected(_)),
            fits,
            "{minor}: {decision:?}"
        );
    }
}

#[test]
fn inject_env_vars_is_in_place_of_files() {
    let asked = [
        ("inject-env-vars", "TRUE"),
        ("env-prefix", "DB_"),
        ("secret", "Orders, Mail[password]"),
        ("secret-x", "/keeper/secrets/x"),
        ("format", "raw"),
    ];
    let pod = with_command(&asked);
    let injection = injected(&pod);
    let [warning] = &injection.warnings[..] else {
        panic!("{:?}", injection.warnings)
    };
    assert!(
        warning.contains("secret-x") && warning.contains("`/keeper/secrets/x` is not used"),
        "{warning}"
    );
    let config = config(&apply(&pod, &injection));
    assert!(config.outputs.is_empty() && config.directories.is_empty());
    let variables = config.environment.unwrap().variables;
    let seen: Vec<_> = variables
        .iter()
        .map(|one| {
            (
                one.annotation.as_str(),
                matches!(one.selection, Selection::Record(_)),
                one.names(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("keeper.security/secret", true, None),
            (
                "keeper.security/secret",
                false,
                Some(vec!["DB_PASSWORD".to_owned()])
            ),
            ("keeper.security/secret-x", true, None),
        ]
    );
    assert!(
        variables
            .iter()
            .all(|one| one.naming == Naming::Prefix("DB_".into()))
    );
    // Without it there are files.
    assert!(
        crate::config(&patched(&crate::pod(&[
            ("inject-env-vars", "false"),
            ("secret", "R")
        ])))
        .environment
        .is_none()
    );
}

#[test]
fn only_the_containers_that_are_named() {
    let mut pod = with_command(&[("env-A", "Orders[a]"), ("containers", "app")]);
    let other = json!({"name": "other", "image": "x", "env": [{"name": "A", "value": "$(A)"}]});
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(other.clone());
    assert_eq!(patched(&pod)["spec"]["containers"][1], other);
}

#[test]
fn what_is_in_the_way_is_denied_with_the_cure() {
    let env = |own: Value| {
        let mut pod = with_command(&[("env-A", "Orders[a]")]);
        pod["spec"]["containers"][0]["env"] = own;
        pod
    };
    let line = |field: &str, word: &str| {
        let mut pod = with_command(&[("env-A", "Orders[a]")]);
        pod["spec"]["containers"][0][field] = json!(["app", word]);
        pod
    };
    let bare = |method| pod(&[("env-A", "Orders[a]"), ("env-method", method)]);
    for (pod, annotation, parts) in [
        (
            pod(&[("env-A", "Orders[a]")]),
            "env-A",
            &[
                "container `app` its command",
                "keeper.security/containers",
                "capabilities.fileKeyRef",
            ][..],
        ),
        (bare("exec"), "env-method", &["container `app` its command"]),
        (
            bare("file-key-ref"),
            "env-method",
            &["capabilities.fileKeyRef", "1.35"],
        ),
        (
            env(json!([{"name": "A", "value": "x"}])),
            "env-A",
            &["container `app` has a variable `A` of its own", "remove"],
        ),
        (
            line("args", "--x=$(A)"),
            "env-A",
            &["$(A) in its command line"],
        ),
        (
            line("command", "$$$(A)"),
            "env-A",
            &["$(A) in its command line"],
        ),
        (pod(&[("env-A", "Orders")]), "env-A", &["record[field]"]),
        (pod(&[("env-A", "Orders[a]:/x")]), "env-A", &["no path"]),
        (
            pod(&[("env-2FA", "Orders[a]")]),
            "env-2FA",
            &["`2FA` is no name"],
        ),
        (
            pod(&[("env-A", "Orders/file/x")]),
            "env-A",
            &["attachment", "file-<name>"],
        ),
        (
            with_command(&[
                ("env-PASSWORD", "X[a]"),
                ("inject-env-vars", "true"),
                ("secret", "Orders[password]"),
            ]),
            "env-PASSWORD",
            &["`PASSWORD` is that of keeper.security/secret already"],
        ),
        (
            with_command(&[("inject-env-vars", "true"), ("secret", "Orders[Path]")]),
            "secret",
            &["`PATH`", "env-prefix"],
        ),
        (
            with_command(&[
                ("inject-env-vars", "true"),
                ("secret", "Orders[preload]"),
                ("env-prefix", "LD_"),
            ]),
            "secret",
            &["`LD_PRELOAD`"],
        ),
        (
            with_command(&[("inject-env-vars", "true"), ("secret", "Orders[-]")]),
            "secret",
            &["no ASCII letter"],
        ),
        (
            with_command(&[
                ("inject-env-vars", "true"),
                ("secret", "a, b"),
                ("env-prefix", "A=B"),
            ]),
            "env-prefix",
            &["`A=B`"],
        ),
        (
            with_command(&[("secret", "R"), ("env-prefix", "A_")]),
            "env-prefix",
            &["inject-env-vars"],
        ),
        (
            with_command(&[("secret", "R"), ("env-method", "exec")]),
            "env-method",
            &["there are none"],
        ),
    ] {
        let said = problem(&pod);
        assert!(said.starts_with(&format!("{annotation}: ")), "{said}");
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    // What Kubernetes does not expand is no reference.
    injected(&line("args", "$$(A) $A $(B)"));
    injected(&with_command(&[("env-PATH", "Orders[path]")]));
}

#[test]
fn kubernetes_needs_the_names() {
    let asked = [("inject-env-vars", "true"), ("secret", "Orders")];
    for (method, part) in [
        ("auto", "give container `app` its command"),
        ("file-key-ref", "keeper.security/env-method exec"),
    ] {
        let mut pod = pod(&asked);
        crate::annotate(&mut pod, "env-method", json!(method));
        let said = denial(admit(&pod, "default", &with_file_key_ref(), &CURRENT)).to_string();
        assert!(
            said.starts_with("keeper.security/secret: ")
                && said.contains("record[field]")
                && said.contains(part),
            "{said}"
        );
    }
}

#[test]
fn a_variable_that_refers_to_one_of_ours_is_warned_of() {
    let mut pod = with_command(&[("env-A", "Orders[a]")]);
    pod["spec"]["containers"][0]["env"] = json!([{"name": "URL", "value": "db://x:$(A)@y"}]);
    let warnings = injected(&pod).warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("`URL`"),
        "{warnings:?}"
    );
}

#[test]
fn our_directory_is_in_nobodys_way() {
    let mut pod = with_command(&[("env-A", "Orders[a]"), ("secret", "R:/keeper-exec-2/x/y")]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/keeper-exec/sub"}]);
    pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
    let app = &patched(&pod)["spec"]["containers"][0];
    assert_eq!(app["command"][0], "/keeper-exec-3/keeper-exec");
}

#[test]
fn a_container_that_came_later_gets_the_variables_once() {
    let mut pod = patched(&with_command(&[("env-A", "Orders[a]")]));
    let containers = pod["spec"]["containers"].as_array_mut().unwrap();
    // Somebody else's program before ours is no reason to put ours there twice.
    containers[0]["command"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!("/other/wrapper"));
    let first = containers[0].clone();
    containers.insert(
        0,
        json!({"name": "late", "image": "x", "command": ["late"]}),
    );
    containers.insert(0, json!({"name": "proxy", "image": "x"}));
    let again = injected(&pod);
    let [warning] = &again.warnings[..] else {
        panic!("{:?}", again.warnings)
    };
    assert!(warning.contains("`proxy`"), "{warning}");
    let again = apply(&pod, &again);
    let [proxy, late, app] = [0, 1, 2].map(|i| &again["spec"]["containers"][i]);
    assert_eq!(proxy.get("command"), None);
    assert_eq!(
        late["command"],
        json!([
            "/keeper-exec/keeper-exec",
            "/keeper-exec/variables",
            "--",
            "late"
        ])
    );
    assert_eq!(late["volumeMounts"], app["volumeMounts"]);
    assert_eq!(*app, first);
    assert_eq!(
        decide(&again),
        Decision::Skipped(SkipReason::AlreadyInjected)
    );
}

#[test]
fn all_shapes_have_variables() {
    for annotation in [
        ("sidecar-mode", "native"),
        ("sidecar-mode", "classic"),
        ("init-only", "true"),
    ] {
        let pod = with_command(&[("env-A", "Orders[a]"), annotation]);
        assert!(config(&patched(&pod)).environment.is_some());
    }
}
