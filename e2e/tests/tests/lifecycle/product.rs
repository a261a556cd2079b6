//! The product as helm has it, and as it was again when a test is over.

use std::path::Path;

use keeper_e2e::webhook::{OWN, Webhook};
use keeper_e2e::{kubectl, node, repository};
use serde_json::Value;

/// The release, and its Deployment.
pub(crate) const NAME: &str = "keeper-injector";

/// Held by one test at a time.
pub(crate) struct Product {
    _alone: Webhook,
}

impl Product {
    pub(crate) fn take() -> Self {
        Self {
            _alone: Webhook::take(),
        }
    }

    /// The revision that is deployed.
    pub(crate) fn revision(&self) -> u64 {
        let status = helm(&["status", NAME, "--output=json"]);
        let status: Value = serde_json::from_str(&status).expect("helm writes JSON");
        assert_eq!(status["info"]["status"], "deployed");
        status["version"].as_u64().expect("a number")
    }

    /// The chart that is deployed, with its version.
    pub(crate) fn chart(&self) -> String {
        let list = helm(&["list", "--output=json"]);
        let list: Value = serde_json::from_str(&list).expect("helm writes JSON");
        list[0]["chart"].as_str().expect("a release").to_owned()
    }

    /// What the API server trusts, and the certificate that is served.
    pub(crate) fn certificates(&self) -> (String, String) {
        let bundle = "--output=jsonpath={.webhooks[0].clientConfig.caBundle}";
        let certificate = "--output=jsonpath={.data.tls\\.crt}";
        (
            kubectl(&["get", "mutatingwebhookconfiguration", NAME, bundle]),
            kubectl(&["get", "secret", "keeper-injector-tls", OWN, certificate]),
        )
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        // A release that doesn't deploy isn't upgraded, and one that is gone is installed.
        if std::thread::panicking() {
            let _ = node::try_client(&["helm", "uninstall", NAME, OWN, "--wait"]);
        }
        let installed = node::install_chart();
        assert!(
            installed.success || std::thread::panicking(),
            "{}",
            installed.stderr
        );
    }
}

/// helm in the product's namespace, which must succeed; its standard output.
pub(crate) fn helm(arguments: &[&str]) -> String {
    node::client(&[&["helm"], arguments, &[OWN]].concat())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// The chart of this project.
pub(crate) fn chart() -> String {
    text(&repository().join("chart/keeper-injector")).to_owned()
}

/// How the node installs it.
pub(crate) fn usual_values() -> String {
    let path = repository().join("e2e/cluster/manifests/values.yaml");
    format!("--values={}", text(&path))
}
