//! Pods for tests, as manifests.

use crate::namespace::AUTH_SECRET;
use serde_json::{Map, Value, json};

/// The container that stands for the user's application.
pub const APP: &str = "app";

/// A pod that asks for injection, with further annotations (without their prefix), whose application is a shell script.
#[must_use]
pub fn annotated(name: &str, annotations: &[(&str, &str)], script: &str) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (key, value) in [("inject", "true"), ("ksm-config", AUTH_SECRET)]
        .iter()
        .chain(annotations)
    {
        all.insert(format!("keeper.security/{key}"), json!(value));
    }
    let mut pod = plain(name, script);
    pod["metadata"]["annotations"] = Value::Object(all);
    pod
}

/// A pod without any annotation.
#[must_use]
pub fn plain(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            // A script that is PID 1 hears no SIGTERM; nobody waits for it here.
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": APP, "image": "busybox", "command": ["/bin/sh", "-c", script]}],
        },
    })
}

/// The same pod, run once.
#[must_use]
pub fn once(mut pod: Value) -> Value {
    pod["spec"]["restartPolicy"] = json!("Never");
    pod
}

/// The application's container of a pod as the API server has it.
#[must_use]
pub fn app(pod: &Value) -> &Value {
    container(pod, APP)
}

/// A container or init container by name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    containers(pod)
        .find(|container| container["name"] == name)
        .unwrap_or_else(|| panic!("the pod has a container {name}"))
}

/// All containers of a pod, init containers first.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// The containers that the webhook put in.
pub fn injected(pod: &Value) -> impl Iterator<Item = &Value> {
    containers(pod).filter(|container| {
        container["image"]
            .as_str()
            .is_some_and(|image| image.contains("keeper/injector-sidecar"))
    })
}

/// The status of a container or init container.
#[must_use]
pub fn status<'a>(pod: &'a Value, name: &str) -> &'a Value {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .find(|status| status["name"] == name)
        .unwrap_or(&Value::Null)
}
