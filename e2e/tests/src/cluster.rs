//! A cluster that may be lost: a node of its own beside the one of the tests.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::command::{Output, repository, run};

/// No server that a test starts lives longer, whatever becomes of the test.
const LIMIT_SECONDS: &str = "1200";

/// One node with the images in its registry, and nothing installed. It ends with this value, and all that was in it.
#[derive(Debug)]
pub struct Cluster {
    state: PathBuf,
}

impl Cluster {
    /// Starts it; the name is that of its folder, and one that is up under this name ends first.
    ///
    /// # Panics
    /// If it doesn't come up.
    #[must_use]
    pub fn start(name: &str) -> Self {
        let state = repository().join("target").join(name);
        let cluster = Self { state };
        let _ = cluster.run(&["down"], None);
        let _ = cluster.run(&["start"], None).expect_success("a cluster");
        cluster
    }

    /// Runs a command of this machine in its network; its standard output.
    ///
    /// # Panics
    /// If it fails.
    pub fn client(&self, command: &[&str]) -> String {
        self.try_client(command, None)
            .expect_success(&command.join(" "))
    }

    /// The same with some input, whatever comes of it.
    #[must_use]
    pub fn try_client(&self, command: &[&str], input: Option<&str>) -> Output {
        self.run(&[&["client"], command].concat(), input)
    }

    /// Starts a server of this machine in its network. It outlives the cluster, though not to be reached.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn serve(&self, command: &[&str]) -> Server {
        // It passes a signal on to all that it started.
        let process = Command::new("timeout")
            .arg(LIMIT_SECONDS)
            .arg(program())
            .arg("client")
            .args(command)
            .env("KEEPER_CLUSTER", &self.state)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        Server(process.expect("timeout can be run"))
    }

    /// The folder with its logs, and the keeper-sim of its registry.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    fn run(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let state = self.state.to_str().expect("a path in UTF-8");
        run("cluster", arguments, &[("KEEPER_CLUSTER", state)], input)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.run(&["logs"], None).stderr);
        }
        let _ = self.run(&["down"], None);
    }
}

/// A server that ends with this value.
#[derive(Debug)]
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn program() -> PathBuf {
    repository().join("e2e/cluster/cluster")
}
