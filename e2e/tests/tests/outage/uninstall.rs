//! What is left of an installation that was taken away.

use std::collections::BTreeSet;

use keeper_e2e::{kubectl, node, until};

use crate::{OWN, Webhook};

/// What an installation may consist of, in its namespace.
const NAMESPACED: &str = "secrets,configmaps,leases,serviceaccounts,services,endpointslices,deployments,pods,roles,rolebindings,poddisruptionbudgets,networkpolicies,events";
/// And beside namespaces.
const CLUSTER: &str = "mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings,clusterroles,clusterrolebindings,priorityclasses";

/// What stands in our namespace, or has our name.
fn ours() -> BTreeSet<String> {
    let in_namespace = kubectl(&["get", NAMESPACED, OWN, "--output=name"]);
    // Kubernetes makes these in every namespace, and events go by themselves.
    let others = ["configmap/kube-root-ca.crt", "serviceaccount/default"];
    let in_namespace = in_namespace
        .lines()
        .filter(|name| !others.contains(name) && !name.starts_with("event/"));
    let in_cluster = kubectl(&["get", CLUSTER, "--output=name"]);
    let in_cluster = in_cluster.lines().filter(|name| name.contains("keeper"));
    in_namespace.chain(in_cluster).map(str::to_owned).collect()
}

#[test]
fn an_uninstalled_chart_leaves_nothing_behind() {
    let _webhook = Webhook::take();
    let before = ours();
    for made_by_the_webhook in [
        "secret/keeper-injector-tls",
        "lease.coordination.k8s.io/keeper-injector",
    ] {
        assert!(before.contains(made_by_the_webhook), "{before:?}");
    }
    let _put_back = node::PutBack;
    let _ = node::client(&["helm", "uninstall", "keeper-injector", OWN, "--wait"]);
    until("nothing to be left", 90, || match ours() {
        left if left.is_empty() => Some(()),
        left => {
            eprintln!("still there: {left:?}");
            None
        }
    });
}
