//! What the product's accounts may do on a real API server: what docs/rights.md says, and of that only what the policies let through.

use keeper_chart::rbac::{self, Place, Right};
use keeper_e2e::{Output, kubectl, node, pods, try_kubectl};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const OWN: &str = "keeper-security";
const WEBHOOK: &str = "keeper-injector";
const CONFIGURATIONS: [&str; 2] = [
    "mutatingwebhookconfiguration",
    "validatingwebhookconfiguration",
];

fn user(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

/// What a user may do in a namespace, in the API server's own words.
fn review(user: &str, namespace: &str) -> Value {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let arguments = ["create", "--raw", path, "--filename=-", "--as", user];
    let answer = try_kubectl(&arguments, Some(&review.to_string()));
    let status = parsed(&answer.expect_success("a review"))["status"].take();
    assert_eq!(status["incomplete"], false, "{status}");
    status
}

fn rules(user: &str, namespace: &str) -> BTreeSet<Right> {
    let review = review(user, namespace);
    rbac::of_rules(&Place::Cluster, review["resourceRules"].as_array().unwrap())
}

/// The paths without a resource that a user may call, rule by rule.
fn paths(user: &str) -> BTreeSet<String> {
    let review = review(user, OWN);
    let rules = review["nonResourceRules"].as_array().unwrap();
    rules.iter().map(Value::to_string).collect()
}

/// What an account has beyond what everybody has, by where it has it.
fn rights(account: &str) -> BTreeSet<Right> {
    let (user, nobody) = (user(OWN, account), user(OWN, "nobody"));
    let anywhere = |user: &str| rules(user, "default");
    let here = |user: &str| rules(user, OWN);
    let mut rights = &anywhere(&user) - &anywhere(&nobody);
    let own = &(&here(&user) - &here(&nobody)) - &rights;
    rights.extend(own.into_iter().map(|right| Right {
        place: Place::OwnNamespace,
        ..right
    }));
    assert_eq!(paths(&user), paths(&nobody));
    rights
}

#[test]
fn of_every_account_are_the_documented_ones() {
    let values = parsed(&node::client(&[
        "helm",
        "get",
        "values",
        WEBHOOK,
        "--all",
        "--namespace",
        OWN,
        "--output=json",
    ]));
    let names = "--output=jsonpath={.items[*].metadata.name}";
    let accounts = kubectl(&["get", "serviceaccounts", "--namespace", OWN, names]);
    let mut found = 0;
    for account in accounts.split_whitespace() {
        let documented = match account {
            // Kubernetes makes it in every namespace.
            "default" => BTreeSet::new(),
            ours => {
                found += 1;
                rbac::documented(ours, &values)
            }
        };
        assert_eq!(rights(account), documented, "{account}");
    }
    assert_eq!(found, 1, "{accounts}");
    // Nor does anything of ours reach the accounts of injected pods.
    let pods = rules(&user("default", "default"), "default");
    assert_eq!(pods, rules(&user(OWN, "nobody"), "default"));
}

/// Asked one by one, as another authoriser than RBAC would not show in the list.
#[test]
fn on_what_is_dangerous_there_are_none() {
    let user = user(OWN, WEBHOOK);
    let refused = |arguments: &[&str]| {
        let all: Vec<&str> = [&["auth", "can-i", "--as", user.as_str()], arguments].concat();
        let answer = try_kubectl(&all, None).stdout;
        assert_eq!(answer.trim(), "no", "{arguments:?}");
    };
    for arguments in [
        &["get", "secrets", "--all-namespaces"][..],
        &["list", "secrets", "--namespace", OWN],
        &["get", "secrets", "--namespace=default"],
        &["create", "secrets", "--namespace=default"],
        &["delete", "secrets/keeper-injector-tls", "--namespace", OWN],
        &["create", "pods", "--namespace", OWN],
        &["create", "pods", "--subresource=exec", "--namespace", OWN],
        &[
            "create",
            "serviceaccounts",
            "--subresource=token",
            "--namespace",
            OWN,
        ],
        &["patch", "namespaces"],
        &["patch", "mutatingwebhookconfigurations/other"],
        &["create", "mutatingwebhookconfigurations"],
        &["delete", "mutatingwebhookconfigurations/keeper-injector"],
        &["patch", "validatingadmissionpolicies"],
        &["escalate", "clusterroles"],
        &["bind", "clusterroles"],
        &["impersonate", "users"],
        &["get", "nodes", "--subresource=proxy"],
        &["*", "*"],
    ] {
        refused(arguments);
    }
}

/// kubectl as the webhook's account, in its namespace and as a dry run. With `more`, as if it were bound to cluster-admin besides, so
/// that it is the policies that refuse.
fn as_webhook(more: bool, arguments: &[&str], input: Option<&Value>) -> Output {
    let user = user(OWN, WEBHOOK);
    let mut all = vec!["--as", &user, "--namespace", OWN];
    if more {
        all.push("--as-group=system:masters");
    }
    all.extend(arguments);
    all.push("--dry-run=server");
    try_kubectl(&all, input.map(Value::to_string).as_deref())
}

/// Something that the account tries, which may change what lives.
type Attempt<'a> = (&'a [&'a str], Option<Value>);

fn refused_by(policy: &str, more: bool, (arguments, input): &Attempt) {
    let tried = as_webhook(more, arguments, input.as_ref());
    let by = format!("ValidatingAdmissionPolicy 'keeper-injector-{policy}'");
    assert!(
        !tried.success && tried.stderr.contains(&by),
        "{arguments:?} {input:?}\n{}{}",
        tried.stdout,
        tried.stderr
    );
}

fn patch(object: &str, operations: &Value) -> Vec<String> {
    let patch = format!("--patch={operations}");
    ["patch", object, "--type=json", &patch]
        .map(str::to_owned)
        .to_vec()
}

fn words(owned: &[String]) -> Vec<&str> {
    owned.iter().map(String::as_str).collect()
}

#[test]
fn on_webhook_configurations_are_those_on_the_bundle() {
    let first = "/webhooks/0";
    let put =
        |op: &str, path: &str, value: Value| json!([{"op": op, "path": path, "value": value}]);
    for kind in CONFIGURATIONS {
        let name = format!("{kind}/{WEBHOOK}");
        let bundle = put(
            "replace",
            &format!("{first}/clientConfig/caBundle"),
            json!("LS0tLS1CRUdJTg=="),
        );
        let done = as_webhook(false, &words(&patch(&name, &bundle)), None);
        let _ = done.expect_success("another bundle");
        let other = json!({
            "name": "x.example.com", "clientConfig": {"url": "https://example.com"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        });
        for forbidden in [
            put("add", "/webhooks/-", other),
            put("replace", "/webhooks", json!([])),
            put("replace", &format!("{first}/name"), json!("x.example.com")),
            put(
                "replace",
                &format!("{first}/clientConfig/service/name"),
                json!("other"),
            ),
            put(
                "replace",
                &format!("{first}/clientConfig"),
                json!({"url": "https://example.com"}),
            ),
            put(
                "add",
                &format!("{first}/rules/0/resources/-"),
                json!("secrets"),
            ),
            put("replace", &format!("{first}/failurePolicy"), json!("Fail")),
            put("replace", &format!("{first}/timeoutSeconds"), json!(30)),
            put("replace", &format!("{first}/namespaceSelector"), json!({})),
            put(
                "add",
                &format!("{first}/objectSelector"),
                json!({"matchLabels": {"a": "b"}}),
            ),
            put("replace", &format!("{first}/matchConditions"), json!([])),
            put("add", "/metadata/labels/a", json!("b")),
            put("add", "/metadata/annotations/a", json!("b")),
            put("add", "/metadata/finalizers", json!(["example.com/x"])),
        ] {
            let arguments = patch(&name, &forbidden);
            refused_by("ca-bundle", false, &(&words(&arguments), None));
        }
        refused_by("ca-bundle", true, &(&["delete", &name], None));
        let mut copy = parsed(&kubectl(&["get", &name, "--output=json"]));
        copy["metadata"] = json!({"name": "copy-of-keeper-injector"});
        refused_by(
            "ca-bundle",
            true,
            &(&["create", "--filename=-"], Some(copy)),
        );
    }
}

fn secret(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind, "data": {"tls.crt": "", "tls.key": ""},
        "metadata": {"name": name, "annotations": {"kubernetes.io/service-account.name": WEBHOOK}},
    })
}

fn lease(name: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}})
}

#[test]
fn in_the_own_namespace_are_those_on_objects_of_its_own() {
    const TLS: &str = "keeper-injector-tls";
    const CREATE: &[&str] = &["create", "--filename=-"];
    let refused = |more: bool, arguments: &[&str], input: Option<Value>| {
        refused_by("own-objects", more, &(arguments, input));
    };
    refused(false, CREATE, Some(secret("other", "kubernetes.io/tls")));
    for kind in ["Opaque", "kubernetes.io/service-account-token"] {
        refused(false, CREATE, Some(secret(TLS, kind)));
    }
    let mut generated = secret(TLS, "kubernetes.io/tls");
    generated["metadata"] = json!({"generateName": TLS});
    refused(false, CREATE, Some(generated));
    // Where it is there already, that is said, and not that it is forbidden.
    let created = as_webhook(false, CREATE, Some(&secret(TLS, "kubernetes.io/tls")));
    assert!(
        created.stderr.contains("AlreadyExists"),
        "{}",
        created.stderr
    );
    let written = as_webhook(
        false,
        &[
            "patch",
            "secret",
            TLS,
            "--patch",
            r#"{"data":{"x":"eA=="}}"#,
        ],
        None,
    );
    let _ = written.expect_success("the own Secret");
    refused(true, &["delete", "secret", TLS], None);

    refused(true, CREATE, Some(lease("other")));
    let created = as_webhook(true, CREATE, Some(&lease(WEBHOOK)));
    assert!(
        created.success || created.stderr.contains("AlreadyExists"),
        "{}",
        created.stderr
    );

    let selector = "--selector=app.kubernetes.io/name=keeper-injector";
    let pods = kubectl(&["get", "pods", "--namespace", OWN, selector, "--output=name"]);
    let pod = pods.lines().next().unwrap();
    let labelled = as_webhook(
        true,
        &["label", pod, "keeper.security/leader=true", "--overwrite"],
        None,
    );
    let _ = labelled.expect_success("the leader's label");
    for change in [
        &["label", pod, "app.kubernetes.io/name=other", "--overwrite"][..],
        &["label", pod, "other=true"],
        &["annotate", pod, "other=true"],
        &["set", "image", pod, "webhook=busybox"],
        &["delete", pod],
        &[
            "patch",
            pod,
            "--subresource=status",
            r#"--patch={"status":{"message":"x"}}"#,
        ],
    ] {
        refused(true, change, None);
    }
    refused(true, CREATE, Some(pods::plain("other", "true")));
}

#[test]
fn of_others_are_not_narrowed() {
    let fails =
        r#"--patch={"webhooks":[{"name":"inject.keeper.security","failurePolicy":"Ignore"}]}"#;
    for arguments in [
        &["patch", CONFIGURATIONS[0], WEBHOOK, fails][..],
        &["create", "secret", "generic", "other"],
        &["run", "other", "--image=busybox"],
        &["label", "secret", "keeper-injector-tls", "other=true"],
    ] {
        let all: Vec<&str> = [arguments, &["--dry-run=server", "--namespace", OWN]].concat();
        let _ = kubectl(&all);
    }
}
