//! What we add to a pod, as Kubernetes' API has it: of each object the fields that we set, in the order of their names.
//! They borrow what they say; nothing but [`crate::patch`] writes them.

use std::borrow::Cow;

use serde::Serialize;

use crate::quantity::Quantity;
use crate::settings::PullPolicy;

/// A container of ours.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Container<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) args: &'static [&'static str],
    pub(crate) command: &'static [&'static str],
    pub(crate) env: Vec<EnvVar<'a>>,
    pub(crate) image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_pull_policy: Option<PullPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lifecycle: Option<Lifecycle>,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ports: Option<[Port; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) readiness_probe: Option<Probe>,
    pub(crate) resources: Resources,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restart_policy: Option<&'static str>,
    pub(crate) security_context: SecurityContext,
    pub(crate) termination_message_policy: &'static str,
    pub(crate) volume_mounts: Vec<Mount<'a>>,
}

/// An environment variable, by its value or by where that comes from.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvVar<'a> {
    pub(crate) name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_from: Option<EnvVarSource<'a>>,
}

/// Where the value of an environment variable comes from.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum EnvVarSource<'a> {
    /// The pod itself.
    FieldRef {
        api_version: &'static str,
        field_path: &'static str,
    },
    /// A file of variables.
    FileKeyRef {
        key: Cow<'a, str>,
        optional: bool,
        path: String,
        volume_name: &'a str,
    },
}

/// What is run at the start of a container.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Hook,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Hook {
    Exec { command: &'static [&'static str] },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Port {
    pub(crate) container_port: u16,
    pub(crate) name: &'static str,
    pub(crate) protocol: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Probe {
    pub(crate) http_get: HttpGet,
    pub(crate) period_seconds: u32,
    pub(crate) timeout_seconds: u32,
}

#[derive(Serialize)]
pub(crate) struct HttpGet {
    pub(crate) path: &'static str,
    pub(crate) port: u16,
}

#[derive(Serialize)]
pub(crate) struct Resources {
    pub(crate) limits: Amounts,
    pub(crate) requests: Amounts,
}

#[derive(Serialize)]
pub(crate) struct Amounts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Option<Quantity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<Quantity>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecurityContext {
    pub(crate) allow_privilege_escalation: bool,
    pub(crate) capabilities: Capabilities,
    pub(crate) privileged: bool,
    pub(crate) read_only_root_filesystem: bool,
    pub(crate) run_as_group: i64,
    pub(crate) run_as_non_root: bool,
    pub(crate) run_as_user: i64,
    pub(crate) seccomp_profile: SeccompProfile,
}

#[derive(Serialize)]
pub(crate) struct Capabilities {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) add: &'static [&'static str],
    pub(crate) drop: &'static [&'static str],
}

#[derive(Serialize)]
pub(crate) struct SeccompProfile {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// A mount of a volume, or of a path in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mount<'a> {
    pub(crate) mount_path: &'a str,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sub_path: Option<&'a str>,
}

/// A volume, of the one kind that is there.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config_map: Option<ConfigMapVolume<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) empty_dir: Option<EmptyDir>,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<SecretVolume<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigMapVolume<'a> {
    pub(crate) default_mode: u32,
    pub(crate) items: [KeyToPath<'a>; 1],
    pub(crate) name: &'a str,
    pub(crate) optional: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EmptyDir {
    pub(crate) medium: &'static str,
    pub(crate) size_limit: Quantity,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SecretVolume<'a> {
    pub(crate) default_mode: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) items: Option<[KeyToPath<'a>; 1]>,
    pub(crate) optional: bool,
    pub(crate) secret_name: &'a str,
}

#[derive(Serialize)]
pub(crate) struct KeyToPath<'a> {
    pub(crate) key: &'a str,
    pub(crate) path: &'a str,
}
