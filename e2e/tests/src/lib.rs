//! What the end-to-end tests share. They drive the node of `e2e/cluster` as a user would, with kubectl and keeper-sim;
//! each works in a [`Namespace`] of its own and with a Keeper client of its own, so that all can run at once.
//!
//! The tests are programs, which cargo runs one after the other: `promises`, whose tests run in parallel; `audit`, which installs
//! the chart with other values; `outage` and `leader`, whose tests take the webhook away and so run one at a time; and
//! `monitoring`, in which it is watched; `lifecycle`, which upgrades it. `pages` walks the pages that users read, command by command. `soak` and
//! `gitops` take minutes, and are run when asked for.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a helper of tests fails by panicking, and prints the state that it saw"
)]

mod cluster;
mod command;
mod discovery;
mod keeper;
mod monitoring;
mod namespace;
pub mod node;
pub mod pods;
mod poll;
mod process;
mod proxy;
mod reader;
pub mod webhook;

pub use cluster::{Cluster, Server};
pub use command::{Output, repository};
pub use keeper::{CLIENT, Keeper};
pub use keeper_squid::Manner;
pub use monitoring::Monitoring;
pub use namespace::{AUTH_SECRET, Namespace, kubectl, try_kubectl};
pub use poll::until;
pub use process::Process;
pub use proxy::Proxy;
pub use reader::reader;
