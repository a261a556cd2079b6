//! `operations/update`: what is good stays, what is bad goes back by itself.

use std::os::unix::fs::PermissionsExt as _;

use keeper_e2e::webhook::OWN;
use keeper_e2e::{Output, kubectl, node, repository};

use crate::product::{Product, helm, text};

/// The script in the node's network, and its exit code.
fn update(backup: &str, arguments: &[&str]) -> (i32, Output) {
    // As of a command whose exit code gets lost on the way.
    let script = "code=0; \"$@\" || code=$?; echo \"exit code $code\"";
    let program = repository().join("operations/update");
    let command = [
        "bash",
        "-c",
        script,
        "bash",
        text(&program),
        "--backup",
        backup,
    ];
    let output = node::try_client(&[&command, arguments].concat());
    let code = output.stdout.trim().rsplit_once("exit code ");
    let code = code.and_then(|(_, code)| code.parse().ok());
    (code.expect("an exit code"), output)
}

fn arguments() -> String {
    let path = "--output=jsonpath={.spec.template.spec.containers[0].args}";
    kubectl(&["get", "deployment", "keeper-injector", OWN, path])
}

#[test]
#[ignore = "minutes: make lifecycle"]
fn a_good_update_stays_and_a_bad_one_goes_back_by_itself() {
    let product = Product::take();
    let folder = tempfile::tempdir().expect("a folder");
    let backup = folder.path().join("backup.json");
    let backup = text(&backup);

    let before = product.revision();
    let (code, said) = update(backup, &["--", "--set=logging.level=debug"]);
    assert_eq!(code, 0, "{}{}", said.stdout, said.stderr);
    assert!(arguments().contains("--log-level=debug"));
    let good = (product.revision(), arguments());
    assert_eq!(good.0, before + 1);
    let mode = std::fs::metadata(backup)
        .expect("a backup")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "there are private keys in it");

    for (what, set) in [
        ("an image that isn't there", "image.tag=not-there"),
        ("a crash loop", "extraArgs={--no-such-option}"),
        (
            "ready, but it doesn't inject",
            "excludedNamespaces={default}",
        ),
    ] {
        let set = format!("--set={set}");
        let (code, said) = update(backup, &["--timeout=20s", "--", &set]);
        assert_eq!(code, 3, "{what}: {}{}", said.stdout, said.stderr);
        assert!(
            said.stderr.contains("everything is as before"),
            "{what}: {}",
            said.stderr
        );
        assert_eq!(arguments(), good.1, "{what}");
        let _ = helm(&["test", "keeper-injector"]);
    }

    // What can be told beforehand changes nothing.
    for (refused, why) in [
        (&["--namespace=default"][..], "there is no release"),
        (&["--backup=/no-such-folder/backup"], "no-such-folder"),
        (&["--chart=/no-such-chart"], "no-such-chart"),
        (&["--", "--set=replicas=3"], "replicas"),
    ] {
        let revision = product.revision();
        let (code, said) = update(backup, refused);
        assert_eq!((code, product.revision()), (1, revision), "{refused:?}");
        assert!(said.stderr.contains(why), "{refused:?}: {}", said.stderr);
    }
}
