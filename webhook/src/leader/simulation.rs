//! Elections in virtual time, from many seeds: candidates are killed, stopped and cut off, calls hang, are answered late or never though
//! they were carried out, wall clocks are wrong and uptimes run at different rates. Whatever happens, no two may act, no late
//! write of a former leader is taken, and when it is over there is a leader again soon.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::Leadership;
use super::clock::{Clock, Time, Uptime};
use super::election::{Record, Timing, Write};
use super::elector::Elector;
use super::lease::{LeaseError, Leases};

const LEASE: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_millis(3334);

/// What stands in the cluster: the Lease, and something that only leaders write.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    version: u64,
    object: u64,
    /// In which term each write of the object was decided that was taken, by the Lease's transitions.
    terms: Vec<i32>,
    /// Writes of the object that came too late.
    refused: usize,
    /// Calls may be lost or be slow.
    faulty: bool,
    /// Nobody is answered.
    down: bool,
}

type Cluster = Arc<Mutex<Server>>;

impl Server {
    /// The term of somebody who may act: it holds the Lease.
    fn term_of(&self, identity: &str) -> i32 {
        let claim = &self.lease.as_ref().unwrap().claim;
        assert_eq!(claim.holder, identity);
        claim.transitions
    }
}

/// A machine: its uptime counts from anywhere at its own rate, its wall clock is wrong.
struct Machine {
    booted: Instant,
    offset: Duration,
    rate: f64,
    skew: i64,
}

impl Time for Machine {
    fn uptime(&self) -> Uptime {
        Uptime(self.offset + self.booted.elapsed().mul_f64(self.rate))
    }

    fn wall(&self) -> i64 {
        // It stands still for a second at a time.
        self.skew + i64::try_from(self.booted.elapsed().as_secs()).unwrap() * 1_000_000
    }
}

/// The way from one candidate to the server.
struct Line {
    cluster: Cluster,
    rng: Mutex<Rng>,
    cut: Arc<Mutex<bool>>,
}

impl Line {
    /// Carries something to the server and the answer back, or loses one of them. What is under way arrives, also when the
    /// sender is stopped or has given up meanwhile.
    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Server) -> T + Send + 'static,
    ) -> Result<T, LeaseError> {
        let (there, back, lost_there, lost_back) = {
            let mut rng = self.rng.lock().unwrap();
            let faulty = self.cluster.lock().unwrap().faulty;
            let slow = if faulty && rng.u8(..10) == 0 {
                6000
            } else {
                50
            };
            let lost = if faulty { 8 } else { 0 };
            let mut time = || Duration::from_millis(rng.u64(1..slow));
            let (there, back) = (time(), time());
            (there, back, rng.u8(..100) < lost, rng.u8(..100) < lost)
        };
        if *self.cut.lock().unwrap() || self.cluster.lock().unwrap().down || lost_there {
            sleep(Duration::from_secs(3600)).await;
        }
        let (answer, answered) = oneshot::channel();
        let cluster = Arc::clone(&self.cluster);
        tokio::spawn(async move {
            sleep(there).await;
            let done = act(&mut cluster.lock().unwrap());
            sleep(back).await;
            if !lost_back {
                let _ = answer.send(done);
            } else {
                sleep(Duration::from_secs(3600)).await;
            }
        });
        answered.await.map_err(|_| LeaseError::Deadline)
    }
}

impl Leases for Arc<Line> {
    async fn read(&self) -> Result<Option<Record>, LeaseError> {
        self.call(|server| server.lease.clone()).await
    }

    async fn write(&self, write: &Write) -> Result<Option<Record>, LeaseError> {
        let write = write.clone();
        self.call(move |server| {
            if server.lease.as_ref().map(|record| &record.version) != write.version.as_ref() {
                return None;
            }
            // As an API server does.
            if server
                .lease
                .as_ref()
                .is_some_and(|record| record.claim == write.claim)
            {
                return server.lease.clone();
            }
            server.version += 1;
            server.lease = Some(Record {
                version: server.version.to_string(),
                claim: write.claim,
            });
            server.lease.clone()
        })
        .await
    }
}

/// A process that can be stopped: nothing in it runs until it goes on, while time does.
struct Process<F> {
    inner: Pin<Box<F>>,
    stopped_until: Arc<Mutex<Instant>>,
    alarm: Pin<Box<Sleep>>,
}

impl<F: Future<Output = ()>> Future for Process<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let until = *self.stopped_until.lock().unwrap();
        if Instant::now() < until {
            self.alarm.as_mut().reset(until);
            if self.alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        self.inner.as_mut().poll(context)
    }
}

struct Candidate {
    leadership: Leadership,
    stopped_until: Arc<Mutex<Instant>>,
    cut: Arc<Mutex<bool>>,
    resign: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Candidate {
    fn start(cluster: &Cluster, number: usize, rng: &mut Rng) -> Self {
        let clock: Clock = Arc::new(Machine {
            booted: Instant::now(),
            offset: Duration::from_secs(rng.u64(..1_000_000)),
            // Far more than two real clocks differ by.
            rate: 0.9 + 0.2 * rng.f64(),
            skew: rng.i64(-1_000_000_000_000..1_000_000_000_000),
        });
        let cut = Arc::new(Mutex::new(false));
        let line = Arc::new(Line {
            cluster: Arc::clone(cluster),
            rng: Mutex::new(rng.fork()),
            cut: Arc::clone(&cut),
        });
        let timing = Timing::new(LEASE, RENEW, RETRY).unwrap();
        let identity = format!("candidate-{number}");
        let (elector, leadership) =
            Elector::new(Arc::clone(&line), identity.clone(), timing, clock);
        let (resign, resigned) = oneshot::channel::<()>();
        let stopped_until = Arc::new(Mutex::new(Instant::now()));
        let work = work(line, identity, leadership.clone(), rng.fork());
        let inner = async {
            tokio::join!(
                elector.run(async {
                    let _ = resigned.await;
                }),
                work,
            );
        };
        let process = Process {
            inner: Box::pin(inner),
            stopped_until: Arc::clone(&stopped_until),
            alarm: Box::pin(sleep_until(Instant::now())),
        };
        Self {
            leadership,
            stopped_until,
            cut,
            resign: Some(resign),
            task: tokio::spawn(process),
        }
    }

    fn is_stopped(&self) -> bool {
        Instant::now() < *self.stopped_until.lock().unwrap()
    }

    fn acts(&self) -> bool {
        !self.task.is_finished() && !self.is_stopped() && self.leadership.is_leader()
    }
}

/// What a leader does all the time: read, ask, write on condition. Anything may happen between the three.
async fn work(line: Arc<Line>, identity: String, leadership: Leadership, mut rng: Rng) {
    loop {
        sleep(Duration::from_millis(rng.u64(1..400))).await;
        let read = line.call(|server| server.object);
        let Ok(Ok(version)) = tokio::time::timeout(CALL, read).await else {
            continue;
        };
        sleep(Duration::from_millis(rng.u64(..200))).await;
        if !leadership.is_leader() {
            continue;
        }
        let term = line.cluster.lock().unwrap().term_of(&identity);
        // From here on it is too late to change its mind.
        sleep(Duration::from_millis(rng.u64(..200))).await;
        let write = line.call(move |server| {
            if server.object == version {
                server.object += 1;
                server.terms.push(term);
            } else {
                server.refused += 1;
            }
        });
        let _ = tokio::time::timeout(CALL, write).await;
    }
}

struct World {
    cluster: Cluster,
    candidates: Vec<Candidate>,
    started: usize,
    rng: Rng,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            candidates: Vec::new(),
            started: 0,
            rng: Rng::with_seed(seed),
        };
        for _ in 0..world.rng.usize(1..=5) {
            let candidate = world.candidate();
            world.candidates.push(candidate);
        }
        world
    }

    fn candidate(&mut self) -> Candidate {
        self.started += 1;
        Candidate::start(&self.cluster, self.started, &mut self.rng)
    }

    fn leaders(&self) -> usize {
        let acting = self.candidates.iter().filter(|candidate| candidate.acts());
        acting.count()
    }

    /// Lets a time pass, and looks on.
    async fn watch(&self, time: Duration, seed: u64) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert!(self.leaders() <= 1, "two act; seed {seed}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// One step of chance, rather to the leader than to others.
    fn disturb(&mut self) {
        let leader = self.candidates.iter().position(Candidate::acts);
        let any = self.rng.usize(..self.candidates.len());
        let index = leader.filter(|_| self.rng.u8(..3) > 0).unwrap_or(any);
        match self.rng.u8(..8) {
            0 | 1 => {
                let next = self.candidate();
                let killed = std::mem::replace(&mut self.candidates[index], next);
                killed.task.abort();
            }
            // Its process goes on for a while, and is killed by one of the next steps.
            2 => drop(self.candidates[index].resign.take()),
            3 | 4 => {
                let time = Duration::from_millis(self.rng.u64(10..40_000));
                *self.candidates[index].stopped_until.lock().unwrap() = Instant::now() + time;
            }
            5 => {
                let mut cut = self.candidates[index].cut.lock().unwrap();
                *cut = !*cut;
            }
            6 => {
                let mut server = self.cluster.lock().unwrap();
                server.down = !server.down;
            }
            _ => {
                let mut server = self.cluster.lock().unwrap();
                server.faulty = !server.faulty;
            }
        }
    }

    /// All is well again.
    fn calm(&mut self) {
        {
            let mut server = self.cluster.lock().unwrap();
            server.faulty = false;
            server.down = false;
        }
        for index in 0..self.candidates.len() {
            if self.candidates[index].resign.is_none() {
                let next = self.candidate();
                let ended = std::mem::replace(&mut self.candidates[index], next);
                ended.task.abort();
            }
            let candidate = &self.candidates[index];
            *candidate.cut.lock().unwrap() = false;
            *candidate.stopped_until.lock().unwrap() = Instant::now();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for candidate in &self.candidates {
            candidate.task.abort();
        }
    }
}

/// Terms and refused writes of one run.
async fn run(seed: u64) -> (usize, usize) {
    let mut world = World::new(seed);
    for _ in 0..60 {
        world.disturb();
        let time = Duration::from_millis(world.rng.u64(..15_000));
        world.watch(time, seed).await;
    }
    world.calm();
    // Those that were stopped are woken by their own alarm.
    world.watch(Duration::from_secs(40), seed).await;
    let bound = LEASE.mul_f64(1.2) + CALL * 2 + RETRY;
    let calm = Instant::now();
    while world.leaders() == 0 {
        assert!(calm.elapsed() < bound, "nobody leads; seed {seed}");
        sleep(Duration::from_millis(100)).await;
    }
    let leads = |world: &World| world.candidates.iter().position(Candidate::acts);
    let leader = leads(&world);
    world.watch(Duration::from_secs(60), seed).await;
    assert_eq!(leads(&world), leader, "it stays; seed {seed}");

    let server = world.cluster.lock().unwrap();
    assert!(server.terms.is_sorted(), "a late write; seed {seed}");
    let mut terms = server.terms.clone();
    terms.dedup();
    (terms.len(), server.refused)
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_no_two_act_and_soon_one_does() {
    let (mut terms, mut refused) = (0, 0);
    for seed in 0..10 {
        let of_run = run(seed).await;
        terms += of_run.0;
        refused += of_run.1;
    }
    // Or it was no test.
    assert!(terms > 50, "{terms}");
    assert!(refused > 0, "{refused}");
}
