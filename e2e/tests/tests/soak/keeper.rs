//! The soak's keeper-sim: its vault, and what is done to it through its admin port.

use keeper_e2e::{AUTH_SECRET, Namespace, kubectl, try_kubectl, until};
use keeper_sim::{Edit, Fault, LoggedRequest};
use keeper_soak::Vault;
use serde_json::{Value, json};

/// The admin port, through the API server.
pub(crate) struct Admin(String);

/// Gives the keeper-sim of a namespace another vault, and each of its clients a Secret.
pub(crate) fn install(namespace: &Namespace, vault: &Vault, clients: &[&str]) -> Admin {
    let name = namespace.name();
    let patch = json!({"data": {"vault.yaml": vault.to_yaml(clients)}});
    namespace.kubectl(&["patch", "configmap", "vault", &format!("--patch={patch}")]);
    namespace.kubectl(&["rollout", "restart", "deployment/keeper-sim"]);
    namespace.kubectl(&[
        "rollout",
        "status",
        "deployment/keeper-sim",
        "--timeout=60s",
    ]);
    let admin = Admin(format!(
        "/api/v1/namespaces/{name}/services/http:keeper-sim:8444/proxy"
    ));
    // The Service reaches a new pod a moment later.
    until("the soak's keeper-sim", 30, || {
        let known = namespace.keeper().try_run(&["clients"]);
        clients
            .iter()
            .all(|client| known.stdout.contains(client))
            .then_some(())
    });
    let ca = namespace.keeper().run(&["ca"]);
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "keeper-ca"}, "data": {"ca.crt": ca},
    }));
    for client in clients {
        let config = namespace.keeper().run(&["config", "--client", client]);
        namespace.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret(client)}, "stringData": {"config": config},
        }));
    }
    admin
}

/// The Secret with the device config of a client.
pub(crate) fn secret(client: &str) -> String {
    format!("{AUTH_SECRET}-{client}")
}

impl Admin {
    pub(crate) fn edit(&self, edit: &Edit) {
        self.post("edits", &serde_json::to_string(edit).unwrap());
    }

    pub(crate) fn fault(&self, fault: &Fault) {
        self.post("faults", &serde_json::to_string(fault).unwrap());
    }

    pub(crate) fn clear_faults(&self) {
        let _ = kubectl(&["delete", "--raw", &self.path("faults")]);
    }

    pub(crate) fn set_revoked(&self, client: &str, revoked: bool) {
        let what = if revoked { "revoke" } else { "unrevoke" };
        self.post(&format!("clients/{client}/{what}"), "");
    }

    /// All calls so far that fetched secrets, or tried to.
    pub(crate) fn fetches(&self) -> Vec<LoggedRequest> {
        let text = kubectl(&["get", "--raw", &self.path("requests")]);
        let requests: Vec<Value> = serde_json::from_str(&text).unwrap();
        let requests = requests.into_iter().map(serde_json::from_value);
        let requests: Result<Vec<LoggedRequest>, _> = requests.collect();
        let mut requests = requests.unwrap();
        requests.retain(|request| request.endpoint == "get_secret");
        requests
    }

    fn post(&self, path: &str, body: &str) {
        let arguments = ["create", "--raw", &self.path(path), "--filename=-"];
        let _ = try_kubectl(&arguments, Some(body)).expect_success(path);
    }

    fn path(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }
}
