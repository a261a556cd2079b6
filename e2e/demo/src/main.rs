//! `make demo`: the whole product at work on this machine, without a cluster.
//!
//! Runs the real binaries as child processes: a Keeper server (keeper-sim), the webhook, and the agent that the
//! webhook put into a pod. What is shown is checked on the way; the first thing that doesn't hold ends the demo
//! with an error. The one thing that is played is Kubernetes: this program sends what the API server would send,
//! and starts what the kubelet would start.

mod admission;
mod agent;
mod certificate;
mod keeper;
mod pod;
mod process;
mod screen;
mod story;
mod webhook;
mod workbench;

use std::process::ExitCode;

use anyhow::bail;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen::failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// The story, unless someone interrupts it. Either way, dropping it ends its processes and then removes its files.
async fn run() -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        told = story::tell() => told,
        _ = interrupt.recv() => bail!("interrupted; processes and files of the demo are gone"),
        _ = terminate.recv() => bail!("terminated; processes and files of the demo are gone"),
    }
}
