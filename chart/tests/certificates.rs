//! Where certificates come from: cert-manager's objects, and the values that the incumbent's chart had for the same.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::helm::{Objects, refusal, render};

const HOOKS: [&str; 2] = [
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

fn named<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    let all = objects.of(kind);
    all.into_iter()
        .find(|object| object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

/// The mode that the webhook is started in, with the Secret that it reads or keeps.
fn mode(values: &str) -> (&'static str, String) {
    let objects = render(values);
    let pod = objects.the("Deployment")["spec"]["template"]["spec"].clone();
    let volume = pod["volumes"].as_array().unwrap().last().unwrap().clone();
    let secret = volume["secret"]["secretName"].as_str();
    match secret {
        None => ("auto", String::new()),
        Some(secret) if objects.of("Certificate").is_empty() => ("manual", secret.to_owned()),
        Some(secret) => ("cert-manager", secret.to_owned()),
    }
}

#[test]
fn cert_manager_gets_a_ca_whose_key_outlives_its_renewals() {
    let objects = render("{tls: {mode: cert-manager}}");
    let ca = &named(&objects, "Certificate", "keeper-injector-ca")["spec"];
    assert_eq!(ca["isCA"], true);
    assert_eq!(ca["privateKey"]["rotationPolicy"], "Never");
    assert_eq!(ca["issuerRef"]["name"], "keeper-injector-selfsigned");
    let selfsigned = named(&objects, "Issuer", "keeper-injector-selfsigned");
    assert_eq!(selfsigned["spec"], json!({"selfSigned": {}}));
    let issuer = named(&objects, "Issuer", "keeper-injector-ca");
    assert_eq!(issuer["spec"]["ca"]["secretName"], ca["secretName"]);
    let certificate = &named(&objects, "Certificate", "keeper-injector")["spec"];
    assert_eq!(
        certificate["issuerRef"],
        json!({"name": "keeper-injector-ca", "kind": "Issuer", "group": "cert-manager.io"})
    );
    assert_eq!(
        certificate["dnsNames"][0],
        "keeper-injector-webhook.keeper-security.svc"
    );
    for kind in HOOKS {
        let hook = objects.the(kind);
        assert_eq!(
            hook["metadata"]["annotations"],
            json!({"cert-manager.io/inject-ca-from": "keeper-security/keeper-injector"})
        );
        let client = &hook["webhooks"][0]["clientConfig"];
        assert!(client.get("caBundle").is_none(), "cert-manager writes it");
    }
    assert!(objects.of("Role").is_empty(), "no right on any Secret");
}

#[test]
fn an_issuer_of_the_users_own_takes_the_place_of_ours() {
    let objects = render(
        "{tls: {mode: cert-manager, certManager: {issuerRef: {name: corp, kind: ClusterIssuer}, duration: 24h, renewBefore: 8h}}}",
    );
    assert!(objects.of("Issuer").is_empty());
    let certificate = &objects.the("Certificate")["spec"];
    assert_eq!(
        certificate["issuerRef"],
        json!({"name": "corp", "kind": "ClusterIssuer", "group": "cert-manager.io"})
    );
    assert_eq!(certificate["duration"], "24h");
    assert_eq!(certificate["renewBefore"], "8h");
}

#[test]
fn other_modes_have_nothing_of_cert_manager() {
    for values in [
        "{}",
        "{tls: {mode: manual, manual: {caBundle: '-----BEGIN CERTIFICATE-----'}}}",
    ] {
        let objects = render(values);
        assert!(objects.of("Certificate").is_empty() && objects.of("Issuer").is_empty());
        for kind in HOOKS {
            assert!(objects.the(kind)["metadata"].get("annotations").is_none());
        }
    }
}

#[test]
fn deprecated_values_choose_the_mode() {
    let other = |mode: &'static str, secret: &str| (mode, secret.to_owned());
    for (values, expected) in [
        ("{tls: {autoGenerate: true}}", other("auto", "")),
        (
            "{tls: {autoGenerate: true, certManager: {enabled: false}}}",
            other("auto", ""),
        ),
        (
            "{tls: {autoGenerate: true, certManager: {enabled: true}}}",
            other("cert-manager", "keeper-injector-certificate"),
        ),
        (
            "{tls: {certManager: {enabled: true}}}",
            other("cert-manager", "keeper-injector-certificate"),
        ),
        (
            "{tls: {autoGenerate: false, certificate: {crt: YQ==, key: Yg==, ca: Yw==}}}",
            other("manual", "keeper-injector-certificate"),
        ),
        (
            "{tls: {autoGenerate: false, manual: {secretName: own, caBundle: '-----BEGIN CERTIFICATE-----'}}}",
            other("manual", "own"),
        ),
        (
            "{tls: {mode: manual, autoGenerate: false, manual: {caBundle: '-----BEGIN CERTIFICATE-----'}}}",
            other("manual", "keeper-injector-tls"),
        ),
    ] {
        assert_eq!(mode(values), expected, "{values}");
    }
    let objects = render(
        "{tls: {certManager: {enabled: true, issuerKind: ClusterIssuer, issuerName: corp}}}",
    );
    let issuer = &objects.the("Certificate")["spec"]["issuerRef"];
    assert_eq!(
        (&issuer["kind"], &issuer["name"]),
        (&json!("ClusterIssuer"), &json!("corp"))
    );
}

#[test]
fn a_certificate_in_deprecated_values_becomes_a_secret() {
    let ca = BASE64_STANDARD.encode("-----BEGIN CERTIFICATE-----");
    let objects = render(&format!(
        "{{tls: {{autoGenerate: false, certificate: {{crt: YQ==, key: Yg==, ca: {ca}}}}}}}"
    ));
    let secret = objects.the("Secret");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(
        secret["data"],
        json!({"tls.crt": "YQ==", "tls.key": "Yg=="})
    );
    let config_map = objects.the("ConfigMap");
    assert_eq!(config_map["data"]["ca.crt"], "-----BEGIN CERTIFICATE-----");
    for kind in HOOKS {
        let client = &objects.the(kind)["webhooks"][0]["clientConfig"];
        assert_eq!(client["caBundle"], json!(ca));
    }
}

#[test]
fn old_and_new_values_that_disagree_are_refused() {
    for (values, said) in [
        (
            "{tls: {mode: cert-manager, autoGenerate: false}}",
            "tls.mode is cert-manager, and the deprecated tls.autoGenerate mean manual",
        ),
        (
            "{tls: {autoGenerate: false, certificate: {crt: YQ==, key: Yg==}}}",
            "tls.certificate needs crt, key and ca",
        ),
        (
            "{tls: {autoGenerate: false}}",
            "tls.mode manual needs tls.manual.caBundle",
        ),
    ] {
        let message = refusal(values);
        assert!(message.contains(said), "{values}\n{message}");
    }
}
