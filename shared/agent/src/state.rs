//! What the agent knows across restarts of its container. It lies on the pod's tmpfs, in a directory that the
//! application never mounts, and holds nothing secret.
//!
//! A crash or a kubelet's restart must not turn a pod into one that calls Keeper for the first time: tries and
//! the next allowed call stand here before a call is made. The `postStart` hook reads it too.

use std::fs::FileTimes;
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keeper_contract::layout::STATE_SUB_PATH;
use keeper_ksm::Uid;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::dir::Dir;
use crate::host::Host;
use crate::schedule::{KeeperClock, KeeperTime};

const FILE: &str = "state.json";
/// The generations that the application knows, a line for each output directory.
const TOLD: &str = "told";
const TOLD_SCRATCH: &str = "told.tmp";
const SCRATCH: &str = "state.json.tmp";
/// Its modification time is that of the last success on the node's clock, its access time the same by the node's uptime:
/// an unchanged refresh writes no byte.
const LAST_SUCCESS: &str = "last-success";
/// Whoever makes it asks for a refresh; the agent takes it away.
pub(crate) const REQUEST: &str = "refresh-request";
/// Far more than the pins of a config that fits into an environment variable, and the names of 100,000 records.
const MAX_BYTES: u64 = 32 * 1024 * 1024;
const VERSION: u32 = 1;

/// The agent's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    version: u32,
    /// The boot of the node in which the uptimes were taken that are told here.
    #[serde(default)]
    boot: String,
    /// Keeper's clock, as far as it is known.
    pub clock: KeeperClock,
    /// Failures in a row, one for a call that was begun and of which nothing else is known. After the first
    /// publication, those since Keeper last answered: only they put off the next retry.
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
    /// The last refresh that somebody asked for.
    pub asked: Option<Asked>,
    /// Which record each selection means.
    pub pins: Vec<Pin>,
    /// Which attachments are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// What is published of the folders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<KnownFolder>,
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

/// A refresh that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Asked {
    /// The slot that it got.
    pub planned: KeeperTime,
    /// What came of it, once it is over.
    pub outcome: Option<Outcome>,
}

/// What came of a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    /// Number of files that are new or have new content.
    pub changed: usize,
    /// What went wrong, if anything did.
    pub error: Option<String>,
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
    /// Its revision in Keeper's last answer.
    pub revision: u64,
}

/// What is known of a published attachment: as long as Keeper says the same of it, it need not be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    /// Index of its directory in the config.
    pub directory: usize,
    /// Path below that.
    pub path: String,
    /// The attachment's UID.
    #[serde(with = "uid")]
    pub uid: Uid,
    /// Its size in bytes, as declared.
    pub size: Option<u64>,
    /// When it was changed, as Keeper writes it.
    pub last_modified: Option<String>,
    /// Its record's revision, where Keeper doesn't say when the attachment was changed.
    pub revision: Option<u64>,
}

/// A folder whose records are published. It keeps its UID and its files their names, as long as the pod lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownFolder {
    /// Its index in the config.
    pub index: usize,
    /// Its UID.
    #[serde(with = "uid")]
    pub uid: Uid,
    /// Its files.
    pub files: Vec<KnownFile>,
}

/// The file of one record of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownFile {
    /// The record.
    #[serde(with = "uid")]
    pub uid: Uid,
    /// The file's name.
    pub name: String,
    /// The record's revision in Keeper's last answer.
    pub revision: u64,
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

    /// Whether what was brought up to date `age` ago no longer counts as good: the last call failed, and that is
    /// longer ago than `good_for`, or Keeper denies access.
    #[must_use]
    pub fn is_stale(&self, age: Option<Duration>, good_for: Duration) -> bool {
        self.tries > 0 && (self.denied || age.is_some_and(|age| age > good_for))
    }
}

/// When everything was last brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Success {
    /// On the node's clock.
    pub at: SystemTime,
    /// By the node's uptime, if that is known and of this boot.
    uptime: Option<Duration>,
}

impl Success {
    /// This moment.
    pub fn now(host: &impl Host) -> Self {
        Self {
            at: host.now(),
            uptime: Some(host.uptime()),
        }
    }

    /// How long it is ago, whatever was done to the node's clock since. Where only that clock can tell, none if it is
    /// behind.
    pub fn age(&self, host: &impl Host) -> Option<Duration> {
        let counted = self.uptime.and_then(|then| host.uptime().checked_sub(then));
        counted.or_else(|| host.now().duration_since(self.at).ok())
    }
}

/// The directory on the tmpfs that holds the state.
#[derive(Debug)]
pub struct Store {
    dir: Dir,
    path: PathBuf,
}

impl Store {
    /// Opens the state's directory in a volume, and makes it if need be.
    pub(crate) fn open(volume: &Path) -> Result<Self, Errno> {
        let dir = Dir::open_root(volume)?.make(STATE_SUB_PATH)?;
        let path = volume.join(STATE_SUB_PATH);
        Ok(Self { dir, path })
    }

    /// The state's directory, if a process that fetches has made it.
    ///
    /// # Errors
    /// A volume that isn't there.
    pub(crate) fn existing(volume: &Path) -> Result<Option<Self>, Errno> {
        let root = Dir::open_root(volume)?;
        let path = volume.join(STATE_SUB_PATH);
        let dir = root.open(STATE_SUB_PATH).ok();
        Ok(dir.map(|dir| Self { dir, path }))
    }

    /// Where it is, for a watch.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the process that refreshes for a refresh. Several requests that it hasn't taken yet are one.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn request(&self) -> Result<(), Errno> {
        match self.dir.create_file(REQUEST) {
            Ok(_) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether a request waits to be taken.
    pub(crate) fn is_requested(&self) -> bool {
        self.dir.holds(REQUEST)
    }

    /// Takes the request away.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn take_request(&self) -> Result<(), Errno> {
        self.dir.remove(REQUEST.as_ref())
    }

    /// What is known, for a process on `host`, and when everything was last brought up to date. What was told by the uptime of
    /// another boot is forgotten.
    pub fn take_up(&self, host: &impl Host) -> (State, Option<Success>) {
        let (mut state, mut success) = (self.load(), self.last_success());
        let boot = host.boot_id();
        if state.boot != boot {
            state.boot = boot;
            state.clock = KeeperClock::default();
            success = success.map(|success| Success {
                uptime: None,
                ..success
            });
        }
        state.clock.assume(host.now(), host.uptime());
        (state, success)
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
        self.replace(FILE, SCRATCH, &bytes)
    }

    /// The generations that the application knows, if it was noted.
    pub(crate) fn told(&self) -> Option<Vec<String>> {
        let mut text = String::new();
        let file = self.dir.open_file(TOLD).ok()?;
        file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    /// Notes which generations the application knows.
    pub(crate) fn note_told(&self, generations: &[String]) -> Result<(), Errno> {
        let text: String = generations.iter().map(|name| format!("{name}\n")).collect();
        self.replace(TOLD, TOLD_SCRATCH, text.as_bytes())
    }

    fn replace(&self, name: &str, scratch: &str, bytes: &[u8]) -> Result<(), Errno> {
        self.dir.unlink(scratch)?;
        let written = self.dir.create_file(scratch).and_then(|mut file| {
            file.write_all(bytes)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
        });
        written
            .and_then(|()| self.dir.rename(scratch, name))
            .inspect_err(|_| {
                let _ = self.dir.unlink(scratch);
            })
    }

    fn last_success(&self) -> Option<Success> {
        let file = self.dir.open_file(LAST_SUCCESS).ok()?;
        let times = file.metadata().ok()?;
        let uptime = times.accessed().ok()?.duration_since(UNIX_EPOCH);
        Some(Success {
            at: times.modified().ok()?,
            uptime: uptime.ok(),
        })
    }

    /// Notes that every output is up to date now.
    ///
    /// # Errors
    /// The system's.
    pub fn note_success(&self, now: Success) -> Result<(), Errno> {
        let file = match self.dir.open_file(LAST_SUCCESS) {
            Err(Errno::NOENT) => self.dir.create_file(LAST_SUCCESS),
            found => found,
        }?;
        let uptime = UNIX_EPOCH + now.uptime.unwrap_or_default();
        let times = FileTimes::new().set_modified(now.at).set_accessed(uptime);
        file.set_times(times)
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
        let store = Store::open(volume.path()).unwrap();
        (volume, store)
    }

    fn failed_twice() -> State {
        let mut clock = KeeperClock::default();
        let theirs = UNIX_EPOCH + Duration::from_millis(250);
        clock.observe(theirs, Duration::ZERO, Duration::ZERO);
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
                revision: 7,
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

    /// A machine at one moment.
    struct At {
        boot: &'static str,
        clock: u64,
        uptime: u64,
    }

    impl Host for At {
        fn now(&self) -> SystemTime {
            UNIX_EPOCH + Duration::from_secs(self.clock)
        }

        fn uptime(&self) -> Duration {
            Duration::from_secs(self.uptime)
        }

        fn boot_id(&self) -> String {
            self.boot.to_owned()
        }

        async fn sleep(&self, _: Duration) {}

        fn random(&self) -> u64 {
            0
        }
    }

    #[test]
    fn what_an_earlier_process_knew_is_told_by_the_uptime_of_this_boot_or_else_by_the_clock() {
        let (volume, store) = store();
        let at = |boot, clock, uptime| At {
            boot,
            clock,
            uptime,
        };
        let began = at("a", 10_000, 1_000);
        let (mut state, success) = store.take_up(&began);
        assert_eq!(success, None);
        for _ in 0..2 {
            store.note_success(Success::now(&began)).unwrap();
        }
        state.clock.observe(
            UNIX_EPOCH + Duration::from_secs(20_000),
            began.uptime(),
            Duration::ZERO,
        );
        store.save(&state).unwrap();
        let file = volume.path().join("state/last-success");
        assert_eq!(std::fs::metadata(file).unwrap().len(), 0, "nothing written");

        // Age in seconds, and Keeper's time.
        for (host, age, keepers) in [
            (at("a", 10_060, 1_060), Some(60), 20_060),
            (at("a", 99_999, 1_060), Some(60), 20_060),
            (at("a", 1, 1_060), Some(60), 20_060),
            // Of this boot it is not, whatever the name says.
            (at("a", 10_060, 20), Some(60), 19_020),
            (at("b", 10_060, 1_500), Some(60), 10_060),
            (at("b", 9_000, 1_500), None, 9_000),
            (at("", 10_060, 1_060), Some(60), 10_060),
        ] {
            let (state, success) = store.take_up(&host);
            let seconds = success.unwrap().age(&host).map(|age| age.as_secs());
            assert_eq!(seconds, age, "{} {}", host.boot, host.uptime);
            assert_eq!(state.clock.at(host.uptime()).0 / 1_000, keepers);
            assert_eq!(success.unwrap().at, began.now());
        }
    }
}
