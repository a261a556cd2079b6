//! A machine whose time passes only when a test says so. A pod on it lives through hours at once, while keeper-sim
//! answers its calls in real time, with the machine's time in the `Date`.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keeper_agent::Host;
use keeper_sim::SimHandle;
use tokio::sync::Notify;

/// When every machine starts, on a right clock.
const BEGIN: Duration = Duration::from_secs(1_763_712_000);

/// One machine, shared by the process that runs on it and the test that watches.
#[derive(Clone)]
pub(crate) struct VirtualHost {
    time: Arc<Mutex<Time>>,
    /// Time may pass.
    passing: Arc<Notify>,
    /// The process sleeps.
    sleeping: Arc<Notify>,
    sim: SimHandle,
}

struct Time {
    /// Time that it wasn't suspended.
    awake: Duration,
    /// Time that it was.
    suspended: Duration,
    /// Time may pass until then.
    limit: Duration,
    /// The end of the sleep that a process is in.
    asleep_until: Option<Duration>,
    /// Time may pass to the end of one sleep only: if that is broken off, no further.
    is_ending: bool,
    /// What the clock shows too much.
    clock_ahead_ms: i64,
    random: u64,
}

impl VirtualHost {
    /// A machine on whose time the clock of `sim` goes, too.
    pub(crate) fn new(sim: &SimHandle, seed: u64) -> Self {
        let host = Self {
            time: Arc::new(Mutex::new(Time {
                awake: Duration::ZERO,
                suspended: Duration::ZERO,
                limit: Duration::ZERO,
                asleep_until: None,
                is_ending: false,
                clock_ahead_ms: 0,
                random: seed | 1,
            })),
            passing: Arc::new(Notify::new()),
            sleeping: Arc::new(Notify::new()),
            sim: sim.clone(),
        };
        host.pass_to(&mut host.time(), Duration::ZERO);
        host
    }

    /// Lets `duration` pass. Returns when the process sleeps past it: whatever it had to do until then is done.
    pub(crate) async fn advance(&self, duration: Duration) {
        let limit = {
            let mut time = self.time();
            time.limit = time.awake + duration;
            time.limit
        };
        self.passing.notify_one();
        loop {
            {
                let mut time = self.time();
                if time.asleep_until.is_some_and(|until| until > limit) {
                    self.pass_to(&mut time, limit);
                    return;
                }
            }
            self.sleeping.notified().await;
        }
    }

    /// Returns when the process sleeps.
    pub(crate) async fn asleep(&self) {
        while self.time().asleep_until.is_none() {
            self.sleeping.notified().await;
        }
    }

    /// Lets time pass to the end of the sleep that the process is in.
    pub(crate) fn end_sleep(&self) {
        let mut time = self.time();
        if let Some(until) = time.asleep_until.take() {
            time.limit = until;
            time.is_ending = true;
            self.passing.notify_one();
        }
    }

    /// Lets `duration` pass while no process runs.
    pub(crate) fn pass(&self, duration: Duration) {
        let mut time = self.time();
        assert_eq!(time.asleep_until, None, "a process runs");
        let awake = time.awake + duration;
        time.limit = awake;
        self.pass_to(&mut time, awake);
    }

    /// Suspends the machine for `duration`.
    pub(crate) fn suspend(&self, duration: Duration) {
        let mut time = self.time();
        time.suspended += duration;
        let awake = time.awake;
        self.pass_to(&mut time, awake);
    }

    /// The right time, in milliseconds since 1970.
    pub(crate) fn right_ms(&self) -> i64 {
        i64::try_from((BEGIN + self.uptime()).as_millis()).unwrap()
    }

    /// Puts the node's clock forward, or back. Keeper's clock and the uptime know nothing of it.
    pub(crate) fn put_clock(&self, ahead_ms: i64) {
        self.time().clock_ahead_ms = ahead_ms;
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap()
    }

    fn pass_to(&self, time: &mut Time, awake: Duration) {
        time.awake = awake;
        let right = i64::try_from((BEGIN + time.uptime()).as_millis()).unwrap();
        let real = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.sim
            .set_clock_offset_ms(right - i64::try_from(real.as_millis()).unwrap());
    }
}

impl Time {
    fn uptime(&self) -> Duration {
        self.awake + self.suspended
    }
}

impl Host for VirtualHost {
    fn now(&self) -> SystemTime {
        let time = self.time();
        let right = UNIX_EPOCH + BEGIN + time.uptime();
        let off = Duration::from_millis(time.clock_ahead_ms.unsigned_abs());
        if time.clock_ahead_ms < 0 {
            right - off
        } else {
            right + off
        }
    }

    fn uptime(&self) -> Duration {
        self.time().uptime()
    }

    fn boot_id(&self) -> String {
        "virtual".to_owned()
    }

    async fn sleep(&self, duration: Duration) {
        /// A sleep that is broken off is over, too.
        struct Asleep<'a>(&'a VirtualHost);
        impl Drop for Asleep<'_> {
            fn drop(&mut self) {
                let mut time = self.0.time();
                time.asleep_until = None;
                if std::mem::take(&mut time.is_ending) {
                    time.limit = time.awake;
                }
            }
        }
        let until = self.time().awake + duration;
        let _asleep = Asleep(self);
        loop {
            {
                let mut time = self.time();
                if time.limit >= until {
                    self.pass_to(&mut time, until);
                    return;
                }
                time.asleep_until = Some(until);
            }
            self.sleeping.notify_one();
            self.passing.notified().await;
        }
    }

    fn random(&self) -> u64 {
        let mut time = self.time();
        time.random ^= time.random << 13;
        time.random ^= time.random >> 7;
        time.random ^= time.random << 17;
        time.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
