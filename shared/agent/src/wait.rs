//! The `postStart` hook: holds back whatever starts after us until the first publication.
//!
//! Its output reaches nobody, and while it runs the pod can't be deleted, so it is bounded; why nothing is
//! published stands in the log and in the termination message of the process that it waits for.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crate::state::{State, Store, node_millis};

/// Two frames of the schedule: the first try, and a second one in the next frame.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long to wait at least and at most between two looks at a file of a few hundred bytes on a tmpfs. A watch would be no
/// quicker: ending one takes the kernel up to 16 ms.
const SHORTEST_POLL: Duration = Duration::from_millis(1);
const LONGEST_POLL: Duration = Duration::from_millis(20);

/// Why the application can't start yet.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The volume is not there.
    #[error("cannot use the volume {0}: {1}")]
    Volume(String, rustix::io::Errno),
    /// The process that we wait for has given up.
    #[error("{0}")]
    Failed(String),
    /// It goes on trying.
    #[error("no secrets after {} s", .0.as_secs())]
    Late(Duration),
}

/// Returns when the application may start: everything is published, or it may start without.
///
/// # Errors
/// The process that fetches has given up since we began, or `limit` is over. That it gave up earlier doesn't
/// count: then a new one is at work.
pub fn wait(volume: &Path, limit: Duration) -> Result<(), WaitError> {
    let began = Instant::now();
    let began_ms = node_millis(SystemTime::now());
    loop {
        let store = Store::existing(volume)
            .map_err(|error| WaitError::Volume(volume.display().to_string(), error))?;
        let state = store.map_or_else(State::default, |store| store.load());
        if state.is_released() {
            return Ok(());
        }
        if let Some(fatal) = state.fatal.filter(|fatal| fatal.at_ms >= began_ms) {
            return Err(WaitError::Failed(fatal.message));
        }
        let waited = began.elapsed();
        if waited >= limit {
            return Err(WaitError::Late(limit));
        }
        // What is there soon is seen soon, and a long wait costs little.
        std::thread::sleep((waited / 16).clamp(SHORTEST_POLL, LONGEST_POLL));
    }
}
