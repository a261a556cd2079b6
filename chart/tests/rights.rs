//! What the webhook may do: the table in the chart's README, and nothing more.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::{Objects, read, render};

/// One row of the table: where, resource, name, verbs.
type Right = (String, String, String, String);

fn documented() -> BTreeSet<Right> {
    let text = read("README.md");
    let table = text
        .split("## Rights")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<String> = row
            .trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect();
        let [place, resource, name, verbs] = cells.try_into().unwrap();
        (place, resource, name, verbs)
    })
    .collect()
}

fn rendered(objects: &Objects) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for (kind, place) in [
        ("Role", "its own namespace"),
        ("ClusterRole", "the cluster"),
    ] {
        for rule in objects
            .of(kind)
            .iter()
            .flat_map(|role| role["rules"].as_array().unwrap())
        {
            let list = |key: &str| {
                rule[key].as_array().map(|list| {
                    list.iter()
                        .map(|word| word.as_str().unwrap())
                        .collect::<Vec<_>>()
                })
            };
            assert!(rule.get("nonResourceURLs").is_none(), "{rule}");
            let names = list("resourceNames").unwrap_or_else(|| vec!["any"]);
            for resource in list("resources").unwrap() {
                for name in &names {
                    rights.insert((
                        place.to_owned(),
                        resource.to_owned(),
                        (*name).to_owned(),
                        list("verbs").unwrap().join(", "),
                    ));
                }
            }
        }
    }
    rights
}

#[test]
fn are_exactly_the_documented_ones() {
    let documented = documented();
    assert!(!documented.is_empty());
    assert_eq!(rendered(&render("{}")), documented);
}

/// Promise: no right on a Secret outside the webhook's own namespace.
#[test]
fn reach_no_secret_elsewhere() {
    let objects = render("{}");
    let elsewhere: Vec<String> = rendered(&objects)
        .into_iter()
        .filter(|right| right.0 == "the cluster")
        .map(|right| right.1)
        .collect();
    assert_eq!(elsewhere, ["mutatingwebhookconfigurations", "namespaces"]);
    assert!(
        !rendered(&objects)
            .iter()
            .any(|right| right.1.contains('*') || right.3.contains('*'))
    );
}

#[test]
fn belong_to_the_webhooks_account_only() {
    let objects = render("{}");
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

#[test]
fn are_to_read_namespaces_with_certificates_of_the_users_own() {
    let objects =
        render("{tls: {mode: manual, manual: {caBundle: '-----BEGIN CERTIFICATE-----'}}}");
    let first = ["the cluster", "namespaces", "any", "get, list, watch"];
    let [place, resource, name, verbs] = first.map(str::to_owned);
    assert_eq!(
        rendered(&objects),
        BTreeSet::from([(place, resource, name, verbs)])
    );
    assert!(objects.of("RoleBinding").is_empty());
}
