//! The patched pod at work: the real agent, and the files that the app would see.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use keeper_contract::{AgentConfig, Output, layout};
use serde_json::Value;

use crate::admission::NAMESPACE;
use crate::agent;
use crate::keeper::Keeper;
use crate::process::{Daemon, SOON, output};
use crate::workbench::Workbench;

/// What the kubelet would put into the pod by the downward API.
const IDENTITY: [(&str, &str); 3] = [
    (layout::POD_NAME_ENV, "orders-5d8f-demo"),
    (layout::POD_NAMESPACE_ENV, NAMESPACE),
    (layout::POD_UID_ENV, "4f4fb7a3-1c3f-4c1f-9d42-0d3a6f6f2a10"),
];

/// A running agent and its volume.
pub(crate) struct Pod<'bench> {
    bench: &'bench Workbench,
    pub(crate) daemon: Daemon,
    config: AgentConfig,
    volume: PathBuf,
    metrics_port: u16,
}

impl<'bench> Pod<'bench> {
    /// Starts what the injected container of `pod` says, with `--volume` in place of the mounted tmpfs.
    pub(crate) fn start(
        bench: &'bench Workbench,
        keeper: &Keeper<'_>,
        pod: &Value,
    ) -> anyhow::Result<Self> {
        let container = agent::container(pod)?;
        let metrics_port = free_port()?;
        let config = agent::on_this_machine(
            agent::config(container)?,
            &keeper.device_config(),
            &keeper.ca(),
            metrics_port,
        );
        let volume = bench.file("volume");
        fs::create_dir(&volume)?;
        let arguments = container
            .get("args")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        let mut command = bench.command("keeper-sidecar", arguments)?;
        command
            .arg("--volume")
            .arg(&volume)
            .env(layout::CONFIG_ENV, serde_json::to_string(&config)?)
            .envs(IDENTITY);
        Ok(Self {
            bench,
            daemon: Daemon::start("keeper-sidecar", command)?,
            config,
            volume,
            metrics_port,
        })
    }

    /// Runs the `postStart` hook, which holds the app back until the first files are complete; how long it took.
    pub(crate) async fn wait_as_the_hook_does(&self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let mut command = self.bench.command("keeper-sidecar", ["wait"])?;
        command.arg("--volume").arg(&self.volume);
        output("keeper-sidecar wait", command, SOON).await?;
        Ok(began.elapsed())
    }

    /// The directory that the app would see at `/keeper/secrets`.
    pub(crate) fn directory(&self) -> anyhow::Result<PathBuf> {
        let directory = self.config.directories.first();
        let sub_path = &directory.context("the config has no directory")?.sub_path;
        Ok(self.volume.join(sub_path))
    }

    /// The generation that is published: where the one link points.
    pub(crate) fn generation(&self) -> anyhow::Result<PathBuf> {
        Ok(fs::read_link(self.directory()?.join("..data"))?)
    }

    /// The published files, by the path below their directory.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<(String, String)>> {
        let directory = self.directory()?;
        let read = |output: &Output| {
            let file = directory.join(&output.path);
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            Ok((output.path.clone(), text))
        };
        self.config.outputs.iter().map(read).collect()
    }

    /// The metrics that the agent exposes.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://127.0.0.1:{}/metrics", self.metrics_port);
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(SOON)
            .build()?;
        let answer = client.get(url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// The kubelet's SIGTERM.
    pub(crate) async fn end(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let status = self.daemon.terminate(Duration::from_secs(10)).await?;
        ensure!(status.success(), "keeper-sidecar ended with {status}");
        Ok(began.elapsed())
    }
}

/// A port that nobody has at the moment.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
