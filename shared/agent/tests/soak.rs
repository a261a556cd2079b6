//! An hour or more of a pod's life in virtual time, with faults and vault edits at random from a seed, against the
//! model of `keeper-soak`.
//!
//! `SOAK_SEED` and `SOAK_HOURS` choose another run. All that the agent is told of time and chance follows from the
//! seed; only the reader beside it reads in real time, as fast as it can.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]
#![expect(dead_code, reason = "each test binary uses a part of the support")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keeper_agent::schedule::Grid;
use keeper_agent::{Agent, Host, Pod, Runner};
use keeper_contract::{Directory, Place};
use keeper_sim::{FaultKind, Outcome, SimHandle};
use keeper_soak::{Action, Answer, Model, OUTPUTS, Script, Stage, Vault};
use support::Bench;
use support::virtual_host::VirtualHost;

/// The clients that may read the vault.
const CLIENTS: [&str; 2] = ["default", "second"];
/// The agent looks at the uptime at least as often as this.
const SEEN_AFTER: Duration = Duration::from_secs(61);
/// How long a run goes on after the last trouble: longer than the longest back-off.
const QUIET: Duration = Duration::from_secs(20 * 60);

#[tokio::test]
async fn files_are_right_through_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let hours = number("SOAK_HOURS").unwrap_or(1);
    match number("SOAK_SEED") {
        Some(seed) => soak(seed, hours).await,
        None => {
            for seed in 1..=3 {
                soak(seed, hours).await;
            }
        }
    }
}

/// One run.
async fn soak(seed: u64, hours: u64) {
    let vault = Vault::default();
    let selections: Vec<String> = OUTPUTS
        .iter()
        .map(|output| format!("{} -> {}", output.selection, output.path))
        .collect();
    let selections: Vec<&str> = selections.iter().map(String::as_str).collect();
    let mut bench = Bench::new(&vault.to_yaml(&CLIENTS), &selections).await;
    // Its rule counts in real time.
    bench.sim.set_throttle(None);
    bench.config.refresh_interval_seconds = 15;
    bench.config.directories.push(Directory {
        mount_path: "/etc/tls".into(),
        sub_path: "dirs/1".into(),
        place: Place::Shared,
        mount_points: Vec::new(),
    });
    for (output, spec) in bench.config.outputs.iter_mut().zip(&OUTPUTS) {
        output.directory = spec.directory;
    }
    let end = Duration::from_secs(hours * 3600);
    let node = VirtualHost::new(&bench.sim, seed);
    let world = Shared(Arc::new(Mutex::new(World {
        seed,
        node: node.clone(),
        model: Model::new(vault),
        script: Script::new(seed, Stage::Virtual, end),
        sim: bench.sim.handle(),
        auth: bench.root.path().join("auth"),
        client: 0,
        retry_after: None,
        volume: bench.volume(),
        log: Vec::new(),
        calls: 0,
        answers: 0,
    })));

    let reader = Reader::default();
    loop {
        let mut started = false;
        let mut runner = runner(&bench, &node, seed);
        let killed = tokio::select! {
            ended = runner.run(|_| {
                // The first word is about what an earlier process has left.
                if std::mem::replace(&mut started, true) {
                    world.get().called();
                    reader.start(&world);
                }
            }) => world.get().fail(&format!("the sidecar ended: {ended:?}")),
            killed = live(&node, &world, end + QUIET) => killed,
        };
        drop(runner);
        let Some(down) = killed else { break };
        world.get().restarted(down);
    }
    let reads = reader.stop(&world);
    let world = world.get();
    let calls = world.calls;
    // Or little was tested.
    assert!(
        calls > 50 && world.answers > 30,
        "seed {seed}: {calls} calls, {} answers",
        world.answers
    );
    assert!(reads > 100, "{reads} reads");
    if world.model.answered_at().unwrap() + QUIET / 2 < node.uptime() {
        world.fail("keeper was there again, and nothing was fetched");
    }
}

/// What a process of this pod runs.
fn runner(bench: &Bench, node: &VirtualHost, seed: u64) -> Runner<VirtualHost> {
    let opened = Agent::open(bench.config.clone(), &bench.volume(), bench.metrics.clone());
    let (agent, store) = opened.unwrap();
    let pod = Pod {
        name: "pod".into(),
        namespace: "default".into(),
        uid: format!("{seed}-7a31-4a1c-9d52-0a4d1f4f3b11"),
    };
    let (node, metrics) = (node.clone(), bench.metrics.clone());
    Runner::new(node, agent, store, &pod, Grid::STANDARD, metrics)
}

/// Lets a process live, and happen what is planned, until it is killed or all is over. Returns how long there is none.
async fn live(node: &VirtualHost, world: &Shared, end: Duration) -> Option<Duration> {
    while node.uptime() < end {
        let next = world.get().script.next_at().unwrap_or(end).min(end);
        node.advance(next.saturating_sub(node.uptime())).await;
        let mut world = world.get();
        world.check_call();
        while world.script.next_at().is_some_and(|at| at <= node.uptime()) {
            if let Some(down) = world.happen() {
                return Some(down);
            }
        }
    }
    None
}

/// The world, for the process, for its reader, and for what happens to them.
#[derive(Clone)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    fn get(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct World {
    seed: u64,
    node: VirtualHost,
    model: Model,
    script: Script,
    sim: SimHandle,
    auth: PathBuf,
    /// Index of the client whose config is mounted.
    client: usize,
    /// What throttled calls are told.
    retry_after: Option<Duration>,
    volume: PathBuf,
    log: Vec<String>,
    calls: u32,
    answers: u32,
}

impl World {
    /// Lets the next event happen. Returns for how long there is no process, if it kills the one there is.
    fn happen(&mut self) -> Option<Duration> {
        let action = self.script.next(&mut self.model)?;
        self.note(&format!("{action:?}"));
        self.act(action)
    }

    fn act(&mut self, action: Action) -> Option<Duration> {
        match action {
            Action::Edit(edit) => {
                self.sim.edit(&edit).unwrap();
            }
            Action::Fault(kind) => {
                self.retry_after = match &kind {
                    FaultKind::Throttled { retry_after } => {
                        retry_after.as_ref().and_then(serde_json::Value::as_u64)
                    }
                    FaultKind::TooManyRequests { retry_after } => {
                        retry_after.as_ref().and_then(|text| text.parse().ok())
                    }
                    _ => None,
                }
                .map(Duration::from_secs);
                self.sim.fault(keeper_sim::Fault::new(kind));
            }
            Action::Recover => {
                self.retry_after = None;
                self.sim.clear_faults();
            }
            Action::RotateServerKey => {
                self.sim.rotate_server_key(None).unwrap();
            }
            Action::Revoke => {
                let client = CLIENTS[self.client];
                self.sim.set_revoked(client, true).unwrap();
            }
            Action::Readmit => {
                for client in CLIENTS {
                    self.sim.set_revoked(client, false).unwrap();
                }
            }
            Action::SwapConfig => {
                self.client = (self.client + 1) % CLIENTS.len();
                let config = self.sim.device_config_of(CLIENTS[self.client]);
                fs::write(self.auth.join("new"), config.unwrap()).unwrap();
                fs::rename(self.auth.join("new"), self.auth.join("config")).unwrap();
            }
            Action::Kill(down) => return Some(down),
            Action::Suspend(asleep) => {
                self.node.suspend(asleep);
                self.model.disturbed(self.node.uptime() + SEEN_AFTER);
            }
            // Neither a process nor the next one is to mind.
            Action::StepClock(ahead) => self.node.put_clock(ahead),
        }
        None
    }

    /// The next process begins after `down`.
    fn restarted(&mut self, down: Duration) {
        let until = self.node.uptime() + down;
        self.model.disturbed(until);
        while let Some(at) = self.script.next_at().filter(|at| *at <= until) {
            self.node.pass(at.saturating_sub(self.node.uptime()));
            self.happen();
        }
        self.node.pass(until.saturating_sub(self.node.uptime()));
        self.model.disturbed(self.node.uptime());
        self.note("started again");
    }

    fn check_call(&self) {
        let by = self.model.call_by();
        if self.node.uptime() > by {
            self.fail(&format!("no call by {by:?}"));
        }
    }

    /// Judges the call that has just ended.
    fn called(&mut self) {
        let requests = self.sim.requests();
        self.sim.reset_calls();
        let last = requests.iter().rfind(|r| r.endpoint == "get_secret");
        let answer = if last.is_some_and(|last| last.outcome == Outcome::Answered) {
            self.answers += 1;
            Answer::Vault
        } else {
            let retry_after = self.retry_after;
            Answer::Failure { retry_after }
        };
        self.calls += 1;
        self.note(&format!("a call: {answer:?}"));
        let seen = |index: usize| {
            let output = OUTPUTS[index];
            let dir = self.volume.join(format!("dirs/{}", output.directory));
            fs::read_to_string(dir.join(output.path)).ok()
        };
        if let Err(problem) = self.model.called(self.node.uptime(), answer, seen) {
            self.fail(&problem);
        }
    }

    fn note(&mut self, what: &str) {
        // The values' filler tells nothing.
        let what: String = what.chars().take(300).collect();
        let words = what.split(' ').filter(|word| !word.starts_with("xx"));
        let what = words.collect::<Vec<_>>().join(" ");
        self.log.push(format!("{:?} {what}", self.node.uptime()));
    }

    fn fail(&self, problem: &str) -> ! {
        let log = &self.log[self.log.len().saturating_sub(60)..];
        panic!(
            "SOAK_SEED={}: at {:?}: {problem}\n{}",
            self.seed,
            self.node.uptime(),
            log.join("\n")
        );
    }
}

/// An application that reads its files all the time.
#[derive(Default)]
struct Reader {
    ends: Arc<AtomicBool>,
    thread: Mutex<Option<std::thread::JoinHandle<u32>>>,
}

impl Reader {
    /// Begins, if it hasn't.
    fn start(&self, world: &Shared) {
        let mut thread = self.thread.lock().unwrap();
        if thread.is_some() {
            return;
        }
        let (ends, world) = (Arc::clone(&self.ends), world.clone());
        let dirs = [0, 1].map(|n| world.get().volume.join(format!("dirs/{n}")));
        *thread = Some(std::thread::spawn(move || {
            let mut reads = 0;
            while !ends.load(Ordering::Relaxed) {
                for (directory, path) in dirs.iter().enumerate() {
                    read(&world, &ends, directory, path);
                    reads += 1;
                }
                // Leave the processor to the one that writes.
                std::thread::sleep(Duration::from_micros(500));
            }
            reads
        }));
    }

    /// How often it has read everything.
    fn stop(&self, world: &Shared) -> u32 {
        self.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap().take().unwrap();
        thread
            .join()
            .unwrap_or_else(|_| world.get().fail("the reader has seen something wrong"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// Reads one directory's files from one generation, and each as the application opens it.
fn read(world: &Shared, ends: &AtomicBool, directory: usize, path: &Path) {
    let names = OUTPUTS.iter().filter(|o| o.directory == directory);
    let names: Vec<&str> = names.map(|output| output.path).collect();
    loop {
        let Ok(generation) = fs::read_link(path.join("..data")) else {
            // The run has failed, and its volume is gone.
            assert!(ends.load(Ordering::Relaxed), "no generation");
            return;
        };
        let contents: Result<Vec<String>, _> = names
            .iter()
            .map(|name| fs::read_to_string(path.join(&generation).join(name)))
            .collect();
        let opened: Result<Vec<String>, _> = names
            .iter()
            .map(|name| fs::read_to_string(path.join(name)))
            .collect();
        match (contents, opened) {
            (Ok(contents), Ok(_)) => {
                let content = |name: &str| {
                    let index = names.iter().position(|n| *n == name);
                    contents[index.unwrap()].clone()
                };
                let world = world.get();
                if let Err(problem) = world.model.read(directory, content) {
                    world.fail(&problem);
                }
                return;
            }
            // In virtual time an old generation goes as soon as there is a new one.
            _ if ends.load(Ordering::Relaxed) => return,
            (contents, opened) => {
                let now = fs::read_link(path.join("..data"));
                assert_ne!(now.ok(), Some(generation), "{contents:?} {opened:?}");
            }
        }
    }
}
