//! When something must be made: pure rules over what there is and what time it is.

use std::time::Duration;

use rustls_pki_types::UnixTime;

use super::material::Inspection;

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

    /// How long a new authority is only announced before it signs what is served: every API server
    /// must have seen the `caBundle` that holds it.
    fn overlap(&self) -> u64 {
        (self.certificate.as_secs() / 10).min(600)
    }

    /// Renew when a third of the lifetime remains.
    fn renew_before(lifetime: Duration) -> u64 {
        lifetime.as_secs() / 3
    }
}

/// The next step for what `inspection` found at `now`.
pub(crate) fn plan(inspection: Inspection, policy: &Policy, now: UnixTime) -> Step {
    let now = now.as_secs();
    let Some(authority) = inspection.authority else {
        return Step::Start;
    };
    let Some(serving) = inspection.serving else {
        return Step::IssueServing;
    };
    let remaining = serving.until.saturating_sub(now);
    if remaining <= policy.overlap() {
        return Step::IssueServing;
    }
    if authority.until.saturating_sub(now) <= Policy::renew_before(policy.ca) {
        return Step::RotateAuthority;
    }
    let announced = now.saturating_sub(authority.from.saturating_add(BACKDATE));
    let due = remaining <= Policy::renew_before(policy.certificate);
    if announced >= policy.overlap() && (due || !serving.by_current_authority) {
        return Step::IssueServing;
    }
    Step::Keep
}

#[cfg(test)]
mod tests {
    use super::super::material::{ServingState, Validity};
    use super::*;

    const DAY: u64 = 86_400;
    const POLICY: Policy = Policy {
        ca: Duration::from_secs(3650 * DAY),
        certificate: Duration::from_secs(365 * DAY),
    };

    /// Authority made at day 0, certificate ends at day `until`.
    fn step(day: u64, until: u64, by_current_authority: bool) -> Step {
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
        plan(Inspection { authority, serving }, &POLICY, now)
    }

    #[test]
    fn nothing_usable_means_a_start() {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let nothing = Inspection {
            authority: None,
            serving: None,
        };
        assert_eq!(plan(nothing, &POLICY, now), Step::Start);
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
        assert_eq!(plan(half, &POLICY, now), Step::IssueServing);
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
        assert_eq!(step(0, 365, false), Step::Keep);
        assert_eq!(
            step(0, 100, false),
            Step::Keep,
            "due, but the authority is too new"
        );
        assert_eq!(step(1, 365, false), Step::IssueServing);
    }

    #[test]
    fn a_certificate_about_to_end_does_not_wait_for_the_announcement() {
        assert_eq!(step(0, 0, false), Step::IssueServing);
    }

    #[test]
    fn short_lifetimes_work_too() {
        let policy = Policy {
            ca: Duration::from_secs(300),
            certificate: Duration::from_secs(30),
        };
        assert_eq!(policy.overlap(), 3);
        let at = |now: u64| {
            let authority = Some(Validity {
                from: 10_000 - BACKDATE,
                until: 10_300,
            });
            let serving = Some(ServingState {
                until: 10_030,
                by_current_authority: true,
            });
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            plan(Inspection { authority, serving }, &policy, now)
        };
        assert_eq!(at(10_000), Step::Keep);
        assert_eq!(at(10_019), Step::Keep);
        assert_eq!(at(10_020), Step::IssueServing);
    }
}
