//! The admission webhook: takes an `AdmissionReview` over TLS, asks [`keeper_contract::admit`] what a pod
//! should look like, and answers with a JSON patch or with every problem at once.
//!
//! It writes nothing on the way, so a dry run is dry, and asks nobody, so Keeper being down delays nobody. What
//! namespaces say is known by a watch.
//! Around that: certificates, readiness, metrics, log lines and a graceful end.

mod admission;
mod api_version;
mod certs;
mod cli;
mod http;
mod leader;
mod listener;
mod metrics;
mod namespaces;
mod owner;
mod render;
mod review;
mod serve;
mod verify;

pub use api_version::KubernetesVersion;
pub use cli::{Cli, Command, LeaderElection, Render, RenderOutput, Serve, TlsMode};
pub use serve::{Failure, Webhook, load_settings, main};
