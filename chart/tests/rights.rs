//! What the webhook may do: what docs/rights.md says, and nothing more, in every mode; and the policies that narrow it further.

use std::collections::BTreeSet;

use keeper_chart::rbac::{self, Place, Right};
use serde_json::{Value, json};

use crate::helm::{NAMESPACE, Objects, read, refusal, render};

const ACCOUNT: &str = "keeper-injector";
const BACKUP: &str = "keeper-injector-backup";

/// Everything that changes a right, one row a value.
fn modes() -> Vec<Value> {
    let manual = json!({"mode": "manual", "manual": {"caBundle": "-----BEGIN CERTIFICATE-----"}});
    let mut modes = Vec::new();
    for tls in [
        json!({"mode": "auto"}),
        json!({"mode": "cert-manager"}),
        manual,
    ] {
        for warnings in [true, false] {
            for (elects, traffic) in [(true, false), (true, true), (false, false)] {
                modes.push(json!({
                    "tls": tls,
                    "webhook": {"workloadWarnings": warnings},
                    "leaderElection": {"enabled": elects, "trafficToLeaderOnly": traffic},
                }));
            }
        }
        modes.push(json!({
            "tls": tls, "revision": "canary", "leaderElection": {"trafficToLeaderOnly": true},
        }));
    }
    modes
}

/// The chart's values with others over them, as helm does it.
fn with_defaults(over: &Value) -> Value {
    fn put(under: &mut Value, over: &Value) {
        match (under, over) {
            (Value::Object(under), Value::Object(over)) => {
                for (key, value) in over {
                    put(under.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (under, over) => *under = over.clone(),
        }
    }
    let mut values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    put(&mut values, over);
    values
}

/// The name that an account has in a release: one with a revision has it in its names.
fn name_in(values: &Value, account: &str) -> String {
    match values["revision"].as_str() {
        Some(revision) => account.replacen(ACCOUNT, &format!("{ACCOUNT}-{revision}"), 1),
        None => account.to_owned(),
    }
}

/// The rights of an account, by the bindings that name it.
fn rendered(objects: &Objects, account: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (binding, kind) in [
        ("RoleBinding", "Role"),
        ("ClusterRoleBinding", "ClusterRole"),
    ] {
        for binding in objects.of(binding) {
            let subject =
                json!({"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE});
            if binding["subjects"] != json!([subject]) {
                continue;
            }
            let place = match binding["metadata"]["namespace"].as_str() {
                None => Place::Cluster,
                Some(NAMESPACE) => Place::OwnNamespace,
                Some(other) => Place::Namespace(other.to_owned()),
            };
            let is_bound = |role: &&&Value| {
                let (name, namespace) = (&role["metadata"]["name"], &role["metadata"]["namespace"]);
                *name == binding["roleRef"]["name"]
                    && *namespace == binding["metadata"]["namespace"]
            };
            let roles = objects.of(kind);
            let rules = roles.iter().find(is_bound).unwrap()["rules"].as_array();
            for rule in rules.unwrap() {
                assert!(rule.get("nonResourceURLs").is_none(), "{rule}");
            }
            rights.extend(rbac::of_rules(&place, rules.unwrap()));
        }
    }
    rights
}

#[test]
fn are_exactly_the_documented_ones_in_every_mode() {
    for values in modes() {
        let account = name_in(&values, ACCOUNT);
        let documented = rbac::documented(&account, &with_defaults(&values));
        assert!(!documented.is_empty());
        assert_eq!(
            rendered(&render(&values.to_string()), &account),
            documented,
            "{values}"
        );
    }
}

/// Promise: no right on a Secret outside the webhook's own namespace.
#[test]
fn reach_no_secret_elsewhere() {
    for values in modes() {
        for right in rbac::documented(ACCOUNT, &with_defaults(&values)) {
            assert!(
                right.resource != "secrets" || right.place == Place::OwnNamespace,
                "{right:?}"
            );
            let words = [&right.group, &right.resource, &right.verb];
            assert!(!words.iter().any(|word| word.contains('*')), "{right:?}");
        }
    }
}

/// The backup's are by name, each of them.
#[test]
fn of_the_backup_are_the_documented_ones_and_each_is_for_one_object() {
    let some = json!([{"namespace": "shop", "name": "keeper-auth"}, {"namespace": "shop", "name": "other"}, {"namespace": NAMESPACE, "name": "login"}]);
    let trust = json!([{"namespace": "billing", "name": "keeper-ca"}]);
    for mut values in modes() {
        for (enabled, helm, secrets, config_maps) in [
            (true, true, &some, &trust),
            (true, false, &json!([]), &json!([])),
            (false, true, &json!([]), &json!([])),
        ] {
            values["backup"] = json!({
                "enabled": enabled, "image": "kubectl", "helmRelease": helm, "secrets": secrets, "configMaps": config_maps,
            });
            let account = name_in(&values, BACKUP);
            let rights = rendered(&render(&values.to_string()), &account);
            assert_eq!(
                rights,
                rbac::documented(&account, &with_defaults(&values)),
                "{values}"
            );
            assert_eq!(rights.is_empty(), !enabled);
            for right in rights {
                assert!(right.verb == "get" && right.name.is_some(), "{right:?}");
            }
        }
    }
}

#[test]
fn belong_to_the_webhooks_account_only() {
    for values in ["{}", "{revision: canary}"] {
        belong_to_the_account_of(&render(values));
    }
}

fn belong_to_the_account_of(objects: &Objects) {
    let account = &objects.the("ServiceAccount")["metadata"];
    for (binding, role) in [
        ("RoleBinding", "Role"),
        ("ClusterRoleBinding", "ClusterRole"),
    ] {
        let binding = objects.the(binding);
        assert_eq!(binding["roleRef"]["kind"], role);
        assert_eq!(
            binding["roleRef"]["name"],
            objects.the(role)["metadata"]["name"]
        );
        let subjects = binding["subjects"].as_array().unwrap();
        assert_eq!(subjects.len(), 1);
        assert_eq!(subjects[0]["kind"], "ServiceAccount");
        assert_eq!(subjects[0]["name"], account["name"]);
        assert_eq!(subjects[0]["namespace"], account["namespace"]);
    }
    let pod: &Value = &objects.the("Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], account["name"]);
}

/// A right that is not built yet is refused, rather than not given in silence.
#[test]
fn in_other_namespaces_are_refused_by_name() {
    let message = refusal("{rbac: {namespaces: [{name: shop}]}}");
    assert!(message.contains("rbac.namespaces"), "{message}");
}

fn policies(objects: &Objects) -> BTreeSet<&str> {
    let kind = "ValidatingAdmissionPolicy";
    let name = |object: &Value| object["metadata"]["name"].as_str().map(str::to_owned);
    let bound: BTreeSet<_> = objects
        .of("ValidatingAdmissionPolicyBinding")
        .into_iter()
        .map(|binding| {
            assert_eq!(binding["spec"]["validationActions"], json!(["Deny"]));
            binding["spec"]["policyName"].as_str().map(str::to_owned)
        })
        .collect();
    let policies = objects.of(kind);
    assert_eq!(bound, policies.iter().map(|policy| name(policy)).collect());
    for policy in &policies {
        assert_eq!(policy["spec"]["failurePolicy"], "Fail");
    }
    let names = policies
        .into_iter()
        .map(|policy| &policy["metadata"]["name"]);
    names.map(|name| name.as_str().unwrap()).collect()
}

fn policy<'a>(objects: &'a Objects, name: &str) -> &'a Value {
    let mut all = objects.of("ValidatingAdmissionPolicy").into_iter();
    all.find(|policy| policy["metadata"]["name"] == name)
        .unwrap()
}

const NARROWING: [&str; 2] = ["keeper-injector-ca-bundle", "keeper-injector-own-objects"];

/// Nobody else may ever be held up by them.
#[test]
fn are_narrowed_for_the_webhooks_account_alone() {
    let objects = render("{}");
    let account = &objects.the("ServiceAccount")["metadata"];
    let user = format!(
        "system:serviceaccount:{}:{}",
        account["namespace"].as_str().unwrap(),
        account["name"].as_str().unwrap()
    );
    for name in NARROWING {
        assert_eq!(
            policy(&objects, name)["spec"]["matchConditions"],
            json!([{"name": "is-the-webhook", "expression": format!("request.userInfo.username == '{user}'")}])
        );
    }
    assert!(policies(&objects).is_superset(&BTreeSet::from(NARROWING)));
    let without = render("{rbac: {admissionPolicies: false}}");
    assert!(policies(&without).is_disjoint(&BTreeSet::from(NARROWING)));
}

/// What isn't sent to the webhook must not be refused for lacking what only the webhook gives.
#[test]
fn the_safety_net_is_under_the_pods_that_are_sent_to_the_webhook() {
    const NET: &str = "keeper-injector-safety-net";
    for values in [
        "{}",
        "{excludedNamespaces: [payments]}",
        "{webhook: {failurePolicy: Ignore}}",
        "{webhook: {namespaceSelector: {matchLabels: {a: b}}, objectSelector: {matchLabels: {c: d}}}}",
    ] {
        let objects = render(values);
        let net = &policy(&objects, NET)["spec"];
        let webhook = &objects.the("MutatingWebhookConfiguration")["webhooks"][0];
        let rules = &net["matchConstraints"];
        assert_eq!(rules["resourceRules"], webhook["rules"]);
        assert_eq!(rules["objectSelector"], webhook["objectSelector"]);
        // And those that are left to a release with a revision: `revisions` has more of that.
        let mut namespaces = webhook["namespaceSelector"].clone();
        let conditions = namespaces["matchExpressions"].as_array_mut().unwrap();
        conditions.retain(|condition| condition["key"] != "keeper.security/revision");
        assert_eq!(rules["namespaceSelector"], namespaces);
        for condition in webhook["matchConditions"].as_array().unwrap() {
            let conditions = net["matchConditions"].as_array().unwrap();
            assert!(conditions.contains(condition), "{condition}");
        }
    }
    let without = render("{safetyNet: {enabled: false}}");
    assert!(!policies(&without).contains(NET));
}
