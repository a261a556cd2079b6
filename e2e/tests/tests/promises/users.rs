//! For every mix of users and groups the application reads its files, and a stranger only those that can't be kept
//! from him.

use keeper_e2e::{Namespace, Output, node, pods};
use serde_json::{Value, json};

const FILE: &str = "/keeper/secrets/deep/password";
/// An image whose own user is 65535.
const NON_ROOT_IMAGE: &str = "keeper/pause:test";

/// How a pod's users and groups are stated, and what a stranger may do.
struct Mix {
    name: &'static str,
    annotations: &'static [(&'static str, &'static str)],
    security: Value,
    image: &'static str,
    private: bool,
}

fn mixes() -> Vec<Mix> {
    let mix = |name, security, private| Mix {
        name,
        annotations: &[],
        security,
        image: "busybox",
        private,
    };
    const ANY: i64 = 1_000_680_000;
    vec![
        mix("root", json!({}), false),
        mix("stated-root", json!({"runAsUser": 0}), false),
        mix("user", json!({"runAsUser": 1000}), true),
        mix(
            "user-and-group",
            json!({"runAsUser": 1000, "runAsGroup": 3000, "runAsNonRoot": true}),
            true,
        ),
        mix("fs-group", json!({"fsGroup": 2000}), true),
        mix(
            "user-and-fs-group",
            json!({"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}),
            true,
        ),
        mix(
            "arbitrary",
            json!({"runAsUser": ANY, "runAsGroup": 0, "fsGroup": ANY}),
            true,
        ),
        mix(
            "arbitrary-alone",
            json!({"runAsUser": ANY, "runAsGroup": 0}),
            true,
        ),
        Mix {
            image: NON_ROOT_IMAGE,
            ..mix("image-user", json!({}), false)
        },
        Mix {
            image: NON_ROOT_IMAGE,
            ..mix(
                "image-user-and-group",
                json!({"runAsNonRoot": true, "fsGroup": 2000}),
                true,
            )
        },
        Mix {
            annotations: &[("run-as-same-user", "false")],
            ..mix("not-the-same", json!({"runAsUser": 1000}), false)
        },
        Mix {
            annotations: &[("run-as-same-user", "true")],
            ..mix("the-same-root", json!({"runAsUser": 0}), true)
        },
        Mix {
            annotations: &[("output-mode", "0400")],
            ..mix("owner-only", json!({"runAsUser": 1000}), true)
        },
    ]
}

#[test]
fn the_app_reads_and_a_stranger_does_not() {
    let namespace = Namespace::new("identities");
    for mix in mixes() {
        let secret = ("secret-p", "pair[password]:/keeper/secrets/deep/password");
        let annotations: Vec<_> = mix.annotations.iter().chain([&secret]).copied().collect();
        let mut pod = pods::annotated(mix.name, &annotations, "exec sleep 3600");
        pod["spec"]["securityContext"] = mix.security;
        let app = &mut pod["spec"]["containers"][0];
        app["image"] = json!(mix.image);
        // Root that may read anything would prove nothing.
        app["securityContext"] =
            json!({"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": false});
        namespace.apply(&pod);
    }
    for mix in mixes() {
        let name = mix.name;
        namespace.wait_for(&format!("pod/{name}"), "condition=Ready", 180);
        let read = namespace.exec(name, pods::APP, &["cat", FILE]);
        assert_eq!(read, "same-0", "{name}");
        // Somebody of another user, with the same view of the files.
        let pod = namespace.get("pod", name);
        let id = pods::status(&pod, pods::APP)["containerID"]
            .as_str()
            .unwrap();
        let process = node::process_of(id);
        let target = format!("--target={process}");
        let stranger = [
            "nsenter",
            &target,
            "--mount",
            "--setuid=4321",
            "--setgid=4321",
        ];
        let cat: Vec<_> = stranger.into_iter().chain(["/bin/cat", FILE]).collect();
        let Output {
            success, stderr, ..
        } = node::try_exec(&cat);
        assert_eq!(success, !mix.private, "{name}: {stderr}");
        assert!(
            success || stderr.contains("Permission denied"),
            "{name}: {stderr}"
        );
    }
}
