//! Helm as the tests use it: values in, objects or its complaint out.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The namespace that the tests install into, unless they say otherwise.
pub(crate) const NAMESPACE: &str = "keeper-security";

/// The chart's folder.
pub(crate) fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../keeper-injector")
}

/// A file of the chart.
pub(crate) fn read(file: &str) -> String {
    let path = chart().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects that `helm install` with these values (YAML) would make.
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    /// The only object of a kind.
    pub(crate) fn the(&self, kind: &str) -> &Value {
        let found = self.of(kind);
        assert_eq!(
            found.len(),
            1,
            "there should be one {kind}, and there are {}",
            found.len()
        );
        found[0]
    }

    /// All objects of a kind.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Value> {
        self.0
            .iter()
            .filter(|object| object["kind"] == kind)
            .collect()
    }
}

/// Renders the chart in the documented namespace; panics with helm's message if it refuses.
pub(crate) fn render(values: &str) -> Objects {
    render_in(NAMESPACE, values)
}

/// Renders the chart in another namespace.
pub(crate) fn render_in(namespace: &str, values: &str) -> Objects {
    let text = template(&chart(), namespace, values)
        .unwrap_or_else(|error| panic!("helm refused:\n{values}\n{error}"));
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("helm should render YAML");
    Objects(objects)
}

/// What helm says against these values.
pub(crate) fn refusal(values: &str) -> String {
    match template(&chart(), NAMESPACE, values) {
        Ok(_) => panic!("helm accepted:\n{values}"),
        Err(message) => message,
    }
}

/// `helm template`, as for the oldest Kubernetes that the chart takes.
pub(crate) fn template(chart: &Path, namespace: &str, values: &str) -> Result<String, String> {
    run(
        &[
            "template",
            "keeper-injector",
            chart.to_str().unwrap(),
            "--namespace",
            namespace,
        ],
        values,
    )
}

/// `helm lint --strict`.
pub(crate) fn lint(values: &str) -> Result<String, String> {
    run(&["lint", chart().to_str().unwrap(), "--strict"], values)
}

fn run(arguments: &[&str], values: &str) -> Result<String, String> {
    let mut helm = Command::new("helm")
        .args(arguments)
        .args(["--kube-version", "1.30.0", "--values", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("helm should be in PATH: run these tests by chart/test");
    helm.stdin
        .take()
        .unwrap()
        .write_all(values.as_bytes())
        .unwrap();
    let output = helm.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stdout) + &text(output.stderr))
    }
}
