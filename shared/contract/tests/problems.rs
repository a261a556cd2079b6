//! Every kind of problem as a newcomer meets it: one list, which is docs/reference/problems.md. Each message has to
//! name a cure.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::fmt::Write as _;
use std::{env, fs};

use keeper_contract::{Cluster, Decision, Problem, Reason, Settings, admit};
use serde_json::{Value, json};

const PREFIX: &str = "keeper.security/";

/// Annotations of one pod.
type Annotations = &'static [(&'static str, &'static str)];

/// What somebody wrote beside `inject` and `ksm-config`, by reason.
const ANNOTATIONS: &[(Reason, &[Annotations])] = &[
    (
        Reason::UnknownAnnotation,
        &[&[("refresh-intervall", "5m")], &[("secrets-db", "db")]],
    ),
    (
        Reason::NotYet,
        &[
            &[("template", "{{ .password }}")],
            &[("auth-method", "aws-secrets-manager")],
        ],
    ),
    (
        Reason::BadValue,
        &[
            &[("inject", "yes")],
            &[("ksm-config", "Keeper Auth")],
            &[("refresh-interval", "5")],
            &[("refresh-interval", "soon")],
            &[("cache", "1d")],
            &[("sidecar-mode", "sidecar")],
            &[("format", "xml")],
            &[("log-level", "trace")],
            &[("config", "secrets:\n  - recrod: db\n")],
            &[("config", "secrets:\n  - record: web\n    format: toml\n")],
            &[("output-mode", "440")],
            &[("containers", "no-such-container")],
            &[("metrics-port", "http")],
            &[("sidecar-memory-limit", "lots")],
            &[("sidecar-memory-limit", "0")],
            &[("tmpfs-size", "1Ki")],
            &[("ca-cert-secret", "ca"), ("ca-cert-key", "a/b")],
            &[("signal", "SIGKILL")],
            &[("signal", "SIGHUP"), ("signal-process", "/usr/bin/app")],
            &[("reload-url", "https://localhost/reload")],
            &[("reload-url", "http://app.shop.svc/reload")],
            &[("proxy", "proxy.corp:3128")],
            &[("proxy", "http://user:password@proxy.corp:3128")],
        ],
    ),
    (
        Reason::BadSelection,
        &[
            &[("secret-db", "")],
            &[("secret-db", "password]")],
            &[("secret-db", "[password]")],
            &[("secret-db", "Production//db")],
            &[("secret-db", r"a\b")],
            &[("secret-db", "keeper://db")],
            &[("secret-db", "keeper://db/field")],
            &[("secret-db", "db/field/name[last]")],
            &[("file-cert", "tls")],
            &[("folder-uid", "Production")],
        ],
    ),
    (
        Reason::BadPath,
        &[
            &[("secret-db", "db:keeper/secrets/db.json")],
            &[("secret-db", "db:/keeper/secrets/../db.json")],
            &[("secret-db", "db:/keeper/secrets/a:b")],
            &[("secret-db", "db:/keeper/secrets")],
            &[("secret-db", "db:/keeper/secrets/..data")],
            &[("secret-db", "db:/proc/db.json")],
            &[("secret-db", "db:/etc/db.json")],
        ],
    ),
    (
        Reason::PathTaken,
        &[
            &[
                ("secret-a", "db:/keeper/secrets/db"),
                ("secret-b", "db[password]:/keeper/secrets/db"),
            ],
            &[
                ("secret-a", "db:/keeper/secrets/db"),
                ("secret-b", "web:/keeper/secrets/db/web"),
            ],
        ],
    ),
    (
        Reason::Conflict,
        &[
            &[("auth-secret", "another")],
            &[("ca-cert-secret", "ca"), ("ca-cert-configmap", "ca")],
            &[("ca-cert-key", "ca.pem")],
            &[("signal-process", "nginx")],
            &[
                ("init-only", "true"),
                ("reload-url", "http://localhost/reload"),
            ],
            &[("on-stale", "unready"), ("metrics-port", "0")],
            &[
                ("sidecar-memory-request", "64Mi"),
                ("sidecar-memory-limit", "32Mi"),
            ],
            &[
                ("folder", "Production"),
                ("folder-uid", "AAAAAAAAAAAAAAAAAAAAAA"),
            ],
            &[("folder-path", "/keeper/secrets/all")],
        ],
    ),
    (
        Reason::Policy,
        &[
            &[("proxy", "http://proxy.corp:3128")],
            &[("refresh-interval", "1m")],
        ],
    ),
];

/// What the pod is like, in words, and how a good one becomes it.
type Change = (Reason, &'static str, fn(&mut Value));

const PODS: &[Change] = &[
    (Reason::MissingConfig, "no `ksm-config`", |pod| {
        let annotations = pod["metadata"]["annotations"].as_object_mut();
        drop(
            annotations
                .expect("annotations")
                .remove("keeper.security/ksm-config"),
        );
    }),
    (
        Reason::BadValue,
        "`metrics-port: 9790`, without quotes",
        |pod| {
            pod["metadata"]["annotations"]["keeper.security/metrics-port"] = json!(9790);
        },
    ),
    (
        Reason::MountConflict,
        "a volume of the pod's own, mounted at the output's path",
        |pod| {
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "data", "mountPath": "/keeper/secrets/db.json"}]);
        },
    ),
    (Reason::UnsupportedPod, "a Windows pod", |pod| {
        pod["spec"]["os"] = json!({"name": "windows"});
    }),
    (Reason::UnsupportedPod, "a pod without containers", |pod| {
        pod["spec"]["containers"] = json!([]);
    }),
    (Reason::TooLarge, "selections of more than 96 KiB", |pod| {
        let many: Vec<String> = (0..2000)
            .map(|i| format!("{i}{}", "x".repeat(60)))
            .collect();
        pod["metadata"]["annotations"]["keeper.security/secrets"] = json!(many.join(","));
    }),
    (
        Reason::Conflict,
        "`signal: SIGHUP`, in a pod with `runAsNonRoot` and no `runAsUser`",
        |pod| {
            pod["spec"]["securityContext"] = json!({"runAsNonRoot": true});
            pod["metadata"]["annotations"]["keeper.security/signal"] = json!("SIGHUP");
        },
    ),
];

/// What a reason is, for the page.
fn meaning(reason: Reason) -> &'static str {
    match reason {
        Reason::UnknownAnnotation => "An annotation with our prefix that does not exist.",
        Reason::NotYet => "An annotation, or a value of one, that this version does not do yet.",
        Reason::BadValue => "A value that is not what the annotation takes.",
        Reason::BadSelection => "A [selection](selections.md) or notation that can't be read.",
        Reason::BadPath => "A path at which nothing may be published.",
        Reason::PathTaken => "Two outputs at one path, or one below the other.",
        Reason::MountConflict => "A path, and a mount of the pod, that exclude each other.",
        Reason::Conflict => "Annotations that exclude each other, or one that needs another.",
        Reason::MissingConfig => "Nothing says who the pod is to Keeper.",
        Reason::UnsupportedPod => "A pod that can't be injected, whatever its annotations say.",
        Reason::TooLarge => "More than a container's environment can carry.",
        Reason::Policy => {
            "What the cluster's administrators do not allow, by `policy` in the chart's [values](values.md). Here they deny `proxy` and a\n`refresh-interval` under five minutes."
        }
    }
}

const INTRODUCTION: &str = "\
# Problems and their cures

<!-- Made by the tests of shared/contract. UPDATE_DOCS=1 cargo test -p keeper-contract --test problems -->

What a pod is refused for, with an example of each. All problems of a pod are told at once, one a line, each with the annotation that
causes it and what to do. The same words are [warnings on `kubectl apply`](../checking-manifests.md#on-kubectl-apply) of a Deployment, and come
from `keeper-webhook render`. The reason, which heads a table here, is the label of [`keeper_injector_denials_total`](metrics.md). What goes wrong
later, in a pod that runs, is in [outcomes](outcomes.md).
";

fn good() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app", "annotations": {
            "keeper.security/inject": "true",
            "keeper.security/ksm-config": "keeper-auth",
            "keeper.security/secret": "db:/keeper/secrets/db.json",
        }},
        "spec": {"containers": [{"name": "app", "image": "busybox"}]},
    })
}

fn problems(reason: Reason, pod: &Value) -> Vec<Problem> {
    let policy = match reason {
        Reason::Policy => json!({"denyAnnotations": ["proxy"], "minRefreshInterval": "5m"}),
        _ => json!({}),
    };
    let settings: Settings = serde_json::from_value(json!({
        "sidecarImage": "keeper/injector-sidecar", "ownNamespace": "keeper-security",
        "policy": policy,
    }))
    .expect("settings");
    match admit(pod, "shop", &settings, &Cluster { minor: 35 }) {
        Decision::Denied(denial) => denial.problems,
        _ => panic!("not denied: {pod}"),
    }
}

/// Each example: its reason, what was written, and what is told.
fn examples() -> Vec<(Reason, String, Vec<Problem>)> {
    let mut examples = Vec::new();
    for (reason, all) in ANNOTATIONS {
        for annotations in *all {
            let mut pod = good();
            let written: Vec<String> = annotations
                .iter()
                .map(|(name, value)| {
                    pod["metadata"]["annotations"][format!("{PREFIX}{name}")] = json!(value);
                    format!("`{name}: {value:?}`").replace("\\\\", "\\")
                })
                .collect();
            examples.push((*reason, written.join("<br>"), problems(*reason, &pod)));
        }
    }
    for (reason, words, change) in PODS {
        let mut pod = good();
        change(&mut pod);
        examples.push((*reason, (*words).to_owned(), problems(*reason, &pod)));
    }
    examples
}

#[test]
fn every_reason_has_an_example_which_has_that_reason() {
    let examples = examples();
    for (reason, written, problems) in &examples {
        let found: Vec<Reason> = problems.iter().map(|problem| problem.reason).collect();
        assert!(found.contains(reason), "{written}: {found:?}, not {reason}");
    }
    for reason in Reason::ALL {
        assert!(
            examples.iter().any(|(found, ..)| *found == reason),
            "{reason} has no example"
        );
    }
}

/// A newcomer has to learn what to do, not only what is wrong.
#[test]
fn every_message_names_a_cure() {
    const CURES: [&str; 20] = [
        "write",
        "remove",
        "choose",
        "set ",
        "add ",
        "name ",
        "select ",
        "move ",
        "put ",
        "quote",
        "lower",
        "raise",
        "correct",
        "state",
        "begin",
        "shorten",
        "use ",
        "give ",
        "did you mean",
        "needs",
    ];
    for (_, written, problems) in examples() {
        for problem in problems {
            let message = problem.message.to_lowercase();
            assert!(
                CURES.iter().any(|cure| message.contains(cure)),
                "{written}: {message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
    }
}

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/reference/problems.md"
    );
    let want = page();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, &want).expect("the page can be written");
    }
    let page = fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == want,
        "docs/reference/problems.md differs; run UPDATE_DOCS=1 cargo test -p keeper-contract --test problems"
    );
}

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let examples = examples();
    for reason in Reason::ALL {
        // Writing into a String cannot fail.
        let _ = write!(
            page,
            "\n## {reason}\n\n{}\n\n| written | told |\n|---|---|\n",
            meaning(reason)
        );
        for (_, written, problems) in examples.iter().filter(|(found, ..)| *found == reason) {
            let told: Vec<String> = problems.iter().map(told).collect();
            let _ = writeln!(page, "| {} | {} |", cell(written), told.join("<br>"));
        }
    }
    page
}

/// A problem as a cell: its words as they are, whatever Markdown would make of them outside of code.
fn told(problem: &Problem) -> String {
    let text = problem.to_string();
    let parts: Vec<String> = text
        .split('`')
        .enumerate()
        .map(
            |(i, part)| {
                if i % 2 == 0 { plain(part) } else { cell(part) }
            },
        )
        .collect();
    parts.join("`")
}

fn plain(text: &str) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        if "\\<*[_|".contains(c) {
            plain.push('\\');
        }
        plain.push(c);
    }
    plain
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
