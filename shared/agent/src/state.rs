//! What the agent knows across restarts of its container. It lies on the pod's tmpfs, in a directory that the
//! application never mounts, and holds nothing secret.
//!
//! A crash or a kubelet's restart must not turn a pod into one that calls Keeper for the first time: tries and
//! the next allowed call stand here before a call is made. The `postStart` hook reads it too.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use keeper_contract::layout::STATE_SUB_PATH;
use keeper_ksm::Uid;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::dir::Dir;
use crate::schedule::{KeeperClock, KeeperTime};

const FILE: &str = "state.json";
const SCRATCH: &str = "state.json.tmp";
/// Its modification time is that of the last success: an unchanged refresh writes no byte.
const LAST_SUCCESS: &str = "last-success";
/// Far more than the pins of a config that fits into an environment variable.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
const VERSION: u32 = 1;

/// The agent's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    version: u32,
    /// Keeper's clock, as far as it is known.
    pub clock: KeeperClock,
    /// Failures in a row, one for a call that was begun and of which nothing else is known.
    pub tries: u32,
    /// The slot of the next call after a failure.
    pub next_call: Option<KeeperTime>,
    /// Whether Keeper denied access when it last said anything about it.
    #[serde(default)]
    pub denied: bool,
    /// Whether every output has been published.
    pub complete: bool,
    /// Whether the application may start without its secrets, as the first fetch has failed.
    pub failed_open: bool,
    /// The failure that ended the process.
    pub fatal: Option<Fatal>,
    /// Which record each selection means.
    pub pins: Vec<Pin>,
}

/// A failure that waiting can't cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fatal {
    /// What to do about it.
    pub message: String,
    /// When, in milliseconds since the epoch on the node's clock.
    pub at_ms: u64,
}

/// A selection keeps to the record that it first meant, as long as the pod lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Pin {
    /// The record as the selection names it.
    pub reference: String,
    /// Whether the selection was one that must mean exactly one record.
    pub exact: bool,
    /// The record that it means.
    #[serde(with = "uid")]
    pub uid: Uid,
    /// The title that this record had last.
    pub title: String,
}

impl State {
    /// Whether this pod has never called Keeper: its first call needs no slot.
    #[must_use]
    pub fn is_first_try(&self) -> bool {
        self.tries == 0 && self.next_call.is_none() && !self.complete
    }

    /// Whether the application may start.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.complete || self.failed_open
    }
}

/// The directory on the tmpfs that holds the state.
#[derive(Debug)]
pub struct Store {
    dir: Dir,
}

impl Store {
    /// Opens the state's directory in a volume, and makes it if need be.
    pub(crate) fn open(volume: &Dir) -> Result<Self, Errno> {
        volume.make(STATE_SUB_PATH).map(|dir| Self { dir })
    }

    /// The state's directory, if a process that fetches has made it.
    pub(crate) fn existing(volume: &Dir) -> Option<Self> {
        volume.open(STATE_SUB_PATH).ok().map(|dir| Self { dir })
    }

    /// What is known; a pod's beginning if nothing is.
    ///
    /// A file that we can't have written is reported and dropped, but counts as one try: whatever happened,
    /// this is not the first one.
    #[must_use]
    pub fn load(&self) -> State {
        match self.read() {
            Ok(Some(state)) => state,
            Ok(None) => State::default(),
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "the state of this pod cannot be read, beginning anew"
                );
                State {
                    tries: 1,
                    ..State::default()
                }
            }
        }
    }

    /// Replaces what is known in one step.
    ///
    /// # Errors
    /// The system's; what was known before is still there.
    pub fn save(&self, state: &State) -> Result<(), Errno> {
        let state = State {
            version: VERSION,
            ..state.clone()
        };
        let bytes = serde_json::to_vec(&state).map_err(|_| Errno::INVAL)?;
        self.dir.unlink(SCRATCH)?;
        let written = self.dir.create_file(SCRATCH).and_then(|mut file| {
            file.write_all(&bytes)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        });
        written
            .and_then(|()| self.dir.rename(SCRATCH, FILE))
            .inspect_err(|_| {
                let _ = self.dir.unlink(SCRATCH);
            })
    }

    /// When every output was last brought up to date, as far as is known.
    #[must_use]
    pub fn last_success(&self) -> Option<SystemTime> {
        let file = self.dir.open_file(LAST_SUCCESS).ok()?;
        file.metadata().ok()?.modified().ok()
    }

    /// Notes that every output is up to date now.
    ///
    /// # Errors
    /// The system's.
    pub fn note_success(&self, now: SystemTime) -> Result<(), Errno> {
        let file = match self.dir.open_file(LAST_SUCCESS) {
            Err(Errno::NOENT) => self.dir.create_file(LAST_SUCCESS),
            found => found,
        }?;
        file.set_modified(now)
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
    }

    fn read(&self) -> Result<Option<State>, &'static str> {
        let file = match self.dir.open_file(FILE) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.map_err(|_| "it cannot be opened")?,
        };
        let mut bytes = Vec::new();
        match file.take(MAX_BYTES).read_to_end(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::OutOfMemory => return Err("it is too large"),
            Err(_) => return Err("it cannot be read"),
        }
        let state: State = serde_json::from_slice(&bytes).map_err(|_| "it is not ours")?;
        if state.version == VERSION {
            Ok(Some(state))
        } else {
            Err("it was written by another version")
        }
    }
}

/// Milliseconds since the epoch on the node's clock.
pub(crate) fn node_millis(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

mod uid {
    use keeper_ksm::Uid;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(uid: &Uid, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(uid.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uid, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let volume = tempfile::tempdir().unwrap();
        let store = Store::open(&Dir::open_root(volume.path()).unwrap()).unwrap();
        (volume, store)
    }

    fn failed_twice() -> State {
        let mut clock = KeeperClock::default();
        clock.observe(
            UNIX_EPOCH + std::time::Duration::from_millis(250),
            UNIX_EPOCH,
            std::time::Duration::ZERO,
        );
        State {
            version: VERSION,
            clock,
            tries: 2,
            next_call: Some(KeeperTime(1_763_700_000_000)),
            pins: vec![Pin {
                reference: "Orders".into(),
                exact: false,
                uid: "Qz3kT0bXv9mWc5rLr2Hn8A".parse().unwrap(),
                title: "Orders".into(),
            }],
            ..State::default()
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let (_volume, store) = store();
        assert!(store.load().is_first_try());
        let state = failed_twice();
        store.save(&state).unwrap();
        assert_eq!(store.load(), state);
        assert!(!state.is_first_try());
    }

    #[test]
    fn a_state_that_is_not_ours_is_dropped_but_no_first_try() {
        let (volume, store) = store();
        let whole = serde_json::to_vec(&failed_twice()).unwrap();
        let future = String::from_utf8(whole.clone())
            .unwrap()
            .replace("\"version\":1", "\"version\":2");
        let half = whole.get(..40).unwrap();
        for bytes in [b"".as_slice(), b"{}", b"\0\xff", half, future.as_bytes()] {
            std::fs::write(volume.path().join("state/state.json"), bytes).unwrap();
            let state = store.load();
            assert!(!state.is_first_try(), "{}", bytes.escape_ascii());
            assert_eq!(state.pins, []);
        }
        store.save(&failed_twice()).unwrap();
        assert_eq!(store.load(), failed_twice());
    }

    #[test]
    fn a_symlink_in_its_place_is_not_followed() {
        let (volume, store) = store();
        let elsewhere = volume.path().join("elsewhere");
        std::fs::write(&elsewhere, serde_json::to_vec(&failed_twice()).unwrap()).unwrap();
        std::os::unix::fs::symlink(&elsewhere, volume.path().join("state/state.json")).unwrap();
        assert_eq!(store.load().tries, 1);
    }

    #[test]
    fn the_time_of_the_last_success_is_kept_without_writing() {
        let (volume, store) = store();
        assert_eq!(store.last_success(), None);
        for seconds in [1_000, 2_000] {
            let at = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            store.note_success(at).unwrap();
            assert_eq!(store.last_success(), Some(at));
        }
        let file = volume.path().join("state/last-success");
        assert_eq!(std::fs::metadata(file).unwrap().len(), 0);
    }
}
