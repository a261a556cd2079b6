//! Readiness as a set of latches: whoever must finish something first holds one, and dropping it says
//! that it is done. No boolean can be forgotten, and whoever asks is told by name what is pending.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What still stands between this process and being ready. Clones share one set.
#[derive(Clone, Default)]
pub struct Readiness {
    pending: Arc<Mutex<Vec<&'static str>>>,
}

/// Keeps its [`Readiness`] unready until it is dropped. A latch that is dropped by a panic stays shut:
/// its owner did not finish.
#[must_use = "dropping the latch says that its condition is met"]
pub struct Latch {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// A set without latches, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a latch; `name` is shown by `/readyz` as long as it is held.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.lock().push(name);
        Latch {
            name,
            readiness: self.clone(),
        }
    }

    /// Whether no latch is held.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// Names of the latches that are held, oldest first.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut pending = self.readiness.lock();
        if let Some(index) = pending.iter().position(|name| *name == self.name) {
            pending.remove(index);
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.pending()).finish()
    }
}

impl fmt::Debug for Latch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latch").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_latch_is_dropped() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let certificate = readiness.latch("certificate");
        let settings = readiness.latch("settings");
        assert_eq!(readiness.pending(), ["certificate", "settings"]);
        drop(certificate);
        assert_eq!(readiness.clone().pending(), ["settings"]);
        assert!(!readiness.is_ready());
        drop(settings);
        assert!(readiness.is_ready());
        let _draining = readiness.latch("draining");
        assert!(!readiness.is_ready(), "a process can turn unready again");
    }

    #[test]
    fn two_latches_of_one_name_count_twice() {
        let readiness = Readiness::new();
        let first = readiness.latch("fetch");
        let _second = readiness.latch("fetch");
        drop(first);
        assert!(!readiness.is_ready());
    }

    #[test]
    fn a_panic_does_not_make_ready() {
        let readiness = Readiness::new();
        let latch = readiness.latch("certificate");
        let worker = std::thread::spawn(move || {
            let _latch = latch;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(worker.join().is_err());
        assert_eq!(readiness.pending(), ["certificate"]);
    }
}
