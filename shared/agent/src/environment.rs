//! What admission put into our container's environment.

use keeper_contract::AgentConfig;
use keeper_contract::layout::{CONFIG_ENV, POD_NAME_ENV, POD_NAMESPACE_ENV, POD_UID_ENV};

/// The pod that we run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID, which decides its slot.
    pub uid: String,
}

/// Why the environment is not what admission writes.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is missing.
    #[error(
        "the environment variable {0} is not set: this program runs in a pod that the webhook has injected"
    )]
    Missing(&'static str),
    /// The config is of another version, or no JSON.
    #[error("{CONFIG_ENV} is not a config of this version: {0}. Recreate the pod")]
    Config(serde_json::Error),
}

/// Reads the config and the pod's identity; `variable` is the environment.
///
/// # Errors
/// A variable that is missing, or a config that doesn't parse.
pub fn read(
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<(AgentConfig, Pod), EnvironmentError> {
    let get = |name| variable(name).ok_or(EnvironmentError::Missing(name));
    let config = serde_json::from_str(&get(CONFIG_ENV)?).map_err(EnvironmentError::Config)?;
    let pod = Pod {
        name: get(POD_NAME_ENV)?,
        namespace: get(POD_NAMESPACE_ENV)?,
        uid: get(POD_UID_ENV)?,
    };
    Ok((config, pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"auth": {"method": "secret", "secretName": "keeper-auth", "file": "/keeper/auth/config"},
        "directories": [], "outputs": [], "refreshIntervalSeconds": 15, "failOnError": true, "cacheSeconds": 86400, "onStale": "serve", "strictLookup": false,
        "fileMode": "0444", "logLevel": "info", "logFormat": "json"}"#;

    fn environment(missing: &str, config: &str) -> Result<(AgentConfig, Pod), EnvironmentError> {
        read(|name| match name {
            name if name == missing => None,
            CONFIG_ENV => Some(config.to_owned()),
            name => Some(name.to_lowercase()),
        })
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let (config, pod) = environment("", CONFIG).unwrap();
        assert_eq!(config.refresh_interval_seconds, 15);
        assert_eq!(pod.uid, "keeper_pod_uid");
        for name in [CONFIG_ENV, POD_NAME_ENV, POD_NAMESPACE_ENV, POD_UID_ENV] {
            let error = environment(name, CONFIG).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        for config in ["", "{}", "\0", &CONFIG.replace("outputs", "output")] {
            let error = environment("", config).unwrap_err();
            assert!(matches!(error, EnvironmentError::Config(_)), "{config}");
        }
    }
}
