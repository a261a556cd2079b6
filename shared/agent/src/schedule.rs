//! Slotted time: when a pod may call Keeper.
//!
//! Keeper counts calls per client id, and the counter clears only after 10 s without a single one: any
//! steady trickle of calls from many pods bans them all for good. So all pods that share a client id keep
//! silent together. Time is cut into frames of 15 s on Keeper's own clock, and calls are made only in the
//! first 2 s of a frame, which leaves over 10 s of silence in each. Only a pod's very first try is not slotted; and of pods
//! that may come in a stream, as those of Jobs do, the first tries leave each fourth frame its silence.
//!
//! Pure: time and randomness come in as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Doublings of the range of frames that a retry is drawn from: 1, 2, 4, 8. In each frame the first hundred
/// calls pass and the others do no harm, so frames that too few retry in are lost to a crowd.
const MAX_DOUBLINGS: u32 = 3;
/// One frame in so many is kept quiet by the first calls of pods that may come in a stream: where a new pod comes each few
/// seconds, no other frame has ten seconds of silence.
const QUIET_EACH: i64 = 4;
/// The longest wait that a server may ask for; a longer one is taken as this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Frames among which a pod that has nothing published yet catches up after it missed its slot: the
/// `postStart` hook gives its container two.
const CATCH_UP_FRAMES: u64 = 2;
/// The same for a pod with secrets, however long its interval is.
const MOST_CATCH_UP_FRAMES: u64 = 64;

/// A moment on Keeper's clock, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeeperTime(pub i64);

impl KeeperTime {
    /// This moment and `duration` more.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This moment but for `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Time from `earlier` to this moment, zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let elapsed = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(elapsed).unwrap_or(0))
    }
}

/// Keeper's clock, told by the node's uptime, which nobody puts forward or back as the node's clock may be. It is learnt from
/// the `Date` of Keeper's answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeeperClock {
    /// Keeper's time less the node's uptime.
    offset_ms: Option<i64>,
    /// Whether Keeper has said so. Else the node's clock was taken for Keeper's.
    learnt: bool,
}

impl KeeperClock {
    /// Takes the node's clock, which says `node` at `uptime`, for Keeper's until the first answer.
    pub fn assume(&mut self, node: SystemTime, uptime: Duration) {
        let ahead_ms = || unix_millis(node).saturating_sub(millis(uptime));
        self.offset_ms.get_or_insert_with(ahead_ms);
    }

    /// Keeper's time at `uptime`.
    #[must_use]
    pub fn at(&self, uptime: Duration) -> KeeperTime {
        KeeperTime(millis(uptime).saturating_add(self.offset_ms.unwrap_or(0)))
    }

    /// Whether the schedule would be as good by `other`, which tells Keeper's time to half a second, as a `Date` does.
    #[must_use]
    pub fn is_near(&self, other: &Self) -> bool {
        let apart = |(one, other): (i64, i64)| one.abs_diff(other);
        let apart = self.offset_ms.zip(other.offset_ms).map(apart);
        self == other || (self.learnt == other.learnt && apart.is_some_and(|apart| apart <= 500))
    }

    /// Learns from an answer that came in by now, to a call that took `took`: its `Date` was `theirs`, and the
    /// node's uptime is `uptime`.
    ///
    /// A `Date` has whole seconds and the answer was under way, so this gives a range for the offset. An offset
    /// inside the range stays as it is: the schedule doesn't wander with each answer.
    pub fn observe(&mut self, theirs: SystemTime, uptime: Duration, took: Duration) {
        let ahead_ms = unix_millis(theirs).saturating_sub(millis(uptime));
        let most = ahead_ms.saturating_add(999).saturating_add(millis(took));
        let offset = match self.offset_ms.filter(|_| self.learnt) {
            Some(offset) => offset.clamp(ahead_ms, most),
            None => ahead_ms.midpoint(most),
        };
        *self = Self {
            offset_ms: Some(offset),
            learnt: true,
        };
    }
}

/// The grid of frames. Tests use a finer one; a fleet must agree on one, so it is not a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Length of a frame.
    pub frame: Duration,
    /// The part of it, from its beginning, in which calls are made.
    pub window: Duration,
}

impl Grid {
    /// 15 s frames with a window of 2 s: an error of 1.4 s between clocks still leaves 10 s of silence.
    pub const STANDARD: Self = Self {
        frame: Duration::from_secs(15),
        window: Duration::from_secs(2),
    };
}

/// One pod's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    frame_ms: i64,
    window_ms: i64,
    interval_frames: i64,
    own_frame: i64,
    own_position_ms: i64,
}

/// What a planned call means now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Call now.
    Now,
    /// Not yet: wait this long.
    In(Duration),
    /// Its slot has passed, or a clock has jumped: plan with [`Schedule::catch_up`].
    Missed,
}

impl Schedule {
    /// The slots of the pod with this UID, for refreshes each `interval`, which is rounded up to frames.
    #[must_use]
    pub fn new(grid: Grid, interval: Duration, pod_uid: &str) -> Self {
        let frame_ms = millis(grid.frame).max(1);
        let window_ms = millis(grid.window).clamp(1, frame_ms);
        let frames = millis(interval).saturating_add(frame_ms - 1) / frame_ms;
        let mut schedule = Self {
            frame_ms,
            window_ms,
            interval_frames: frames.max(1),
            own_frame: 0,
            own_position_ms: 0,
        };
        let hash = hash(pod_uid);
        schedule.own_frame = below(hash >> 32, schedule.interval_frames);
        schedule.own_position_ms = schedule.position(hash);
        schedule
    }

    /// The pod's regular slot that comes next after a call at `after`, at least half a frame later: the clock
    /// may be corrected a little by the answer, and one slot must not be used twice.
    #[must_use]
    pub fn regular(&self, after: KeeperTime) -> KeeperTime {
        let earliest = after.0.saturating_add(self.frame_ms / 2);
        let phase = self
            .own_frame
            .saturating_mul(self.frame_ms)
            .saturating_add(self.own_position_ms);
        let interval_ms = self.interval_ms();
        let rounds = earliest
            .saturating_sub(phase)
            .saturating_add(interval_ms - 1)
            .div_euclid(interval_ms);
        KeeperTime(rounds.saturating_mul(interval_ms).saturating_add(phase))
    }

    /// The slot of the first call of a pod that may be one of a stream; none: it may be made at once. In a frame that is kept
    /// quiet it waits for the next window.
    #[must_use]
    pub fn first(&self, now: KeeperTime, random: u64) -> Option<KeeperTime> {
        let is_quiet = now.0.div_euclid(self.frame_ms).rem_euclid(QUIET_EACH) == 0;
        (is_quiet && !self.allows(now)).then(|| self.among_next(now, 1, random))
    }

    /// Takes another frame of the interval for the regular slots: a refresh was throttled, so too many pods
    /// have the present one. A new process begins with the pod's first frame again, and learns the same.
    pub fn move_away(&mut self, random: u64) {
        self.own_frame = below(random >> 32, self.interval_frames);
    }

    /// The slot after the `tries`-th failure in a row: a random frame among the next 1, 2, 4, then 8, and not
    /// before the server's `retry_after` has passed.
    #[must_use]
    pub fn retry(
        &self,
        now: KeeperTime,
        tries: u32,
        retry_after: Option<Duration>,
        random: u64,
    ) -> KeeperTime {
        let doublings = tries.saturating_sub(1).min(MAX_DOUBLINGS);
        let wait = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        self.among_next(now.plus(wait), 1 << doublings, random)
    }

    /// The slot of a call whose own has passed unused: the process was down, or the node slept. With secrets
    /// published, anywhere in the next interval, as all pods of the node may come back at once.
    #[must_use]
    pub fn catch_up(&self, now: KeeperTime, published: bool, random: u64) -> KeeperTime {
        let interval = u64::try_from(self.interval_frames).unwrap_or(1);
        let frames = if published {
            interval.min(MOST_CATCH_UP_FRAMES)
        } else {
            CATCH_UP_FRAMES
        };
        self.among_next(now, frames, random)
    }

    /// What a call that was planned for `planned` means at `now`.
    #[must_use]
    pub fn due(&self, planned: KeeperTime, now: KeeperTime) -> Due {
        let ahead = planned.0.saturating_sub(now.0);
        if ahead > self.horizon_ms() {
            return Due::Missed;
        }
        if ahead > 0 {
            return Due::In(planned.since(now));
        }
        let same_frame = planned.0.div_euclid(self.frame_ms) == now.0.div_euclid(self.frame_ms);
        if same_frame && self.allows(now) {
            Due::Now
        } else {
            Due::Missed
        }
    }

    /// Whether a call may be made at `now`.
    #[must_use]
    pub fn allows(&self, now: KeeperTime) -> bool {
        now.0.rem_euclid(self.frame_ms) < self.window_ms
    }

    /// No slot is ever planned further ahead than this: what is, was planned on another clock.
    fn horizon_ms(&self) -> i64 {
        let retry = (1 << MAX_DOUBLINGS) * self.frame_ms + millis(MAX_RETRY_AFTER);
        self.interval_ms()
            .max(retry)
            .saturating_add(2 * self.frame_ms)
    }

    fn interval_ms(&self) -> i64 {
        self.interval_frames.saturating_mul(self.frame_ms)
    }

    fn among_next(&self, earliest: KeeperTime, frames: u64, random: u64) -> KeeperTime {
        let first = earliest.0.div_euclid(self.frame_ms).saturating_add(1);
        let chosen = below(random >> 32, i64::try_from(frames).unwrap_or(1));
        let start = first.saturating_add(chosen).saturating_mul(self.frame_ms);
        KeeperTime(start.saturating_add(self.position(random)))
    }

    /// A place in the window, short of its end: a timer that fires a little late must still hit it.
    fn position(&self, random: u64) -> i64 {
        below(random & 0xffff_ffff, self.window_ms - self.window_ms / 16)
    }
}

/// Maps `random` to `0..bound`.
fn below(random: u64, bound: i64) -> i64 {
    let bound = u64::try_from(bound).unwrap_or(1).max(1);
    i64::try_from(random % bound).unwrap_or(0)
}

/// FNV-1a with a finaliser, so that each bit of the result depends on all of the text. Stable: a pod keeps its
/// slot when its container restarts or is upgraded.
fn hash(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    for shift in [33, 29] {
        hash = (hash ^ (hash >> shift)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
    hash ^ (hash >> 32)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn unix_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: i64 = 15_000;

    #[test]
    fn the_nodes_clock_counts_once_and_until_keeper_says_more() {
        let node = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let mut clock = KeeperClock::default();
        clock.assume(node(10_000), Duration::from_secs(500));
        assert_eq!(clock.at(Duration::from_secs(501)), KeeperTime(10_001_000));
        // The node's clock was put forward.
        clock.assume(node(20_000), Duration::from_secs(502));
        assert_eq!(clock.at(Duration::from_secs(503)), KeeperTime(10_003_000));
        clock.observe(node(10_200), Duration::from_secs(504), Duration::ZERO);
        let learnt = clock.at(Duration::from_secs(504));
        assert_eq!(learnt, KeeperTime(10_200_499), "the middle, as at first");
        clock.assume(node(30_000), Duration::from_secs(504));
        assert_eq!(clock.at(Duration::from_secs(504)), learnt);
    }

    fn pod(uid: &str, interval_secs: u64) -> Schedule {
        Schedule::new(Grid::STANDARD, Duration::from_secs(interval_secs), uid)
    }

    #[test]
    fn regular_slots_are_one_interval_apart_and_stay() {
        let schedule = pod("0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11", 300);
        let first = schedule.regular(KeeperTime(1_763_700_000_000));
        assert!(schedule.allows(first));
        let mut at = first;
        for round in 1..=5 {
            at = schedule.regular(at);
            assert_eq!(at.0, first.0 + round * 300_000);
        }
        let again = pod("0b5a3c4e-7a31-4a1c-9d52-0a4d1f4f3b11", 300);
        assert_eq!(again.regular(KeeperTime(first.0 - 10_000)), first);
    }

    #[test]
    fn a_corrected_clock_does_not_use_one_slot_twice() {
        for interval in [15, 300] {
            let schedule = pod("pod", interval);
            let slot = schedule.regular(KeeperTime(0));
            let next = schedule.regular(KeeperTime(slot.0 - 1_000));
            assert_eq!(next.0, slot.0 + i64::try_from(interval).unwrap() * 1_000);
        }
    }

    #[test]
    fn pods_spread_over_the_frames_and_the_window() {
        let mut frames = [0u32; 20];
        let mut early = 0;
        for n in 0..2_000 {
            let slot = pod(&format!("{n:08x}-1111-4222-8333-444455556666"), 300);
            let at = slot.regular(KeeperTime(0)).0;
            frames[usize::try_from(at / FRAME % 20).unwrap()] += 1;
            early += u32::from(at % FRAME < 940);
        }
        assert!(frames.iter().all(|n| (60..=140).contains(n)), "{frames:?}");
        assert!((900..=1_100).contains(&early), "{early}");
    }

    #[test]
    fn a_pod_that_moves_away_has_each_frame_of_its_interval_at_times() {
        let mut schedule = pod("pod", 300);
        let mut frames = std::collections::BTreeSet::new();
        for n in 0..500u64 {
            schedule.move_away(hash(&n.to_string()));
            let at = schedule.regular(KeeperTime(0));
            assert!(schedule.allows(at));
            assert_eq!(schedule.regular(at).0, at.0 + 300_000);
            frames.insert(at.0 / FRAME % 20);
        }
        assert_eq!(frames.len(), 20);
    }

    #[test]
    fn the_first_calls_of_a_stream_leave_each_fourth_frame_its_silence() {
        let schedule = pod("pod", 300);
        for ms in (0..8 * FRAME).step_by(100) {
            let now = KeeperTime(FRAME * 1_000_000 + ms);
            let first = schedule.first(now, hash("x"));
            let (frame, position) = (ms / FRAME, ms % FRAME);
            assert_eq!(first.is_some(), frame % 4 == 0 && position >= 2_000, "{ms}");
            if let Some(slot) = first {
                assert_eq!(slot.0.div_euclid(FRAME), 1_000_001 + frame);
                assert!(schedule.allows(slot));
            }
        }
    }

    #[test]
    fn retries_fall_into_the_next_1_2_4_then_8_frames() {
        let schedule = pod("pod", 300);
        let now = KeeperTime(FRAME * 1_000 + 7_000);
        for (tries, frames) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 8), (u32::MAX, 8)] {
            let mut seen = std::collections::BTreeSet::new();
            for n in 0..5_000u64 {
                let at = schedule.retry(now, tries, None, hash(&n.to_string()));
                assert!(schedule.allows(at));
                seen.insert(at.0 / FRAME - 1_000);
            }
            assert_eq!(seen, (1..=frames).collect(), "try {tries}");
        }
    }

    #[test]
    fn a_retry_is_never_before_retry_after_and_never_out_of_reach() {
        let schedule = pod("pod", 300);
        let now = KeeperTime(FRAME * 1_000 + 7_000);
        let at = schedule.retry(now, 1, Some(Duration::from_secs(60)), 0);
        assert_eq!(at.0, FRAME * 1_005);
        let longest = schedule.retry(now, 9, Some(Duration::MAX), u64::MAX);
        assert!(longest.since(now) <= MAX_RETRY_AFTER + Duration::from_secs(9 * 15));
        assert!(matches!(schedule.due(longest, now), Due::In(_)));
    }

    #[test]
    fn a_planned_call_is_due_in_its_window_only() {
        let schedule = pod("pod", 300);
        let planned = KeeperTime(FRAME * 1_000 + 500);
        let at = |ms: i64| schedule.due(planned, KeeperTime(FRAME * 1_000 + ms));
        assert_eq!(at(-1_500), Due::In(Duration::from_secs(2)));
        assert_eq!(at(500), Due::Now);
        assert_eq!(at(1_999), Due::Now);
        assert_eq!(at(2_000), Due::Missed);
        assert_eq!(at(FRAME), Due::Missed, "another frame's window is not ours");
        assert_eq!(at(i64::MAX / 2), Due::Missed);
    }

    #[test]
    fn a_clock_that_jumped_back_neither_waits_for_ever_nor_storms() {
        let schedule = pod("pod", 300);
        let planned = KeeperTime(FRAME * 1_000_000);
        let now = KeeperTime(FRAME * 1_000);
        assert_eq!(schedule.due(planned, now), Due::Missed);
        for n in 0..200u64 {
            let random = hash(&n.to_string());
            let published = schedule.catch_up(now, true, random);
            assert!(schedule.allows(published));
            assert!((1..=20).contains(&(published.0 / FRAME - 1_000)));
            let waiting = schedule.catch_up(now, false, random);
            assert!((1..=2).contains(&(waiting.0 / FRAME - 1_000)));
        }
    }

    #[test]
    fn odd_intervals_are_rounded_up_to_frames() {
        for (interval, rounded) in [(0, 15), (1, 15), (15, 15), (16, 30), (86_400, 86_400)] {
            assert_eq!(pod("pod", interval).interval_ms(), rounded * 1_000);
        }
        let endless = Schedule::new(Grid::STANDARD, Duration::MAX, "pod");
        let _ = endless.regular(KeeperTime(i64::MAX));
        let _ = endless.due(KeeperTime(i64::MAX), KeeperTime(i64::MIN));
    }

    #[test]
    fn the_offset_is_learnt_and_then_moves_only_when_it_must() {
        let mut clock = KeeperClock::default();
        let offset = |clock: &KeeperClock| clock.at(Duration::ZERO).0;
        for (ahead, took, want, why) in [
            (60_000_i64, 0, 60_499, "the middle of the range"),
            (60_000, 0, 60_499, "inside: kept"),
            (59_000, 600, 60_499, "a slow answer has a wider range"),
            (62_000, 0, 62_000, "moved to the bound"),
            (-300_000, 10_000, -289_001, "keeper's clock was put back"),
        ] {
            let (theirs, uptime) = if ahead < 0 {
                (UNIX_EPOCH, Duration::from_millis(ahead.unsigned_abs()))
            } else {
                (
                    UNIX_EPOCH + Duration::from_millis(ahead.unsigned_abs()),
                    Duration::ZERO,
                )
            };
            clock.observe(theirs, uptime, Duration::from_millis(took));
            assert_eq!(offset(&clock), want, "{why}");
        }
    }

    #[test]
    fn clocks_are_near_each_other_to_half_a_second_if_both_were_learnt() {
        let clock = |offset_ms, learnt| KeeperClock { offset_ms, learnt };
        let one = clock(Some(1_000), true);
        for (other, near) in [
            (one, true),
            (clock(Some(1_500), true), true),
            (clock(Some(500), true), true),
            (clock(Some(1_501), true), false),
            (clock(Some(1_000), false), false),
            (clock(Some(i64::MIN), true), false),
            (clock(None, true), false),
        ] {
            assert_eq!(one.is_near(&other), near, "{other:?}");
            assert_eq!(other.is_near(&one), near, "{other:?}");
        }
        assert!(KeeperClock::default().is_near(&KeeperClock::default()));
    }

    #[test]
    fn an_absurd_date_breaks_nothing() {
        let schedule = pod("pod", 300);
        // Fits into a clock of 64-bit seconds, and not into milliseconds.
        let far = Duration::from_secs(1 << 61);
        for (theirs, uptime) in [
            (UNIX_EPOCH + far, Duration::ZERO),
            (UNIX_EPOCH - far, Duration::MAX),
        ] {
            let mut clock = KeeperClock::default();
            clock.assume(theirs, uptime);
            clock.observe(theirs, uptime, Duration::MAX);
            let now = clock.at(Duration::from_secs(1_763_700_000));
            let _ = schedule.due(schedule.regular(now), now);
            let _ = schedule.due(schedule.retry(now, 1, None, 5), now);
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_planned_is_allowed_later_and_within_reach(
            now in -1_000_000_000_000_000..1_000_000_000_000_000_i64,
            uid in "[0-9a-f-]{0,36}",
            interval in 0..200_000_u64,
            tries: u32,
            published: bool,
            random: u64,
        ) {
            let schedule = pod(&uid, interval);
            let now = KeeperTime(now);
            for planned in [
                schedule.regular(now),
                schedule.retry(now, tries, None, random),
                schedule.catch_up(now, published, random),
            ] {
                assert!(schedule.allows(planned));
                assert!(matches!(schedule.due(planned, now), Due::In(_)), "{planned:?}");
                assert_eq!(schedule.due(planned, planned), Due::Now);
            }
        }
    }
}
