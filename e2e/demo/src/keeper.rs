//! Keeper's part: keeper-sim with the example vault.

use std::path::PathBuf;

use serde_json::Value;

use crate::process::{Daemon, SOON, output};

use crate::workbench::Workbench;

const VAULT: &str = "e2e/keeper-sim/vault.example.yaml";

/// A running keeper-sim.
pub(crate) struct Keeper<'bench> {
    bench: &'bench Workbench,
    pub(crate) daemon: Daemon,
    /// Where it answers clients.
    pub(crate) address: String,
    admin: String,
}

impl<'bench> Keeper<'bench> {
    /// Starts it on ports of its choice; when it says that it listens, its CA and device config are written.
    pub(crate) async fn start(bench: &'bench Workbench) -> anyhow::Result<Self> {
        let command = bench.command(
            "keeper-sim",
            [
                "serve".into(),
                "--vault".into(),
                bench.source(VAULT),
                "--listen".into(),
                "127.0.0.1:0".into(),
                "--admin".into(),
                "127.0.0.1:0".into(),
                "--state-dir".into(),
                bench.file("keeper"),
            ],
        )?;
        let mut daemon = Daemon::start("keeper-sim", command)?;
        let (address, admin) = daemon.line("ready line", SOON, addresses).await?;
        Ok(Self {
            bench,
            daemon,
            address,
            admin,
        })
    }

    /// The device config that a vault's owner would put into the Secret `keeper-auth`.
    pub(crate) fn device_config(&self) -> PathBuf {
        self.bench.file("keeper").join("device-config.json")
    }

    /// The CA that an operator would put into the ConfigMap `keeper-ca`.
    pub(crate) fn ca(&self) -> PathBuf {
        self.bench.file("keeper").join("ca.crt")
    }

    /// Runs a subcommand of keeper-sim against the running one.
    pub(crate) async fn admin(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.bench.command("keeper-sim", arguments)?;
        command.env("KEEPER_SIM_ADMIN", &self.admin);
        output("keeper-sim", command, SOON).await
    }
}

/// Where it answers clients and where edits, from its ready line.
fn addresses(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let address = |name| line.get(name)?.as_str().map(str::to_owned);
    Some((address("listen")?, address("admin")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_addresses_are_in_the_ready_line() {
        let line =
            r#"{"msg":"keeper-sim is ready","listen":"127.0.0.1:1","admin":"http://127.0.0.1:2"}"#;
        let want = ("127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned());
        assert_eq!(addresses(line), Some(want));
        assert_eq!(addresses("serving"), None);
    }
}
