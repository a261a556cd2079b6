//! Pods created through an API server at a fixed rate, and what became of each.
//!
//! The rate is kept whatever the answers do (an open loop): a webhook that answers slowly meets as many
//! admissions as one that answers fast, and the time that a pod waits for its turn counts as its
//! latency. Creations are dry runs, so only admission happens, and the node's kubelet has nothing to do.
//!
//! [`Load::start`] begins, [`Load::stop`] ends and gives the [`Report`]; both bounds of a run, its pods
//! and those in flight, are fixed.
#![expect(clippy::expect_used, reason = "a helper of tests fails by panicking")]

mod client;
mod report;

pub use client::enter;
pub use report::{Asked, Became, Fate, Report};

use std::path::Path;
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

/// A node to talk to.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// Its network namespace, as in `/proc/PID/ns/net`.
    pub network: &'a Path,
    /// Where its API server is, from in there.
    pub server: &'a str,
    /// A token of somebody who may create pods.
    pub token: &'a str,
}

/// What is created, and how fast.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where. Nothing is left there.
    pub namespace: String,
    /// Pods a second.
    pub rate: u32,
    /// One pod in so many is plain (0: none), the rest ask for injection.
    pub plain_each: u64,
    /// A pod that asks for injection.
    pub annotated: Value,
    /// One that doesn't.
    pub plain: Value,
}

/// A load that is running.
#[derive(Debug)]
pub struct Load {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Report>,
}

impl Load {
    /// Starts creating pods, on a thread of its own that lives in the node's network.
    ///
    /// # Panics
    /// If there is no such node, or this process may not enter its network.
    #[must_use]
    pub fn start(node: Node<'_>, plan: Plan) -> Self {
        let network = std::fs::File::open(node.network).expect("the node has a network");
        let (server, token) = (node.server.to_owned(), node.token.to_owned());
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::spawn(move || client::run(&network, &server, &token, &plan, stopped));
        Self { stop, thread }
    }

    /// Creates no more, and waits for what is in flight: at most [`client::DEADLINE`].
    ///
    /// # Panics
    /// If the load could not be made.
    #[must_use]
    pub fn stop(self) -> Report {
        // If the thread is gone, joining it says why.
        let _ = self.stop.send(());
        self.thread.join().expect("the load runs to its end")
    }
}
