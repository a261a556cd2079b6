//! Minutes of a node's life: pods of several shapes with the shortest interval, vault edits and faults at random from a
//! seed, sidecars that are killed in the middle of their work, and a reader that looks at all files all the time. The model of
//! `keeper-soak` says what each file may hold.
//!
//! Calls are made in the first seconds of a frame of 15 s. So the vault and the faults change only in the rest of it, and what
//! a call had to bring is known exactly. `SOAK_SEED` and `SOAK_MINUTES` choose another run.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests fail by panicking, and a run tells what happened in it"
)]

mod fleet;
mod keeper;
mod memory;

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fleet::{Pod, SHAPES};
use keeper::Admin;
use keeper_e2e::{Namespace, node};
use keeper_sim::{Fault, FaultKind, LoggedRequest, Outcome};
use keeper_soak::{Action, Answer, Model, Script, Stage, Vault};
use memory::Memory;

const FRAME_MS: u64 = 15_000;
/// When in a frame its calls are over: their window of 2 s, half a second that clocks may be off, and some to work.
const CALLED_MS: u64 = 4_000;
/// When in a frame the last thing may be changed.
const LAST_CHANGE_MS: u64 = 12_500;
/// Within this an answer is published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
/// Answers that a sidecar has had when it is measured.
const SETTLED: u32 = 3;
/// Longest time from the end of all faults until all sidecars have settled: eight frames of a retry, and the answers.
const QUIET: Duration = Duration::from_secs(15 * (8 + 2 * 3 + 4));
/// The kubelet's back-off after the third kill is 40 s.
const RESTARTED_WITHIN_MS: u64 = 120_000;
/// How long a call and the publication take.
const IN_A_CALL_MS: u64 = 20;
/// Kills of one sidecar: the kubelet's back-off would be minutes after more.
const MOST_KILLS: u32 = 3;

#[test]
#[ignore = "takes minutes: make soak"]
fn files_and_memory_stay_right_through_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("SOAK_SEED").unwrap_or_else(|| now_ms() % 1_000_000);
    let minutes = number("SOAK_MINUTES").unwrap_or(5);
    eprintln!("soak: SOAK_SEED={seed} SOAK_MINUTES={minutes}");
    let mut soak = Soak::start(seed);
    let reader = Reader::start(&soak.shared);
    soak.settle("the first answers");
    let before = soak.memory();
    soak.play(Script::new(
        seed,
        Stage::Node,
        Duration::from_secs(60 * minutes),
    ));
    soak.settle("answers after the last fault");
    let after = soak.memory();
    let looks = reader.stop();
    soak.shared.check();
    for ((shape, before), after) in SHAPES.iter().zip(&before).zip(&after) {
        eprintln!("soak: {}: {before} before, {after} after", shape.name);
    }
    let (calls, answers) = soak
        .shared
        .pods()
        .iter()
        .fold((0, 0), |(calls, answers), pod| {
            (calls + pod.calls, answers + pod.answers)
        });
    let Soak {
        edits,
        faults,
        kills,
        interrupted,
        ..
    } = soak;
    eprintln!(
        "soak: seed {seed}: {} pods, {edits} edits, {faults} faults, {kills} kills, {interrupted} of them in a call; {calls} calls, {answers} of them answered; \
         {looks} looks at a directory",
        SHAPES.len(),
    );
    for ((shape, before), after) in SHAPES.iter().zip(&before).zip(&after) {
        before
            .check(after)
            .unwrap_or_else(|problem| panic!("{}: {problem}", shape.name));
    }
    // Or little was tested.
    assert!(edits > 10 && faults > 0 && kills > 0 && answers < calls && looks > 1_000);
}

struct Soak {
    namespace: Namespace,
    admin: Admin,
    shared: Arc<Shared>,
    random: fastrand::Rng,
    /// The models' zero, in milliseconds since 1970.
    began_ms: u64,
    /// What throttled calls are told.
    retry_after: Option<Duration>,
    revoked: Option<&'static str>,
    edits: u32,
    faults: u32,
    kills: u32,
    /// Kills that met a call.
    interrupted: u32,
}

impl Soak {
    /// The pods, all ready.
    fn start(seed: u64) -> Self {
        let vault = Vault::default();
        let namespace = Namespace::new("soak");
        let clients = SHAPES.each_ref().map(|shape| shape.name);
        let admin = keeper::install(&namespace, &vault, &clients);
        let began_ms = now_ms();
        for shape in &SHAPES {
            shape.apply(&namespace);
        }
        let pods = SHAPES.iter().map(|shape| {
            namespace.wait_for(&format!("pod/{}", shape.name), "condition=Ready", 120);
            let mut model = Model::new(vault.clone());
            model.disturbed(since(began_ms));
            Pod::new(shape, model, &namespace)
        });
        let shared = Shared {
            pods: Mutex::new(pods.collect()),
            log: Mutex::default(),
            broken: Mutex::default(),
        };
        let mut soak = Self {
            namespace,
            admin,
            shared: Arc::new(shared),
            random: fastrand::Rng::with_seed(seed),
            began_ms,
            retry_after: None,
            revoked: None,
            edits: 0,
            faults: 0,
            kills: 0,
            interrupted: 0,
        };
        soak.judge();
        soak
    }

    /// Frames in which nothing happens, until each sidecar has had some answers.
    fn settle(&mut self, what: &str) {
        let answers = |soak: &Self| -> Vec<u32> {
            let pods = soak.shared.pods();
            pods.iter().map(|pod| pod.answers).collect()
        };
        let (before, deadline) = (answers(self), Instant::now() + QUIET);
        while answers(self)
            .iter()
            .zip(&before)
            .any(|(now, before)| now - before < SETTLED)
        {
            assert!(
                Instant::now() < deadline,
                "still waiting for {what}\n{}",
                self.shared.log()
            );
            self.calls_of_a_frame(next_frame(), false);
        }
    }

    /// Frames in which happens what the script says, and sidecars are killed.
    fn play(&mut self, mut script: Script) {
        let began_ms = now_ms();
        while script.next_at().is_some() {
            let frame_ms = next_frame();
            let kills = self.random.u32(0..3) == 0;
            self.calls_of_a_frame(frame_ms, kills);
            while let Some(at) = script.next_at() {
                let at_ms = began_ms + millis(at);
                if at_ms.max(now_ms()) > frame_ms + LAST_CHANGE_MS {
                    break;
                }
                sleep_until(at_ms);
                self.happen(&mut script);
            }
        }
    }

    /// One frame's calls, and the judgement of what they left.
    fn calls_of_a_frame(&mut self, frame_ms: u64, kills: bool) {
        if kills {
            self.kill(frame_ms);
        }
        sleep_until(frame_ms + CALLED_MS);
        self.judge();
        self.shared.check();
    }

    fn memory(&self) -> Vec<Memory> {
        let pods = self.shared.pods();
        pods.iter().map(|pod| pod.memory(&self.namespace)).collect()
    }

    fn happen(&mut self, script: &mut Script) {
        let action = {
            let mut pods = self.shared.pods();
            let Some((first, others)) = pods.split_first_mut() else {
                return;
            };
            let action = script.next(&mut first.model);
            for pod in others {
                pod.model
                    .edit(|vault| first.model.vault().clone_into(vault));
            }
            action
        };
        let Some(action) = action else { return };
        let any = SHAPES[self.random.usize(0..SHAPES.len())].name;
        self.note(&format!("{action:?}"));
        match action {
            Action::Edit(edit) => {
                self.admin.edit(&edit);
                self.edits += 1;
            }
            Action::Fault(kind) => {
                self.retry_after = retry_after(&kind);
                let mut fault = Fault::new(kind);
                fault.client = self.random.bool().then(|| any.to_owned());
                self.admin.fault(&fault);
                self.faults += 1;
            }
            Action::Recover => {
                self.admin.clear_faults();
                self.retry_after = None;
            }
            Action::Revoke => {
                self.admin.set_revoked(any, true);
                self.revoked = Some(any);
                self.faults += 1;
            }
            Action::Readmit => {
                if let Some(client) = self.revoked.take() {
                    self.admin.set_revoked(client, false);
                }
            }
            other => unreachable!("not on a node: {other:?}"),
        }
    }

    /// Kills one of the sidecars that may be, in the middle of its call if that is at the usual place of the frame.
    fn kill(&mut self, frame_ms: u64) {
        let may_die = |pod: &Pod| pod.shape.is_killed && !pod.is_down && pod.kills < MOST_KILLS;
        let victims: Vec<usize> = {
            let pods = self.shared.pods();
            (0..pods.len())
                .filter(|index| may_die(&pods[*index]))
                .collect()
        };
        let Some(victim) = self.random.choice(victims) else {
            return;
        };
        let Some(container) = self.shared.pods()[victim].sidecar(&self.namespace) else {
            return;
        };
        let process = node::process_here(&node::process_of(&container));
        let place_ms = self.shared.pods()[victim].judged_ms % FRAME_MS;
        sleep_until(frame_ms + place_ms.min(CALLED_MS) + self.random.u64(0..IN_A_CALL_MS));
        let killed = Command::new("kill").args(["-KILL", &process]).status();
        assert!(killed.unwrap().success());
        let mut pods = self.shared.pods();
        let pod = &mut pods[victim];
        (pod.is_down, pod.killed, pod.kills) = (true, Some((now_ms(), container)), pod.kills + 1);
        let name = pod.shape.name;
        drop(pods);
        self.note(&format!("{name} killed"));
        self.kills += 1;
    }

    /// Judges the calls since the last time, and that they came.
    fn judge(&mut self) {
        let fetches = self.admin.fetches();
        for (index, shape) in SHAPES.iter().enumerate() {
            self.see_restart(index);
            if let Err(problem) = self.judge_pod(index, &fetches) {
                self.shared.breaks(&format!("{}: {problem}", shape.name));
            }
        }
    }

    fn judge_pod(&mut self, index: usize, fetches: &[LoggedRequest]) -> Result<(), String> {
        let name = SHAPES[index].name;
        let deadline = Instant::now() + PUBLISHED_WITHIN;
        let of_client = |fetch: &&LoggedRequest| fetch.client.as_deref() == Some(name);
        loop {
            let mut pods = self.shared.pods();
            let pod = &mut pods[index];
            let Some(last) = fetches
                .iter()
                .rfind(of_client)
                .filter(|last| last.at_ms > pod.judged_ms)
            else {
                let (now, call_by) = (since(self.began_ms), pod.model.call_by());
                let is_late = !pod.is_down && now > call_by;
                return if is_late {
                    Err(format!("no call by {call_by:?}"))
                } else {
                    Ok(())
                };
            };
            let at = Duration::from_millis(last.at_ms.saturating_sub(self.began_ms));
            let answer = match last.outcome {
                Outcome::Answered => Answer::Vault,
                _ => Answer::Failure {
                    retry_after: self.retry_after,
                },
            };
            let was_killed = pod
                .killed
                .as_ref()
                .is_some_and(|(killed_ms, _)| last.at_ms <= *killed_ms);
            let mut model = pod.model.clone();
            let judged = if was_killed {
                model.interrupted(|output| pod.file(output))
            } else {
                model.called(at, answer, |output| pod.file(output))
            };
            match judged {
                Ok(()) => {
                    (pod.model, pod.judged_ms) = (model, last.at_ms);
                    pod.calls += 1;
                    pod.answers += u32::from(answer == Answer::Vault);
                    drop(pods);
                    self.interrupted += u32::from(was_killed);
                    self.note(&format!("{name}: a call at {at:?}: {answer:?}"));
                    return Ok(());
                }
                Err(problem) if answer != Answer::Vault || Instant::now() > deadline => {
                    return Err(problem);
                }
                // It is at it.
                Err(_) => drop(pods),
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Notes that a killed sidecar is back.
    fn see_restart(&mut self, index: usize) {
        let mut pods = self.shared.pods();
        let pod = &mut pods[index];
        let Some((killed_ms, container)) = pod.killed.clone().filter(|_| pod.is_down) else {
            return;
        };
        if pod
            .sidecar(&self.namespace)
            .is_some_and(|now| now != container)
        {
            pod.is_down = false;
            pod.model.disturbed(since(self.began_ms));
        } else if now_ms() > killed_ms + RESTARTED_WITHIN_MS {
            let name = pod.shape.name;
            drop(pods);
            self.shared.breaks(&format!("{name}: not started again"));
        }
    }

    fn note(&self, what: &str) {
        // The values' filler tells nothing.
        let words = what.split(' ').filter(|word| !word.starts_with("xx"));
        let what = words.collect::<Vec<_>>().join(" ");
        let line = format!("{:?} {what}", since(self.began_ms));
        self.shared
            .log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }
}

/// What the reader has to do with.
struct Shared {
    pods: Mutex<Vec<Pod>>,
    log: Mutex<Vec<String>>,
    /// The first promise that was broken.
    broken: Mutex<Option<String>>,
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, Vec<Pod>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaks(&self, problem: &str) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.get_or_insert_with(|| problem.to_owned());
    }

    fn check(&self) {
        let broken = self
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(problem) = broken {
            panic!("{problem}\n{}", self.log());
        }
    }

    /// The end of the log.
    fn log(&self) -> String {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log[log.len().saturating_sub(80)..].join("\n")
    }
}

/// Looks at all files all the time.
struct Reader {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Reader {
    fn start(shared: &Arc<Shared>) -> Self {
        let (ends, shared) = (Arc::new(AtomicBool::new(false)), Arc::clone(shared));
        let end = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !end.load(Ordering::Relaxed) {
                for (index, shape) in SHAPES.iter().enumerate() {
                    for directory in [0, 1] {
                        let pods = shared.pods();
                        if let Err(problem) = pods[index].look(directory) {
                            shared.breaks(&format!("{}: {problem}", shape.name));
                            return looks;
                        }
                        looks += 1;
                    }
                    // Leave the processor to the node.
                    sleep(Duration::from_millis(2));
                }
            }
            looks
        });
        Self { ends, thread }
    }

    /// How often it has looked at a directory.
    fn stop(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn retry_after(kind: &FaultKind) -> Option<Duration> {
    let seconds = match kind {
        FaultKind::Throttled { retry_after } => retry_after.as_ref()?.as_u64()?,
        FaultKind::TooManyRequests { retry_after } => retry_after.as_ref()?.parse().ok()?,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// When the next frame begins, in milliseconds since 1970.
fn next_frame() -> u64 {
    (now_ms() / FRAME_MS + 1) * FRAME_MS
}

fn now_ms() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
}

fn since(began_ms: u64) -> Duration {
    Duration::from_millis(now_ms() - began_ms)
}

fn sleep_until(at_ms: u64) {
    sleep(Duration::from_millis(at_ms.saturating_sub(now_ms())));
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}
