//! What `kubectl apply` says of Deployments and their like, before a pod of theirs is made.

use keeper_e2e::{Namespace, pods};
use serde_json::{Value, json};

/// An object of a kind that makes pods, with these annotations (without their prefix) in its template. It makes none:
/// what is looked at is the apply.
fn workload(kind: &str, annotations: &[(&str, &str)]) -> Value {
    let mut template = pods::annotated("x", annotations, "exec sleep 3600");
    let template = json!({
        "metadata": {
            "labels": {"app": "x"},
            "annotations": template["metadata"]["annotations"].take(),
        },
        "spec": template["spec"].take(),
    });
    let selector = json!({"matchLabels": {"app": "x"}});
    let (version, spec) = match kind {
        "Deployment" => (
            "apps/v1",
            json!({"replicas": 0, "selector": selector, "template": template}),
        ),
        "StatefulSet" => (
            "apps/v1",
            json!({"replicas": 0, "serviceName": "x", "selector": selector, "template": template}),
        ),
        "DaemonSet" => {
            let mut template = template;
            template["spec"]["nodeSelector"] = json!({"no-such-node": "true"});
            (
                "apps/v1",
                json!({"selector": selector, "template": template}),
            )
        }
        "Job" => {
            let mut template = template;
            template["spec"]["restartPolicy"] = json!("Never");
            ("batch/v1", json!({"suspend": true, "template": template}))
        }
        "CronJob" => {
            let mut template = template;
            template["spec"]["restartPolicy"] = json!("Never");
            (
                "batch/v1",
                json!({"schedule": "@yearly", "jobTemplate": {"spec": {"template": template}}}),
            )
        }
        other => panic!("no {other} in here"),
    };
    json!({
        "apiVersion": version, "kind": kind, "spec": spec,
        "metadata": {"name": kind.to_lowercase()},
    })
}

const KINDS: [&str; 5] = ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"];

#[test]
fn mistakes_are_warned_of_and_good_workloads_are_not() {
    let namespace = Namespace::new("warnings");
    for kind in KINDS {
        let good = workload(kind, &[("secret", "database-credentials")]);
        let applied = namespace.try_apply(&good);
        assert!(applied.success, "{kind}: {}", applied.stderr);
        assert_eq!(applied.stderr, "", "{kind}");

        let mut bad = workload(
            kind,
            &[
                ("refresh-intervall", "5m"),
                ("secret-x", "database-credentials:keeper/secrets/x.json"),
            ],
        );
        bad["metadata"]["name"] = json!(format!("bad-{}", kind.to_lowercase()));
        let applied = namespace.try_apply(&bad);
        assert!(applied.success, "{kind}: {}", applied.stderr);
        let lines: Vec<&str> = applied.stderr.lines().collect();
        for start in [
            &format!("Warning: Keeper Injector will refuse the pods of this {kind}:"),
            "Warning: keeper.security/refresh-intervall: unknown annotation: did you mean keeper.security/refresh-interval?",
            "Warning: keeper.security/secret-x: ",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(start)),
                "{kind}: {start} is not in\n{}",
                applied.stderr
            );
        }
        assert_eq!(lines.len(), 3, "{kind}: {}", applied.stderr);
    }
}

#[test]
fn annotations_in_the_wrong_place_are_warned_of() {
    let namespace = Namespace::new("misplaced");
    for (kind, place) in [
        ("Deployment", "spec.template.metadata.annotations"),
        (
            "CronJob",
            "spec.jobTemplate.spec.template.metadata.annotations",
        ),
    ] {
        let mut misplaced = workload(kind, &[]);
        let template = match kind {
            "CronJob" => &mut misplaced["spec"]["jobTemplate"]["spec"]["template"],
            _ => &mut misplaced["spec"]["template"],
        };
        let annotations = template["metadata"]["annotations"].take();
        misplaced["metadata"]["annotations"] = annotations;
        let applied = namespace.try_apply(&misplaced);
        assert!(applied.success, "{kind}: {}", applied.stderr);
        assert_eq!(
            applied.stderr,
            format!(
                "Warning: keeper.security/inject, keeper.security/ksm-config: not read on the {kind} itself, \
                 only on its pods: move to {place}\n"
            )
        );
    }
}

/// What has no annotation of ours does not get as far as the webhook.
#[test]
fn workloads_of_others_are_not_looked_at() {
    let namespace = Namespace::new("no-warnings");
    let mut plain = workload("Deployment", &[]);
    plain["spec"]["template"]["metadata"]["annotations"] = json!({"other.example/inject": "maybe"});
    let applied = namespace.try_apply(&plain);
    assert_eq!((applied.success, applied.stderr.as_str()), (true, ""));
}
