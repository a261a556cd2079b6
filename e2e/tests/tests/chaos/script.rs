//! What happens, and when: all of it follows from the seed.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Something that happens to a replica, or to all.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// Its process gets SIGKILL.
    Kill,
    /// Its process stands still for this time: longer than a lease and than its probes bear, at times.
    Pause(Duration),
    /// It is evicted, as by a drain of its node, if the disruption budget lets it go.
    Evict,
    /// All are replaced, one after the other.
    RollOut,
}

/// Seconds of a pause.
const PAUSE: RangeInclusive<u64> = 1..=25;
/// Milliseconds between two events.
const BETWEEN: RangeInclusive<u64> = 1_000..=9_000;

/// Random events from a seed.
#[derive(Debug)]
pub(crate) struct Script(fastrand::Rng);

impl Script {
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// What happens next, and how long after the one before.
    pub(crate) fn next(&mut self) -> (Duration, Action) {
        let between = Duration::from_millis(self.0.u64(BETWEEN));
        let pause = Duration::from_secs(self.0.u64(PAUSE));
        let action = match self.0.u8(0..10) {
            0..=3 => Action::Kill,
            4..=6 => Action::Pause(pause),
            7..=8 => Action::Evict,
            _ => Action::RollOut,
        };
        (between, action)
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        // Drawn even if there is none, so that what follows stays the same.
        let index = self.0.usize(0..1 << 16);
        all.get(index.checked_rem(all.len())?)
    }
}
