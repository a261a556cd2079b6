//! `operations/size` reckons as the injector does, and docs/sizing.md shows what it prints.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use keeper_contract::quantity::Quantity;
use keeper_contract::{Cluster, Decision, Settings, admit};
use serde_json::{Value, json};

const PAGE: &str = "docs/sizing.md";
const BEGIN: &str = "<!-- operations/size ";
const END: &str = "<!-- end -->";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(arguments: &[&str]) -> Output {
    Command::new("python3")
        .arg("operations/size")
        .args(arguments)
        .current_dir(repository())
        .output()
        .unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What is reckoned for the first number of pods.
fn sized(arguments: &[&str]) -> Value {
    let all: Value = serde_json::from_str(&printed(&[arguments, &["--json"]].concat())).unwrap();
    all[0].clone()
}

/// Each block stands below a comment with its arguments.
#[test]
fn the_page_shows_what_the_calculator_prints() {
    let path = repository().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let mut want = String::new();
    let mut blocks = page.split(BEGIN);
    want.push_str(blocks.next().unwrap());
    for block in blocks {
        let (arguments, rest) = block.split_once(" -->").unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let words: Vec<_> = arguments.split_whitespace().collect();
        let tables = printed(&words);
        want.push_str(&format!("{BEGIN}{arguments} -->\n\n{tables}\n{END}{after}"));
    }
    assert!(want.contains(BEGIN), "{PAGE} has no block");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, want).unwrap();
    } else {
        assert!(
            page == want,
            "{PAGE} is out of date: UPDATE_DOCS=1 cargo test -p keeper-demo --test sizing"
        );
    }
}

/// The container and the volume of a pod as the webhook makes them.
fn injected(files: usize, attachments: usize, folders: usize) -> Value {
    let mut annotations =
        json!({"keeper.security/inject": "true", "keeper.security/ksm-config": "keeper-auth"});
    for i in 0..files {
        annotations[format!("keeper.security/secret-f{i}")] = json!(format!("Orders[f{i}]"));
    }
    for i in 0..attachments {
        annotations[format!("keeper.security/file-a{i}")] = json!(format!("Orders:a{i}"));
    }
    if folders > 0 {
        let folders: Vec<_> = (0..folders)
            .map(|i| json!({"path": format!("F{i}"), "outputPath": format!("/keeper/secrets/folder-{i}")}))
            .collect();
        annotations["keeper.security/config"] = json!(json!({ "folders": folders }).to_string());
    }
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "app", "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "busybox"}]},
    });
    let settings: Settings = serde_json::from_value(json!({
        "sidecarImage": "keeper/injector-sidecar:0.1.0", "ownNamespace": "keeper-security",
    }))
    .unwrap();
    match admit(&pod, "shop", &settings, &Cluster { minor: 35 }) {
        Decision::Injected(injection) => {
            let operations = injection.patch.operations().unwrap();
            json_patch::patch(&mut pod, &operations).unwrap();
        }
        other => unreachable!("{other:?}"),
    }
    pod
}

fn bytes(quantity: &Value) -> u64 {
    let quantity: Quantity = quantity.as_str().unwrap().parse().unwrap();
    quantity.units_up()
}

#[test]
fn a_sidecar_is_given_what_the_calculator_says() {
    for (files, attachments, folders) in [(1, 0, 0), (10, 0, 0), (0, 3, 0), (0, 0, 1), (16, 2, 3)] {
        let pod = injected(files, attachments, folders);
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!(sidecar["name"], "keeper-sidecar");
        let resources = &sidecar["resources"];
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let volume = volumes
            .iter()
            .find(|volume| volume["name"] == "keeper-secrets")
            .unwrap();

        let [files, attachments, folders] =
            [files, attachments, folders].map(|count| count.to_string());
        let got = sized(&[
            "--pods=1",
            &format!("--files={files}"),
            &format!("--attachments={attachments}"),
            &format!("--folders={folders}"),
        ]);
        let got = &got["sidecar"];
        let case = format!("{files} {attachments} {folders}");
        for (figure, given) in [
            ("memoryLimit", &resources["limits"]["memory"]),
            ("memoryRequest", &resources["requests"]["memory"]),
            ("volume", &volume["emptyDir"]["sizeLimit"]),
        ] {
            assert_eq!(
                got[figure].as_f64(),
                Some(bytes(given) as f64),
                "{case}: {figure}"
            );
        }
        assert_eq!(resources["requests"]["cpu"], "5m");
        assert_eq!(got["cpuRequest"], 0.005);
    }
}

/// As docs/throttling.md says: a frame of 15 s takes 100 calls of a client id, and three quarters of them are planned with.
#[test]
fn calls_are_reckoned_by_frames_and_client_ids() {
    let keeper = |arguments: &[&str]| sized(arguments)["keeper"].clone();
    let five_minutes = keeper(&["--pods=1500"]);
    assert_eq!(five_minutes["callsPerMinute"], 300.0);
    assert_eq!(five_minutes["shareOfLimit"], 0.75);
    assert_eq!(five_minutes["clientIdsNeeded"], 1);
    assert_eq!(five_minutes["startOfAll"], 225);
    assert_eq!(keeper(&["--pods=1501"])["clientIdsNeeded"], 2);
    // An interval is rounded up to frames.
    let minute = keeper(&["--pods=300", "--interval=50s"]);
    assert_eq!(minute, keeper(&["--pods=300", "--interval=1m"]));
    assert_eq!(minute["clientIdsNeeded"], 1);
    // Clusters that share a client id count together.
    let shared = keeper(&["--pods=1000", "--clusters=3", "--client-ids=1"]);
    assert_eq!(shared["podsPerClientId"], 3000);
    assert_eq!(shared["clientIdsNeeded"], 2);
    // What has no sidecar calls at its start only.
    let starts = keeper(&["--pods=100", "--init-only", "--pods-per-hour=600"]);
    assert_eq!(starts["callsPerMinute"], 10.0);
    assert_eq!(starts["jobsApart"], true);
}

#[test]
fn what_must_be_changed_is_said() {
    let said = printed(&[
        "--pods=2000",
        "--contents=5Mi",
        "--pods-per-hour=600",
        "--peak=500",
    ]);
    for advice in [
        "2 client ids instead of 1",
        "keeper.security/tmpfs-size: 14Mi",
        "a device config of their own",
        "resources.requests.cpu",
    ] {
        assert!(said.contains(advice), "{advice}: {said}");
    }
    assert!(!printed(&["--pods=100"]).contains("instead of"));
}

#[test]
fn a_quota_is_the_applications_and_the_sidecars() {
    let quota = printed(&["--pods=13", "--files=3", "--namespace=shop"]);
    for line in [
        "    requests.cpu: 1365m  # 13 × (100m + 5m)",
        "    requests.memory: 1768Mi  # 13 × (128Mi + 8Mi)",
        // 20.375Mi × 13 is no whole number.
        "    limits.memory: 3593Mi  # 13 × (256Mi + 20.375Mi)",
    ] {
        assert!(quota.contains(line), "{line}: {quota}");
    }
}

#[test]
fn nonsense_is_refused_with_what_to_write() {
    for arguments in [
        &["--pods=0"][..],
        &["--pods=many"],
        &["--interval=5"],
        &["--interval=0s"],
        &["--contents=3XB"],
        &["--contents=-1"],
        &["--replicas=2"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!message.contains("Traceback"), "{arguments:?}: {message}");
    }
}
