//! The node from inside: its processes, its files, and the API server's audit log.

use crate::command::{Output, repository, run};
use serde_json::Value;
use std::path::PathBuf;

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
    let arguments: Vec<&str> = std::iter::once("client")
        .chain(command.iter().copied())
        .collect();
    run("cluster", &arguments, &[], None).expect_success(&command.join(" "))
}

/// The folder of the components' logs.
#[must_use]
pub fn logs() -> PathBuf {
    let state = std::env::var_os("KEEPER_CLUSTER")
        .map_or_else(|| repository().join("target/cluster"), PathBuf::from);
    state.join("log")
}

/// The audited requests that created pods in a namespace.
///
/// # Panics
/// If there is no audit log.
#[must_use]
pub fn created_pods(namespace: &str) -> Vec<Value> {
    let log =
        std::fs::read_to_string(logs().join("audit")).expect("the API server writes an audit log");
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|event| {
            event["objectRef"]["namespace"] == namespace
                && event["objectRef"]["subresource"].is_null()
        })
        .collect()
}

/// The process of a running container, by the ID that its status has.
///
/// # Panics
/// If it doesn't run.
#[must_use]
pub fn process_of(container_id: &str) -> String {
    let id = container_id.trim_start_matches("containerd://");
    let tasks = exec(&["ctr", "--namespace=k8s.io", "tasks", "ls"]);
    tasks
        .lines()
        .find(|line| line.starts_with(id))
        .and_then(|line| line.split_whitespace().nth(1))
        .expect("the container runs")
        .to_owned()
}
