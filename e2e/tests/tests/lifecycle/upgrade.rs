//! From the chart's previous version to this one and back.
//!
//! There is no published version yet, so one is made of what there is: the chart as an archive with an older version, and the images
//! under that version's tag; it is installed from nothing, with fewer objects than this version's defaults make. Pods, configurations,
//! policies and rights do change. The programs are the same ones.

use keeper_e2e::webhook;
use keeper_e2e::{Namespace, node, pods, until};
use keeper_load::{Asked, Report};

use crate::product::{NAME, Product, chart, helm, text, usual_values};

const VERSION: &str = "0.0.9";
const RATE: u32 = 50;
const PLAIN_EACH: u64 = 10;

/// What an older version may not have had.
const FEWER: &str = "webhook.retries=0,webhook.workloadWarnings=false,safetyNet.enabled=false,\
    rbac.admissionPolicies=false,leaderElection.enabled=false,podDisruptionBudget.enabled=false";

/// Installs the previous version from nothing.
fn install_previous() {
    for image in ["injector-webhook", "injector-sidecar"] {
        let latest = format!("127.0.0.1:5000/keeper/{image}:latest");
        let _ = node::client(&["crane", "tag", &latest, VERSION]);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (version, app) = (
        format!("--version={VERSION}"),
        format!("--app-version={VERSION}"),
    );
    let to = format!("--destination={}", text(folder.path()));
    let _ = node::client(&["helm", "package", &chart(), &version, &app, &to]);
    let archive = folder.path().join(format!("{NAME}-{VERSION}.tgz"));
    let _ = helm(&["uninstall", NAME, "--wait"]);
    let values = usual_values();
    let fewer = format!("--set={FEWER}");
    let _ = helm(&[
        "install",
        NAME,
        text(&archive),
        "--wait",
        "--timeout=2m",
        &values,
        &fewer,
    ]);
}

/// What becomes of admissions while helm does something.
fn under_load(namespace: &Namespace, what: &str, arguments: &[&str]) -> Report {
    let load = webhook::load(namespace, RATE, PLAIN_EACH);
    let _ = helm(arguments);
    let report = load.stop();
    eprintln!("{what}: {report}");
    report
}

fn assert_none_lost(report: &Report) {
    assert!(report.sent(Asked::Annotated) > 150, "{report}");
    assert!(report.lost.is_empty(), "{report}");
}

/// A pod that was injected by one version, and follows the vault under others.
struct Injected<'a> {
    namespace: &'a Namespace,
}

impl<'a> Injected<'a> {
    const POD: &'static str = "injected-before";

    fn start(namespace: &'a Namespace) -> Self {
        let annotations = [
            (
                "secret-password",
                "database-credentials[password]:/keeper/secrets/password",
            ),
            ("refresh-interval", "15s"),
        ];
        namespace.apply(&pods::annotated(Self::POD, &annotations, "exec sleep 3600"));
        namespace.wait_for(&format!("pod/{}", Self::POD), "condition=Ready", 60);
        Self { namespace }
    }

    /// The tag of the sidecar, and how often it was started again.
    fn sidecar(&self) -> (String, u64) {
        let pod = self.namespace.get("pod", Self::POD);
        let sidecar = pods::injected(&pod).next().expect("a sidecar");
        let image = sidecar["image"].as_str().expect("an image");
        let (_, tag) = image.rsplit_once(':').expect("a tag");
        let status = pods::status(&pod, "keeper-sidecar");
        (
            tag.to_owned(),
            status["restartCount"].as_u64().expect("a number"),
        )
    }

    fn change_password(&self, password: &str) {
        let field = format!("password={password}");
        self.namespace
            .keeper()
            .set("database-credentials", &[&field]);
    }

    fn until_it_has(&self, password: &str) {
        until(
            "a changed secret in a pod of the previous version",
            60,
            || {
                let file = ["cat", "/keeper/secrets/password"];
                let read = self.namespace.exec(Self::POD, pods::APP, &file);
                (read == password).then_some(())
            },
        );
    }
}

#[test]
fn an_upgrade_and_a_rollback_lose_no_admission_and_no_certificate() {
    let product = Product::take();
    install_previous();
    let namespace = Namespace::new("upgrade");
    let pod = Injected::start(&namespace);
    let before = (product.chart(), product.certificates());
    assert_eq!(before.0, format!("{NAME}-{VERSION}"));

    let values = usual_values();
    let upgrade = ["upgrade", NAME, &chart(), "--wait", "--timeout=2m", &values];
    pod.change_password("while-upgrading");
    assert_none_lost(&under_load(&namespace, "upgrade", &upgrade));
    assert_eq!(
        product.chart(),
        concat!("keeper-injector-", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(product.certificates(), before.1);

    let rollback = ["rollback", NAME, "1", "--wait", "--timeout=2m"];
    assert_none_lost(&under_load(&namespace, "rollback", &rollback));
    assert_eq!((product.chart(), product.certificates()), before);

    // A pod of the previous version is left alone, and goes on.
    pod.until_it_has("while-upgrading");
    assert_eq!(pod.sidecar(), (VERSION.to_owned(), 0));
}
