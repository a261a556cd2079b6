//! A node whose clock runs as fast as nobody sleeps: real time, and all that was skipped. What takes real time, such as
//! a call over loopback, takes as long here.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use keeper_agent::Host;

#[derive(Clone)]
pub(crate) struct FastNode(Arc<Mutex<Inner>>);

struct Inner {
    started: Instant,
    skipped: Duration,
    /// How far somebody has put the clock ahead.
    ahead_ms: i64,
    /// Uptime at which the one who sleeps wants to be woken.
    wake_at: Option<Duration>,
    drawn: u64,
}

impl FastNode {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            started: Instant::now(),
            skipped: Duration::ZERO,
            ahead_ms: 0,
            wake_at: None,
            drawn: 0,
        })))
    }

    /// Returns as soon as somebody sleeps. To be polled after him, in the same task.
    pub(crate) async fn asleep(&self) {
        poll_fn(|_| match self.0.lock().unwrap().wake_at {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        })
        .await;
    }

    /// Skips the time until the one who sleeps is woken.
    pub(crate) fn skip_the_sleep(&self) {
        let mut inner = self.0.lock().unwrap();
        let uptime = inner.uptime();
        if let Some(wake_at) = inner.wake_at.take() {
            inner.skipped += wake_at.saturating_sub(uptime);
        }
    }

    /// Puts the clock forward, or back.
    pub(crate) fn put_clock(&self, by_ms: i64) {
        self.0.lock().unwrap().ahead_ms += by_ms;
    }

    /// How far the true time is ahead of this machine's.
    pub(crate) fn skipped_ms(&self) -> i64 {
        i64::try_from(self.0.lock().unwrap().skipped.as_millis()).unwrap()
    }

    /// The true time, in milliseconds since 1970.
    pub(crate) fn true_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        i64::try_from(since.unwrap().as_millis()).unwrap() + self.skipped_ms()
    }
}

impl Inner {
    fn uptime(&self) -> Duration {
        self.started.elapsed() + self.skipped
    }
}

/// Who stops sleeping for another reason need not be woken any more.
struct Bed<'a>(&'a FastNode);

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().wake_at = None;
    }
}

impl Host for FastNode {
    fn now(&self) -> SystemTime {
        let inner = self.0.lock().unwrap();
        let now = SystemTime::now() + inner.skipped;
        let by = Duration::from_millis(inner.ahead_ms.unsigned_abs());
        if inner.ahead_ms < 0 {
            now - by
        } else {
            now + by
        }
    }

    fn uptime(&self) -> Duration {
        self.0.lock().unwrap().uptime()
    }

    async fn sleep(&self, duration: Duration) {
        let wake_at = self.uptime() + duration;
        let _bed = Bed(self);
        poll_fn(|_| {
            let mut inner = self.0.lock().unwrap();
            if inner.uptime() >= wake_at {
                return Poll::Ready(());
            }
            inner.wake_at = Some(wake_at);
            Poll::Pending
        })
        .await;
    }

    fn random(&self) -> u64 {
        let mut inner = self.0.lock().unwrap();
        inner.drawn += 1;
        inner
            .drawn
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    }
}
