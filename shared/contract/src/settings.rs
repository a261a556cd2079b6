//! The cluster's settings, as the chart writes them. What was written ([`Raw`]) and what runs
//! ([`Settings`]) are two types with one conversion, whose errors name the key.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::agent_config::LogFormat;
use crate::policy::{Policy, PolicyError};
use crate::problem::{Problem, quoted};
use crate::proxy::{NoProxy, NoProxyError};
use crate::quantity::{Quantity, QuantityError};
use crate::request;

/// Namespaces whose pods are never touched, whatever anybody says.
const NEVER: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// What the cluster's administrator decided.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Settings {
    /// Image of the injected containers.
    pub sidecar_image: String,
    /// When the kubelet pulls it; none: the kubelet's own rule.
    pub image_pull_policy: Option<PullPolicy>,
    /// The injector's namespace.
    pub own_namespace: String,
    /// Namespaces whose pods are left alone, beside the system's and the injector's own.
    pub excluded_namespaces: BTreeSet<String>,
    /// The release's revision, which pods get as a label; none: the one that has none.
    pub revision: Option<String>,
    /// Cluster-wide defaults of annotations: name without prefix, value. Each one parses.
    pub defaults: BTreeMap<String, String>,
    /// Hosts that are called without a proxy.
    pub no_proxy: NoProxy,
    /// Resources of the injected containers.
    pub resources: Resources,
    /// Shape of the agents' log lines.
    pub log_format: LogFormat,
    /// What pods and namespaces may not say.
    pub policy: Policy,
    /// Whether pods may use `fileKeyRef` where the API server is older than 1.38, and has it all the same.
    pub file_key_ref: bool,
}

/// When the kubelet pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// At each start.
    Always,
    /// When it is absent.
    IfNotPresent,
    /// Never.
    Never,
}

/// Resources of the injected containers, where no annotation says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// CPU request.
    pub cpu_request: Quantity,
    /// CPU limit; none: unlimited.
    pub cpu_limit: Option<Quantity>,
    /// Memory request.
    pub memory_request: Quantity,
    /// Memory limit; none: 16Mi and the size of the pod's volume.
    pub memory_limit: Option<Quantity>,
}

/// Settings that cannot run; the text names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No image, or one that cannot be a reference.
    #[error("sidecarImage: {0} is no image reference")]
    Image(String),
    /// A namespace's name.
    #[error("{key}: {value} is no namespace's name")]
    Namespace {
        /// The key.
        key: &'static str,
        /// What stands there.
        value: String,
    },
    /// An entry of the hosts without a proxy.
    #[error("noProxy: {0}")]
    NoProxy(#[from] NoProxyError),
    /// What can't be a label's value.
    #[error("revision: {0} is no revision: lower case letters, digits and dashes between them")]
    Revision(String),
    /// A resource's amount.
    #[error("resources.{key}: {value} {error}")]
    Quantity {
        /// The key below `resources`.
        key: &'static str,
        /// What stands there.
        value: String,
        /// Why it is none.
        error: QuantityError,
    },
    /// What pods may not say.
    #[error("policy.{0}")]
    Policy(#[from] PolicyError),
    /// A request over its limit.
    #[error("resources.{0}Request is larger than resources.{0}Limit")]
    RequestOverLimit(&'static str),
    /// Defaults that no pod could use.
    #[error("{}", default_problems(.0))]
    Defaults(Vec<Problem>),
}

fn default_problems(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|p| {
            let name = p.annotation.trim_start_matches(crate::annotations::PREFIX);
            format!("defaults.{name}: {}", p.message)
        })
        .collect();
    lines.join("\n")
}

impl Settings {
    /// Whether the pods of `namespace` are left alone.
    #[must_use]
    pub fn leaves_alone(&self, namespace: &str) -> bool {
        NEVER.contains(&namespace)
            || namespace == self.own_namespace
            || self.excluded_namespaces.contains(namespace)
    }
}

/// What was written.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    sidecar_image: String,
    #[serde(default)]
    image_pull_policy: Option<PullPolicy>,
    own_namespace: String,
    #[serde(default)]
    excluded_namespaces: Vec<String>,
    #[serde(default)]
    revision: Option<String>,
    #[serde(default)]
    defaults: BTreeMap<String, Scalar>,
    #[serde(default)]
    no_proxy: String,
    #[serde(default)]
    resources: RawResources,
    #[serde(default)]
    log_format: Option<LogFormat>,
    #[serde(default)]
    policy: RawPolicy,
    #[serde(default)]
    capabilities: RawCapabilities,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPolicy {
    #[serde(default)]
    deny_annotations: Vec<String>,
    #[serde(default)]
    min_refresh_interval: String,
}

/// What the cluster can do beside what its version tells.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawCapabilities {
    #[serde(default)]
    file_key_ref: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawResources {
    #[serde(default)]
    cpu_request: Option<Scalar>,
    #[serde(default)]
    cpu_limit: Option<Scalar>,
    #[serde(default)]
    memory_request: Option<Scalar>,
    #[serde(default)]
    memory_limit: Option<Scalar>,
}

/// A value that YAML may have taken for something else than the text it is: `true`, `9790`, `0.5`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Boolean(bool),
    Whole(i64),
    Fraction(f64),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Whole(value) => value.to_string(),
            Self::Fraction(value) => value.to_string(),
            Self::Text(value) => value,
        }
    }
}

impl TryFrom<Raw> for Settings {
    type Error = SettingsError;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        let Raw {
            sidecar_image,
            image_pull_policy,
            own_namespace,
            excluded_namespaces,
            revision,
            defaults,
            no_proxy,
            resources,
            log_format,
            policy,
            capabilities,
        } = raw;
        let visible = |c: char| !c.is_whitespace() && !c.is_control();
        if sidecar_image.is_empty() || !sidecar_image.chars().all(visible) {
            return Err(SettingsError::Image(quoted(&sidecar_image)));
        }
        let excluded_namespaces = excluded_namespaces
            .into_iter()
            .map(|name| namespace("excludedNamespaces", name))
            .collect::<Result<_, _>>()?;
        let defaults: BTreeMap<String, String> = defaults
            .into_iter()
            .map(|(name, value)| (name, value.into_text()))
            .collect();
        let policy = Policy::new(&policy.deny_annotations, &policy.min_refresh_interval)?;
        let problems = request::check_defaults(&defaults, &policy);
        if !problems.is_empty() {
            return Err(SettingsError::Defaults(problems));
        }
        Ok(Self {
            sidecar_image,
            image_pull_policy,
            own_namespace: namespace("ownNamespace", own_namespace)?,
            excluded_namespaces,
            revision: revision.map(label_value).transpose()?,
            defaults,
            no_proxy: no_proxy.parse()?,
            resources: resources.try_into()?,
            log_format: log_format.unwrap_or(LogFormat::Json),
            policy,
            file_key_ref: capabilities.file_key_ref,
        })
    }
}

impl TryFrom<RawResources> for Resources {
    type Error = SettingsError;

    fn try_from(raw: RawResources) -> Result<Self, Self::Error> {
        let RawResources {
            cpu_request,
            cpu_limit,
            memory_request,
            memory_limit,
        } = raw;
        let resources = Self {
            cpu_request: quantity("cpuRequest", cpu_request)?.unwrap_or(Quantity::millicores(5)),
            cpu_limit: quantity("cpuLimit", cpu_limit)?,
            memory_request: quantity("memoryRequest", memory_request)?
                .unwrap_or(Quantity::mebibytes(8)),
            memory_limit: quantity("memoryLimit", memory_limit)?,
        };
        if resources
            .cpu_limit
            .is_some_and(|l| resources.cpu_request > l)
        {
            return Err(SettingsError::RequestOverLimit("cpu"));
        }
        if resources
            .memory_limit
            .is_some_and(|l| resources.memory_request > l)
        {
            return Err(SettingsError::RequestOverLimit("memory"));
        }
        Ok(resources)
    }
}

fn namespace(key: &'static str, value: String) -> Result<String, SettingsError> {
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=63).contains(&value.len()) && value.bytes().all(label) {
        Ok(value)
    } else {
        Err(SettingsError::Namespace {
            key,
            value: quoted(&value),
        })
    }
}

/// What a Kubernetes label may hold, as the chart's schema has it.
fn label_value(value: String) -> Result<String, SettingsError> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = |c: char| c.is_ascii_alphanumeric();
    if (1..=63).contains(&value.len())
        && value.bytes().all(known)
        && value.starts_with(ends)
        && value.ends_with(ends)
    {
        Ok(value)
    } else {
        Err(SettingsError::Revision(quoted(&value)))
    }
}

fn quantity(key: &'static str, value: Option<Scalar>) -> Result<Option<Quantity>, SettingsError> {
    let Some(text) = value.map(Scalar::into_text) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(quantity) => Ok(Some(quantity)),
        Err(error) => Err(SettingsError::Quantity {
            key,
            value: quoted(&text),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings(change: impl FnOnce(&mut Value)) -> Result<Settings, String> {
        let mut value = json!({
            "sidecarImage": "keeper/injector-sidecar:0.1.0",
            "ownNamespace": "keeper-security",
        });
        change(&mut value);
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let got = settings(|_| {}).unwrap();
        assert_eq!(got.resources.cpu_request.to_string(), "5m");
        assert_eq!(got.resources.memory_request.to_string(), "8Mi");
        assert_eq!(
            (got.resources.cpu_limit, got.resources.memory_limit),
            (None, None)
        );
        assert_eq!(got.log_format, LogFormat::Json);
        assert_eq!(got.image_pull_policy, None);
        assert!(!got.file_key_ref);
        assert_eq!(got.revision, None);
    }

    #[test]
    fn the_settings_of_a_chart() {
        let got = settings(|v| {
            v["imagePullPolicy"] = json!("IfNotPresent");
            v["excludedNamespaces"] = json!(["monitoring"]);
            v["revision"] = json!("canary-2");
            v["defaults"] = json!({
                "ksm-config": "keeper-auth", "ca-cert-configmap": "keeper-ca", "init-only": false, "metrics-port": 9800
            });
            v["resources"] = json!({"cpuRequest": 0.01, "cpuLimit": null, "memoryLimit": "32Mi"});
            v["logFormat"] = json!("text");
            v["capabilities"] = json!({"fileKeyRef": true});
        })
        .unwrap();
        assert_eq!(got.defaults["metrics-port"], "9800");
        assert_eq!(got.revision.as_deref(), Some("canary-2"));
        assert!(got.file_key_ref);
        assert_eq!(got.resources.cpu_request.to_string(), "10m");
        for (namespace, alone) in [
            ("kube-system", true),
            ("kube-public", true),
            ("kube-node-lease", true),
            ("keeper-security", true),
            ("monitoring", true),
            ("default", false),
            ("", false),
        ] {
            assert_eq!(got.leaves_alone(namespace), alone, "{namespace}");
        }
    }

    #[test]
    fn errors_name_the_key() {
        type Change = (&'static str, fn(&mut Value));
        let changes: [Change; 20] = [
            ("sidecarImage", |v| v["sidecarImage"] = json!("")),
            ("sidecarImage", |v| v["sidecarImage"] = json!("a b")),
            ("ownNamespace", |v| v["ownNamespace"] = json!("Keeper")),
            ("excludedNamespaces", |v| {
                v["excludedNamespaces"] = json!(["a/b"]);
            }),
            ("revision", |v| v["revision"] = json!("")),
            ("revision", |v| v["revision"] = json!("Canary")),
            ("revision", |v| v["revision"] = json!("-a")),
            ("sidecarimage", |v| v["sidecarimage"] = json!("x")),
            ("defaults.refresh-interval", |v| {
                v["defaults"] = json!({"refresh-interval": "5"});
            }),
            ("defaults.nope", |v| v["defaults"] = json!({"nope": "5"})),
            ("defaults.inject", |v| {
                v["defaults"] = json!({"inject": true})
            }),
            ("defaults.secret-x", |v| {
                v["defaults"] = json!({"secret-x": "y"});
            }),
            ("defaults.proxy", |v| {
                v["defaults"] = json!({"proxy": "http://user:pw@proxy:3128"});
            }),
            ("noProxy", |v| v["noProxy"] = json!("corp:443")),
            ("defaults.ca-cert-", |v| {
                v["defaults"] = json!({"ca-cert-secret": "a", "ca-cert-configmap": "b"});
            }),
            ("policy.denyAnnotations", |v| {
                v["policy"] = json!({"denyAnnotations": ["proxi"]});
            }),
            ("policy.minRefreshInterval", |v| {
                v["policy"] = json!({"minRefreshInterval": "5"});
            }),
            ("defaults.refresh-interval", |v| {
                v["defaults"] = json!({"refresh-interval": "5m"});
                v["policy"] = json!({"minRefreshInterval": "10m"});
            }),
            ("resources.memoryLimit", |v| {
                v["resources"] = json!({"memoryLimit": "much"});
            }),
            ("resources.memoryLimit", |v| {
                v["resources"] = json!({"memoryLimit": "4Mi"});
            }),
        ];
        for (key, change) in changes {
            let error = settings(change).unwrap_err();
            assert!(error.contains(key), "{key}: {error}");
        }
    }

    /// The file is YAML, where numbers and booleans don't need quotes, and nothing is `null`.
    #[test]
    fn the_settings_as_yaml() {
        let yaml = "
sidecarImage: keeper/injector-sidecar:0.1.0
imagePullPolicy: IfNotPresent
ownNamespace: keeper-security
excludedNamespaces: []
defaults:
  ksm-config: keeper-auth
  init-only: true
  metrics-port: 0
  refresh-interval: 10m
resources: {cpuRequest: 5m, cpuLimit: 1, memoryRequest: 8Mi, memoryLimit: null}
logFormat: json
";
        let got: Settings = serde_saphyr::from_str(yaml).unwrap();
        assert_eq!(got.defaults["init-only"], "true");
        assert_eq!(got.defaults["metrics-port"], "0");
        assert_eq!(got.resources.cpu_limit, Some(Quantity::units(1)));
        assert_eq!(got.resources.memory_limit, None);
        let error = serde_saphyr::from_str::<Settings>(&yaml.replace("10m", "soon")).unwrap_err();
        assert!(
            error.to_string().contains("defaults.refresh-interval"),
            "{error}"
        );
    }
}
