//! A test's own namespace, with what an injected pod needs in it.

use crate::command::{Output, run};
use crate::keeper::Keeper;
use serde_json::{Value, json};

/// The Secret with the device config, under the name that the documentation uses.
pub const AUTH_SECRET: &str = "keeper-auth";

/// Runs kubectl, which must succeed, and returns its standard output.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn kubectl(arguments: &[&str]) -> String {
    try_kubectl(arguments, None).expect_success(&format!("kubectl {}", arguments.join(" ")))
}

/// Runs kubectl, whatever comes of it.
#[must_use]
pub fn try_kubectl(arguments: &[&str], input: Option<&str>) -> Output {
    run("kubectl", arguments, &[], input)
}

/// A namespace that lives as long as the test. When the test fails, what stands in it is printed first.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    keeper: Keeper,
}

impl Namespace {
    /// With a keeper-sim of its own, and the Secret and ConfigMap that pods need to call it.
    #[must_use]
    pub fn new(test: &str) -> Self {
        Self::with_labels(test, &[])
    }

    /// The same, with labels on the namespace.
    #[must_use]
    pub fn with_labels(test: &str, labels: &[(&str, &str)]) -> Self {
        // A name that an earlier run on the same node did not use: a namespace takes its time to go.
        let name = format!("{test}-{}", std::process::id());
        create(&name, labels);
        Self::of_manifest(&name)
    }

    /// One of a name that users are shown.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self::empty(name).with_keeper()
    }

    /// One of that name without anything in it. Where an earlier one is still going, that is waited for.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        let _ = kubectl(&[
            "wait",
            "--for=delete",
            &format!("namespace/{name}"),
            "--timeout=60s",
        ]);
        create(name, &[]);
        Self::of(name)
    }

    /// One that a manifest has made: what pods need comes into it, and it goes with the test, too.
    #[must_use]
    pub fn of_manifest(name: &str) -> Self {
        Self::of(name).with_keeper()
    }

    fn of(name: &str) -> Self {
        Self {
            keeper: Keeper::new(name),
            name: name.to_owned(),
        }
    }

    fn with_keeper(self) -> Self {
        let _ = run("cluster", &["keeper", &self.name], &[], None).expect_success("cluster keeper");
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keeper that its pods call.
    #[must_use]
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// The host that the device config in its Secret names.
    #[must_use]
    pub fn keeper_host(&self) -> String {
        format!("keeper-sim.{}.svc", self.name)
    }

    /// kubectl in this namespace, which must succeed; its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments, None)
            .expect_success(&format!("kubectl {}", arguments.join(" ")))
    }

    /// kubectl in this namespace, whatever comes of it.
    #[must_use]
    pub fn try_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let namespace = format!("--namespace={}", self.name);
        // Before the rest: what follows `--` is not kubectl's.
        let arguments: Vec<&str> = std::iter::once(namespace.as_str())
            .chain(arguments.iter().copied())
            .collect();
        try_kubectl(&arguments, input)
    }

    /// `kubectl apply` of a manifest, which must succeed.
    ///
    /// # Panics
    /// If it fails.
    pub fn apply(&self, manifest: &Value) {
        let _ = self.try_apply(manifest).expect_success("kubectl apply");
    }

    /// `kubectl apply` of a manifest, whatever comes of it.
    #[must_use]
    pub fn try_apply(&self, manifest: &Value) -> Output {
        self.try_kubectl(&["apply", "--filename=-"], Some(&manifest.to_string()))
    }

    /// An object as JSON.
    ///
    /// # Panics
    /// If it does not exist.
    #[must_use]
    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, name, "--output=json"]))
            .expect("kubectl writes JSON")
    }

    /// Waits with `kubectl wait` for a condition of an object, as in `condition=Ready`.
    ///
    /// # Panics
    /// If the condition does not come.
    pub fn wait_for(&self, object: &str, condition: &str, seconds: u64) {
        self.kubectl(&[
            "wait",
            object,
            &format!("--for={condition}"),
            &format!("--timeout={seconds}s"),
        ]);
    }

    /// Waits until a pod has succeeded.
    ///
    /// # Panics
    /// If it fails, or takes too long.
    pub fn wait_for_success(&self, pod: &str, seconds: u64) {
        self.wait_for(
            &format!("pod/{pod}"),
            "jsonpath={.status.phase}=Succeeded",
            seconds,
        );
    }

    /// What a container has written, up to now.
    #[must_use]
    pub fn logs(&self, pod: &str, container: &str) -> String {
        self.kubectl(&["logs", pod, "--container", container])
    }

    /// What the pod's sidecar serves on `/metrics`.
    #[must_use]
    pub fn metrics(&self, pod: &str) -> String {
        kubectl(&["get", "--raw", &self.metrics_path(pod)])
    }

    /// Where the API server passes that on.
    #[must_use]
    pub fn metrics_path(&self, pod: &str) -> String {
        let namespace = &self.name;
        format!("/api/v1/namespaces/{namespace}/pods/{pod}:9790/proxy/metrics")
    }

    /// What a command in a container prints.
    #[must_use]
    pub fn exec(&self, pod: &str, container: &str, command: &[&str]) -> String {
        let arguments: Vec<&str> = ["exec", pod, "--container", container, "--"]
            .iter()
            .chain(command)
            .copied()
            .collect();
        self.kubectl(&arguments)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_state();
        }
        let _ = try_kubectl(&["delete", "namespace", &self.name, "--wait=false"], None);
    }
}

impl Namespace {
    /// Prints what stands in it, for a test that failed.
    pub fn print_state(&self) {
        eprintln!("== namespace {} as it was when the test failed", self.name);
        for arguments in [
            &["describe", "pods"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
        ] {
            eprintln!("{}", self.try_kubectl(arguments, None).stdout);
        }
        let pods = self
            .try_kubectl(&["get", "pods", "--output=name"], None)
            .stdout;
        for pod in pods.lines() {
            let logs = self.try_kubectl(
                &["logs", pod, "--all-containers", "--prefix", "--tail=40"],
                None,
            );
            eprintln!("{}{}", logs.stdout, logs.stderr);
        }
    }
}

fn create(name: &str, labels: &[(&str, &str)]) {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let _ = try_kubectl(&["create", "--filename=-"], Some(&namespace.to_string()))
        .expect_success("a new namespace");
}
