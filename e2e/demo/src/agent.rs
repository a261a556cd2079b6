//! The kubelet's part: from the injected container in a patched pod to a process on this machine.

use std::path::Path;

use anyhow::{Context as _, ensure};
use keeper_contract::{AgentConfig, Auth, layout};
use serde_json::Value;

/// The injected container of `pod`.
pub(crate) fn container(pod: &Value) -> anyhow::Result<&Value> {
    pod.pointer("/spec/initContainers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|container| {
            container.get("name").and_then(Value::as_str) == Some(layout::SIDECAR_CONTAINER)
        })
        .context("the patched pod has no injected container")
}

/// The config that admission wrote into `container`.
///
/// The kubelet expands `$(NAME)` in an environment variable and reads `$$` as `$`, so admission doubles every `$`.
pub(crate) fn config(container: &Value) -> anyhow::Result<AgentConfig> {
    let text = container
        .get("env")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|variable| variable.get("name").and_then(Value::as_str) == Some(layout::CONFIG_ENV))
        .and_then(|variable| variable.get("value")?.as_str())
        .context("the injected container has no config")?;
    let expanded = text.replace("$$", "$");
    ensure!(
        expanded.matches('$').count() * 2 == text.matches('$').count(),
        "a single $ in the config would be expanded by the kubelet"
    );
    Ok(serde_json::from_str(&expanded)?)
}

/// The same config for a process that isn't in the pod. Three things differ, and only they are replaced: the two
/// files that Kubernetes would mount, and the port, which on a shared machine someone else may have.
pub(crate) fn on_this_machine(
    mut config: AgentConfig,
    device_config: &Path,
    ca: &Path,
    metrics_port: u16,
) -> AgentConfig {
    let Auth::Secret { file, .. } = &mut config.auth;
    *file = device_config.display().to_string();
    config.ca_cert_file = Some(ca.display().to_string());
    config.metrics_port = Some(metrics_port);
    config
}

/// The pod with its agent config cut short, for showing the rest of it.
pub(crate) fn with_config_elided(pod: &Value) -> Value {
    let mut pod = pod.clone();
    let containers = pod
        .pointer_mut("/spec/initContainers")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for variable in containers
        .filter_map(|container| container.get_mut("env")?.as_array_mut())
        .flatten()
    {
        if variable.get("name").and_then(Value::as_str) == Some(layout::CONFIG_ENV)
            && let Some(value) = variable.get_mut("value")
        {
            *value = Value::from("… JSON, shown below …");
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn container_with(config: &str) -> Value {
        json!({"name": "keeper-sidecar", "env": [{"name": "KEEPER_AGENT_CONFIG", "value": config}]})
    }

    const CONFIG: &str = r#"{"auth": {"method": "secret", "secretName": "keeper-auth", "file": "/keeper/auth/config"},
        "directories": [], "outputs": [], "refreshIntervalSeconds": 15, "failOnError": true, "cacheSeconds": 86400, "onStale": "serve", "strictLookup": false, "fileMode": "0444",
        "logLevel": "info", "logFormat": "json"}"#;

    #[test]
    fn doubled_dollars_are_read_as_the_kubelet_reads_them() {
        let doubled = CONFIG.replace("keeper-auth", "a$$(B)c");
        let Auth::Secret { secret_name, .. } = config(&container_with(&doubled)).unwrap().auth;
        assert_eq!(secret_name, "a$(B)c");
        assert!(config(&container_with(&CONFIG.replace("keeper-auth", "a$(B)c"))).is_err());
    }

    #[test]
    fn only_mounts_and_port_are_replaced() {
        let before = config(&container_with(CONFIG)).unwrap();
        let after = on_this_machine(before.clone(), Path::new("/d"), Path::new("/c"), 1);
        let Auth::Secret { secret_name, file } = &after.auth;
        assert_eq!((secret_name.as_str(), file.as_str()), ("keeper-auth", "/d"));
        assert_eq!(after.ca_cert_file.as_deref(), Some("/c"));
        assert_eq!(after.metrics_port, Some(1));
        assert_eq!(
            after.refresh_interval_seconds,
            before.refresh_interval_seconds
        );
    }

    #[test]
    fn the_config_is_elided_and_nothing_else() {
        let pod = json!({"spec": {"initContainers": [container_with(CONFIG)]}});
        let shown = with_config_elided(&pod).to_string();
        assert!(!shown.contains("refreshIntervalSeconds"));
        assert!(shown.contains("KEEPER_AGENT_CONFIG"));
    }
}
