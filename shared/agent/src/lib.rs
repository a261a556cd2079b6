//! Fetch, select, render, publish: what the init container and the sidecar have in common.
//!
//! [`Agent`] does one refresh: one call to Keeper, and what it brought swapped into the volume at once.
//! [`Runner`] decides when, in the pod's slots ([`schedule`]), and what a failure means: before the first
//! publication the pod doesn't start, after it nothing that is published is ever taken away. [`wait()`] is the
//! hook that holds the application back.
//!
//! Values go from `keeper-ksm` to the tmpfs and nowhere else: they are wiped when dropped, and no error, log
//! line or metric here can hold one.

mod agent;
mod attachments;
mod destination;
mod dir;
pub mod environment;
mod failure;
mod folders;
mod host;
mod in_place;
mod memory;
mod metrics;
mod names;
mod post;
mod process;
mod processes;
mod publish;
mod reload;
mod render;
pub mod request;
mod run;
pub mod schedule;
mod select;
mod source;
mod staged;
mod state;
pub mod status;
pub mod text;
mod variables;
pub mod wait;

pub use agent::{Agent, Refresh};
pub use environment::Pod;
pub use failure::{AttachmentFailure, Failure, Reason};
pub use host::{Host, Node};
pub use metrics::Metrics;
pub use process::harden;
pub use publish::PublishError;
pub use render::RenderError;
pub use run::{Exit, Runner, Standing};
pub use source::SourceError;
pub use state::{Outcome, Pin, State, Store};
pub use wait::wait;
