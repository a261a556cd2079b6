//! The clocks of an election. Which replica may act is told by uptimes alone, each only on the machine that it was read on;
//! the wall time is written into the Lease for people to read.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine was booted, sleep included. Nobody sets this clock, and it goes on while the process is stopped
/// or the node suspended. (Tokio's clock stands still with a suspended node.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uptime(pub(crate) Duration);

impl Uptime {
    /// So much later.
    pub(crate) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }

    /// What is left until then; nothing, if it has passed.
    pub(crate) fn until(self, then: Self) -> Duration {
        then.0.saturating_sub(self.0)
    }
}

/// What time it is. The tests have others.
pub(crate) trait Time: Send + Sync {
    /// `CLOCK_BOOTTIME`.
    fn uptime(&self) -> Uptime;
    /// Microseconds since 1970, however wrong.
    fn wall(&self) -> i64;
}

/// Clones share it.
pub(crate) type Clock = Arc<dyn Time>;

/// This machine's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct System;

impl Time for System {
    fn uptime(&self) -> Uptime {
        Uptime(Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default())
    }

    fn wall(&self) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }
}
