//! What an annotation means: `pod + namespace + settings -> plan (or every problem at once) -> JSON patch
//! and agent config`. Pure: no I/O, no clock, no kube, no tokio.
//!
//! [`admit`] is the whole of it. [`annotations::TABLE`] is the one source of what annotations there are.

mod admission;
mod agent_config;
pub mod annotations;
pub mod choices;
mod directories;
pub mod duration;
pub mod env_name;
mod files;
mod folders;
mod format;
mod identity;
mod inject;
pub mod layout;
mod outfit;
mod outputs;
pub mod path;
mod plan;
mod pod;
mod problem;
mod proxy;
pub mod quantity;
pub mod reference;
pub mod reload;
mod request;
mod resources;
pub mod scalars;
pub mod selection;
mod settings;
mod targets;
mod tmpfs;
mod variables;

pub use admission::{Cluster, Decision, Injection, Shape, SkipReason, admit};
pub use agent_config::{
    AgentConfig, Auth, Directory, Environment, Exec, FolderOutput, FolderRef, Format, LogFormat,
    LogLevel, Naming, OnStale, Output, Place, Proxy, Selection, Variables,
};
pub use problem::{Denial, Problem, Reason};
pub use proxy::{NoProxy, NoProxyError, ProxyError, ProxyUrl};
pub use settings::{PullPolicy, Resources, Settings, SettingsError};
