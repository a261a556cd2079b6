//! The disaster drill: a cluster is lost with all that etcd had, and another one injects again from its backup.
//!
//! What is not lost with a cluster: Keeper, the registry with the images, the backup, the project, and the manifests of the application.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use keeper_e2e::{Cluster, Server, pods, repository, until};
use serde_json::{Value, json};

use crate::product::{NAME, chart, text, usual_values};

/// What is promised.
const LIMIT: Duration = Duration::from_secs(15 * 60);
const APP: &str = "shop";
const PASSWORD: &str = "of-before-the-disaster";

/// A keeper at the node's address, with its keys in a folder: the same one for both clusters.
fn keeper(cluster: &Cluster, folder: &Path) -> Server {
    let vault = folder.join("vault.yaml");
    let records =
        json!([{"title": "database-credentials", "login": "orders", "password": PASSWORD}]);
    let content =
        json!({"application": "drill", "clients": [{"name": "default"}], "records": records});
    fs::write(&vault, content.to_string()).expect("a vault");
    let (sim, vault) = (
        cluster.state().join("keeper-sim"),
        format!("--vault={}", text(&vault)),
    );
    let state = format!("--state-dir={}", text(folder));
    let serving = cluster.serve(&[
        text(&sim),
        "serve",
        &vault,
        &state,
        "--listen=198.18.0.10:9443",
        "--admin=198.18.0.10:9444",
        "--hostname=198.18.0.10:9443",
        "--san=198.18.0.10",
    ]);
    until("keeper to answer", 30, || {
        let asked = cluster.try_client(&["bash", "-c", "exec 3<>/dev/tcp/198.18.0.10/9443"], None);
        asked.success.then_some(())
    });
    serving
}

/// What an application's manifest in Git says, and nothing of ours beside.
fn application() -> Value {
    let annotations = [(
        "secret-password",
        "database-credentials[password]:/keeper/secrets/password",
    )];
    let mut template = pods::annotated("orders", &annotations, "exec sleep 3600");
    template["metadata"] =
        json!({"labels": {"app": "orders"}, "annotations": template["metadata"]["annotations"]});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders", "namespace": APP},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "orders"}},
            "template": {"metadata": template["metadata"], "spec": template["spec"]},
        },
    })
}

/// Deploys it, and waits until its secret is there.
fn deploy(cluster: &Cluster, seconds: u64) {
    let apply = ["kubectl", "apply", "--filename=-"];
    let applied = cluster.try_client(&apply, Some(&application().to_string()));
    let _ = applied.expect_success("kubectl apply");
    let read = [
        "kubectl",
        "exec",
        "--namespace",
        APP,
        "deployment/orders",
        "--container",
        pods::APP,
        "--",
        "cat",
        "/keeper/secrets/password",
    ];
    until("the application to have its secret", seconds, || {
        let told = cluster.try_client(&read, None);
        (told.stdout == PASSWORD).then_some(())
    });
}

fn install(cluster: &Cluster, keeper: &Path) {
    let (chart, values) = (chart(), usual_values());
    let namespace = "--namespace=keeper-security";
    let _ = cluster.client(&[
        "helm",
        "install",
        NAME,
        &chart,
        namespace,
        "--create-namespace",
        "--wait",
        &values,
        "--set=replicaCount=3",
    ]);
    let _ = cluster.client(&["kubectl", "create", "namespace", APP]);
    // A default of the namespace, which has to come back with it.
    let _ = cluster.client(&[
        "kubectl",
        "annotate",
        "namespace",
        APP,
        "keeper.security/refresh-interval=45s",
    ]);
    let config = format!(
        "--from-file=config={}",
        text(&keeper.join("device-config.json"))
    );
    let _ = cluster.client(&[
        "kubectl",
        "create",
        "secret",
        "generic",
        "keeper-auth",
        "--namespace",
        APP,
        &config,
    ]);
    let trust = format!("--from-file=ca.crt={}", text(&keeper.join("ca.crt")));
    let _ = cluster.client(&[
        "kubectl",
        "create",
        "configmap",
        "keeper-ca",
        "--namespace",
        APP,
        &trust,
    ]);
}

/// What has to be the same in the new cluster: values, authority, and what the namespace says.
fn kept(cluster: &Cluster) -> [String; 3] {
    let bundle = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
    let annotations = "--output=jsonpath={.metadata.annotations}";
    [
        cluster.client(&["helm", "get", "values", NAME, "--namespace=keeper-security"]),
        cluster.client(&[
            "kubectl",
            "get",
            "mutatingwebhookconfiguration",
            NAME,
            bundle,
        ]),
        cluster.client(&["kubectl", "get", "namespace", APP, annotations]),
    ]
}

#[test]
#[ignore = "minutes: make lifecycle"]
fn a_lost_cluster_is_back_and_injecting_within_a_quarter_of_an_hour() {
    let folder = tempfile::tempdir().expect("a folder");
    let backup = folder.path().join("backup.json");
    let operations = repository().join("operations");
    let (make, restore) = (operations.join("backup"), operations.join("restore"));

    let cluster = Cluster::start("drill");
    let serving = keeper(&cluster, folder.path());
    install(&cluster, folder.path());
    deploy(&cluster, 120);
    let before = kept(&cluster);
    let output = format!("--output={}", text(&backup));
    let _ = cluster.client(&[
        text(&make),
        "--secret=shop/keeper-auth",
        "--configmap=shop/keeper-ca",
        &output,
    ]);

    drop(cluster);
    let lost = Instant::now();
    drop(serving);
    let cluster = Cluster::start("drill");
    let up = lost.elapsed();
    let _serving = keeper(&cluster, folder.path());
    let restored = cluster.client(&[text(&restore), text(&backup)]);
    let back = lost.elapsed();
    deploy(&cluster, LIMIT.saturating_sub(back).as_secs());
    eprintln!(
        "{restored}drill: a new cluster after {up:.0?}, restored after {back:.0?}, the application has its secret after {:.0?}",
        lost.elapsed()
    );
    assert_eq!(kept(&cluster), before);

    // Once more changes nothing, and says why.
    let again = cluster.try_client(&[text(&restore), text(&backup)], None);
    assert!(
        !again.success && again.stderr.contains("is installed"),
        "{}",
        again.stderr
    );
    let objects = cluster.client(&[text(&restore), "--no-release", text(&backup)]);
    assert!(
        objects.contains("left Secret shop keeper-auth as it is")
            && !objects.contains("restore: made"),
        "{objects}"
    );
    // Nor does half a backup.
    let whole = fs::read_to_string(&backup).expect("a backup");
    let half = whole.get(..whole.len() / 2).expect("ASCII");
    let refused = cluster.try_client(&[text(&restore), "--no-release", "-"], Some(half));
    assert!(
        !refused.success && refused.stderr.contains("cut short"),
        "{}",
        refused.stderr
    );
}
