//! What the cluster's administrators do not allow.

use std::collections::BTreeMap;

use keeper_contract::{Decision, Namespace, NamespaceSettings, Reason, admit};
use serde_json::{Value, json};

use crate::{CURRENT, PREFIX, apply, config, denial, injection, pod, reasons};

/// The decision on a pod with these annotations in a namespace with those, under a policy and the chart's defaults.
fn decide(
    own: &[(&str, &str)],
    namespace: &[(&str, &str)],
    policy: &Value,
    defaults: &Value,
) -> Decision {
    let settings = json!({
        "sidecarImage": "keeper/injector-sidecar:0.1.0", "ownNamespace": "keeper-security",
        "policy": policy, "defaults": defaults,
    });
    let of = |(name, value): &(&str, &str)| (format!("{PREFIX}{name}"), (*value).to_owned());
    let says = NamespaceSettings::read(&BTreeMap::new(), &namespace.iter().map(of).collect());
    let shop = Namespace {
        name: "shop",
        settings: Some(&says),
    };
    let settings = serde_json::from_value(settings).unwrap();
    admit(&pod(own), shop, &settings, &CURRENT)
}

#[test]
fn neither_pod_nor_namespace_may_say_what_is_not_allowed() {
    let policy = json!({"denyAnnotations": ["proxy", "env-<NAME>"]});
    let chart = json!({"proxy": "http://proxy.corp:3128"});
    let own = [("env-PASSWORD", "db[password]"), ("proxy", "none")];
    let refused = denial(decide(&own, &[], &policy, &chart));
    let names = ["env-PASSWORD", "proxy"].map(|name| (name.to_owned(), Reason::Policy));
    // What else is wrong is told, too; here a container without a command.
    assert!(names.iter().all(|name| reasons(&refused).contains(name)));
    assert!(refused.to_string().contains("policy of this cluster"));
    let of_namespace = denial(decide(&[], &[("proxy", "none")], &policy, &chart));
    assert_eq!(
        of_namespace.problems[0].namespace.as_deref(),
        Some("shop"),
        "{of_namespace}"
    );
    // What the administrators say themselves holds.
    let injected = apply(&pod(&[]), &injection(decide(&[], &[], &policy, &chart)));
    assert!(config(&injected).proxy.is_some());
}

#[test]
fn nobody_refreshes_more_often_than_the_policy_says() {
    let policy = json!({"minRefreshInterval": "10m"});
    let seconds = |own: &[(&str, &str)], chart: Value| {
        let injection = injection(decide(own, &[], &policy, &chart));
        config(&apply(&pod(own), &injection)).refresh_interval_seconds
    };
    assert_eq!(seconds(&[], json!({})), 600, "the default of 5m gives way");
    assert_eq!(seconds(&[], json!({"refresh-interval": "1h"})), 3600);
    assert_eq!(seconds(&[("refresh-interval", "10m")], json!({})), 600);
    let short = [("refresh-interval", "599s")];
    // Intervals are multiples of 15 s.
    assert_eq!(seconds(&short, json!({})), 600);
    for (own, namespace) in [
        (&[("refresh-interval", "5m")][..], &[][..]),
        (&[], &[("refresh-interval", "5m")]),
    ] {
        let refused = denial(decide(own, namespace, &policy, &json!({})));
        assert_eq!(
            reasons(&refused),
            [("refresh-interval".to_owned(), Reason::Policy)]
        );
        assert!(refused.to_string().contains("at least 600s"), "{refused}");
    }
}
