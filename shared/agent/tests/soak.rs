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
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keeper_agent::schedule::Grid;
use keeper_agent::{Agent, Host, Pod, Runner};
use keeper_contract::Directory;
use keeper_sim::{FaultKind, Outcome, SimHandle};
use keeper_soak::{Action, Answer, Model, OUTPUTS, Script, VAULT_CLIENTS, Vault};
use support::Bench;
use tokio::sync::Notify;

/// Keeper's time when a run begins.
const EPOCH: Duration = Duration::from_secs(1_800_000_000);
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
    let mut bench = Bench::new(&vault.to_yaml(), &selections).await;
    // Its rule counts in real time.
    bench.sim.set_throttle(None);
    bench.config.refresh_interval_seconds = 15;
    bench.config.directories.push(Directory {
        mount_path: "/etc/tls".into(),
        sub_path: "dirs/1".into(),
        mount_points: Vec::new(),
    });
    for (output, spec) in bench.config.outputs.iter_mut().zip(&OUTPUTS) {
        output.directory = spec.directory;
    }
    let end = Duration::from_secs(hours * 3600);
    let host = Virtual(Arc::new(Shared {
        world: Mutex::new(World {
            seed,
            now: Duration::ZERO,
            node_ahead_ms: 0,
            random: fastrand::Rng::with_seed(seed),
            model: Model::new(vault),
            script: Script::new(seed, end),
            end: end + QUIET,
            sim: bench.sim.handle(),
            auth: bench.root.path().join("auth"),
            client: 0,
            retry_after: None,
            volume: bench.volume(),
            stop: None,
            log: Vec::new(),
            calls: 0,
            answers: 0,
        }),
        stopped: Notify::new(),
    }));
    host.world().set_clock();

    let reader = Reader::default();
    loop {
        let mut started = false;
        let observed = host.clone();
        let mut runner = runner(&bench, host.clone());
        tokio::select! {
            ended = runner.run(|_| {
                // The first word is about what an earlier process has left.
                if std::mem::replace(&mut started, true) {
                    observed.world().called();
                    reader.start(&observed);
                }
            }) => host.world().fail(&format!("the sidecar ended: {ended:?}")),
            () = host.0.stopped.notified() => {}
        }
        drop(runner);
        let mut world = host.world();
        match world.stop.take() {
            Some(Stop::Killed(down)) => world.restarted(down),
            _ => break,
        }
    }
    let reads = reader.stop(&host);
    let world = host.world();
    let calls = world.calls;
    // Or little was tested.
    assert!(
        calls > 50 && world.answers > 30,
        "seed {seed}: {calls} calls, {} answers",
        world.answers
    );
    assert!(reads > 100, "{reads} reads");
    if world.model.answered_at().unwrap() + QUIET / 2 < world.now {
        world.fail("keeper was there again, and nothing was fetched");
    }
}

/// What a process of this pod runs.
fn runner(bench: &Bench, host: Virtual) -> Runner<Virtual> {
    let opened = Agent::open(bench.config.clone(), &bench.volume(), bench.metrics.clone());
    let (agent, store) = opened.unwrap();
    let pod = Pod {
        name: "pod".into(),
        namespace: "default".into(),
        uid: format!("{}-7a31-4a1c-9d52-0a4d1f4f3b11", host.world().seed),
    };
    Runner::new(
        host,
        agent,
        store,
        &pod,
        Grid::STANDARD,
        bench.metrics.clone(),
    )
}

/// A machine whose time passes when somebody sleeps. What the script has planned happens meanwhile.
#[derive(Clone)]
struct Virtual(Arc<Shared>);

struct Shared {
    world: Mutex<World>,
    stopped: Notify,
}

struct World {
    seed: u64,
    /// True time since the beginning, which is Keeper's.
    now: Duration,
    node_ahead_ms: i64,
    random: fastrand::Rng,
    model: Model,
    script: Script,
    end: Duration,
    sim: SimHandle,
    auth: PathBuf,
    /// Index of the client whose config is mounted.
    client: usize,
    /// What throttled calls are told.
    retry_after: Option<Duration>,
    volume: PathBuf,
    /// Why the process is to be dropped.
    stop: Option<Stop>,
    log: Vec<String>,
    calls: u32,
    answers: u32,
}

enum Stop {
    Killed(Duration),
    Over,
}

impl Virtual {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for Virtual {
    fn now(&self) -> SystemTime {
        let world = self.world();
        let step = Duration::from_millis(world.node_ahead_ms.unsigned_abs());
        let now = UNIX_EPOCH + EPOCH + world.now;
        if world.node_ahead_ms < 0 {
            now - step
        } else {
            now + step
        }
    }

    fn uptime(&self) -> Duration {
        self.world().now
    }

    fn boot_id(&self) -> String {
        "virtual".to_owned()
    }

    async fn sleep(&self, duration: Duration) {
        let (stopped, stops) = {
            let mut world = self.world();
            let stopped = world.stop.is_some();
            (stopped, stopped || world.pass(duration))
        };
        if stops && !stopped {
            self.0.stopped.notify_one();
        }
        if stops {
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }

    fn random(&self) -> u64 {
        self.world().random.u64(..)
    }
}

impl World {
    /// Lets time pass and happen what is planned. Says whether the process ends in it.
    fn pass(&mut self, duration: Duration) -> bool {
        let mut until = self.now + duration;
        while let Some(at) = self.script.next_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let Some(action) = self.script.next(&mut self.model) else {
                continue;
            };
            self.note(&format!("{action:?}"));
            if let Action::Suspend(asleep) = action {
                until += asleep;
            }
            self.act(action);
            if self.stop.is_some() {
                return true;
            }
        }
        self.now = until;
        self.set_clock();
        if self.now > self.model.call_by() {
            self.fail(&format!("no call by {:?}", self.model.call_by()));
        }
        if self.now >= self.end {
            self.stop = Some(Stop::Over);
        }
        self.stop.is_some()
    }

    fn act(&mut self, action: Action) {
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
                let client = VAULT_CLIENTS[self.client];
                self.sim.set_revoked(client, true).unwrap();
            }
            Action::Readmit => {
                for client in VAULT_CLIENTS {
                    self.sim.set_revoked(client, false).unwrap();
                }
            }
            Action::SwapConfig => {
                self.client = (self.client + 1) % VAULT_CLIENTS.len();
                let config = self.sim.device_config_of(VAULT_CLIENTS[self.client]);
                fs::write(self.auth.join("new"), config.unwrap()).unwrap();
                fs::rename(self.auth.join("new"), self.auth.join("config")).unwrap();
            }
            Action::Kill(down) => self.stop = Some(Stop::Killed(down)),
            Action::Suspend(asleep) => {
                self.now += asleep;
                self.model.disturbed(self.now + SEEN_AFTER);
            }
            // Neither a process nor the next one is to mind.
            Action::StepClock(ahead) => self.node_ahead_ms = ahead,
        }
    }

    /// The next process begins after `down`.
    fn restarted(&mut self, down: Duration) {
        let until = self.now + down;
        self.model.disturbed(until);
        // Whatever else would end the process has no process to end.
        while self.pass(until.saturating_sub(self.now)) {
            if matches!(self.stop, Some(Stop::Over)) {
                break;
            }
            self.stop = None;
        }
        self.stop = None;
        self.model.disturbed(self.now);
        self.note("started again");
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
        if let Err(problem) = self.model.called(self.now, answer, seen) {
            self.fail(&problem);
        }
    }

    /// Puts Keeper's clock right, which runs in real time.
    fn set_clock(&self) {
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap();
        let ahead = millis(EPOCH + self.now) - millis(real);
        self.sim.set_clock_offset_ms(ahead);
    }

    fn note(&mut self, what: &str) {
        // The values' filler tells nothing.
        let what: String = what.chars().take(300).collect();
        let words = what.split(' ').filter(|word| !word.starts_with("xx"));
        let what = words.collect::<Vec<_>>().join(" ");
        self.log.push(format!("{:?} {what}", self.now));
    }

    fn fail(&self, problem: &str) -> ! {
        let log = &self.log[self.log.len().saturating_sub(60)..];
        panic!(
            "SOAK_SEED={}: at {:?}: {problem}\n{}",
            self.seed,
            self.now,
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
    fn start(&self, host: &Virtual) {
        let mut thread = self.thread.lock().unwrap();
        if thread.is_some() {
            return;
        }
        let (ends, host) = (Arc::clone(&self.ends), host.clone());
        let dirs = [0, 1].map(|n| host.world().volume.join(format!("dirs/{n}")));
        *thread = Some(std::thread::spawn(move || {
            let mut reads = 0;
            while !ends.load(Ordering::Relaxed) {
                for (directory, path) in dirs.iter().enumerate() {
                    read(&host, &ends, directory, path);
                    reads += 1;
                }
                // Leave the processor to the one that writes.
                std::thread::sleep(Duration::from_micros(500));
            }
            reads
        }));
    }

    /// How often it has read everything.
    fn stop(&self, host: &Virtual) -> u32 {
        self.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap().take().unwrap();
        thread
            .join()
            .unwrap_or_else(|_| host.world().fail("the reader has seen something wrong"))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

/// Reads one directory's files from one generation, and each as the application opens it.
fn read(host: &Virtual, ends: &AtomicBool, directory: usize, path: &Path) {
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
                let world = host.world();
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
