//! What the chart makes for Prometheus and Grafana: monitors, rules and dashboards. Whether their queries find anything is asked on the
//! node; here promtool tells whether they are right.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::helm::{Objects, chart, read, refusal, render};

const ON: &str = "
metrics: {serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}
alerts: {enabled: true}
dashboards: {enabled: true}
";

/// Alerts as users have them in their own rules: ours say the same, word for word.
const DOCUMENTED: [(&str, &str, &str); 3] = [
    (
        "KeeperInjectorHighErrorRate",
        "rate(keeper_injector_errors_total[5m]) / rate(keeper_injector_requests_total[5m]) > 0.05",
        "5m",
    ),
    (
        "KeeperInjectorDown",
        "up{job=\"keeper-injector-webhook\"} == 0",
        "2m",
    ),
    (
        "KeeperSidecarRefreshFailures",
        "rate(keeper_sidecar_refresh_errors_total[10m]) > 0.1",
        "5m",
    ),
];

/// The values of alerts that are numbers in their expressions.
const NUMBERS: [&str; 3] = ["threshold", "days", "missedRefreshes"];

fn rule_files() -> Vec<PathBuf> {
    ["alerts", "slo"]
        .map(|name| chart().join(format!("rules/{name}.yaml")))
        .to_vec()
}

/// The groups of the plain rule files.
fn plain_groups() -> Vec<Value> {
    let groups = rule_files().into_iter().flat_map(|file| {
        let text = fs::read_to_string(file).unwrap();
        let rules: Value = serde_saphyr::from_str(&text).unwrap();
        rules["groups"].as_array().unwrap().clone()
    });
    groups.collect()
}

fn groups(objects: &Objects) -> &Vec<Value> {
    objects.the("PrometheusRule")["spec"]["groups"]
        .as_array()
        .unwrap()
}

fn rules(groups: &[Value]) -> impl Iterator<Item = &Value> {
    groups
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
}

/// The alert of that name as these values of it render it; nothing if it is left out.
fn alert(name: &str, values: &Value) -> Option<Value> {
    let values = json!({"alerts": {"enabled": true, "rules": {name: values}}});
    let objects = render(&values.to_string());
    rules(groups(&objects))
        .find(|rule| rule["alert"] == name)
        .cloned()
}

fn alerts() -> BTreeSet<String> {
    rules(&plain_groups())
        .filter_map(|rule| Some(rule["alert"].as_str()?.to_owned()))
        .collect()
}

/// Runs promtool, which has to be content.
fn promtool(arguments: &[&str], files: &[PathBuf]) {
    let output = Command::new("promtool")
        .args(arguments)
        .args(files)
        .output()
        .expect("promtool should be in PATH: run these tests by chart/test");
    assert!(
        output.status.success(),
        "promtool {arguments:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `promtool check rules` of groups.
fn check_rules(groups: &[Value]) {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    // JSON is YAML.
    fs::write(file.path(), json!({"groups": groups}).to_string()).unwrap();
    promtool(
        &["check", "rules", "--lint-fatal"],
        &[file.path().to_owned()],
    );
}

#[test]
fn nothing_needs_the_operators_kinds_by_default() {
    let kinds = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];
    let objects = render("{}");
    for kind in kinds {
        assert!(objects.of(kind).is_empty(), "{kind}");
    }
    assert_eq!(objects.of("ConfigMap").len(), 1);
}

/// What promtool tests is what the chart installs.
#[test]
fn the_rule_files_are_what_is_rendered_by_default() {
    let objects = render(ON);
    let mut rendered = groups(&objects).clone();
    for rule in rendered
        .iter_mut()
        .flat_map(|group| group["rules"].as_array_mut().unwrap())
    {
        let Some(name) = rule["alert"].as_str().map(str::to_owned) else {
            continue;
        };
        let annotations = rule["annotations"].as_object_mut().unwrap();
        assert_eq!(
            annotations.remove("runbook_url"),
            Some(json!(format!("docs/runbooks/{name}.md")))
        );
    }
    let mut plain = plain_groups();
    for rule in plain
        .iter_mut()
        .flat_map(|group| group["rules"].as_array_mut().unwrap())
    {
        let lines = rule["expr"].as_str().unwrap().lines();
        let without_names: Vec<_> = lines
            .map(|line| line.split(" # ").next().unwrap())
            .collect();
        rule["expr"] = json!(without_names.join("\n"));
    }
    assert_eq!(rendered, plain);
}

#[test]
fn promtool_takes_the_rules() {
    promtool(&["check", "rules", "--lint-fatal"], &rule_files());
    check_rules(groups(&render(ON)));
}

#[test]
fn promtool_sees_every_alert_fire_and_not_fire() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    let tests: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    promtool(&["test", "rules"], &tests);

    let (mut firing, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    for file in &tests {
        let text = fs::read_to_string(file).unwrap();
        let file: Value = serde_saphyr::from_str(&text).unwrap();
        for case in file["tests"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten())
        {
            let fires = case.get("exp_alerts").is_some();
            let set = if fires { &mut firing } else { &mut quiet };
            set.insert(case["alertname"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(firing, alerts());
    assert_eq!(quiet, alerts());
}

#[test]
fn documented_alerts_are_there_word_for_word() {
    let objects = render(ON);
    for (name, expression, duration) in DOCUMENTED {
        let rule = rules(groups(&objects)).find(|rule| rule["alert"] == name);
        let rule = rule.unwrap_or_else(|| panic!("{name}"));
        assert!(
            rule["expr"].as_str().unwrap().contains(expression),
            "{rule}"
        );
        assert_eq!(rule["for"], duration);
    }
}

#[test]
fn every_alert_has_its_values_and_its_runbook() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let configured: BTreeSet<_> = values["alerts"]["rules"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(configured, alerts());
    let runbooks: BTreeSet<_> = fs::read_dir(chart().join("../../docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "README")
        .collect();
    assert_eq!(runbooks, alerts());
}

#[test]
fn each_value_of_an_alert_does_something() {
    for name in alerts() {
        assert_eq!(alert(&name, &json!({"enabled": false})), None);
        let rule = alert(
            &name,
            &json!({
                "severity": "page", "duration": "17m", "runbookUrl": "https://wiki.example/x",
                "labels": {"team": "platform"}, "annotations": {"channel": "#platform"},
            }),
        );
        let rule = rule.unwrap_or_else(|| panic!("{name}"));
        assert_eq!(rule["for"], "17m");
        assert_eq!(
            rule["labels"],
            json!({"severity": "page", "team": "platform"})
        );
        assert_eq!(rule["annotations"]["runbook_url"], "https://wiki.example/x");
        assert_eq!(rule["annotations"]["channel"], "#platform");
        assert!(rule["annotations"]["summary"].is_string());
    }
}

/// Every number in the values of an alert stands in its expression, and another one takes its place there.
#[test]
fn each_number_reaches_its_expression() {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let mut numbers = 0;
    for (name, settings) in values["alerts"]["rules"].as_object().unwrap() {
        for key in settings.as_object().unwrap().keys() {
            if !NUMBERS.contains(&key.as_str()) {
                continue;
            }
            let usual = alert(name, &json!({})).unwrap();
            let changed = alert(name, &json!({key: 7531})).unwrap();
            let expression = changed["expr"].as_str().unwrap();
            assert!(expression.contains("7531"), "{name}.{key}: {expression}");
            assert!(!usual["expr"].as_str().unwrap().contains('#'), "{usual}");
            numbers += 1;
        }
    }
    assert_eq!(numbers, 8);
}

#[test]
fn too_few_replicas_are_fewer_than_there_are_at_least() {
    for values in [
        "{alerts: {enabled: true}, replicaCount: 5}",
        "{alerts: {enabled: true}, autoscaling: {enabled: true, minReplicas: 5}}",
        "{alerts: {enabled: true}, keda: {enabled: true, minReplicas: 5, prometheus: {serverAddress: 'http://prometheus:9090'}}}",
    ] {
        let objects = render(values);
        let low = rules(groups(&objects))
            .find(|rule| rule["alert"] == "KeeperInjectorReplicasLow")
            .unwrap();
        assert!(low["expr"].as_str().unwrap().ends_with(" < 5"), "{low}");
    }
}

#[test]
fn objectives_can_be_changed_and_left_out() {
    for slo in ["admissions", "latency", "freshness", "refreshes"] {
        let with = |settings: Value| {
            let values = json!({"alerts": {"enabled": true, "slo": {slo: settings}}});
            let objects = render(&values.to_string());
            let rules: Vec<Value> = rules(groups(&objects))
                .filter(|rule| rule["labels"]["slo"] == slo)
                .cloned()
                .collect();
            rules
        };
        assert_eq!(with(json!({"enabled": false})), Vec::<Value>::new());
        let rules = with(json!({"objective": 0.75}));
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[0]["expr"], "0.75");
    }
}

#[test]
fn alerts_have_labels_and_runbooks_in_common() {
    let objects = render(
        "
alerts:
  enabled: true
  namespace: monitoring
  labels: {release: prometheus}
  ruleLabels: {team: platform, severity: ignored}
  ruleAnnotations: {dashboard: fleet}
  runbookUrl: https://wiki.example/keeper/
",
    );
    let rule = objects.the("PrometheusRule");
    assert_eq!(rule["metadata"]["namespace"], "monitoring");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let alerts = rules(groups(&objects)).filter(|rule| rule["alert"].is_string());
    for alert in alerts {
        assert_eq!(alert["labels"]["team"], "platform");
        assert_ne!(alert["labels"]["severity"], "ignored");
        assert_eq!(alert["annotations"]["dashboard"], "fleet");
        let url = format!(
            "https://wiki.example/keeper/{}.md",
            alert["alert"].as_str().unwrap()
        );
        assert_eq!(alert["annotations"]["runbook_url"], url);
    }
}

#[test]
fn monitors_select_what_is_there() {
    let objects = render(ON);
    let service = objects.the("Service");
    let monitor = &objects.the("ServiceMonitor")["spec"];
    for (label, value) in monitor["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][label], value);
    }
    let endpoint = &monitor["endpoints"][0];
    let ports = service["spec"]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"]));
    assert_eq!(
        monitor["namespaceSelector"],
        json!({"matchNames": ["keeper-security"]})
    );
    // The label `job` that the documented alert expects is the Service's name, as nothing says otherwise.
    assert_eq!(service["metadata"]["name"], "keeper-injector-webhook");
    assert!(monitor.get("jobLabel").is_none() && endpoint.get("relabelings").is_none());

    let monitor = &objects.the("PodMonitor")["spec"];
    assert_eq!(monitor["namespaceSelector"], json!({"any": true}));
    assert_eq!(
        monitor["selector"],
        json!({"matchLabels": {"keeper.security/injected": "true"}})
    );
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], "keeper-metrics");
}

/// Where the Service has one pod only, another one has all of them.
#[test]
fn all_replicas_are_scraped_where_only_the_leader_answers() {
    let objects = render(
        "{leaderElection: {trafficToLeaderOnly: true}, metrics: {serviceMonitor: {enabled: true}}}",
    );
    let monitor = &objects.the("ServiceMonitor")["spec"];
    let wanted = monitor["selector"]["matchLabels"].as_object().unwrap();
    let selected = |service: &&&Value| {
        let labels = &service["metadata"]["labels"];
        wanted.iter().all(|(key, value)| &labels[key] == value)
    };
    let services = objects.of("Service");
    let found: Vec<_> = services.iter().filter(selected).collect();
    assert_eq!(found.len(), 1);
    let pods = &objects.the("Deployment")["spec"]["selector"]["matchLabels"];
    assert_eq!(&found[0]["spec"]["selector"], pods);
    assert_eq!(
        monitor["endpoints"][0]["relabelings"],
        json!([{"targetLabel": "job", "replacement": "keeper-injector-webhook"}])
    );
}

#[test]
fn monitors_follow_their_values() {
    let values = "
    enabled: true
    namespace: monitoring
    interval: 15s
    scrapeTimeout: 5s
    labels: {release: prometheus}
    relabelings: [{targetLabel: cluster, replacement: blue}]
    metricRelabelings: [{action: labeldrop, regex: container}]
";
    let values = format!("metrics:\n  serviceMonitor:{values}  podMonitor:{values}");
    let objects = render(&values);
    for (kind, list) in [
        ("ServiceMonitor", "endpoints"),
        ("PodMonitor", "podMetricsEndpoints"),
    ] {
        let monitor = objects.the(kind);
        assert_eq!(monitor["metadata"]["namespace"], "monitoring");
        assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
        let endpoint = &monitor["spec"][list][0];
        assert_eq!(endpoint["interval"], "15s");
        assert_eq!(endpoint["scrapeTimeout"], "5s");
        let last = endpoint["relabelings"].as_array().unwrap().last();
        assert_eq!(last.unwrap()["targetLabel"], "cluster");
        assert_eq!(endpoint["metricRelabelings"][0]["action"], "labeldrop");
    }
}

#[test]
fn what_cannot_be_right_is_refused() {
    for (values, part) in [
        (
            "{metrics: {enabled: false, serviceMonitor: {enabled: true}}}",
            "needs metrics.enabled",
        ),
        ("{metrics: {serviceMonitor: {interval: often}}}", "interval"),
        (
            "{alerts: {rules: {KeeperInjectorDwon: {enabled: false}}}}",
            "KeeperInjectorDwon",
        ),
        (
            "{alerts: {rules: {KeeperInjectorDown: {threshold: 1}}}}",
            "threshold",
        ),
        (
            "{alerts: {rules: {KeeperInjectorDown: {duration: soon}}}}",
            "duration",
        ),
        (
            "{alerts: {rules: {KeeperInjectorHighErrorRate: {threshold: 5%}}}}",
            "threshold",
        ),
        (
            "{alerts: {slo: {admissions: {objective: 99.9}}}}",
            "objective",
        ),
        ("{alerts: {slo: {uptime: {enabled: true}}}}", "uptime"),
    ] {
        let message = refusal(values);
        assert!(message.contains(part), "{values}\n{message}");
    }
}

/// Each dashboard with its name in the chart.
fn dashboards() -> Vec<(String, Value)> {
    let files = fs::read_dir(chart().join("dashboards")).unwrap();
    files
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (
                name,
                serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn dashboards_are_config_maps_for_grafanas_sidecar() {
    let objects = render(
        "{dashboards: {enabled: true, namespace: grafana, labels: {tier: ops}, annotations: {grafana_folder: Security}}}",
    );
    let maps: Vec<_> = objects
        .of("ConfigMap")
        .into_iter()
        .filter(|map| map["metadata"]["labels"]["grafana_dashboard"] == "1")
        .collect();
    let dashboards = dashboards();
    assert_eq!((maps.len(), dashboards.len()), (2, 2));
    for (name, dashboard) in &dashboards {
        let map = maps
            .iter()
            .find(|map| map["metadata"]["name"] == format!("keeper-injector-dashboard-{name}"));
        let map = map.unwrap_or_else(|| panic!("{name}"));
        assert_eq!(map["metadata"]["namespace"], "grafana");
        assert_eq!(map["metadata"]["labels"]["tier"], "ops");
        assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "Security");
        let text = &map["data"][format!("keeper-injector-{name}.json")];
        let installed: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
        assert_eq!(&installed, dashboard);
        assert_eq!(dashboard["uid"], format!("keeper-injector-{name}"));
    }
}

#[test]
fn panels_are_whole_and_their_queries_are_promql() {
    for (name, dashboard) in dashboards() {
        let mut ids = BTreeSet::new();
        let mut queries = Vec::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
            let place = &panel["gridPos"];
            assert!(
                place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24,
                "{panel}"
            );
            if panel["type"] == "row" {
                continue;
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{panel}");
            for target in targets {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
                queries.push(target["expr"].as_str().unwrap().to_owned());
            }
        }
        assert!(queries.len() > 10, "{name}");
        check_queries(&queries);
    }
}

#[test]
fn queries_of_the_docs_are_promql() {
    let page = fs::read_to_string(chart().join("../../docs/monitoring.md")).unwrap();
    let queries: Vec<String> = page
        .split("```promql\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect();
    assert!(queries.len() > 5, "{queries:?}");
    check_queries(&queries);
}

/// promtool knows queries as rules only.
fn check_queries(queries: &[String]) {
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(i, query)| {
            let query = query.replace("$__rate_interval", "5m");
            let rule: Map<String, Value> = [
                ("record".to_owned(), json!(format!("query:{i}"))),
                ("expr".to_owned(), json!(query)),
            ]
            .into_iter()
            .collect();
            Value::Object(rule)
        })
        .collect();
    check_rules(&[json!({"name": "queries", "rules": rules})]);
}
