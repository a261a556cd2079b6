//! What admission hands to the agents: titles, paths and intervals as typed JSON in one environment
//! variable, never a secret value. Annotations are parsed once, at admission; the agents trust this.

use std::fmt;

use keeper_notation::{FolderPath, Notation, RecordRef, Selector};
use serde::{Deserialize, Serialize};

use crate::env_name::env_name;
use crate::proxy::{NoProxy, ProxyUrl};
use crate::reload::Reload;

/// The agents' whole configuration, the JSON in [`crate::layout::CONFIG_ENV`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentConfig {
    /// Where the KSM device config comes from.
    pub auth: Auth,
    /// A PEM file whose certificates are trusted beside the built-in roots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert_file: Option<String>,
    /// The proxy for calls to Keeper; none: they go straight. The agents read no environment variable of a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// The directories of the volume that the application mounts.
    pub directories: Vec<Directory>,
    /// The files to publish. No file and no folder: authenticate once, publish nothing.
    pub outputs: Vec<Output>,
    /// The folders whose records are published, a file each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<FolderOutput>,
    /// Environment variables of the application; none: it gets none of us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Seconds between two refreshes, a multiple of 15.
    pub refresh_interval_seconds: u32,
    /// Whether the application may not start without its secrets.
    pub fail_on_error: bool,
    /// Whether the pod runs to completion, as those of Jobs do: such pods may come in a stream, and keep a silence together
    /// that the first calls of others needn't.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runs_to_completion: bool,
    /// Seconds that last-good values count as good when Keeper can't be reached.
    pub cache_seconds: u64,
    /// What becomes of a pod whose values are no longer good.
    pub on_stale: OnStale,
    /// Whether several records of one title are an error.
    pub strict_lookup: bool,
    /// Permission bits of published files, as `"0444"`.
    #[serde(with = "octal")]
    pub file_mode: u32,
    /// How the application is told of a change; none: it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// Port of health and metrics; none: not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_port: Option<u16>,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
    /// Shape of a log line.
    pub log_format: LogFormat,
}

/// How the agent authenticates to Keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "method", deny_unknown_fields)]
pub enum Auth {
    /// A mounted Kubernetes Secret.
    #[serde(rename_all = "camelCase")]
    Secret {
        /// Name of the Secret, for messages.
        secret_name: String,
        /// The mounted file that holds the device config.
        file: String,
    },
}

/// A proxy, and what is called without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    /// Its address.
    pub url: ProxyUrl,
    /// Hosts that are called without it, beside loopback and link-local addresses.
    #[serde(default, skip_serializing_if = "NoProxy::is_empty")]
    pub no_proxy: NoProxy,
}

/// One directory of files, which the application sees at `mount_path`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    /// Where the application sees it, for messages.
    pub mount_path: String,
    /// Its path below the root of the volume that it is in; empty: that root.
    pub sub_path: String,
    /// That volume, and how the files get to the application.
    #[serde(default, skip_serializing_if = "Place::is_shared")]
    pub place: Place,
    /// Directories to make in it for the pod's own mounts below it, relative to it: a mount point on a
    /// read-only mount has to be there first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mount_points: Vec<String>,
}

/// The volume that a directory is in, and how its files get to the application.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Place {
    /// The agents' own. The application mounts the directory, read-only, and all files in it change at once.
    #[default]
    Shared,
    /// The agents' own. The application mounts each file by itself, read-only, and it is rewritten in place.
    Files,
    /// One of the pod's own, which the agents mount at this path. All files in it change at once; nothing that
    /// lies in it is trusted.
    PodVolume(String),
}

impl Place {
    fn is_shared(&self) -> bool {
        *self == Self::Shared
    }
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Output {
    /// Index into [`AgentConfig::directories`].
    pub directory: usize,
    /// Path of the file below its directory; clean and relative.
    pub path: String,
    /// What of the vault.
    pub selection: Selection,
    /// The fields of a record that it holds; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// How it becomes bytes.
    pub format: Format,
    /// Its permission bits, as `"0440"`; none: [`AgentConfig::file_mode`].
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "octal::optional"
    )]
    pub mode: Option<u32>,
    /// The annotation that asked for it, for messages.
    pub annotation: String,
}

/// Environment variables of the application, and the files by which they reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Environment {
    /// What becomes variables.
    pub variables: Vec<Variables>,
    /// The file for containers that are started through `keeper-exec`; none: no container is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Whether there is a file that Kubernetes reads, by `fileKeyRef`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub file_key_ref: bool,
}

/// Where `keeper-exec` and its file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exec {
    /// The program in the agents' image, which they copy.
    pub program: String,
    /// The directory of both in the application's containers.
    pub mount_path: String,
}

/// One value or record that becomes one variable or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Variables {
    /// What of the vault.
    pub selection: Selection,
    /// The fields of a record that become variables; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// How they are called.
    pub naming: Naming,
    /// The annotation that asked for it, for messages.
    pub annotation: String,
}

impl Variables {
    /// The names of the variables; none where only the record tells them.
    #[must_use]
    pub fn names(&self) -> Option<Vec<String>> {
        let prefix = match &self.naming {
            Naming::Written(name) => return Some(vec![name.clone()]),
            Naming::Prefix(prefix) => prefix,
        };
        Some(match &self.selection {
            Selection::Record(_) if self.fields.is_empty() => return None,
            Selection::Record(_) => self
                .fields
                .iter()
                .map(|field| env_name(prefix, field))
                .collect(),
            // Which is refused.
            Selection::File { .. } => Vec::new(),
            Selection::Field { field, .. } => vec![env_name(prefix, field)],
            Selection::Notation(notation) => vec![env_name(prefix, notation.selector.name())],
        })
    }
}

/// How variables are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Naming {
    /// By a name that the pod's owner wrote out.
    Written(String),
    /// By this prefix and the names of the fields.
    Prefix(String),
}

/// A folder of the vault whose records are published, a JSON file each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FolderOutput {
    /// Index into [`AgentConfig::directories`].
    pub directory: usize,
    /// Path of the files' directory below that one; clean and relative, empty: that directory itself.
    pub path: String,
    /// The folder.
    pub folder: FolderRef,
    /// The annotation that asked for it, for messages.
    pub annotation: String,
}

/// How a folder is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum FolderRef {
    /// By its UID.
    Uid(String),
    /// By its path; one that looks like a UID is that, if there is such a folder.
    Path(FolderPath),
}

impl fmt::Display for FolderRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => f.write_str(uid),
            Self::Path(path) => path.fmt(f),
        }
    }
}

impl AgentConfig {
    /// Whether there is anything to publish, and so to refresh.
    #[must_use]
    pub fn selects_anything(&self) -> bool {
        !self.outputs.is_empty() || !self.folders.is_empty() || self.environment.is_some()
    }
}

/// What an output selects from the vault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Selection {
    /// A whole record.
    Record(RecordRef),
    /// `record[field]`: one field by label or type, standard fields before custom ones.
    Field {
        /// The record.
        record: RecordRef,
        /// Label or type.
        field: String,
    },
    /// A Keeper Notation.
    Notation(Notation),
    /// An attachment.
    File {
        /// The record.
        record: RecordRef,
        /// Its name, title or UID.
        file: String,
    },
}

impl Selection {
    /// The record that it is about.
    #[must_use]
    pub fn record(&self) -> &RecordRef {
        match self {
            Self::Record(record) | Self::Field { record, .. } | Self::File { record, .. } => record,
            Self::Notation(notation) => &notation.record,
        }
    }

    /// The name, title or UID of the attachment that it asks for, if it asks for one.
    #[must_use]
    pub fn attachment(&self) -> Option<&str> {
        match self {
            Self::File { file, .. }
            | Self::Notation(Notation {
                selector: Selector::File(file),
                ..
            }) => Some(file),
            Self::Record(_) | Self::Field { .. } | Self::Notation(_) => None,
        }
    }
}

/// How a selection is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A JSON object.
    Json,
    /// Assignments that a POSIX shell reads.
    Env,
    /// A YAML mapping.
    Yaml,
    /// What Java's `Properties` reads.
    Properties,
    /// A section `[secret]` that Python's `configparser` reads.
    Ini,
    /// One value as it is.
    Raw,
}

impl Format {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Env => "env",
            Self::Yaml => "yaml",
            Self::Properties => "properties",
            Self::Ini => "ini",
            Self::Raw => "raw",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What becomes of a pod whose last-good values are no longer good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnStale {
    /// It goes on with them.
    Serve,
    /// It turns not ready, and goes on with them.
    Unready,
}

/// Severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, for debugging.
    Debug,
    /// The default.
    Info,
    /// Warnings and errors.
    Warn,
    /// Errors.
    Error,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

mod octal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mode: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{mode:04o}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = String::deserialize(deserializer)?;
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| D::Error::custom("a file mode is four octal digits"))
    }

    pub(super) mod optional {
        use serde::{Deserializer, Serializer};

        pub(crate) fn serialize<S: Serializer>(
            mode: &Option<u32>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match mode {
                Some(mode) => super::serialize(mode, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<u32>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
