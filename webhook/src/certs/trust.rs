//! Since when API servers can be taken to trust an authority.
//!
//! Each API server learns of a changed `caBundle` by a watch of its own, some time after it was written. So what counts is how
//! long an authority has stood there, as this replica saw it, by a clock that nobody sets.

use std::collections::HashMap;
use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

use super::Serving;
use super::store::Announced;

/// The authorities of the `caBundle`, each with the time when it was first seen there.
#[derive(Debug, Default)]
pub(crate) struct Trust(HashMap<CertificateDer<'static>, Instant>);

impl Trust {
    /// Takes note of what stands in the `caBundle` at this time.
    pub(crate) fn see(&mut self, announced: &Announced, at: Instant) {
        let present = announced.authorities();
        self.0.retain(|known, _| present.contains(known));
        for authority in present {
            self.0.entry(authority).or_insert(at);
        }
    }

    /// Whether this authority has been there for so long.
    pub(crate) fn knows(&self, authority: &CertificateDer<'_>, age: Duration, at: Instant) -> bool {
        self.0
            .get(authority)
            .is_some_and(|since| at.saturating_duration_since(*since) >= age)
    }

    /// Whether authorities that have been there for so long are enough to accept this certificate.
    pub(crate) fn accepts(
        &self,
        serving: &Serving,
        age: Duration,
        at: Instant,
        now: UnixTime,
    ) -> bool {
        let settled: Vec<_> = self
            .0
            .keys()
            .filter(|authority| self.knows(authority, age, at))
            .cloned()
            .collect();
        serving.check_chain(&settled, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Announcement;
    use super::super::{Names, Policy, issue};
    use super::*;

    #[test]
    fn an_authority_that_was_taken_away_begins_anew() {
        let (names, second) = (Names::of_service("hook", "sec"), Duration::from_secs(1));
        let policy = Policy::new(1000 * second, 100 * second).unwrap();
        let now = UnixTime::since_unix_epoch(1_800_000_000 * second);
        let provider = rustls::crypto::ring::default_provider();
        let material = issue::start(&names, &policy, Vec::new(), now).unwrap();
        let serving = material.serving(&names, now, &provider).unwrap();
        let bundle = |pem: &str| Announced {
            version: String::new(),
            webhooks: vec![Announcement {
                name: "a".into(),
                bundle: pem.into(),
            }],
        };
        let start = Instant::now();
        let mut trust = Trust::default();
        let accepts =
            |trust: &Trust, at: u32| trust.accepts(&serving, 10 * second, start + at * second, now);
        trust.see(&bundle(&material.ca_crt), start);
        trust.see(&bundle(&material.ca_crt), start + 5 * second);
        assert!(!accepts(&trust, 9));
        assert!(accepts(&trust, 10));
        trust.see(&bundle("garbage"), start + 10 * second);
        assert!(!accepts(&trust, 20));
        trust.see(&bundle(&material.ca_crt), start + 20 * second);
        assert!(!accepts(&trust, 29));
        assert!(accepts(&trust, 30));
        // One that only one of two webhooks has is not trusted.
        let mut half = bundle(&material.ca_crt);
        half.webhooks.push(Announcement {
            name: "b".into(),
            bundle: Vec::new(),
        });
        trust.see(&half, start + 30 * second);
        assert!(!accepts(&trust, 60));
    }
}
