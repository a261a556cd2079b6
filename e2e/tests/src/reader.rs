//! Somebody who follows a page on the node.

use crate::command::repository;
use crate::node;
use keeper_walk::Shell;

/// A shell whose kubectl and helm talk to the node, and work in that namespace unless they are told another one. keeper-sim is that of the
/// namespace, too.
///
/// # Panics
/// If it can't be made.
#[must_use]
pub fn reader(namespace: &str) -> Shell {
    let shell = Shell::new(repository()).expect("a folder");
    let config = shell.folder().join(".kubeconfig");
    let config = config.to_str().expect("a path in UTF-8");
    let script = r#"kubectl config view --raw >"$1" && kubectl --kubeconfig "$1" config set-context --current --namespace "$2""#;
    let _ = node::client(&["bash", "-c", script, "bash", config, namespace]);
    let cluster = repository().join("e2e/cluster/cluster");
    let cluster = cluster.to_str().expect("a path in UTF-8");
    shell
        .launched_by(&[cluster, "client", "env", &format!("KUBECONFIG={config}")])
        .with_variable("NAMESPACE", namespace)
        .with_variable("KEEPER_SIM_NAMESPACE", namespace)
}
