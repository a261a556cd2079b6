//! The CronJob that writes backups, with rights that are for what it reads alone.

use std::collections::BTreeMap;
use std::io::Write as _;

use keeper_e2e::webhook::OWN;
use keeper_e2e::{kubectl, node, repository, try_kubectl};
use serde_json::{Value, json};

use crate::product::{NAME, Product, chart, helm, text, usual_values};

const VOLUME: &str = "/var/lib/backups";
const BACKUP: &str = "keeper-injector-backup";

/// A volume on the node for the chart's claim.
struct Volume;

impl Volume {
    fn make() -> Self {
        // As the CronJob's own user may write.
        let _ = node::exec(&[
            "install",
            "--directory",
            "--owner=65532",
            "--mode=700",
            VOLUME,
        ]);
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": BACKUP},
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": BACKUP,
                "hostPath": {"path": VOLUME},
            },
        });
        let applied = try_kubectl(&["apply", "--filename=-"], Some(&volume.to_string()));
        let _ = applied.expect_success("a volume");
        Self
    }

    /// The files in it, oldest first.
    fn files() -> Vec<String> {
        let list = node::exec(&["find", VOLUME, "-type", "f"]);
        let mut files: Vec<String> = list.lines().map(str::to_owned).collect();
        files.sort();
        files
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let claim = [
            "delete",
            "persistentvolumeclaim",
            BACKUP,
            OWN,
            "--timeout=60s",
        ];
        let _ = try_kubectl(&claim, None);
        let _ = try_kubectl(&["delete", "persistentvolume", BACKUP], None);
        let _ = node::try_exec(&["rm", "-r", VOLUME]);
    }
}

fn install_with(values: &Value) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    write!(file, "{values}").expect("values");
    let (usual, more) = (usual_values(), format!("--values={}", text(file.path())));
    let _ = helm(&[
        "upgrade",
        NAME,
        &chart(),
        "--wait",
        "--timeout=2m",
        &usual,
        &more,
    ]);
}

/// Runs the CronJob's job now.
fn run_job(name: &str) {
    let from = format!("--from=cronjob/{BACKUP}");
    let _ = kubectl(&["create", "job", name, OWN, &from]);
    let job = format!("job/{name}");
    let waited = try_kubectl(
        &[
            "wait",
            &job,
            OWN,
            "--for=condition=Complete",
            "--timeout=90s",
        ],
        None,
    );
    let logs = try_kubectl(&["logs", &job, OWN], None);
    let _ = waited.expect_success(&logs.stdout);
}

/// What is in a backup: data by kind, namespace and name.
fn content(backup: &str) -> BTreeMap<String, Value> {
    let documents = serde_json::Deserializer::from_str(backup).into_iter::<Value>();
    let documents = documents.map(|document| document.expect("JSON"));
    let objects = documents.filter(|document| document.get("kind").is_some());
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{} {} {}",
            object["kind"], metadata["namespace"], metadata["name"]
        )
    };
    objects
        .map(|object| (name(&object), object["data"].clone()))
        .collect()
}

#[test]
#[ignore = "minutes: make lifecycle"]
fn the_cronjob_writes_what_the_script_does_and_may_read_nothing_else() {
    // It goes after the jobs that use it, and those go with the chart's CronJob.
    let _volume = Volume::make();
    let _product = Product::take();
    node::push_image("kubectl");
    let values = json!({"backup": {
        "enabled": true, "image": "keeper/kubectl:test", "through": "gzip", "keep": 2, "schedule": "0 0 1 1 *",
        "claim": {"storageClassName": BACKUP},
        "secrets": [{"namespace": "default", "name": "keeper-auth"}],
        "configMaps": [{"namespace": "default", "name": "keeper-ca"}],
    }});
    install_with(&values);

    for name in ["first", "second", "third"] {
        run_job(name);
    }
    let files = Volume::files();
    assert_eq!(files.len(), 2, "{files:?}");
    let last = files.last().expect("a file");
    assert!(last.ends_with(".json.gzip"), "{last}");
    let by_job = content(&node::exec(&["gzip", "--decompress", "--stdout", last]));
    let script = repository().join("operations/backup");
    let named = [
        "--secret=default/keeper-auth",
        "--configmap=default/keeper-ca",
    ];
    let by_hand = content(&node::client(&[&[text(&script)], &named[..]].concat()));
    assert_eq!(
        by_job.keys().collect::<Vec<_>>(),
        by_hand.keys().collect::<Vec<_>>()
    );
    assert_eq!(by_job, by_hand);
    assert!(
        by_job
            .keys()
            .any(|name| name.contains("sh.helm.release.v1")),
        "{by_job:?}"
    );

    let account = format!("--as=system:serviceaccount:keeper-security:{BACKUP}");
    for (may, arguments) in [
        (
            "yes",
            &["get", "secret/keeper-auth", "--namespace=default"][..],
        ),
        ("yes", &["get", "secret/keeper-injector-tls", OWN]),
        ("no", &["get", "secret/other", "--namespace=default"]),
        ("no", &["get", "secret/other", OWN]),
        ("no", &["list", "secrets", OWN]),
        ("no", &["get", "configmap/other", "--namespace=default"]),
        (
            "no",
            &["patch", "secret/keeper-auth", "--namespace=default"],
        ),
        (
            "no",
            &["get", "secret/keeper-auth", "--namespace=kube-system"],
        ),
        ("no", &["create", "pods", OWN]),
    ] {
        let answer = try_kubectl(&[&["auth", "can-i", &account], arguments].concat(), None);
        assert_eq!(answer.stdout.trim(), may, "{arguments:?}");
    }

    // What can't be read leaves no file behind.
    let missing = "--secret=default/not-there";
    for where_to in [
        &[][..],
        &["--directory=/tmp"],
        &["--output=/tmp/keeper-injector-backup"],
    ] {
        let told = node::try_client(&[&[text(&script), missing], where_to].concat());
        assert!(
            !told.success && told.stdout.is_empty(),
            "{where_to:?}: {}",
            told.stdout
        );
        assert!(
            told.stderr.contains("nothing was written"),
            "{}",
            told.stderr
        );
    }
    assert!(!std::path::Path::new("/tmp/keeper-injector-backup.partial").exists());
}
