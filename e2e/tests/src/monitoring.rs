//! Prometheus and Alertmanager as a cluster has them: the Prometheus operator turns what the chart makes (ServiceMonitor, PodMonitor,
//! PrometheusRule) into a config, and Debian's Prometheus runs with that, in the node's network; its targets come from [`Discovery`].
//! Of a user of kube-prometheus these two would be pods.

use crate::command::repository;
use crate::discovery::Discovery;
use crate::namespace::{kubectl, try_kubectl};
use crate::node;
use crate::poll::until;
use crate::process::Process;
use crate::reader::reader;
use keeper_walk::Page;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// Ports in the node's network that nothing else takes.
const PROMETHEUS: &str = "127.0.0.1:9390";
const ALERTMANAGER: &str = "127.0.0.1:9393";
const OPERATOR: &str = "127.0.0.1:9396";
/// Where the object `Prometheus` is, of which the operator makes a config.
const NAMESPACE: &str = "monitoring";
/// The operator's kinds that it needs for that.
const KINDS: [&str; 5] = [
    "prometheuses",
    "servicemonitors",
    "podmonitors",
    "probes",
    "prometheusrules",
];

/// A watched product. The processes end with this value, and the product is then installed as it was before.
#[derive(Debug)]
pub struct Monitoring {
    processes: Vec<Process>,
    discovery: Option<Discovery>,
    dir: TempDir,
}

impl Monitoring {
    /// Switches on what the chart has for monitoring, as the page on it tells a user to, with further values (`key=value`), and starts
    /// what works with it.
    ///
    /// # Panics
    /// If something of it does not come up.
    #[must_use]
    pub fn start(values: &[&str]) -> Self {
        Self::install_kinds();
        switch_on(values);
        Self::watch()
    }

    /// Makes the kinds of the Prometheus operator known, of which the chart makes objects.
    pub fn install_kinds() {
        let folder = node::client(&["sh", "-c", "dirname \"$(command -v operator)\""]);
        let file = |kind| format!("{}/monitoring.coreos.com_{kind}.yaml", folder.trim());
        node::install_kinds(&KINDS.map(file));
    }

    /// Starts Prometheus and Alertmanager with what the chart has made by now. Later changes of rules are not taken up.
    ///
    /// # Panics
    /// If something of it does not come up.
    #[must_use]
    pub fn watch() -> Self {
        let mut monitoring = Self {
            processes: Vec::new(),
            discovery: None,
            dir: tempfile::tempdir().expect("a temporary directory"),
        };
        monitoring.run(
            "operator",
            &["operator", &format!("--web.listen-address={OPERATOR}")],
        );
        monitoring.take_config();
        monitoring.start_alertmanager();
        monitoring.start_prometheus();
        monitoring
    }

    /// Where Prometheus is, for who stands in the node's network.
    #[must_use]
    pub fn prometheus() -> String {
        format!("http://{PROMETHEUS}")
    }

    /// Where Alertmanager is.
    #[must_use]
    pub fn alertmanager() -> String {
        format!("http://{ALERTMANAGER}")
    }

    /// What a query finds now: samples with their labels, without those that are no number.
    ///
    /// # Panics
    /// If Prometheus refuses it.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<Value> {
        let query = format!("query={query}");
        let answer = get(
            PROMETHEUS,
            "/api/v1/query",
            &["--get", "--data-urlencode", &query],
        );
        assert_eq!(answer["status"], "success", "{query}\n{answer}");
        let samples = answer["data"]["result"].as_array().cloned();
        let mut samples = samples.unwrap_or_default();
        samples.retain(|sample| sample["value"][1] != "NaN");
        samples
    }

    /// The rules that Prometheus has loaded, with what it says of them.
    #[must_use]
    pub fn rules(&self) -> Vec<Value> {
        let answer = get(PROMETHEUS, "/api/v1/rules", &[]);
        let groups = answer["data"]["groups"].as_array().cloned();
        let rules = groups.unwrap_or_default().into_iter().flat_map(|group| {
            let rules = group["rules"].as_array().cloned();
            rules.unwrap_or_default()
        });
        rules.collect()
    }

    /// The alert of that name, on that namespace or on none, that Alertmanager would tell of, if it has one.
    #[must_use]
    pub fn alert(&self, name: &str, namespace: Option<&str>) -> Option<Value> {
        let alerts = get(ALERTMANAGER, "/api/v2/alerts", &[]);
        alerts
            .as_array()?
            .iter()
            .find(|alert| {
                let labels = &alert["labels"];
                labels["alertname"] == name && labels["namespace"].as_str() == namespace
            })
            .cloned()
    }

    /// The operator's config, with what only a container would have put into it.
    fn take_config(&mut self) {
        let api = json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": "test", "namespace": NAMESPACE},
            "spec": {
                // It runs as a process of ours; the operator's config is for its version.
                "replicas": 0,
                "version": "v2.42.0",
                "evaluationInterval": "5s",
                "serviceMonitorSelector": {}, "serviceMonitorNamespaceSelector": {},
                "podMonitorSelector": {}, "podMonitorNamespaceSelector": {},
                "ruleSelector": {}, "ruleNamespaceSelector": {},
                "additionalAlertManagerConfigs": {"name": "alertmanagers", "key": "config"},
            },
        });
        let alertmanagers = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "alertmanagers", "namespace": NAMESPACE},
            "stringData": {"config": format!("- static_configs: [{{targets: ['{ALERTMANAGER}']}}]")},
        });
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
        for object in [namespace, alertmanagers, api] {
            let _ = try_kubectl(&["apply", "--filename=-"], Some(&object.to_string()))
                .expect_success("kubectl apply");
        }
        let config = until("the operator's config", 60, || {
            let packed = try_kubectl(
                &[
                    "get",
                    "secret",
                    "prometheus-test",
                    "--namespace=monitoring",
                    r"--output=jsonpath={.data.prometheus\.yaml\.gz}",
                ],
                None,
            );
            let config = unpack(&packed.stdout);
            ["serviceMonitor/", "podMonitor/", "rule_files"]
                .iter()
                .all(|part| config.contains(part))
                .then_some(config)
        });
        let rules = kubectl(&[
            "get",
            "configmap",
            "prometheus-test-rulefiles-0",
            "--namespace=monitoring",
            "--output=json",
        ]);
        let rules: Value = serde_json::from_str(&rules).expect("kubectl writes JSON");
        let folder = self.dir.path().join("rules");
        fs::create_dir(&folder).expect("a folder");
        for (name, text) in rules["data"].as_object().expect("it has files") {
            fs::write(folder.join(name), text.as_str().expect("text")).expect("a file");
        }
        let config = config
            .replace("$(POD_NAME)", "test")
            .replace("$(SHARD)", "0")
            .replace(
                "/etc/prometheus/rules/prometheus-test-rulefiles-0",
                folder.to_str().expect("a path in UTF-8"),
            );
        let mut config: Value = serde_saphyr::from_str(&config).expect("the operator writes YAML");
        self.discovery = Some(Discovery::start(&mut config, self.dir.path()));
        // JSON is YAML.
        fs::write(self.dir.path().join("prometheus.yaml"), config.to_string()).expect("a file");
    }

    fn start_alertmanager(&mut self) {
        let config = self.dir.path().join("alertmanager.yaml");
        fs::write(
            &config,
            "{route: {receiver: nobody}, receivers: [{name: nobody}]}",
        )
        .expect("a file");
        let data = self.dir.path().join("alertmanager");
        self.run(
            "alertmanager",
            &[
                "prometheus-alertmanager",
                &format!("--config.file={}", config.display()),
                &format!("--storage.path={}", data.display()),
                &format!("--web.listen-address={ALERTMANAGER}"),
                "--cluster.listen-address=",
            ],
        );
        self.wait_until_ready(ALERTMANAGER);
    }

    fn start_prometheus(&mut self) {
        let config = self.dir.path().join("prometheus.yaml");
        let data = self.dir.path().join("data");
        self.run(
            "prometheus",
            &[
                "prometheus",
                &format!("--config.file={}", config.display()),
                &format!("--storage.tsdb.path={}", data.display()),
                &format!("--web.listen-address={PROMETHEUS}"),
                // As often as the shortest `for` of a test.
                "--rules.alert.resend-delay=5s",
            ],
        );
        self.wait_until_ready(PROMETHEUS);
    }

    fn wait_until_ready(&mut self, address: &str) {
        until(address, 60, || {
            for process in &mut self.processes {
                process.must_run();
            }
            let ready = format!("http://{address}/-/ready");
            node::try_client(&["curl", "--silent", "--fail", &ready])
                .success
                .then_some(())
        });
    }

    fn run(&mut self, name: &str, command: &[&str]) {
        let log = self.dir.path().join(format!("{name}.log"));
        self.processes.push(Process::start(command, &log));
    }

    fn print_state(&self) {
        for entry in fs::read_dir(self.dir.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<_> = log.lines().rev().take(20).collect();
                eprintln!("== {}", path.display());
                lines.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
        let targets = get(PROMETHEUS, "/api/v1/targets", &[]);
        let targets = targets["data"]["activeTargets"].as_array().cloned();
        for target in targets.unwrap_or_default() {
            eprintln!(
                "{} {} {}",
                target["scrapeUrl"], target["health"], target["lastError"]
            );
        }
    }
}

impl Drop for Monitoring {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_state();
        }
        self.processes.clear();
        self.discovery = None;
        drop(node::PutBack);
        let _ = try_kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"], None);
    }
}

/// What the page on monitoring tells a user to do, with further values.
fn switch_on(values: &[&str]) {
    let page = Page::read(repository(), "docs/monitoring.md").expect("a page");
    let reader = reader("default");
    if let Err(failure) = reader.walk(&page, &page.steps) {
        panic!("{failure}");
    }
    let chart = repository().join("chart/keeper-injector");
    let chart = chart.to_str().expect("a path in UTF-8");
    let mut command = vec![
        "helm",
        "upgrade",
        "keeper-injector",
        chart,
        "--namespace=keeper-security",
        "--reset-then-reuse-values",
        "--wait",
        "--timeout=2m",
    ];
    command.extend(values.iter().flat_map(|value| ["--set", value]));
    let _ = node::client(&command);
}

/// What the base64 of a gzip file holds; nothing, if it is none.
fn unpack(packed: &str) -> String {
    let script = "printf %s \"$1\" | base64 --decode | gunzip";
    let output = Command::new("sh")
        .args(["-c", script, "sh", packed])
        .output()
        .expect("sh can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn get(address: &str, path: &str, options: &[&str]) -> Value {
    let url = format!("http://{address}{path}");
    let command: Vec<&str> = ["curl", "--silent", "--max-time", "10"]
        .iter()
        .chain(options)
        .copied()
        .chain([url.as_str()])
        .collect();
    serde_json::from_str(&node::try_client(&command).stdout).unwrap_or_default()
}
