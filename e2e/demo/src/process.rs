//! Child processes whose output is kept, and that never outlive the demo.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// For what takes no time but a busy machine's.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const TICK: Duration = Duration::from_millis(20);

/// A running child. Dropping it kills it and waits until it is gone.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Starts `command` without input; its output is collected line by line.
    pub(crate) fn start(name: &'static str, mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = Arc::default();
        let readers = [
            child.stdout.take().map(|pipe| collect(pipe, &output)),
            child.stderr.take().map(|pipe| collect(pipe, &output)),
        ];
        Ok(Self {
            name,
            child,
            output,
            readers: readers.into_iter().flatten().collect(),
        })
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Polls for the first line in which `find` finds something.
    ///
    /// # Errors
    /// The deadline passed or the child ended; the message has its last lines.
    pub(crate) async fn line<T>(
        &mut self,
        what: &str,
        within: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = self.lines().iter().find_map(|line| find(line)) {
                return Ok(found);
            }
            self.still_runs()
                .with_context(|| format!("waiting for {what}"))?;
            if Instant::now() >= deadline {
                bail!("{}: no {what} within {within:?}{}", self.name, self.tail());
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// # Errors
    /// It ended; the message has its last lines.
    pub(crate) fn still_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}){}", self.name, self.tail()),
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn terminate(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.ended(within).await
    }

    /// Polls for its end; all it printed is in `lines` then.
    async fn ended(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                for reader in self.readers.drain(..) {
                    // A reader that panicked has read what it could.
                    let _ = reader.join();
                }
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} has not ended within {within:?}{}",
                    self.name,
                    self.tail()
                );
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        let last = lines.len().saturating_sub(15);
        lines
            .iter()
            .skip(last)
            .fold(String::new(), |all, line| format!("{all}\n    {line}"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a short command to its end and returns what it printed.
pub(crate) async fn output(
    name: &'static str,
    command: Command,
    within: Duration,
) -> anyhow::Result<String> {
    let mut daemon = Daemon::start(name, command)?;
    let status = daemon.ended(within).await?;
    if !status.success() {
        bail!("{name} failed ({status}){}", daemon.tail());
    }
    Ok(daemon.lines().join("\n"))
}

/// Reads `pipe` to its end in a thread of its own.
fn collect(pipe: impl Read + Send + 'static, output: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            output
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(line);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn output_is_whole_and_a_failure_has_it_too() {
        assert_eq!(
            output("sh", shell("echo a; echo b"), SOON).await.unwrap(),
            "a\nb"
        );
        let error = output("sh", shell("echo why >&2; exit 3"), SOON)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[tokio::test]
    async fn a_line_that_never_comes_ends_in_an_error_at_the_deadline_or_the_end() {
        let find = |line: &str| (line == "ready").then_some(());
        let mut ended = Daemon::start("sh", shell("echo other")).unwrap();
        let error = ended.line("ready line", SOON, find).await.unwrap_err();
        assert!(
            format!("{error:#}").contains("waiting for ready line: sh ended"),
            "{error:#}"
        );
        let mut hangs = Daemon::start("sh", shell("exec sleep 60")).unwrap();
        let error = hangs
            .line("ready line", Duration::ZERO, find)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("no ready line within"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_dropped_daemon_is_gone() {
        let daemon = Daemon::start("sh", shell("exec sleep 60")).unwrap();
        let pid = Pid::from_child(&daemon.child);
        drop(daemon);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
