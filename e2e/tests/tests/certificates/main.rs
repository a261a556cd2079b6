//! Certificates change under load, in every mode, and no pod is refused for it. These tests install the product in other
//! ways, so they run one at a time, and beside nothing else.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests fail by panicking, and print the state that they saw"
)]

mod issuer;
mod load;
mod product;

use std::collections::BTreeSet;

use issuer::{Issuer, Schemas};
use keeper_e2e::{Namespace, kubectl, try_kubectl, until};
use load::Load;
use product::{Product, annotate_pods, kept, set_bundle, write_secret};
use serde_json::{Value, json};

/// Own lifetimes of seconds: some renewals, and two authorities at least; and all the while GitOps tools see no drift.
#[test]
#[ignore = "takes minutes: make e2e-full"]
fn auto_renews_and_rotates_without_a_refused_pod_or_a_drift() {
    let product = Product::with(&json!({
        "tls": {"auto": {"certificateLifetime": "30s", "caLifetime": "70s"}},
    }));
    let namespace = Namespace::new("renewals");
    let before = product.pods();
    let manifest = product.manifest();
    apply_as_gitops(&manifest);
    let load = Load::start(&namespace);
    let (mut certificates, mut authorities) = (BTreeSet::new(), BTreeSet::new());
    until("four certificates and two authorities", 240, || {
        let kept = kept();
        certificates.insert(kept["tls.crt"].to_string());
        authorities.insert(kept["ca.key"].to_string());
        (certificates.len() >= 4 && authorities.len() >= 2).then_some(())
    });
    let bundle = product::bundle();
    assert_eq!(drift(&manifest), "", "a GitOps tool would see a drift");
    apply_as_gitops(&manifest);
    assert!(
        !product::bundle().is_empty(),
        "its next sync takes the caBundle away"
    );
    load.stop();
    assert!(!bundle.is_empty());
    assert_eq!(
        owned_fields("mutatingwebhookconfiguration"),
        json!({"f:webhooks": {
            "k:{\"name\":\"inject.keeper.security\"}": {".": {}, "f:name": {}, "f:clientConfig": {"f:caBundle": {}}},
        }})
    );
    product.until_each_serves(&|| kept()["tls.crt"].as_str().unwrap().to_owned());
    assert_eq!(product.pods(), before, "no pod was replaced or restarted");

    // Nor does helm.
    product.upgrade();
    assert!(!product::bundle().is_empty());
}

/// The kubelet brings a changed Secret, and it is served without a restart; another authority is announced before.
#[test]
#[ignore = "takes minutes: make e2e-full"]
fn manual_certificates_are_taken_up_while_pods_are_created() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    write_secret("own-certificate", &old.issue());
    let values = |ca: &str| json!({"tls": {"mode": "manual", "manual": {"secretName": "own-certificate", "caBundle": ca}}});
    let product = Product::with(&values(old.ca()));
    let namespace = Namespace::new("manual");
    let before = product.pods();
    let load = Load::start(&namespace);
    let renewed = old.issue();
    write_secret("own-certificate", &renewed);
    annotate_pods();
    product.until_each_serves(&|| renewed.crt.clone());

    // One that API servers don't trust is not taken, until they do.
    let other = new.issue();
    write_secret("own-certificate", &other);
    annotate_pods();
    until("a warning", 120, || {
        let told = |log: &String| log.contains("a changed certificate is not taken");
        product.logs().iter().all(told).then_some(())
    });
    product.until_each_serves(&|| renewed.crt.clone());
    product.upgrade_to(&values(&(old.ca().to_owned() + new.ca())));
    annotate_pods();
    product.until_each_serves(&|| other.crt.clone());
    load.stop();
    assert_eq!(product.pods(), before, "no pod was replaced or restarted");
}

/// cert-manager's own schemas take the chart's objects. Its controllers are not here: the test writes what they would.
#[test]
#[ignore = "takes minutes: make e2e-full"]
fn what_cert_manager_issues_is_served_and_taken_up() {
    // Dropped last: the chart's objects are of these kinds.
    let _schemas = Schemas::install();
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    write_secret("keeper-injector-certificate", &old.issue());
    let product = Product::with(&json!({"tls": {"mode": "cert-manager"}}));
    let names = |kind: &str| {
        kubectl(&[
            "get",
            kind,
            product::OWN,
            "--output=jsonpath={.items[*].metadata.name}",
        ])
    };
    assert_eq!(
        names("certificates.cert-manager.io"),
        "keeper-injector keeper-injector-ca"
    );
    assert_eq!(
        names("issuers.cert-manager.io"),
        "keeper-injector-ca keeper-injector-selfsigned"
    );
    let strict = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "--force-conflicts",
        "--filename=-",
    ];
    let manifest = product.manifest();
    let _ = try_kubectl(&strict, Some(&manifest))
        .expect_success("an apply that takes no unknown field");

    set_bundle(old.ca());
    let namespace = Namespace::new("cert-manager");
    let before = product.pods();
    let load = Load::start(&namespace);
    let renewed = old.issue();
    write_secret("keeper-injector-certificate", &renewed);
    annotate_pods();
    product.until_each_serves(&|| renewed.crt.clone());
    // Its next CA, with the one before it for a while.
    set_bundle(&(old.ca().to_owned() + new.ca()));
    let other = new.issue();
    write_secret("keeper-injector-certificate", &other);
    annotate_pods();
    product.until_each_serves(&|| other.crt.clone());
    set_bundle(new.ca());
    load.stop();
    assert_eq!(product.pods(), before, "no pod was replaced or restarted");
    // GitOps tools don't take away what cert-manager wrote either.
    apply_as_gitops(&manifest);
    assert!(!product::bundle().is_empty());
}

const AS_GITOPS: [&str; 4] = [
    "--server-side",
    "--field-manager=argocd-controller",
    "--force-conflicts",
    "--filename=-",
];

/// As Argo CD and Flux do: server-side apply of what the chart renders, by a field manager of its own.
fn apply_as_gitops(manifest: &str) {
    let apply: Vec<&str> = ["apply"].into_iter().chain(AS_GITOPS).collect();
    let _ = try_kubectl(&apply, Some(manifest)).expect_success("an apply as a GitOps tool does it");
}

/// What such a tool would have to change.
fn drift(manifest: &str) -> String {
    let diff: Vec<&str> = ["diff"].into_iter().chain(AS_GITOPS).collect();
    let told = try_kubectl(&diff, Some(manifest));
    told.stdout + &told.stderr
}

/// The fields that are the webhook's own.
fn owned_fields(kind: &str) -> Value {
    let object = kubectl(&[
        "get",
        kind,
        "keeper-injector",
        "--show-managed-fields",
        "--output=json",
    ]);
    let object: Value = serde_json::from_str(&object).unwrap();
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    let ours = managers
        .iter()
        .find(|manager| manager["manager"] == "keeper-injector-certificates");
    ours.unwrap()["fieldsV1"].clone()
}
