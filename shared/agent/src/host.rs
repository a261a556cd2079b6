//! Time and chance: what the agent takes from the machine under it. Tests put their own in its place, and live
//! through a day at once.

use std::time::{Duration, Instant, SystemTime};

/// The machine that a pod runs on.
pub trait Host {
    /// The node's clock, which somebody may put forward or back.
    fn now(&self) -> SystemTime;

    /// Time since some moment in the past. It never goes back.
    fn uptime(&self) -> Duration;

    /// Returns after `duration` of [`Host::uptime`].
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Randomness for spreading calls and naming files. Nothing secret hangs on it.
    fn random(&self) -> u64;
}

/// The real one.
#[derive(Debug, Clone, Copy)]
pub struct Node {
    started: Instant,
}

impl Node {
    /// The machine that this process runs on.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for Node {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn random(&self) -> u64 {
        // Without a source, the time does.
        getrandom::u64().unwrap_or_else(|_| {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            since.map_or(0, |since| {
                u64::from(since.subsec_nanos()).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            })
        })
    }
}
