//! When something must be made: pure rules over what there is and what time it is.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::material::{Inspection, Validity};

/// Certificates are valid from this long before they were made, for clients whose clock is behind.
pub(crate) const BACKDATE: u64 = 3600;

/// How long things live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// Of the authority.
    pub(crate) ca: Duration,
    /// Of a serving certificate.
    pub(crate) certificate: Duration,
}

/// Lifetimes that don't go together.
#[derive(Debug, thiserror::Error)]
#[error("--ca-lifetime must be at least twice --certificate-lifetime")]
pub(crate) struct AuthorityTooShort;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// All is well.
    Keep,
    /// Make a serving certificate with the authority that is there.
    IssueServing,
    /// Make a new authority beside the old one; the serving certificate stays for now.
    RotateAuthority,
    /// Make both: there is no authority to sign with.
    Start,
}

impl Policy {
    /// An authority is followed by another when a third of its life remains. A certificate that it signs then must not
    /// be due itself.
    pub(crate) fn new(ca: Duration, certificate: Duration) -> Result<Self, AuthorityTooShort> {
        if ca >= certificate * 2 {
            Ok(Self { ca, certificate })
        } else {
            Err(AuthorityTooShort)
        }
    }

    /// How long an authority stands in the `caBundle` before what it signed is served: every API server must have seen it.
    pub(crate) fn overlap(&self) -> Duration {
        (self.certificate / 10).clamp(Duration::from_secs(1), Duration::from_secs(600))
    }

    /// Renew when a third of the lifetime remains.
    fn renew_before(lifetime: Duration) -> u64 {
        lifetime.as_secs().div_ceil(3)
    }

    /// Whether nothing is valid any more that was signed before an authority was made: its predecessor's key is gone.
    pub(crate) fn outlived(&self, authority: Validity, now: UnixTime) -> bool {
        let made = authority.from.saturating_add(BACKDATE);
        now.as_secs() > made.saturating_add(self.certificate.as_secs())
    }
}

/// The next step for what `inspection` found at `now`; `settled`: the authority has been in the `caBundle` for the overlap.
pub(crate) fn plan(inspection: Inspection, policy: &Policy, settled: bool, now: UnixTime) -> Step {
    let now = now.as_secs();
    let Some(authority) = inspection.authority else {
        return Step::Start;
    };
    let Some(serving) = inspection.serving else {
        return Step::IssueServing;
    };
    let remaining = serving.until.saturating_sub(now);
    if remaining <= policy.overlap().as_secs() {
        return Step::IssueServing;
    }
    let left = authority.until.saturating_sub(now);
    if left <= Policy::renew_before(policy.ca) || too_long(left, policy.ca) {
        return Step::RotateAuthority;
    }
    let due = remaining <= Policy::renew_before(policy.certificate)
        || too_long(remaining, policy.certificate);
    if settled && (due || !serving.by_current_authority) {
        return Step::IssueServing;
    }
    Step::Keep
}

/// Made when lifetimes were longer. (An hour more is a matter of clocks.)
fn too_long(left: u64, lifetime: Duration) -> bool {
    left > lifetime.as_secs().saturating_add(BACKDATE)
}

#[cfg(test)]
mod tests {
    use super::super::material::ServingState;
    use super::*;

    const DAY: u64 = 86_400;
    const POLICY: Policy = Policy {
        ca: Duration::from_secs(3650 * DAY),
        certificate: Duration::from_secs(365 * DAY),
    };

    /// Authority made at day 0 and long known, certificate ends at day `until`.
    fn step(day: u64, until: u64, by_current_authority: bool) -> Step {
        step_if(true, day, until, by_current_authority)
    }

    fn step_if(settled: bool, day: u64, until: u64, by_current_authority: bool) -> Step {
        let start = 1_800_000_000;
        let authority = Some(Validity {
            from: start - BACKDATE,
            until: start + 3650 * DAY,
        });
        let until = start + until * DAY;
        let serving = Some(ServingState {
            until,
            by_current_authority,
        });
        let now = UnixTime::since_unix_epoch(Duration::from_secs(start + day * DAY));
        plan(Inspection { authority, serving }, &POLICY, settled, now)
    }

    #[test]
    fn nothing_usable_means_a_start() {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let nothing = Inspection {
            authority: None,
            serving: None,
        };
        assert_eq!(plan(nothing, &POLICY, true, now), Step::Start);
        let serving = Some(ServingState {
            until: u64::MAX,
            by_current_authority: false,
        });
        assert_eq!(
            plan(
                Inspection {
                    authority: None,
                    serving
                },
                &POLICY,
                true,
                now
            ),
            Step::Start
        );
        let authority = Some(Validity {
            from: 0,
            until: u64::MAX,
        });
        let half = Inspection {
            authority,
            serving: None,
        };
        assert_eq!(plan(half, &POLICY, false, now), Step::IssueServing);
    }

    #[test]
    fn a_certificate_is_renewed_at_a_third_of_its_lifetime() {
        assert_eq!(step(0, 365, true), Step::Keep);
        assert_eq!(step(243, 365, true), Step::Keep);
        assert_eq!(step(244, 365, true), Step::IssueServing);
        assert_eq!(step(364, 365, true), Step::IssueServing);
    }

    #[test]
    fn an_authority_is_followed_by_another_before_certificates_outlive_it() {
        assert_eq!(step(2433, 2700, true), Step::Keep);
        assert_eq!(step(2434, 2700, true), Step::RotateAuthority);
    }

    #[test]
    fn a_new_authority_is_announced_before_it_signs() {
        assert_eq!(step_if(false, 1, 365, false), Step::Keep);
        assert_eq!(
            step_if(false, 1, 100, false),
            Step::Keep,
            "due, but not every API server may know the authority"
        );
        assert_eq!(step(1, 365, false), Step::IssueServing);
    }

    #[test]
    fn a_certificate_about_to_end_does_not_wait_for_the_announcement() {
        assert_eq!(step_if(false, 0, 0, false), Step::IssueServing);
    }

    #[test]
    fn the_shortest_lifetimes_leave_time_for_everything() {
        let seconds = Duration::from_secs;
        assert!(Policy::new(seconds(9), seconds(5)).is_err());
        let policy = Policy::new(seconds(10), seconds(5)).unwrap();
        assert_eq!(policy.overlap(), seconds(1));
        let at = |now: u64| {
            let authority = Some(Validity {
                from: 10_000 - BACKDATE,
                until: 10_010,
            });
            let serving = Some(ServingState {
                until: 10_005,
                by_current_authority: true,
            });
            let now = UnixTime::since_unix_epoch(seconds(now));
            plan(Inspection { authority, serving }, &policy, true, now)
        };
        assert_eq!(at(10_000), Step::Keep);
        assert_eq!(at(10_002), Step::Keep);
        assert_eq!(at(10_003), Step::IssueServing);
    }

    #[test]
    fn shortened_lifetimes_take_effect_at_once() {
        assert_eq!(step(0, 366, true), Step::IssueServing);
        assert_eq!(
            step_if(false, 0, 366, true),
            Step::Keep,
            "but not by an authority that is new"
        );
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let authority = Some(Validity {
            from: 1_700_000_000,
            until: 1_800_000_000 + 3651 * DAY,
        });
        let serving = Some(ServingState {
            until: 1_800_000_000 + 300 * DAY,
            by_current_authority: true,
        });
        let step = plan(Inspection { authority, serving }, &POLICY, true, now);
        assert_eq!(step, Step::RotateAuthority);
    }

    #[test]
    fn an_authority_is_outlived_when_the_last_certificate_by_it_has_ended() {
        let successor = Validity {
            from: 1_800_000_000 - BACKDATE,
            until: u64::MAX,
        };
        let at =
            |day: u64| UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000 + day * DAY));
        assert!(!POLICY.outlived(successor, at(365)));
        assert!(POLICY.outlived(successor, at(366)));
    }
}
