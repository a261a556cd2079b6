//! Two releases of the chart at once, one of them with a revision: each namespace is served by one of them, and no annotated pod falls
//! between the two. In a program of its own, since other tests count what there is in the product's namespace.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and print what they saw"
)]

mod release;

use keeper_e2e::{Output, kubectl, node, pods, try_kubectl, until};
use serde_json::{Value, json};

use crate::release::{CPU, Canary, RELEASE, objects};

const LABEL: &str = "keeper.security/revision";
const OWN: &str = keeper_e2e::webhook::OWN;

/// A namespace that goes with the test. Pods are dry runs there, so that it needs no Keeper.
struct Place(String);

impl Place {
    fn new(name: &str, revision: Option<&str>) -> Self {
        let place = Self(format!("revisions-{name}-{}", std::process::id()));
        let _ = kubectl(&["create", "namespace", &place.0]);
        place.label(revision);
        place
    }

    fn label(&self, revision: Option<&str>) {
        let label = match revision {
            Some(revision) => format!("{LABEL}={revision}"),
            None => format!("{LABEL}-"),
        };
        let _ = kubectl(&["label", "namespace", &self.0, &label, "--overwrite"]);
    }

    fn dry_run(&self, object: &Value) -> Output {
        let namespace = format!("--namespace={}", self.0);
        let create = [
            "create",
            "--dry-run=server",
            "--output=json",
            "--filename=-",
            &namespace,
        ];
        try_kubectl(&create, Some(&object.to_string()))
    }

    /// An annotated pod as the API server would keep it, or why it wouldn't.
    fn annotated(&self) -> Result<Value, String> {
        let pod = pods::annotated("app", &[("secret", "database-credentials")], "true");
        let created = self.dry_run(&pod);
        match created.success {
            true => Ok(serde_json::from_str(&created.stdout).unwrap()),
            false => Err(created.stderr),
        }
    }

    /// Which release injects: the CPU that its sidecars request, and the label that it leaves. An annotated pod without our
    /// containers is what must never be.
    fn served(&self) -> Result<(String, Option<String>), String> {
        let pod = self.annotated()?;
        let sidecar = pods::injected(&pod).next();
        let sidecar = sidecar.unwrap_or_else(|| panic!("an annotated pod without ours: {pod}"));
        let cpu = sidecar["resources"]["requests"]["cpu"].as_str().unwrap();
        let label = pod["metadata"]["labels"][LABEL].as_str();
        Ok((cpu.to_owned(), label.map(str::to_owned)))
    }

    /// API servers learn of a namespace's labels a moment later. Until then it is the release from before, or a refusal.
    fn until_served_by(&self, release: &(String, Option<String>)) {
        until(
            "the namespace to be served by the other release",
            30,
            || (self.served().as_ref() == Ok(release)).then_some(()),
        );
    }

    fn until_refused(&self) -> String {
        until("annotated pods to be refused", 30, || self.served().err())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = try_kubectl(&["delete", "namespace", &self.0, "--wait=false"], None);
    }
}

/// A Deployment with a mistake in it.
fn workload() -> Value {
    let template = pods::annotated("x", &[("no-such", "annotation")], "true");
    let mut metadata = template["metadata"].clone();
    metadata["labels"] = json!({"app": "x"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "workload"},
        "spec": {
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": metadata, "spec": template["spec"]},
        },
    })
}

/// Neither release has a right on what is the other's.
fn has_no_right_on_the_other(account: &str, other: &str) {
    let user = format!("system:serviceaccount:keeper-security:{account}");
    for arguments in [
        ["patch", &format!("mutatingwebhookconfigurations/{other}")],
        ["patch", &format!("validatingwebhookconfigurations/{other}")],
        ["get", &format!("secrets/{other}-tls")],
        ["patch", &format!("leases/{other}")],
    ] {
        let question = [&["auth", "can-i", OWN, "--as", &user], &arguments[..]].concat();
        let answer = try_kubectl(&question, None).stdout;
        assert_eq!(answer.trim(), "no", "{account} {arguments:?}");
    }
    // What RBAC grants without a name, the policy narrows to the release's own.
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": format!("{other}-x")}, "spec": {}});
    let create = [
        "create",
        "--dry-run=server",
        "--filename=-",
        OWN,
        "--as",
        &user,
    ];
    let refused = try_kubectl(&create, Some(&lease.to_string())).stderr;
    let policy = format!("'{account}-own-objects'");
    assert!(refused.contains(&policy), "{refused}");
}

#[test]
fn a_release_with_a_revision_serves_its_namespaces_and_goes_again() {
    let usual = ("5m".to_owned(), None);
    let canarys = (CPU.to_owned(), Some("canary".to_owned()));
    let (shop, tried, misspelt) = (
        Place::new("shop", None),
        Place::new("tried", Some("canary")),
        Place::new("misspelt", Some("canry")),
    );
    let without = tried.until_refused();
    assert!(
        without.contains("keeper.security/revision=canary"),
        "{without}"
    );

    let canary = Canary::install(&tried.0);
    tried.until_served_by(&canarys);
    assert_eq!(shop.served().as_ref(), Ok(&usual));
    let refused = misspelt.until_refused();
    for part in [
        "'keeper-injector-safety-net'",
        "keeper.security/revision=canry",
        "Correct the label, or remove it",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    // Nobody else's pods wait for that.
    let plain = misspelt.dry_run(&pods::plain("plain", "true"));
    assert!(plain.success, "{}", plain.stderr);

    // Who applies a mistake is told of it once.
    for place in [&shop, &tried] {
        let warned = place.dry_run(&workload()).stderr;
        assert_eq!(warned.matches("unknown annotation").count(), 1, "{warned}");
    }
    let told = node::client(&["helm", "test", RELEASE, OWN, "--timeout=2m"]);
    assert!(told.contains("Succeeded"), "{told}");
    has_no_right_on_the_other(RELEASE, "keeper-injector");
    has_no_right_on_the_other("keeper-injector", RELEASE);

    // A namespace goes there and back.
    shop.label(Some("canary"));
    shop.until_served_by(&canarys);
    shop.label(None);
    shop.until_served_by(&usual);

    let made = objects();
    for name in [
        "secret/keeper-injector-canary-tls",
        "lease.coordination.k8s.io/keeper-injector-canary",
    ] {
        assert!(made.contains(name), "{made:?}");
    }
    canary.uninstall();
    until("nothing of it to be left", 60, || {
        objects().is_empty().then_some(())
    });
    // API servers know its policies for a moment longer; then it is the other release's that refuses.
    until("a refusal that names the label", 60, || {
        let refused = tried.annotated().err();
        refused.filter(|told| told.contains("keeper.security/revision=canary"))
    });
    assert_eq!(shop.served().as_ref(), Ok(&usual));
    tried.label(None);
    tried.until_served_by(&usual);
}
