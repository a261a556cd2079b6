//! What an annotation means: `pod + namespace + settings -> plan (or every problem at once) -> JSON patch
//! and agent config`. Pure: no I/O, no clock, no kube, no tokio.
//!
//! [`admit`] is the whole of it. [`annotations::TABLE`] is the one source of what annotations there are. Both
//! belong to the feature `admission`; without it, as the agents take this crate, it is the config's types and [`layout`].

#[cfg(feature = "admission")]
mod admission;
mod agent_config;
#[cfg(feature = "admission")]
pub mod annotations;
#[cfg(feature = "admission")]
mod asked;
#[cfg(feature = "admission")]
pub mod choices;
#[cfg(feature = "admission")]
pub mod config_yaml;
#[cfg(feature = "admission")]
mod containers;
#[cfg(feature = "admission")]
mod directories;
#[cfg(feature = "admission")]
pub mod duration;
pub mod env_name;
#[cfg(feature = "admission")]
mod files;
#[cfg(feature = "admission")]
mod folders;
#[cfg(feature = "admission")]
mod format;
#[cfg(feature = "admission")]
mod identity;
#[cfg(feature = "admission")]
mod inject;
#[cfg(feature = "admission")]
mod layers;
pub mod layout;
#[cfg(feature = "admission")]
mod namespace;
#[cfg(feature = "admission")]
mod objects;
#[cfg(feature = "admission")]
mod outfit;
#[cfg(feature = "admission")]
mod outputs;
#[cfg(feature = "admission")]
mod patch;
#[cfg(feature = "admission")]
pub mod path;
#[cfg(feature = "admission")]
mod plan;
#[cfg(feature = "admission")]
mod pod;
#[cfg(feature = "admission")]
mod policy;
#[cfg(feature = "admission")]
mod problem;
mod proxy;
#[cfg(feature = "admission")]
pub mod quantity;
mod quote;
#[cfg(feature = "admission")]
pub mod reference;
pub mod reload;
#[cfg(feature = "admission")]
mod request;
#[cfg(feature = "admission")]
mod resources;
#[cfg(feature = "admission")]
pub mod scalars;
#[cfg(feature = "admission")]
pub mod selection;
#[cfg(feature = "admission")]
mod settings;
#[cfg(feature = "admission")]
mod targets;
#[cfg(feature = "admission")]
mod tmpfs;
#[cfg(feature = "admission")]
mod variables;
#[cfg(feature = "admission")]
mod workload;

#[cfg(feature = "admission")]
pub use admission::{Cluster, Decision, Injection, Shape, SkipReason, admit};
pub use agent_config::{
    AgentConfig, Auth, Directory, Environment, Exec, FolderOutput, FolderRef, Format, LogFormat,
    LogLevel, Naming, OnStale, Output, Place, Proxy, Selection, Variables,
};
#[cfg(feature = "admission")]
pub use asked::Asked;
#[cfg(feature = "admission")]
pub use namespace::{Namespace, NamespaceSettings};
#[cfg(feature = "admission")]
pub use patch::Patch;
#[cfg(feature = "admission")]
pub use policy::{Policy, PolicyError};
#[cfg(feature = "admission")]
pub use problem::{Denial, Problem, Reason};
pub use proxy::{NoProxy, NoProxyError, ProxyError, ProxyUrl};
#[cfg(feature = "admission")]
pub use settings::{PullPolicy, Resources, Settings, SettingsError};
#[cfg(feature = "admission")]
pub use workload::{Advice, Workload};
