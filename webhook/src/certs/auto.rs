//! The loop of `auto` mode: agree with the other replicas, make known, serve; again and again.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use keeper_telemetry::Latch;
use prometheus::IntGauge;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::UnixTime;
use tokio::sync::Notify;

use super::plan::{Step, plan};
use super::store::{Audience, Content, Store, StoreError, Written};
use super::{CertError, Material, Names, Policy, Resolver, Serving, issue, unix};
use crate::leader::Leadership;

/// Writes lost to others in a row, after which something is wrong.
const ATTEMPTS: usize = 10;
/// A lost `caBundle` is back after this time.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// For what the leader has to do first.
const WAIT_FOR_LEADER: Duration = Duration::from_secs(1);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// Why certificates could not be agreed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AutoError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Certificate(#[from] CertError),
    /// We overwrite only what we wrote.
    #[error(
        "the Secret for certificates holds something that this program did not write; \
         delete it, name another with --tls-secret, or use --tls-mode manual"
    )]
    Foreign,
    #[error("others kept writing the certificates while we tried to")]
    Contention,
}

/// What certificates must be like.
pub(crate) struct Authority {
    pub(crate) names: Names,
    pub(crate) policy: Policy,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// Reads what is kept, makes what is due if this replica is the leader, and returns what all replicas agree on
/// from now on, verified; none: the leader has to make it first. `held` is what this replica agreed to before: if
/// the Secret is gone, its authority stays trusted and its certificate served while a new authority is announced, so
/// that no admission fails.
pub(crate) async fn reconcile<S: Store>(
    store: &S,
    authority: &Authority,
    leadership: &Leadership,
    held: Option<&Material>,
    now: UnixTime,
) -> Result<Option<(Material, Serving)>, AutoError> {
    for _ in 0..ATTEMPTS {
        let stored = store.read().await?;
        let kept = match stored.as_ref().map(|stored| &stored.content) {
            Some(Content::Foreign) => return Err(AutoError::Foreign),
            Some(Content::Material(material)) => Some(material),
            Some(Content::Incomplete) | None => None,
        };
        let due = match kept {
            Some(material) => authority.next(material, now)?,
            None => Some(authority.anew(held, now)?),
        };
        let Some(new) = due else {
            let Some(material) = kept else {
                return Err(AutoError::Contention);
            };
            let serving = material.serving(&authority.names, now, &authority.provider)?;
            return Ok(Some((material.clone(), serving)));
        };
        if !leadership.is_leader() {
            // What is due for a renewal is good meanwhile.
            return Ok(kept.and_then(|material| {
                let serving = material.serving(&authority.names, now, &authority.provider);
                Some((material.clone(), serving.ok()?))
            }));
        }
        // What can't be served is not written either.
        let serving = new.serving(&authority.names, now, &authority.provider)?;
        let written = match &stored {
            Some(stored) => store.replace(&stored.version, &new).await?,
            None => store.create(&new).await?,
        };
        if written == Written::Yes {
            tracing::info!(expires = serving.expires, "wrote new certificates");
            return Ok(Some((new, serving)));
        }
    }
    Err(AutoError::Contention)
}

impl Authority {
    /// What should stand in place of `material`; none: it is good as it is.
    fn next(&self, material: &Material, now: UnixTime) -> Result<Option<Material>, CertError> {
        let inspection = material.inspect(&self.names, now, &self.provider);
        let step = plan(inspection, &self.policy, now);
        Ok(match (step, inspection.authority) {
            (Step::Keep, _) => None,
            (Step::RotateAuthority, _) => {
                Some(issue::rotate_authority(material, &self.policy, now)?)
            }
            (Step::IssueServing, Some(signer)) => {
                let (names, policy) = (&self.names, &self.policy);
                Some(issue::renew_serving(
                    material,
                    signer.until,
                    names,
                    policy,
                    now,
                )?)
            }
            (Step::Start, _) | (Step::IssueServing, None) => {
                let trusted = material.valid_authorities(now);
                Some(issue::start(&self.names, &self.policy, trusted, now)?)
            }
        })
    }

    /// What should stand where nothing stands.
    fn anew(&self, held: Option<&Material>, now: UnixTime) -> Result<Material, CertError> {
        let Some(held) = held else {
            return issue::start(&self.names, &self.policy, Vec::new(), now);
        };
        let rotated = issue::rotate_authority(held, &self.policy, now)?;
        if rotated.serving(&self.names, now, &self.provider).is_ok() {
            return Ok(rotated);
        }
        let trusted = held.valid_authorities(now);
        issue::start(&self.names, &self.policy, trusted, now)
    }
}

/// Everything that the loop works with.
pub(crate) struct Auto<S> {
    pub(crate) store: S,
    pub(crate) authority: Authority,
    pub(crate) leadership: Leadership,
    pub(crate) resolver: Arc<Resolver>,
    /// Expiry of what is served, in seconds since 1970.
    pub(crate) expiry: IntGauge,
    /// Notified when the Secret may have changed.
    pub(crate) changed: Arc<Notify>,
}

impl<S: Store> Auto<S> {
    /// Runs for ever. The latches drop at the first certificate and the first `caBundle` in place.
    pub(crate) async fn run(self, certificate: Latch, trusted: Latch) {
        let mut held: Option<(Material, Serving)> = None;
        let mut latches = (Some(certificate), Some(trusted));
        let mut leadership = self.leadership.clone();
        let mut retry = RETRY_FIRST;
        let mut waiting = false;
        let check_every =
            (self.authority.policy.certificate / 20).clamp(Duration::from_secs(1), CHECK_EVERY);
        loop {
            let wait = match self.round(&mut held, &mut latches).await {
                Ok(Round::Settled) => {
                    (retry, waiting) = (RETRY_FIRST, false);
                    check_every
                }
                Ok(Round::Leader) => {
                    if !waiting {
                        tracing::info!("waiting for the leader's certificates");
                    }
                    (retry, waiting) = (RETRY_FIRST, true);
                    WAIT_FOR_LEADER
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &(dyn std::error::Error + 'static),
                        "cannot keep certificates"
                    );
                    let wait = retry;
                    retry = (retry * 2).min(RETRY_LAST);
                    wait
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = leadership.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn round(
        &self,
        held: &mut Option<(Material, Serving)>,
        latches: &mut (Option<Latch>, Option<Latch>),
    ) -> Result<Round, AutoError> {
        let (store, now) = (&self.store, unix(SystemTime::now()));
        let before = held.as_ref().map(|(material, _)| material);
        let agreed = reconcile(store, &self.authority, &self.leadership, before, now).await?;
        let Some((material, serving)) = agreed else {
            return Ok(Round::Leader);
        };
        // The API servers first: they must trust what they are going to see. But a certificate that
        // they may not trust yet is better than none.
        let trust = self
            .trust(Audience::Admission, &material, &serving, now)
            .await;
        let has_valid = held
            .as_ref()
            .is_some_and(|(_, old)| now.as_secs() < old.expires);
        let trusted = trust.as_ref().is_ok_and(|trusted| *trusted);
        if trusted || !has_valid {
            let same = held
                .as_ref()
                .is_some_and(|(old, _)| old.tls_crt == material.tls_crt);
            if !same {
                self.resolver.publish(&serving);
                self.expiry
                    .set(i64::try_from(serving.expires).unwrap_or(i64::MAX));
                tracing::info!(expires = serving.expires, "serving a new certificate");
            }
            *held = Some((material.clone(), serving.clone()));
            latches.0 = None;
        }
        if !trust? {
            return Ok(Round::Leader);
        }
        latches.1 = None;
        // Nobody waits for warnings, so that what is wrong with these delays nothing: no certificate, no pod.
        if let Err(error) = self
            .trust(Audience::Warnings, &material, &serving, now)
            .await
        {
            tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "there will be no workload warnings"
            );
        }
        Ok(Round::Settled)
    }

    /// Whether this audience's API servers trust `serving`. The leader sees to it that they do.
    async fn trust(
        &self,
        audience: Audience,
        material: &Material,
        serving: &Serving,
        now: UnixTime,
    ) -> Result<bool, AutoError> {
        for _ in 0..ATTEMPTS {
            let Some(seen) = self.store.announced(audience).await? else {
                return Ok(true);
            };
            if seen.holds(&material.ca_crt) {
                return Ok(true);
            }
            if !self.leadership.is_leader() {
                return Ok(seen.trusts(serving, now));
            }
            let announced = self.store.announce(audience, &seen, &material.ca_crt);
            if announced.await? == Written::Yes {
                match audience {
                    Audience::Admission => {
                        tracing::info!("put the caBundle into the webhook configuration");
                    }
                    Audience::Warnings => tracing::info!(
                        "put the caBundle into the configuration of workload warnings"
                    ),
                }
                return Ok(true);
            }
        }
        Err(AutoError::Contention)
    }
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// What is kept is served, and trusted.
    Settled,
    /// Something has to be done that only the leader does.
    Leader,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use keeper_telemetry::Readiness;

    use tokio::sync::watch;

    use super::super::store::{Announced, Announcement, Stored};
    use super::*;
    use crate::leader::{Term, Uptime};

    const DAY: u64 = 86_400;
    const START: u64 = 1_800_000_000;

    fn at(day: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(START + day * DAY))
    }

    fn authority() -> Authority {
        Authority {
            names: Names::of_service("hook", "sec"),
            policy: Policy {
                ca: Duration::from_secs(3650 * DAY),
                certificate: Duration::from_secs(365 * DAY),
            },
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        }
    }

    #[derive(Default)]
    struct State {
        secret: Option<(u64, Option<Material>)>,
        foreign: bool,
        ca_bundle: String,
        ca_bundle_version: u64,
        writes: u32,
        /// Written by somebody else between our read and our next write.
        meanwhile: Option<Material>,
        announced_meanwhile: Option<String>,
        /// Our term, which ends before our next write.
        term: Option<watch::Sender<Term>>,
        refuse_trust: bool,
    }

    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<State>>);

    impl State {
        fn end_term(&mut self) {
            if let Some(term) = self.term.take() {
                term.send_replace(None);
            }
        }

        fn set_bundle(&mut self, ca_crt: String) {
            self.ca_bundle = ca_crt;
            self.ca_bundle_version += 1;
        }

        fn write(&mut self, expected: Option<u64>, new: &Material) -> Written {
            self.end_term();
            if let Some(other) = self.meanwhile.take() {
                let version = self.secret.as_ref().map_or(1, |(version, _)| version + 1);
                self.secret = Some((version, Some(other)));
            }
            let version = self.secret.as_ref().map(|(version, _)| *version);
            if version != expected {
                return Written::Conflict;
            }
            self.secret = Some((version.unwrap_or(0) + 1, Some(new.clone())));
            self.writes += 1;
            Written::Yes
        }
    }

    impl Store for Fake {
        async fn read(&self) -> Result<Option<Stored>, StoreError> {
            tokio::task::yield_now().await;
            let state = self.0.lock().unwrap();
            Ok(state.secret.as_ref().map(|(version, material)| Stored {
                version: version.to_string(),
                content: match material {
                    _ if state.foreign => Content::Foreign,
                    Some(material) => Content::Material(material.clone()),
                    None => Content::Incomplete,
                },
            }))
        }
        async fn create(&self, new: &Material) -> Result<Written, StoreError> {
            tokio::task::yield_now().await;
            Ok(self.0.lock().unwrap().write(None, new))
        }
        async fn replace(&self, version: &str, new: &Material) -> Result<Written, StoreError> {
            Ok(self.0.lock().unwrap().write(version.parse().ok(), new))
        }
        async fn announced(&self, audience: Audience) -> Result<Option<Announced>, StoreError> {
            if audience == Audience::Warnings {
                return Ok(None);
            }
            let state = self.0.lock().unwrap();
            if state.refuse_trust {
                return Err(StoreError::NoConfiguration {
                    kind: "MutatingWebhookConfiguration",
                    name: "keeper-injector".into(),
                });
            }
            Ok(Some(Announced {
                version: state.ca_bundle_version.to_string(),
                webhooks: vec![Announcement {
                    name: "pods.keeper.security".into(),
                    bundle: state.ca_bundle.clone().into(),
                }],
            }))
        }
        async fn announce(
            &self,
            _: Audience,
            seen: &Announced,
            ca_crt: &str,
        ) -> Result<Written, StoreError> {
            let mut state = self.0.lock().unwrap();
            state.end_term();
            if let Some(other) = state.announced_meanwhile.take() {
                state.set_bundle(other);
            }
            if seen.version != state.ca_bundle_version.to_string() {
                return Ok(Written::Conflict);
            }
            state.set_bundle(ca_crt.to_owned());
            Ok(Written::Yes)
        }
    }

    async fn agree(store: &Fake, held: Option<&Material>, day: u64) -> (Material, Serving) {
        let leader = Leadership::always();
        reconcile(store, &authority(), &leader, held, at(day))
            .await
            .unwrap()
            .unwrap()
    }

    #[tokio::test]
    async fn two_replicas_that_start_at_once_agree() {
        let store = Fake::default();
        let (left, right) = tokio::join!(agree(&store, None, 0), agree(&store, None, 0));
        assert!(left.0 == right.0);
        assert_eq!(store.0.lock().unwrap().writes, 1);
        assert_eq!(left.1.expires, START + 365 * DAY);
    }

    #[tokio::test]
    async fn a_renewal_that_lost_the_race_adopts_the_winner() {
        let store = Fake::default();
        let (first, _) = agree(&store, None, 0).await;
        let other = Fake::default();
        other.0.lock().unwrap().secret = Some((7, Some(first.clone())));
        let (winner, _) = agree(&other, None, 300).await;
        assert!(winner.tls_crt != first.tls_crt);
        assert!(winner.ca_crt == first.ca_crt, "the authority stays");

        store.0.lock().unwrap().meanwhile = Some(winner.clone());
        let (adopted, _) = agree(&store, Some(&first), 300).await;
        assert!(adopted == winner);
        assert_eq!(store.0.lock().unwrap().writes, 1);
    }

    #[tokio::test]
    async fn nothing_is_written_while_all_is_well() {
        let store = Fake::default();
        let (first, _) = agree(&store, None, 0).await;
        let (again, _) = agree(&store, Some(&first), 200).await;
        assert!(first == again);
        assert_eq!(store.0.lock().unwrap().writes, 1);
    }

    #[tokio::test]
    async fn through_thirty_years_every_served_certificate_is_trusted() {
        let store = Fake::default();
        let authority = authority();
        let mut held: Option<Material> = None;
        let mut authorities = std::collections::BTreeSet::new();
        for day in (0..30 * 365).step_by(7) {
            let (material, serving) = agree(&store, held.as_ref(), day).await;
            assert!(serving.expires > START + (day + 7) * DAY, "day {day}");
            // A replica or an API server that has not seen this round's change yet.
            if let Some(before) = &held {
                let names = &authority.names;
                let late_replica = Material {
                    ca_crt: material.ca_crt.clone(),
                    ..before.clone()
                };
                late_replica
                    .serving(names, at(day), &authority.provider)
                    .unwrap();
                let late_server = Material {
                    ca_crt: before.ca_crt.clone(),
                    ..material.clone()
                };
                late_server
                    .serving(names, at(day), &authority.provider)
                    .unwrap();
            }
            authorities.insert(material.valid_authorities(at(day)).remove(0));
            held = Some(material);
        }
        assert!(
            (4..=6).contains(&authorities.len()),
            "{}",
            authorities.len()
        );
    }

    #[tokio::test]
    async fn a_deleted_secret_brings_a_new_authority_without_a_gap() {
        let store = Fake::default();
        let (held, _) = agree(&store, None, 0).await;
        store.0.lock().unwrap().secret = None;
        let (made, _) = agree(&store, Some(&held), 1).await;
        assert!(made.tls_crt == held.tls_crt, "still served");
        assert_eq!(made.valid_authorities(at(1)).len(), 2);
        let (after, _) = agree(&store, Some(&made), 2).await;
        assert!(after.tls_crt != held.tls_crt);

        let mut held = after;
        for _ in 0..10 {
            store.0.lock().unwrap().secret = None;
            held = agree(&store, Some(&held), 2).await.0;
        }
        assert!(held.valid_authorities(at(2)).len() <= 5);
    }

    #[tokio::test]
    async fn what_is_unusable_is_replaced() {
        let good = agree(&Fake::default(), None, 0).await.0;
        let elsewhere = Authority {
            names: Names::of_service("other", "sec"),
            ..authority()
        };
        let leader = Leadership::always();
        let other = reconcile(&Fake::default(), &elsewhere, &leader, None, at(0))
            .await
            .unwrap()
            .unwrap()
            .0;
        let broken = [
            None,
            Some(Material {
                tls_crt: "garbage".into(),
                ..good.clone()
            }),
            Some(Material {
                ca_crt: String::new(),
                ..good.clone()
            }),
            Some(Material {
                tls_key: other.tls_key.clone(),
                ..good.clone()
            }),
            Some(Material {
                ca_key: other.ca_key.clone(),
                ..good.clone()
            }),
            Some(Material {
                ca_crt: other.ca_crt.clone(),
                ..good.clone()
            }),
            Some(other),
        ];
        for (i, material) in broken.into_iter().enumerate() {
            let store = Fake::default();
            store.0.lock().unwrap().secret = Some((3, material));
            let (made, serving) = agree(&store, None, 0).await;
            serving.check_names(&authority().names).unwrap();
            assert_eq!(store.0.lock().unwrap().writes, 1, "case {i}");
            assert!(
                store.0.lock().unwrap().secret == Some((4, Some(made))),
                "case {i}"
            );
        }
    }

    #[tokio::test]
    async fn an_expired_certificate_is_replaced() {
        let store = Fake::default();
        let (first, _) = agree(&store, None, 0).await;
        let (made, serving) = agree(&store, Some(&first), 400).await;
        assert!(made.tls_crt != first.tls_crt);
        assert_eq!(serving.expires, START + 765 * DAY);
    }

    #[tokio::test]
    async fn what_others_wrote_is_left_alone() {
        let store = Fake::default();
        store.0.lock().unwrap().secret = Some((1, None));
        store.0.lock().unwrap().foreign = true;
        let leader = Leadership::always();
        let refused = reconcile(&store, &authority(), &leader, None, at(0)).await;
        assert!(matches!(refused, Err(AutoError::Foreign)));
        assert_eq!(store.0.lock().unwrap().writes, 0);
    }

    fn running(
        store: &Fake,
        leadership: Leadership,
    ) -> (Auto<Fake>, Arc<Resolver>, Arc<Notify>, IntGauge) {
        let (resolver, changed) = (Arc::new(Resolver::default()), Arc::new(Notify::new()));
        let expiry = IntGauge::new("expiry", "x").unwrap();
        let auto = Auto {
            store: store.clone(),
            authority: authority(),
            leadership,
            resolver: Arc::clone(&resolver),
            expiry: expiry.clone(),
            changed: Arc::clone(&changed),
        };
        (auto, resolver, changed, expiry)
    }

    async fn until(condition: impl Fn() -> bool) {
        // Paused time: each sleep lets the loop take its next turn at once.
        for _ in 0..1000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        panic!("the condition was not met");
    }

    #[tokio::test(start_paused = true)]
    async fn ready_when_a_certificate_is_served_and_trusted() {
        let store = Fake::default();
        store.0.lock().unwrap().refuse_trust = true;
        let (auto, _, _, expiry) = running(&store, Leadership::always());
        let readiness = Readiness::new();
        let latches = (readiness.latch("certificate"), readiness.latch("caBundle"));
        let task = tokio::spawn(auto.run(latches.0, latches.1));
        until(|| readiness.pending() == ["caBundle"]).await;
        assert!(expiry.get() > 0);
        store.0.lock().unwrap().refuse_trust = false;
        until(|| readiness.is_ready()).await;
        let ca_crt = store.0.lock().unwrap().ca_bundle.clone();
        assert!(ca_crt.starts_with("-----BEGIN CERTIFICATE-----"));

        // Somebody empties the caBundle: it comes back.
        store.0.lock().unwrap().set_bundle(String::new());
        until(|| store.0.lock().unwrap().ca_bundle == ca_crt).await;
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_is_not_trusted_yet_does_not_replace_a_good_one() {
        let store = Fake::default();
        let (auto, resolver, changed, _) = running(&store, Leadership::always());
        let readiness = Readiness::new();
        let task = tokio::spawn(auto.run(readiness.latch("a"), readiness.latch("b")));
        until(|| readiness.is_ready()).await;
        let served = || resolver.current_chain();
        let first = served();

        // Another replica renewed, but the API server does not take the caBundle.
        let now = unix(SystemTime::now());
        let renewed =
            issue::start(&authority().names, &authority().policy, Vec::new(), now).unwrap();
        {
            let mut state = store.0.lock().unwrap();
            state.refuse_trust = true;
            state.secret = Some((9, Some(renewed)));
        }
        changed.notify_one();
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(served() == first);
        store.0.lock().unwrap().refuse_trust = false;
        until(|| served() != first).await;
        task.abort();
    }

    fn follower() -> (watch::Sender<Term>, Leadership) {
        let (term, told) = watch::channel(None);
        (term, Leadership::elected(told))
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_waits_for_the_leader_and_writes_nothing() {
        let store = Fake::default();
        let (term, leadership) = follower();
        let (auto, resolver, _, _) = running(&store, leadership);
        let readiness = Readiness::new();
        let task = tokio::spawn(auto.run(readiness.latch("certificate"), readiness.latch("trust")));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(readiness.pending(), ["certificate", "trust"]);
        assert!(resolver.current().is_none());

        // The leader wrote the Secret, but not the caBundle yet.
        let now = unix(SystemTime::now());
        let make = || issue::start(&authority().names, &authority().policy, Vec::new(), now);
        let first = make().unwrap();
        store.0.lock().unwrap().secret = Some((1, Some(first.clone())));
        until(|| readiness.pending() == ["trust"]).await;
        store.0.lock().unwrap().set_bundle(first.ca_crt.clone());
        until(|| readiness.is_ready()).await;

        // Another authority and certificate at once: served as soon as it is trusted, and no sooner.
        let served = resolver.current_chain();
        let second = make().unwrap();
        store.0.lock().unwrap().secret = Some((2, Some(second.clone())));
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert!(resolver.current_chain() == served);
        let both = second.ca_crt.clone() + &first.ca_crt;
        store.0.lock().unwrap().set_bundle(both.clone());
        until(|| resolver.current_chain() != served).await;
        {
            let state = store.0.lock().unwrap();
            assert_eq!((state.writes, state.ca_bundle_version), (0, 2));
        }

        // As soon as it leads, it puts right what is left.
        term.send_replace(Some(Uptime(Duration::MAX)));
        until(|| store.0.lock().unwrap().ca_bundle == second.ca_crt).await;
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_what_is_there_is_served() {
        let store = Fake::default();
        let (made, _) = agree(&store, None, 0).await;
        store.0.lock().unwrap().set_bundle(made.ca_crt.clone());
        let (_term, leadership) = follower();
        // Due for renewal, but good for 65 days.
        let adopted = reconcile(&store, &authority(), &leadership, None, at(300)).await;
        assert!(adopted.unwrap().unwrap().0 == made);
        // Nothing that could be served.
        let none = reconcile(&store, &authority(), &leadership, None, at(366)).await;
        assert!(none.unwrap().is_none());
        assert_eq!(store.0.lock().unwrap().writes, 1);
    }

    /// A leader that is stopped between its check and its write for longer than its term, while another one writes.
    #[tokio::test]
    async fn a_late_write_of_a_former_leader_is_refused() {
        let old = agree(&Fake::default(), None, 0).await.0;
        let other = Fake::default();
        other.0.lock().unwrap().secret = Some((7, Some(old.clone())));
        let successor = agree(&other, None, 300).await.0;
        let (term, leadership) = follower();
        let paused = |store: &Fake| {
            term.send_replace(Some(Uptime(Duration::MAX)));
            store.0.lock().unwrap().term = Some(term.clone());
        };

        let store = Fake::default();
        store.0.lock().unwrap().secret = Some((7, Some(old)));
        store.0.lock().unwrap().meanwhile = Some(successor.clone());
        paused(&store);
        let agreed = reconcile(&store, &authority(), &leadership, None, at(300)).await;
        let (material, serving) = agreed.unwrap().unwrap();
        assert!(material == successor);
        assert_eq!(store.0.lock().unwrap().writes, 0);

        store.0.lock().unwrap().announced_meanwhile = Some("by its successor".into());
        paused(&store);
        let (auto, ..) = running(&store, leadership.clone());
        let trusted = auto
            .trust(Audience::Admission, &material, &serving, at(300))
            .await;
        assert!(!trusted.unwrap());
        assert_eq!(store.0.lock().unwrap().ca_bundle, "by its successor");
    }

    impl Resolver {
        fn current_chain(&self) -> Vec<rustls_pki_types::CertificateDer<'static>> {
            self.current()
                .map(|key| key.cert.clone())
                .unwrap_or_default()
        }
    }
}
