//! The real webhook, set up as an operator with certificates of their own would: no API server is needed.

use std::fs;
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::admission::ApiServer;
use crate::certificate::Serving;
use crate::process::{Daemon, SOON};
use crate::workbench::Workbench;

/// What the chart would write, with a default that saves each pod an annotation: the extra trust root.
const SETTINGS: &str = "\
sidecarImage: keeper/injector-sidecar:0.1.0
ownNamespace: keeper-security
excludedNamespaces: []
defaults:
  ca-cert-configmap: keeper-ca
resources:
  cpuRequest: 5m
  cpuLimit: null
  memoryRequest: 8Mi
  memoryLimit: null
logFormat: json
";

/// A running keeper-webhook.
pub(crate) struct Webhook {
    pub(crate) daemon: Daemon,
    /// Where it answers.
    pub(crate) address: String,
    /// The caller that an API server would be.
    pub(crate) api_server: ApiServer,
}

impl Webhook {
    /// Starts it on ports of its choice.
    pub(crate) async fn start(bench: &Workbench) -> anyhow::Result<Self> {
        let serving = Serving::make(bench)?;
        let settings = bench.file("settings.yaml");
        fs::write(&settings, SETTINGS)?;
        let mut command = bench.command(
            "keeper-webhook",
            [
                "serve",
                "--tls-mode=manual",
                "--kubernetes-version=1.35",
                "--listen=127.0.0.1:0",
                "--metrics-listen=127.0.0.1:0",
                // There is no API server that would have to learn that this endpoint goes.
                "--drain-delay-seconds=0",
            ],
        )?;
        command.arg("--settings").arg(&settings);
        command.arg("--tls-cert").arg(&serving.certificate);
        command.arg("--tls-key").arg(&serving.key);
        let mut daemon = Daemon::start("keeper-webhook", command)?;
        let address = daemon.line("ready line", SOON, listening).await?;
        Ok(Self {
            daemon,
            api_server: ApiServer::trusting(&serving.ca, &address)?,
            address,
        })
    }

    /// It drains and goes when it is told to.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        let status = self.daemon.terminate(Duration::from_secs(15)).await?;
        ensure!(status.success(), "keeper-webhook ended with {status}");
        Ok(())
    }
}

/// Where it listens, from its log.
fn listening(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let listens = line.get("msg")?.as_str()? == "listening";
    listens.then(|| line.get("https")?.as_str().map(str::to_owned))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_in_one_line_of_the_log() {
        let line = r#"{"time":"t","level":"info","msg":"listening","https":"127.0.0.1:1","metrics":"127.0.0.1:2"}"#;
        assert_eq!(listening(line).as_deref(), Some("127.0.0.1:1"));
        assert_eq!(listening(&line.replace("listening", "draining")), None);
        assert_eq!(listening("listening"), None);
    }
}
