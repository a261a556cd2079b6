//! The processes of a GitOps tool. They run on this machine, in the node's network, as its administrator: what they do to the API server is
//! what they would do from pods, but for their rights.

use std::fs;
use std::path::Path;

use keeper_e2e::{Process, node, try_kubectl, until};
use tempfile::TempDir;

/// They end with this value; if the test fails, what they said last is printed.
pub(crate) struct Controllers {
    dir: TempDir,
    processes: Vec<(&'static str, Process)>,
}

impl Controllers {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            processes: Vec::new(),
        }
    }

    /// Where they may keep files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts one, with variables (`NAME=value`).
    pub(crate) fn start(&mut self, name: &'static str, variables: &[String], command: &[&str]) {
        let variables = variables.iter().map(String::as_str);
        let command: Vec<&str> = std::iter::once("env")
            .chain(variables)
            .chain(command.iter().copied())
            .collect();
        let process = Process::start(&command, &self.log(name));
        self.processes.push((name, process));
    }

    /// Waits until this address takes connections.
    pub(crate) fn wait_for(&mut self, address: &str) {
        let (host, port) = address.split_once(':').unwrap();
        until(address, 60, || {
            self.must_run();
            let connects = node::try_client(&["busybox", "nc", "-w", "1", host, port]);
            connects.success.then_some(())
        });
    }

    pub(crate) fn must_run(&mut self) {
        for (_, process) in &mut self.processes {
            process.must_run();
        }
    }

    fn log(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (name, _) in &self.processes {
            let log = fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("== {name}");
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The folder with a tool's programs and the definitions of its kinds.
pub(crate) fn folder_of(program: &str) -> String {
    let script = "dirname \"$(command -v \"$1\")\"";
    let found = node::try_client(&["sh", "-ec", script, "sh", program]);
    let folder = found.stdout.trim().to_owned();
    assert!(
        folder.len() > 1,
        "there is no {program}: e2e/cluster/cluster gitops builds it"
    );
    folder
}

/// The definitions in a folder; they go with this value, and with them all objects of their kinds.
pub(crate) struct Kinds(Vec<String>);

impl Kinds {
    pub(crate) fn install(folders: &[String]) -> Self {
        let definitions = folders.iter().flat_map(|folder| {
            let entries = fs::read_dir(folder).unwrap();
            entries.map(|entry| entry.unwrap().path().display().to_string())
        });
        let definitions: Vec<_> = definitions.filter(|file| file.ends_with(".yaml")).collect();
        node::install_kinds(&definitions);
        Self(definitions)
    }
}

impl Drop for Kinds {
    fn drop(&mut self) {
        for file in &self.0 {
            let delete = ["delete", "--ignore-not-found", "--wait=false", "--filename"];
            let _ = try_kubectl(&[&delete[..], &[file]].concat(), None);
        }
    }
}

pub(crate) fn kubectl(arguments: &[&str]) {
    let _ = keeper_e2e::kubectl(arguments);
}
