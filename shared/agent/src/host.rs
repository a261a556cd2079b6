//! Time and chance: what the agent takes from the machine under it. Tests put their own in its place, and live
//! through a day at once.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The machine that a pod runs on.
pub trait Host {
    /// The node's clock, which somebody may put forward or back.
    fn now(&self) -> SystemTime;

    /// Time since the machine was booted, also that in which it was suspended. Nobody puts it forward or back, and it is the
    /// same for all processes.
    fn uptime(&self) -> Duration;

    /// Name of this boot of the machine: an uptime means nothing in another. Empty if it can't be told.
    fn boot_id(&self) -> String;

    /// Returns after `duration`; later, if the machine is suspended meanwhile.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Randomness for spreading calls and naming files. Nothing secret hangs on it.
    fn random(&self) -> u64;
}

/// The real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Node;

impl Host for Node {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn uptime(&self) -> Duration {
        // The monotonic clock stands still while the machine is suspended.
        Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
    }

    fn boot_id(&self) -> String {
        let id = fs::read_to_string(BOOT_ID).unwrap_or_default();
        id.trim().to_owned()
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
