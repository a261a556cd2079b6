//! Waiting for a condition, with a deadline: no test sleeps and hopes.

use std::time::{Duration, Instant};

/// Between two looks: each is a process or two on a machine that the whole node shares.
const PAUSE: Duration = Duration::from_millis(400);

/// Polls until `look` returns something; panics after `seconds` with `what` it waited for.
pub fn until<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            Instant::now() < end,
            "after {seconds} s still waiting for {what}"
        );
        std::thread::sleep(PAUSE);
    }
}
