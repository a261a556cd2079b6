//! Who the injected containers run as, and the mode of their files: for every mix of users and groups the
//! application reads, and nobody else that can be kept out.

use keeper_contract::Reason;
use serde_json::{Value, json};

use crate::{annotate, apply, config, denied, injected, pod, reasons};

/// UID and GID of our containers, and the mode of the files.
fn identity(pod: &Value) -> (i64, i64, u32) {
    let got = apply(pod, &injected(pod));
    let security = &got["spec"]["initContainers"][0]["securityContext"];
    let number = |field: &str| security[field].as_i64().unwrap();
    assert_eq!(security["runAsNonRoot"], number("runAsUser") != 0);
    assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
    (
        number("runAsUser"),
        number("runAsGroup"),
        config(&got).file_mode,
    )
}

/// A pod with this security context, and containers with these UIDs.
fn users(security: Value, containers: &[Option<i64>]) -> Value {
    let mut pod = pod(&[("secret", "R")]);
    pod["spec"]["securityContext"] = security;
    let containers = containers
        .iter()
        .enumerate()
        .map(|(index, user)| match user {
            Some(user) => {
                json!({"name": format!("c{index}"), "securityContext": {"runAsUser": user}})
            }
            None => json!({"name": format!("c{index}")}),
        });
    pod["spec"]["containers"] = containers.collect();
    pod
}

#[test]
fn the_app_reads_and_nobody_else_that_can_be_kept_out() {
    const ANY: i64 = 1_000_680_000;
    for (what, security, containers, want) in [
        (
            "the image's own user",
            json!({}),
            vec![None],
            (65532, 65532, 0o444),
        ),
        (
            "one that is not root",
            json!({"runAsNonRoot": true}),
            vec![None],
            (65532, 65532, 0o444),
        ),
        (
            "root",
            json!({"runAsUser": 0}),
            vec![None],
            (65532, 65532, 0o444),
        ),
        (
            "a user",
            json!({"runAsUser": 1000}),
            vec![None, None],
            (1000, 65532, 0o440),
        ),
        (
            "a user and group",
            json!({"runAsUser": 1000, "runAsGroup": 7}),
            vec![None],
            (1000, 65532, 0o440),
        ),
        (
            "by the container",
            json!({}),
            vec![Some(7), Some(7)],
            (7, 65532, 0o440),
        ),
        (
            "over the pod's",
            json!({"runAsUser": 1000}),
            vec![Some(7)],
            (7, 65532, 0o440),
        ),
        (
            "several",
            json!({"runAsUser": 1000}),
            vec![None, Some(7)],
            (65532, 65532, 0o444),
        ),
        (
            "one stated",
            json!({}),
            vec![None, Some(7)],
            (65532, 65532, 0o444),
        ),
        (
            "a group",
            json!({"fsGroup": 2000}),
            vec![None],
            (65532, 2000, 0o440),
        ),
        (
            "group, several",
            json!({"fsGroup": 2000}),
            vec![Some(1), Some(0), None],
            (65532, 2000, 0o440),
        ),
        (
            "both",
            json!({"runAsUser": 1000, "fsGroup": 2000}),
            vec![None],
            (1000, 2000, 0o440),
        ),
        (
            "as OpenShift states them",
            json!({"runAsUser": ANY, "fsGroup": ANY}),
            vec![None],
            (ANY, ANY, 0o440),
        ),
        (
            "without the group",
            json!({"runAsUser": ANY, "runAsGroup": 0}),
            vec![None],
            (ANY, 65532, 0o440),
        ),
        (
            "the group of root",
            json!({"fsGroup": 0}),
            vec![None],
            (65532, 0, 0o440),
        ),
    ] {
        assert_eq!(identity(&users(security, &containers)), want, "{what}");
    }
}

#[test]
fn init_containers_read_too_unless_others_are_named() {
    let mut pod = users(json!({}), &[Some(1000)]);
    pod["spec"]["initContainers"] =
        json!([{"name": "migrate", "securityContext": {"runAsUser": 5}}]);
    assert_eq!(identity(&pod), (65532, 65532, 0o444));
    annotate(&mut pod, "containers", json!("c0"));
    assert_eq!(identity(&pod), (1000, 65532, 0o440));
}

#[test]
fn what_is_said_of_the_user_goes_before() {
    let with = |value: &str, security: Value, containers: &[Option<i64>]| {
        let mut pod = users(security, containers);
        annotate(&mut pod, "run-as-same-user", json!(value));
        pod
    };
    let user = || json!({"runAsUser": 1000});
    assert_eq!(
        identity(&with("false", user(), &[None])),
        (65532, 65532, 0o444)
    );
    let group = json!({"runAsUser": 1000, "fsGroup": 2000});
    assert_eq!(
        identity(&with("false", group, &[None])),
        (65532, 2000, 0o440)
    );
    assert_eq!(
        identity(&with("true", user(), &[None])),
        (1000, 65532, 0o440)
    );
    assert_eq!(
        identity(&with("true", json!({}), &[Some(0)])),
        (0, 65532, 0o440)
    );
    for (security, containers) in [
        (json!({}), vec![None]),
        (json!({"runAsNonRoot": true, "fsGroup": 1}), vec![None]),
        (user(), vec![None, Some(7)]),
    ] {
        let denial = denied(&with("true", security, &containers));
        assert_eq!(
            reasons(&denial),
            [("run-as-same-user".into(), Reason::Conflict)]
        );
        assert!(
            denial
                .to_string()
                .contains("securityContext.runAsUser of the pod"),
            "{denial}"
        );
    }
    let mut signalled = with("false", user(), &[None]);
    annotate(&mut signalled, "signal", json!("SIGHUP"));
    assert_eq!(
        reasons(&denied(&signalled)),
        [("run-as-same-user".into(), Reason::Conflict)]
    );
    let mut init = users(user(), &[None]);
    init["spec"]["initContainers"] = json!([{"name": "migrate"}]);
    annotate(&mut init, "containers", json!("migrate"));
    annotate(&mut init, "signal", json!("SIGHUP"));
    assert_eq!(
        reasons(&denied(&init)),
        [("signal".into(), Reason::Conflict)]
    );
}

#[test]
fn a_stated_mode_is_taken_where_the_app_can_read_it() {
    let with = |mode: &str, security: Value, containers: &[Option<i64>]| {
        let mut pod = users(security, containers);
        annotate(&mut pod, "output-mode", json!(mode));
        pod
    };
    for (mode, security, containers, want, warned) in [
        ("0400", json!({"runAsUser": 1000}), vec![None], 0o400, false),
        ("0444", json!({"runAsUser": 1000}), vec![None], 0o444, false),
        ("0555", json!({}), vec![None], 0o555, false),
        (
            "0440",
            json!({"fsGroup": 7}),
            vec![None, Some(1)],
            0o440,
            false,
        ),
        ("0440", json!({"runAsUser": 0}), vec![None], 0o440, false),
        ("0440", json!({}), vec![None], 0o440, true),
        ("0400", json!({"fsGroup": 7}), vec![None], 0o400, true),
    ] {
        let pod = with(mode, security, &containers);
        let injection = injected(&pod);
        assert_eq!(config(&apply(&pod, &injection)).file_mode, want);
        assert_eq!(!injection.warnings.is_empty(), warned, "{pod}");
    }
    for (mode, security, containers) in [
        ("0440", json!({}), vec![Some(1), Some(2)]),
        ("0440", json!({}), vec![None, Some(2)]),
        ("0400", json!({"fsGroup": 7}), vec![Some(1), Some(2)]),
    ] {
        let denial = denied(&with(mode, security, &containers));
        assert_eq!(reasons(&denial), [("output-mode".into(), Reason::Conflict)]);
        assert!(
            denial.to_string().contains("give the pod an fsGroup"),
            "{denial}"
        );
    }
    // A number is no text; its decimal form is no mode.
    for (mode, says) in [
        (json!(288), "put it in quotes"),
        (json!("288"), "four octal digits"),
        (json!("0044"), "let the owner read"),
    ] {
        let mut pod = users(json!({}), &[None]);
        annotate(&mut pod, "output-mode", mode);
        let denial = denied(&pod);
        assert_eq!(reasons(&denial), [("output-mode".into(), Reason::BadValue)]);
        assert!(denial.to_string().contains(says), "{denial}");
    }
}
