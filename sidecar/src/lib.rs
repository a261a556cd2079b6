//! The process in the pod: environment, signals, logs, metrics and exit codes around [`keeper_agent`].

mod ask;
mod cli;
mod last_words;

use std::ffi::OsString;
use std::io::Write as _;
use std::mem;
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::time::Duration;

use keeper_agent::schedule::Grid;
use keeper_agent::{Agent, Exit, Metrics, Node, Pod, Runner, Standing, environment, wait};
use keeper_contract::{AgentConfig, OnStale};
use keeper_telemetry::{Readiness, build_info, init_logging, listen, serve};
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Places, Task};

/// The exit code of a process that SIGTERM ended, as shells have it.
const TERMINATED: u8 = 128 + 15;

/// Everything that can end the process but SIGTERM in a pod that runs.
type Error = Box<dyn std::error::Error>;

/// Does what the command line says; `variable` is the environment.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    variable: impl Fn(&'static str) -> Option<String>,
) -> ExitCode {
    let invocation = match cli::parse(arguments.into_iter().collect()) {
        Ok(invocation) => invocation,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let places = invocation.places;
    let answered = match invocation.task {
        Task::Wait => wait(&places.volume, wait::LIMIT)
            .map(|()| true)
            .map_err(Into::into),
        Task::Status(output) => ask::status(output, &places.volume, variable),
        Task::Refresh { wait, timeout } => {
            let limit = wait.then(|| Duration::from_secs(timeout));
            ask::refresh(limit, &places.volume)
        }
        Task::FirstFetch => return fetch(true, &places, variable),
        Task::Run => return fetch(false, &places, variable),
    };
    match answered {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a container is for.
fn fetch(
    once: bool,
    places: &Places,
    variable: impl Fn(&'static str) -> Option<String>,
) -> ExitCode {
    match work(once, places, variable) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            last_words::write(&places.termination_log, &error.to_string());
            match error.downcast_ref() {
                Some(Exit::Terminated(_)) => ExitCode::from(TERMINATED),
                Some(Exit::Permanent(_) | Exit::GaveUp { .. }) | None => ExitCode::FAILURE,
            }
        }
    }
}

fn work(
    once: bool,
    places: &Places,
    variable: impl Fn(&'static str) -> Option<String>,
) -> Result<(), Error> {
    // The environment first: a process that isn't dumpable may not read its own in /proc.
    let (config, pod) = environment::read(variable)?;
    keeper_agent::harden()?;
    let fields = [
        ("pod", pod.name.clone()),
        ("namespace", pod.namespace.clone()),
    ];
    init_logging(config.log_format, config.log_level, &fields)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // Only name look-ups need a thread.
        .max_blocking_threads(1)
        .build()?;
    let ended = runtime.block_on(until_terminated(once, places, config, pod));
    // A look-up that hangs must not hold back the end.
    runtime.shutdown_background();
    ended
}

/// Does the task until it is done or SIGTERM comes, at whatever moment.
async fn until_terminated(
    once: bool,
    places: &Places,
    config: AgentConfig,
    pod: Pod,
) -> Result<(), Error> {
    // Before anything else: PID 1 ignores a signal that it has no handler for.
    let mut terminate = signal(SignalKind::terminate())?;
    let registry = Registry::new();
    let metrics = Metrics::register(&registry)?;
    build_info(&registry, "sidecar")?;
    let (port, on_stale) = (config.metrics_port, config.on_stale);
    let (agent, store) = Agent::open(config, &places.volume, metrics.clone())?;
    let mut runner = Runner::new(Node, agent, store, &pod, Grid::STANDARD, metrics);
    let ended = tokio::select! {
        biased;
        _ = terminate.recv() => None,
        ended = perform(once, &mut runner, registry, port, on_stale) => Some(ended),
    };
    match ended {
        Some(ended) => ended?,
        None => {
            tracing::info!("terminated");
            runner.terminated()?;
        }
    }
    Ok(())
}

async fn perform(
    once: bool,
    runner: &mut Runner,
    registry: Registry,
    port: Option<u16>,
    on_stale: OnStale,
) -> Result<(), Exit> {
    if once {
        return keeper_init::first_fetch(runner).await;
    }
    let readiness = Readiness::new();
    if let Some(port) = port {
        tokio::spawn(serve_metrics(port, registry, readiness.clone()));
    }
    let mut held = None;
    runner
        .run(move |standing| {
            let pending = match (standing, on_stale) {
                (Standing::Pending, _) => Some("first publication"),
                (Standing::Stale, OnStale::Unready) => Some("fresh secrets"),
                (Standing::Stale, OnStale::Serve) | (Standing::Good, _) => None,
            };
            drop(mem::replace(
                &mut held,
                pending.map(|pending| readiness.latch(pending)),
            ));
        })
        .await
}

/// Health and metrics, for as long as the process lives. A port that is taken costs them, and nothing else.
async fn serve_metrics(port: u16, registry: Registry, readiness: Readiness) {
    match listen((Ipv6Addr::UNSPECIFIED, port).into()).await {
        Ok(listener) => serve(listener, registry, readiness, std::future::pending()).await,
        Err(error) => tracing::warn!(%error, port, "metrics and health are not served"),
    }
}
