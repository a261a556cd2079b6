//! The node from inside: its processes, its files, and the API server's audit log.

use crate::command::{Output, repository, run};
use crate::namespace::{kubectl, try_kubectl};
use crate::poll::until;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Runs a command among the node's processes, which must succeed; its standard output.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn exec(command: &[&str]) -> String {
    try_exec(command).expect_success(&command.join(" "))
}

/// The same, whatever comes of it.
#[must_use]
pub fn try_exec(command: &[&str]) -> Output {
    let arguments: Vec<&str> = std::iter::once("exec")
        .chain(command.iter().copied())
        .collect();
    run("cluster", &arguments, &[], None)
}

/// Runs a command of this machine in the node's network, where pods can be reached; its standard output.
///
/// # Panics
/// If it fails.
#[must_use]
pub fn client(command: &[&str]) -> String {
    try_client(command).expect_success(&command.join(" "))
}

/// The same, whatever comes of it.
#[must_use]
pub fn try_client(command: &[&str]) -> Output {
    let arguments: Vec<&str> = std::iter::once("client")
        .chain(command.iter().copied())
        .collect();
    run("cluster", &arguments, &[], None)
}

/// Installs the chart as it was when the node came up, or takes back what was changed since.
pub fn install_chart() -> Output {
    run("cluster", &["install"], &[], None)
}

/// Does the same as it goes: whatever became of the test that changed or removed it.
#[derive(Debug)]
pub struct PutBack;

impl Drop for PutBack {
    fn drop(&mut self) {
        let installed = install_chart();
        assert!(
            installed.success || std::thread::panicking(),
            "{}",
            installed.stderr
        );
    }
}

/// Makes the kinds of other operators known to the API server, of which the chart makes objects.
pub fn install_definitions() {
    let _ = run("cluster", &["definitions"], &[], None).expect_success("cluster definitions");
}

/// Makes the kinds that these files define known to the API server, and waits until it serves them.
///
/// # Panics
/// If it doesn't.
pub fn install_kinds(files: &[String]) {
    for file in files {
        let _ = kubectl(&["apply", "--server-side", "--filename", file]);
    }
    // kubectl's own wait fails if it looks before there is any condition.
    let established = "--for=condition=Established";
    for file in files {
        let wait = ["wait", established, "--timeout=1s", "--filename", file];
        until("a kind to be served", 60, || {
            try_kubectl(&wait, None).success.then_some(())
        });
    }
}

/// Puts a further image of `images/build` into the node's registry.
pub fn push_image(name: &str) {
    let _ = run("cluster", &["image", name], &[], None).expect_success("cluster image");
}

/// The node's address, which pods reach.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn address() -> IpAddr {
    let path = "--output=jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}";
    let address = kubectl(&["get", "nodes", path]);
    address.parse().expect("the node has an address")
}

/// The folder of the components' logs.
#[must_use]
pub fn logs() -> PathBuf {
    state().join("log")
}

/// The node's root directory, for this machine's root: quicker than a command in there.
///
/// # Panics
/// If no node is up.
#[must_use]
pub fn root() -> PathBuf {
    supervisor().join("root")
}

/// The node's network, to be entered by this machine's root.
///
/// # Panics
/// If no node is up.
#[must_use]
pub fn network() -> PathBuf {
    supervisor().join("ns/net")
}

/// Moves the thread that calls it into the node's network.
///
/// # Panics
/// If no node is up, or this isn't root.
pub fn enter() {
    let network = std::fs::File::open(network()).expect("the node has a network");
    keeper_load::enter(&network);
}

/// The process that all others of the node belong to.
fn supervisor() -> PathBuf {
    let supervisor =
        std::fs::read_to_string(state().join("supervisor")).expect("the node has a supervisor");
    let pid = supervisor
        .split_whitespace()
        .next()
        .expect("its file has the process");
    Path::new("/proc").join(pid)
}

/// What a process of the node sees as its root directory.
#[must_use]
pub fn root_of(process: &str) -> PathBuf {
    root().join("proc").join(process).join("root")
}

/// This machine's number of a process of the node that is alone in its container.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn process_here(process: &str) -> String {
    let processes = std::fs::read_to_string(memory_cgroup(process).join("cgroup.procs"));
    processes.expect("the process runs").trim().to_owned()
}

/// The directory of the memory cgroup that a process of the node is in: of version 1 if there is one, else of version 2.
///
/// # Panics
/// If the process is gone.
#[must_use]
pub fn memory_cgroup(process: &str) -> PathBuf {
    let file = root().join("proc").join(process).join("cgroup");
    let lines = std::fs::read_to_string(file).expect("the process runs");
    let path = |marker: &str| {
        lines
            .lines()
            .find_map(|line| line.split_once(marker))
            .map(|(_, path)| path.trim_start_matches('/'))
    };
    let top = Path::new("/sys/fs/cgroup");
    match (path(":memory:"), path("0::")) {
        (Some(path), _) => top.join("memory").join(path),
        (None, Some(path)) => top.join(path),
        (None, None) => panic!("no cgroup in {lines}"),
    }
}

/// The audited requests that created pods in a namespace.
///
/// # Panics
/// If there is no audit log.
#[must_use]
pub fn created_pods(namespace: &str) -> Vec<Value> {
    let is_pod = |event: &Value| {
        let object = &event["objectRef"];
        event["verb"] == "create" && object["resource"] == "pods" && object["subresource"].is_null()
    };
    let mut events = audited(namespace);
    events.retain(is_pod);
    events
}

/// All audited requests in a namespace.
///
/// # Panics
/// If there is no audit log.
#[must_use]
pub fn audited(namespace: &str) -> Vec<Value> {
    let log =
        std::fs::read_to_string(logs().join("audit")).expect("the API server writes an audit log");
    log.lines()
        .filter(|line| line.contains(namespace))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| event["objectRef"]["namespace"] == namespace)
        .collect()
}

fn state() -> PathBuf {
    std::env::var_os("KEEPER_CLUSTER")
        .map_or_else(|| repository().join("target/cluster"), PathBuf::from)
}

/// The process of a running container, by the ID that its status has.
///
/// # Panics
/// If it doesn't run.
#[must_use]
pub fn process_of(container_id: &str) -> String {
    try_process_of(container_id).expect("the container runs")
}

/// The same; none if it doesn't run.
///
/// # Panics
/// If containerd doesn't answer.
#[must_use]
pub fn try_process_of(container_id: &str) -> Option<String> {
    let id = container_id.trim_start_matches("containerd://");
    let tasks = exec(&["ctr", "--namespace=k8s.io", "tasks", "ls"]);
    let mut task = tasks
        .lines()
        .find(|line| line.starts_with(id))?
        .split_whitespace()
        .skip(1);
    task.next().map(str::to_owned)
}
