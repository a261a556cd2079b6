//! What an annotation means: `pod + namespace + settings -> plan (or every problem at once) -> JSON patch
//! and agent config`. Pure: no I/O, no clock, no kube, no tokio.

mod agent_config;
pub mod layout;

pub use agent_config::{
    AgentConfig, Auth, Directory, Format, LogFormat, LogLevel, Output, Selection,
};
