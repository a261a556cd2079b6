//! The second release of the chart.

use std::collections::BTreeSet;

use keeper_e2e::webhook::OWN;
use keeper_e2e::{kubectl, node, repository, try_kubectl};

/// Its name, which is that of its objects, too.
pub(crate) const RELEASE: &str = "keeper-injector-canary";
/// What its sidecars request, so that they are told from the other release's.
pub(crate) const CPU: &str = "7m";

/// Everything that the chart makes beside what stands in namespaces of applications, and what the webhook makes itself.
const KINDS: &str = "deployments,services,configmaps,secrets,leases,serviceaccounts,roles,rolebindings,\
    mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicies,\
    validatingadmissionpolicybindings,clusterroles,clusterrolebindings";

/// Installed beside the node's own release, in the same namespace, until the test is over.
pub(crate) struct Canary;

impl Canary {
    /// Its `helm test` looks at this namespace.
    pub(crate) fn install(tests: &str) -> Self {
        let canary = Self;
        let chart = repository().join("chart/keeper-injector");
        let values = repository().join("e2e/cluster/manifests/values.yaml");
        let set = format!(
            "--set=revision=canary,replicaCount=1,sidecarResources.requests.cpu={CPU},tests.namespace={tests}"
        );
        let _ = node::client(&[
            "helm",
            "install",
            RELEASE,
            chart.to_str().unwrap(),
            OWN,
            "--values",
            values.to_str().unwrap(),
            &set,
            "--wait",
            "--timeout=2m",
        ]);
        canary
    }

    pub(crate) fn uninstall(&self) {
        let _ = node::client(&["helm", "uninstall", RELEASE, OWN, "--wait"]);
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let deployment = format!("deployment/{RELEASE}");
            for arguments in [
                &["get", "pods", OWN, "--output=wide"][..],
                &["logs", OWN, &deployment, "--tail=40"],
            ] {
                let said = try_kubectl(arguments, None);
                eprintln!("{}{}", said.stdout, said.stderr);
            }
        }
        let again = ["helm", "uninstall", RELEASE, OWN, "--ignore-not-found"];
        let _ = node::try_client(&again);
    }
}

/// Its objects.
pub(crate) fn objects() -> BTreeSet<String> {
    let all = kubectl(&["get", KINDS, OWN, "--output=name"]);
    // helm's own record of it is a Secret.
    let ours = all
        .lines()
        .filter(|name| name.contains(RELEASE) && !name.contains("sh.helm.release"));
    ours.map(str::to_owned).collect()
}
