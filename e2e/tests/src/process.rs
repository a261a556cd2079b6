//! What runs beside a test, in the node's network.

use crate::command::repository;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// None lives longer, whatever becomes of the test.
const LIMIT_SECONDS: &str = "1800";

/// A process in the node's network, which ends with this value.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts a command of this machine, which writes to a log.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(command: &[&str], log: &Path) -> Self {
        let log = File::create(log).expect("a file");
        let child = Command::new("timeout")
            .arg(LIMIT_SECONDS)
            .arg(repository().join("e2e/cluster/cluster"))
            .arg("client")
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("timeout can be run");
        Self(child)
    }

    /// # Panics
    /// If it has ended.
    pub fn must_run(&mut self) {
        let ended = self.0.try_wait().expect("a child can be waited for");
        assert!(ended.is_none(), "a process has ended: {ended:?}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Told to end, timeout tells all that it has started.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}
