//! The processes of a pod whose containers share them: which ones a signal is for, and sending it.
//!
//! A process's container stands in its mounts: the kubelet mounts a file of
//! `…/pods/<UID of the pod>/containers/<container>/` into each container, for its last words. That is readable
//! for everybody, unlike most of what `/proc` tells about another's process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use keeper_contract::reload::{SignalName, Target};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Longest part of a file in `/proc` that is read; a container has some dozens of mounts.
const MAX_BYTES: u64 = 1024 * 1024;
/// The kernel keeps this much of a program's name.
const COMM_BYTES: usize = 15;
/// The container runtime's process, before it becomes the container's.
const RUNTIME: &str = "runc:[";

/// A process, of which only its number may be another's by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    /// Clock ticks from the machine's start to its own.
    started: u64,
}

/// Why a process did not get its signal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignalError {
    /// It is somebody else's.
    #[error(
        "process {0} runs as another user than this container: state its UID as the pod's securityContext.runAsUser"
    )]
    NotPermitted(i32),
    /// Anything else.
    #[error("process {pid} cannot be signalled: {source}")]
    System {
        /// Its number.
        pid: i32,
        /// The system's answer.
        source: Errno,
    },
}

/// A view of `/proc`.
#[derive(Debug)]
pub(crate) struct Processes {
    proc: PathBuf,
    /// What stands before a container's name in the source of the mount that tells it.
    marker: String,
}

/// What is known of one process.
struct Status {
    comm: String,
    parent: i32,
    started: u64,
    ended: bool,
}

impl Processes {
    /// The processes of the pod with this UID, as `proc` shows them.
    pub(crate) fn new(proc: &Path, pod_uid: &str) -> Self {
        Self {
            proc: proc.to_owned(),
            marker: format!("/pods/{pod_uid}/containers/"),
        }
    }

    /// Those that a signal is for, in order of their numbers; never one of our own container, nor the pod's pause
    /// process.
    pub(crate) fn find(&self, target: &Target) -> Vec<Process> {
        let own = self.container("self");
        let mut found = BTreeMap::new();
        let mut main: BTreeMap<String, Process> = BTreeMap::new();
        for pid in self.pids() {
            let Some(status) = self.status(pid).filter(|status| !status.ended) else {
                continue;
            };
            let container = self.container(&pid.to_string());
            let is_own = container.is_some() && container == own;
            if is_own || u32::try_from(pid) == Ok(std::process::id()) {
                continue;
            }
            let process = Process {
                pid,
                started: status.started,
            };
            match (target, container) {
                (Target::Process(name), _) if self.has_name(pid, &status.comm, name.as_str()) => {
                    found.insert(pid, process);
                }
                // Programs that kubectl exec or a probe started have no parent here either, but are younger.
                (Target::Containers(names), Some(container))
                    if names.contains(&container)
                        && status.parent == 0
                        && !status.comm.starts_with(RUNTIME) =>
                {
                    let oldest = main.entry(container).or_insert(process);
                    if status.started < oldest.started {
                        *oldest = process;
                    }
                }
                _ => {}
            }
        }
        found.extend(main.into_values().map(|process| (process.pid, process)));
        found.into_values().collect()
    }

    /// Signals a process. False: it has ended, and another may have its number.
    pub(crate) fn signal(&self, process: Process, name: SignalName) -> Result<bool, SignalError> {
        let Process { pid, started } = process;
        let failed = |source| match source {
            Errno::SRCH => Ok(false),
            Errno::PERM => Err(SignalError::NotPermitted(pid)),
            source => Err(SignalError::System { pid, source }),
        };
        let Some(number) = Pid::from_raw(pid) else {
            return Ok(false);
        };
        let handle = match pidfd_open(number, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(error) => return failed(error),
        };
        // The handle stands for one process for good. Is it the one that was found?
        if self.status(pid).is_none_or(|now| now.started != started) {
            return Ok(false);
        }
        match pidfd_send_signal(&handle, signal(name)) {
            Ok(()) => Ok(true),
            Err(error) => failed(error),
        }
    }

    fn pids(&self) -> Vec<i32> {
        let entries = std::fs::read_dir(&self.proc).into_iter().flatten();
        let number = |entry: std::io::Result<std::fs::DirEntry>| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            (pid > 1).then_some(pid)
        };
        entries.filter_map(number).collect()
    }

    fn status(&self, pid: i32) -> Option<Status> {
        let text = self.read(&pid.to_string(), "stat")?;
        // The name may hold spaces and brackets of its own.
        let (head, tail) = text.rsplit_once(')')?;
        let (_, comm) = head.split_once('(')?;
        let mut fields = tail.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        // The 22nd field of proc_pid_stat(5); the 4th was the last one.
        let started = fields.nth(17)?.parse().ok()?;
        Some(Status {
            comm: comm.to_owned(),
            parent,
            started,
            ended: matches!(state, "Z" | "X"),
        })
    }

    /// The container of a process, by the mount with its last words.
    fn container(&self, process: &str) -> Option<String> {
        let mounts = self.read(process, "mountinfo")?;
        mounts.lines().find_map(|mount| {
            // The root of the mount in its filesystem: the 4th field of proc_pid_mountinfo(5).
            let root = mount.split(' ').nth(3)?;
            let (_, rest) = root.split_once(&self.marker)?;
            let (container, _) = rest.split_once('/')?;
            Some(container.to_owned())
        })
    }

    /// Whether a process has this name: the kernel's, which is cut short, or that of the program it was started as.
    fn has_name(&self, pid: i32, comm: &str, name: &str) -> bool {
        let cut = name.as_bytes().get(..COMM_BYTES).unwrap_or(name.as_bytes());
        if comm.as_bytes() == cut {
            return true;
        }
        let Some(arguments) = self.read(&pid.to_string(), "cmdline") else {
            return false;
        };
        let program = arguments.split('\0').next().unwrap_or_default();
        program.rsplit('/').next() == Some(name)
    }

    /// A file of a process; none if the process is gone.
    fn read(&self, process: &str, name: &str) -> Option<String> {
        let file = File::open(self.proc.join(process).join(name)).ok()?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn signal(name: SignalName) -> Signal {
    match name {
        SignalName::Hup => Signal::HUP,
        SignalName::Int => Signal::INT,
        SignalName::Quit => Signal::QUIT,
        SignalName::Term => Signal::TERM,
        SignalName::Usr1 => Signal::USR1,
        SignalName::Usr2 => Signal::USR2,
        SignalName::Winch => Signal::WINCH,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;

    use super::*;

    const POD: &str = "0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11";

    /// One process: number, name, parent, start, container, command line.
    type Row = (
        &'static str,
        &'static str,
        i32,
        u64,
        &'static str,
        &'static str,
    );

    fn proc(rows: &[Row]) -> (tempfile::TempDir, Processes) {
        let root = tempfile::tempdir().unwrap();
        for (pid, comm, parent, started, container, cmdline) in rows {
            let dir = root.path().join(pid);
            fs::create_dir(&dir).unwrap();
            let zeros = "0 ".repeat(17);
            let stat = format!("{pid} ({comm}) S {parent} {zeros}{started} 0 0\n");
            fs::write(dir.join("stat"), stat).unwrap();
            fs::write(dir.join("cmdline"), cmdline).unwrap();
            let mounts = format!(
                "610 609 0:50 / / rw - overlay overlay rw\n\
                 611 610 8:1 /pods/{POD}/etc-hosts /etc/hosts rw - ext4 /dev/a rw\n\
                 612 610 8:1 /var/lib/kubelet/pods/{POD}/containers/{container}/1f2e /dev/termination-log rw - ext4 /dev/a rw\n"
            );
            let mounts = if container.is_empty() { "" } else { &mounts };
            fs::write(dir.join("mountinfo"), mounts).unwrap();
        }
        let processes = Processes::new(root.path(), POD);
        (root, processes)
    }

    fn pod() -> (tempfile::TempDir, Processes) {
        proc(&[
            ("self", "keeper-sidecar", 0, 20, "keeper-sidecar", ""),
            ("1", "pause", 0, 10, "", "/pause\0"),
            ("7", "keeper-sidecar", 0, 20, "keeper-sidecar", ""),
            ("8", "sleep", 0, 90, "keeper-sidecar", "sleep\0"),
            ("30", "a) S 1 (b", 0, 300, "app", "/usr/bin/tini\0--\0"),
            ("31", "nginx", 30, 301, "app", "nginx: worker process\0"),
            // A probe's, with a smaller number than the main process of its container.
            ("12", "sh", 0, 500, "app", "/bin/sh\0-c\0"),
            (
                "40",
                "postgres-exporter-of"[..15].into(),
                0,
                400,
                "exporter",
                "/bin/postgres-exporter-of-us\0",
            ),
            ("50", "envoy", 0, 250, "istio-proxy", "/bin/nginx\0"),
            ("60", "runc:[2:INIT]", 0, 600, "late", "runc\0init\0"),
        ])
    }

    fn found(processes: &Processes, target: &Target) -> Vec<i32> {
        processes.find(target).iter().map(|p| p.pid).collect()
    }

    #[test]
    fn a_container_has_one_main_process() {
        let (_root, processes) = pod();
        for (names, want) in [
            (vec!["app", "exporter"], vec![30, 40]),
            (vec!["app", "absent"], vec![30]),
            (vec!["late"], vec![]),
            (vec!["keeper-sidecar"], vec![]),
            (vec![""], vec![]),
        ] {
            let target = Target::Containers(names.into_iter().map(str::to_owned).collect());
            assert_eq!(found(&processes, &target), want);
        }
        let other = Processes::new(&processes.proc, "another-uid");
        let target = Target::Containers(vec!["app".into()]);
        assert_eq!(found(&other, &target), [0; 0]);
    }

    #[test]
    fn a_name_is_the_kernels_or_that_of_the_program() {
        let (_root, processes) = pod();
        for (name, want) in [
            ("nginx", vec![31, 50]),
            ("tini", vec![30]),
            ("postgres-exporter-of-us", vec![40]),
            ("ngin", vec![]),
            ("sleep", vec![]),
            ("pause", vec![]),
            ("keeper-sidecar", vec![]),
        ] {
            let target = Target::Process(name.parse().unwrap());
            assert_eq!(found(&processes, &target), want, "{name}");
        }
    }

    #[test]
    fn nonsense_in_proc_is_no_process() {
        let (root, processes) = pod();
        for (pid, stat) in [
            ("70", ""),
            ("71", "71 (x"),
            ("72", "72 (x) S"),
            ("73", ") ("),
        ] {
            let dir = root.path().join(pid);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("stat"), stat).unwrap();
        }
        fs::create_dir(root.path().join("74")).unwrap();
        fs::write(root.path().join("31/stat"), "31 (nginx) Z 30").unwrap();
        let target = Target::Process("nginx".parse().unwrap());
        assert_eq!(found(&processes, &target), [50]);
    }

    #[test]
    fn a_signal_reaches_the_process_that_was_found_and_no_other() {
        let processes = Processes::new(Path::new("/proc"), POD);
        let mut child = Command::new("sleep")
            .arg0("keeper-test-nap")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let target = Target::Process("keeper-test-nap".parse().unwrap());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let process = loop {
            if let Some(process) = processes.find(&target).into_iter().find(|p| p.pid == pid) {
                break process;
            }
            assert!(std::time::Instant::now() < deadline, "not found");
        };
        let reused = Process {
            pid,
            started: process.started + 1,
        };
        assert!(!processes.signal(reused, SignalName::Term).unwrap());
        assert!(child.try_wait().unwrap().is_none());
        // Not SIGHUP, which the child ignores where the tests themselves were started so.
        assert!(processes.signal(process, SignalName::Usr1).unwrap());
        assert_eq!(child.wait().unwrap().signal(), Some(10));
        assert!(!processes.signal(process, SignalName::Usr1).unwrap());
    }
}
