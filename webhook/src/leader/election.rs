//! The rules of the election, as client-go has them: pure functions of what the Lease says, when *we* saw it change, and what
//! our own uptime is.
//!
//! - Whoever holds the Lease may act until `renew_deadline` after its last successful renewal *began*.
//! - Another one takes it when it hasn't seen it change for the whole `lease_duration`, by its own uptime, or when its
//!   holder gave it up. That the record changed is all that its times are used for, so that wrong clocks do nothing.
//! - Each write is on condition that nothing was written since what was read.
//!
//! A successor thus begins no sooner than `lease_duration` after it saw the last renewal, which was after that renewal began;
//! and by then the former holder's own clock has ended its term, were it stopped or suspended all the while. The difference
//! between the two settings is what the rates of two clocks may differ by.

use std::time::Duration;

use super::clock::Uptime;

/// Nothing takes longer; what stands in a Lease is not believed beyond that.
const LONGEST: Duration = Duration::from_secs(3600);
/// What a holder that gives the Lease up leaves as its duration, as client-go does.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// How fast an election is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Durations that don't fit each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimingError {
    /// A former leader might still act when the next one begins.
    #[error(
        "--leader-election-renew-deadline-seconds must be less than --leader-election-lease-duration-seconds"
    )]
    RenewDeadline,
    /// One lost request would cost the leadership.
    #[error(
        "--leader-election-retry-period-seconds must be at most half of --leader-election-renew-deadline-seconds"
    )]
    RetryPeriod,
    /// Zero, or longer than an hour.
    #[error("the --leader-election-… durations must be from 1 to 3600 seconds")]
    Range,
}

impl Timing {
    pub(crate) fn new(
        lease_duration: Duration,
        renew_deadline: Duration,
        retry_period: Duration,
    ) -> Result<Self, TimingError> {
        let all = [lease_duration, renew_deadline, retry_period];
        if all
            .iter()
            .any(|time| !(Duration::from_secs(1)..=LONGEST).contains(time))
        {
            return Err(TimingError::Range);
        }
        if renew_deadline >= lease_duration {
            return Err(TimingError::RenewDeadline);
        }
        if retry_period * 2 > renew_deadline {
            return Err(TimingError::RetryPeriod);
        }
        Ok(Self {
            lease_duration,
            renew_deadline,
            retry_period,
        })
    }

    /// Of one call to the API server: there is time for another one before the term ends.
    pub(crate) fn call_deadline(&self) -> Duration {
        self.renew_deadline / 3
    }

    /// Until the Lease is looked at or renewed again; `random` is from 0 to 1. Followers don't all come at once.
    pub(crate) fn pause(&self, leads: bool, random: f64) -> Duration {
        if leads {
            self.retry_period
        } else {
            self.retry_period
                .mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
        }
    }
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Who has it; empty: nobody.
    pub(crate) holder: String,
    /// How long it must not change for before another one may take it.
    pub(crate) duration: Duration,
    /// How often it passed to another holder.
    pub(crate) transitions: i32,
    /// Since when the holder has it, in microseconds since 1970.
    pub(crate) acquired: i64,
    /// When it was written, likewise; each write changes it.
    pub(crate) renewed: i64,
}

/// What stands in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its resource version.
    pub(crate) version: String,
    pub(crate) claim: Claim,
}

/// Something to write, on condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// What must stand there still; none: nothing must.
    pub(crate) version: Option<String>,
    pub(crate) claim: Claim,
}

/// What one candidate knows.
#[derive(Debug)]
pub(crate) struct Election {
    identity: String,
    timing: Timing,
    /// What stood there when we last looked, and since when we know it unchanged.
    seen: Option<(Record, Uptime)>,
    /// Whether something else may stand there: a write failed, or was refused.
    doubt: bool,
    until: Option<Uptime>,
}

impl Election {
    pub(crate) fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            seen: None,
            doubt: true,
            until: None,
        }
    }

    /// Until when we may act, if at `now` we may.
    pub(crate) fn term(&self, now: Uptime) -> Option<Uptime> {
        self.until.filter(|until| now < *until)
    }

    /// How often the Lease has passed to another holder.
    pub(crate) fn transitions(&self) -> i32 {
        self.seen
            .as_ref()
            .map_or(0, |(record, _)| record.claim.transitions)
    }

    /// Whether the Lease must be read before [`Self::next`]: the holder of it knows what stands there.
    pub(crate) fn must_read(&self) -> bool {
        self.doubt || !self.is_holder()
    }

    /// The Lease was read, and we know it at `now`.
    pub(crate) fn read(&mut self, found: Option<Record>, now: Uptime) {
        self.doubt = false;
        self.seen = found.map(|record| {
            let since = match &self.seen {
                Some((before, since)) if before.claim == record.claim => *since,
                _ => now,
            };
            (record, since)
        });
        if !self.is_holder() {
            self.until = None;
        }
    }

    /// What to write at `now`, if anything. `wall` is the time that people will read.
    pub(crate) fn next(&self, now: Uptime, wall: i64) -> Option<Write> {
        let Some((record, since)) = &self.seen else {
            return Some(self.claim(None, wall));
        };
        let claim = &record.claim;
        let held_by_another = !claim.holder.is_empty() && claim.holder != self.identity;
        if held_by_another && now < since.after(self.duration_of(claim)) {
            return None;
        }
        Some(self.claim(Some(record), wall))
    }

    /// What to write to give the Lease up; none: we don't have it. We may not act from now on.
    pub(crate) fn resign(&mut self, wall: i64) -> Option<Write> {
        self.until = None;
        let (record, _) = self.seen.as_ref().filter(|_| self.is_holder())?;
        Some(Write {
            version: Some(record.version.clone()),
            claim: Claim {
                holder: String::new(),
                duration: GIVEN_UP,
                renewed: differing(wall, record.claim.renewed),
                ..record.claim.clone()
            },
        })
    }

    /// A write that began at `begun` was done; we know it at `now`.
    pub(crate) fn written(&mut self, record: Record, begun: Uptime, now: Uptime) {
        self.doubt = false;
        self.seen = Some((record, now));
        self.until = self
            .is_holder()
            .then(|| begun.after(self.timing.renew_deadline));
    }

    /// A write was refused, or nobody knows what became of it.
    pub(crate) fn doubt(&mut self) {
        self.doubt = true;
    }

    fn is_holder(&self) -> bool {
        self.seen
            .as_ref()
            .is_some_and(|(record, _)| record.claim.holder == self.identity)
    }

    /// The holder's own setting counts, since it acts by that.
    fn duration_of(&self, claim: &Claim) -> Duration {
        if claim.duration.is_zero() {
            self.timing.lease_duration
        } else {
            claim.duration.min(LONGEST)
        }
    }

    fn claim(&self, found: Option<&Record>, wall: i64) -> Write {
        let before = found.map(|record| &record.claim);
        let renewal = before.filter(|before| before.holder == self.identity);
        let claim = Claim {
            holder: self.identity.clone(),
            duration: self.timing.lease_duration,
            transitions: match (renewal, before) {
                (Some(mine), _) => mine.transitions,
                (None, Some(before)) => before.transitions.saturating_add(1),
                (None, None) => 0,
            },
            acquired: renewal.map_or(wall, |mine| mine.acquired),
            renewed: before.map_or(wall, |before| differing(wall, before.renewed)),
        };
        Write {
            version: found.map(|record| record.version.clone()),
            claim,
        }
    }
}

/// `wall`, or the next microsecond: an API server takes no note of a write that changes nothing.
fn differing(wall: i64, before: i64) -> i64 {
    if wall == before {
        wall.saturating_add(1)
    } else {
        wall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Uptime {
        Uptime(Duration::from_secs(seconds))
    }

    fn timing() -> Timing {
        Timing::new(seconds(15), seconds(10), seconds(2)).unwrap()
    }

    fn election() -> Election {
        Election::new("me".into(), timing())
    }

    fn record(version: u32, holder: &str, renewed: i64) -> Record {
        Record {
            version: version.to_string(),
            claim: Claim {
                holder: holder.into(),
                duration: seconds(15),
                transitions: 3,
                acquired: 5,
                renewed,
            },
        }
    }

    fn leader() -> Election {
        let mut election = election();
        election.read(None, at(100));
        let write = election.next(at(100), 7).unwrap();
        let record = Record {
            version: "1".into(),
            claim: write.claim,
        };
        election.written(record, at(100), at(103));
        election
    }

    #[test]
    fn durations_must_fit_each_other() {
        let new = |lease, renew, retry| Timing::new(seconds(lease), seconds(renew), seconds(retry));
        assert!(new(15, 10, 2).is_ok());
        assert!(new(3, 2, 1).is_ok());
        assert_eq!(new(10, 10, 2), Err(TimingError::RenewDeadline));
        assert_eq!(new(15, 10, 6), Err(TimingError::RetryPeriod));
        assert_eq!(new(15, 10, 0), Err(TimingError::Range));
        assert_eq!(new(3601, 10, 2), Err(TimingError::Range));
    }

    #[test]
    fn what_is_free_is_taken() {
        let mut election = election();
        assert!(election.must_read());
        election.read(None, at(0));
        let write = election.next(at(0), 7).unwrap();
        assert_eq!((&write.version, write.claim.transitions), (&None, 0));
        assert_eq!(write.claim.duration, seconds(15));

        election.read(Some(record(8, "", 6)), at(0));
        let write = election.next(at(0), 7).unwrap();
        assert_eq!(write.version.as_deref(), Some("8"));
        let claim = &write.claim;
        assert_eq!(
            (claim.transitions, claim.acquired, claim.renewed),
            (4, 7, 7)
        );
    }

    #[test]
    fn a_term_counts_from_the_beginning_of_the_write() {
        let mut leader = leader();
        assert!(!leader.must_read());
        assert_eq!(leader.term(at(109)), Some(at(110)));
        assert_eq!(leader.term(at(110)), None);
        let renewal = leader.next(at(105), 9).unwrap();
        assert_eq!(renewal.version.as_deref(), Some("1"));
        let claim = &renewal.claim;
        assert_eq!(
            (claim.transitions, claim.acquired, claim.renewed),
            (0, 7, 9)
        );
        // Stopped for a minute before the answer.
        let record = Record {
            version: "2".into(),
            claim: renewal.claim,
        };
        leader.written(record, at(105), at(165));
        assert_eq!(leader.term(at(165)), None);
        assert!(leader.next(at(165), 60).is_some(), "but it tries again");
    }

    #[test]
    fn what_changes_is_not_taken() {
        let mut election = election();
        for i in 0_u32..50 {
            let now = at(u64::from(i) * 14);
            // The other's wall clock goes back all the time.
            election.read(Some(record(i, "other", -i64::from(i))), now);
            assert_eq!(election.next(now, i64::MAX), None);
        }
        // Somebody labels the Lease meanwhile: no renewal.
        election.read(Some(record(77, "other", -49)), at(700));
        assert_eq!(election.next(at(49 * 14 + 14), 0), None);
        let write = election.next(at(49 * 14 + 15), 0).unwrap();
        assert_eq!(write.version.as_deref(), Some("77"));
        assert_eq!(write.claim.transitions, 4);
    }

    #[test]
    fn the_holders_own_duration_counts() {
        let mut election = election();
        let mut found = record(1, "other", 1);
        found.claim.duration = seconds(40);
        election.read(Some(found.clone()), at(0));
        assert_eq!(election.next(at(39), 0), None);
        assert!(election.next(at(40), 0).is_some());
        // What can't be meant.
        found.claim.duration = Duration::ZERO;
        election.read(Some(found.clone()), at(100));
        assert_eq!(election.next(at(114), 0), None);
        assert!(election.next(at(115), 0).is_some());
        found.claim.duration = seconds(u64::MAX);
        election.read(Some(found), at(200));
        assert!(election.next(at(200 + 3600), 0).is_some());
    }

    #[test]
    fn a_leader_that_finds_another_one_stops_at_once() {
        let mut leader = leader();
        leader.doubt();
        assert!(leader.must_read());
        assert!(leader.term(at(105)).is_some(), "nobody has said otherwise");
        leader.read(Some(record(9, "other", 9)), at(105));
        assert_eq!(leader.term(at(105)), None);
        assert_eq!(leader.resign(10), None);
    }

    #[test]
    fn what_is_given_up_is_taken_at_once() {
        let mut leader = leader();
        let write = leader.resign(9).unwrap();
        assert_eq!(leader.term(at(104)), None, "before it is written");
        assert_eq!(write.version.as_deref(), Some("1"));
        assert_eq!(
            (write.claim.holder.as_str(), write.claim.duration),
            ("", seconds(1))
        );
        let mut next = election();
        let given_up = Record {
            version: "2".into(),
            claim: write.claim,
        };
        leader.written(given_up.clone(), at(104), at(104));
        assert_eq!(leader.term(at(104)), None);
        next.read(Some(given_up), at(0));
        assert!(next.next(at(0), 0).is_some());
    }

    #[test]
    fn each_write_changes_something() {
        let leader = leader();
        let first = leader.next(at(104), 7).unwrap();
        assert_eq!(first.claim.renewed, 8, "a wall clock that stands still");
    }
}
