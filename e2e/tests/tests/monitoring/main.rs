//! What the product tells of itself: a real Prometheus scrapes webhook and sidecars through what the chart makes, and every query of
//! the dashboards and pages finds something. `make alerts` also breaks things, and follows the runbooks.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod alerts;
mod queries;

use keeper_e2e::{Monitoring, Namespace, pods, until};
use serde_json::json;
use std::collections::BTreeSet;

/// Short, as nobody wants to wait for a second sample of each series.
const OFTEN: [&str; 4] = [
    "metrics.serviceMonitor.interval=3s",
    "metrics.serviceMonitor.scrapeTimeout=3s",
    "metrics.podMonitor.interval=3s",
    "metrics.podMonitor.scrapeTimeout=3s",
];

/// What is empty while all is well: these are for when something is not, and `make alerts` sees what they find then.
const EMPTY_WHILE_HEALTHY: [&str; 3] = [
    "keeper_sidecar_stale == 1",
    "time() - keeper_sidecar_last_success_timestamp_seconds > 3 * keeper_sidecar_refresh_interval_seconds + 60 and keeper_sidecar_refresh_interval_seconds > 0",
    "sum by (namespace, pod, reason) (increase(keeper_sidecar_refresh_failures_total[30m])) > 0",
];

#[test]
fn what_the_chart_makes_is_scraped_and_every_query_finds_something() {
    let monitoring = Monitoring::start(&OFTEN);
    let webhooks = r#"up{job="keeper-injector-webhook", namespace="keeper-security"} == 1"#;
    until("both webhook pods to be scraped", 60, || {
        (monitoring.query(webhooks).len() == 2).then_some(())
    });

    let namespace = Namespace::new("monitoring");
    let secret = ("secret-password", "database-credentials[password]");
    let shapes: [(&str, &[(&str, &str)]); 4] = [
        ("native", &[]),
        ("classic", &[("sidecar-mode", "classic")]),
        ("another-port", &[("metrics-port", "9999")]),
        ("init-only", &[("init-only", "true")]),
    ];
    for (pod, annotations) in shapes {
        let annotations: Vec<_> = [secret, ("refresh-interval", "15s")]
            .iter()
            .chain(annotations)
            .copied()
            .collect();
        namespace.apply(&pods::annotated(pod, &annotations, "exec sleep 3600"));
    }
    // What is over is no target, whatever its label says.
    let job = pods::once(pods::annotated("over", &[secret], "true"));
    namespace.apply(&job);
    namespace.wait_for_success("over", 60);
    for (pod, _) in shapes {
        namespace.wait_for(&format!("pod/{pod}"), "condition=Ready", 60);
    }

    let sidecars = format!(
        r#"up{{job="keeper-injector-sidecar", namespace="{}"}} == 1"#,
        namespace.name()
    );
    let expected = BTreeSet::from(["another-port", "classic", "native"].map(str::to_owned));
    until("the sidecars, and no other pods, to be scraped", 60, || {
        let found = monitoring.query(&sidecars);
        let pods: BTreeSet<_> = found
            .iter()
            .map(|sample| sample["metric"]["pod"].as_str().unwrap().to_owned())
            .collect();
        // Each once.
        (pods == expected && found.len() == 3).then_some(())
    });

    let mut open = queries::of_dashboards(namespace.name());
    open.extend(queries::of_pages());
    assert!(open.len() > 60, "{}", open.len());
    for query in EMPTY_WHILE_HEALTHY {
        assert!(open.remove(query), "no page has {query}");
    }
    // The rates see a second refresh after 15 s, and the rules follow; for those of admissions, somebody makes pods all the while.
    let pod = pods::annotated("never-made", &[secret], "true").to_string();
    until("data for the queries that were printed last", 120, || {
        let asked = ["create", "--dry-run=server", "--filename=-"];
        let _ = namespace
            .try_kubectl(&asked, Some(&pod))
            .expect_success("a dry run");
        let before = open.len();
        open.retain(|query| monitoring.query(query).is_empty());
        if open.len() < before {
            eprintln!("without data: {open:#?}");
        }
        open.is_empty().then_some(())
    });

    let rules = monitoring.rules();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let firing = monitoring.query(r#"ALERTS{alertstate="firing"}"#);
    assert_eq!(json!(firing), json!([]));
}
