//! Asking the process that refreshes for a refresh, from another process of its container.
//!
//! The request is a file beside the state. The agent plans the call, writes the plan into the state, and takes
//! the file away: from then on the state says when, and in the end what came of it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::host::{Host as _, Node};
use crate::state::{Asked, Outcome, Store};
use crate::text;

/// How often to look.
const POLL: Duration = Duration::from_millis(20);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The volume is not there.
    #[error("cannot use the volume: {0}")]
    Volume(Errno),
    /// Nobody has ever fetched here.
    #[error("nothing has been fetched in this pod yet: the first call is still to come")]
    NothingYet,
    /// Nobody takes the request.
    #[error(
        "nobody took the request within {}: the sidecar is in a call, or there is none. It stays, and is taken by the next one",
        text::duration(*.0)
    )]
    NotTaken(Duration),
    /// It is not over yet.
    #[error("the refresh is not over after {}", text::duration(*.0))]
    Late(Duration),
}

/// A request that was taken.
#[derive(Debug)]
pub struct Request {
    store: Store,
    /// Time until the refresh.
    pub due_in: Duration,
}

impl Request {
    /// Asks for a refresh, and returns when that is planned.
    ///
    /// # Errors
    /// Nobody took it within `limit`.
    pub fn make(volume: &Path, limit: Duration) -> Result<Self, RequestError> {
        let store = Store::existing(volume)
            .map_err(RequestError::Volume)?
            .ok_or(RequestError::NothingYet)?;
        store.request().map_err(RequestError::Volume)?;
        let asked = poll(limit, || {
            if store.is_requested() {
                None
            } else {
                store.load().asked
            }
        });
        let Asked { planned, .. } = asked.ok_or(RequestError::NotTaken(limit))?;
        let due_in = planned.since(store.load().clock.at(Node.uptime()));
        Ok(Self { store, due_in })
    }

    /// Waits for the end of the refresh.
    ///
    /// # Errors
    /// It is not over within `limit`.
    pub fn outcome(&self, limit: Duration) -> Result<Outcome, RequestError> {
        poll(limit, || self.store.load().asked?.outcome).ok_or(RequestError::Late(limit))
    }
}

fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let found = look();
        if found.is_some() || began.elapsed() >= limit {
            return found;
        }
        std::thread::sleep(POLL);
    }
}
