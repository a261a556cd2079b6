//! The loop against a store without an API server, in virtual time.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use keeper_telemetry::Readiness;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::super::material::authorities;
use super::super::store::{Announcement, Stored};
use super::super::{Names, Policy, issue};
use super::*;
use crate::leader::{Term, Uptime};

const DAY: u64 = 86_400;
const START: u64 = 1_800_000_000;

const USUAL: Policy = Policy {
    ca: Duration::from_secs(3650 * DAY),
    certificate: Duration::from_secs(365 * DAY),
};

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * DAY)
}

fn names() -> Names {
    Names::of_service("hook", "sec")
}

fn at(after: Duration) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(START) + after)
}

/// A Secret's content, made at this time.
fn made(after: Duration) -> Material {
    issue::start(&names(), &USUAL, Vec::new(), at(after)).unwrap()
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
    watches: Vec<Arc<Notify>>,
}

impl State {
    fn end_term(&mut self) {
        if let Some(term) = self.term.take() {
            term.send_replace(None);
        }
    }

    fn tell(&self) {
        self.watches.iter().for_each(|watch| watch.notify_one());
    }

    fn set_bundle(&mut self, ca_crt: &str) {
        self.ca_bundle = ca_crt.to_owned();
        self.ca_bundle_version += 1;
        self.tell();
    }

    fn set_secret(&mut self, content: Option<Material>) {
        let version = self.secret.as_ref().map_or(0, |(version, _)| *version);
        self.secret = Some((version + 1, content));
        self.tell();
    }

    fn write(&mut self, expected: Option<u64>, new: &Material) -> Written {
        self.end_term();
        if let Some(other) = self.meanwhile.take() {
            self.set_secret(Some(other));
        }
        if self.secret.as_ref().map(|(version, _)| *version) != expected {
            return Written::Conflict;
        }
        self.set_secret(Some(new.clone()));
        self.writes += 1;
        Written::Yes
    }

    fn kept(&self) -> Material {
        self.secret.as_ref().unwrap().1.clone().unwrap()
    }
}

/// A store, and what time it is.
#[derive(Clone)]
struct World {
    state: Arc<Mutex<State>>,
    epoch: Instant,
}

impl Store for World {
    async fn read(&self) -> Result<Option<Stored>, StoreError> {
        tokio::task::yield_now().await;
        let state = self.state();
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
        Ok(self.state().write(None, new))
    }
    async fn replace(&self, version: &str, new: &Material) -> Result<Written, StoreError> {
        Ok(self.state().write(version.parse().ok(), new))
    }
    async fn announced(&self, audience: Audience) -> Result<Option<Announced>, StoreError> {
        if audience == Audience::Warnings {
            return Ok(None);
        }
        let state = self.state();
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
        let mut state = self.state();
        state.end_term();
        if let Some(other) = state.announced_meanwhile.take() {
            state.set_bundle(&other);
        }
        if seen.version != state.ca_bundle_version.to_string() {
            return Ok(Written::Conflict);
        }
        state.set_bundle(ca_crt);
        Ok(Written::Yes)
    }
}

/// A replica whose rounds the test takes one by one.
struct Replica {
    auto: Auto<World>,
    memory: Memory,
    latches: (Option<Latch>, Option<Latch>),
    /// What its clock is ahead, in seconds.
    skew: Arc<AtomicI64>,
}

/// A replica that runs.
struct Running {
    task: JoinHandle<()>,
    resolver: Arc<Resolver>,
    readiness: Readiness,
    expiry: IntGauge,
}

impl World {
    fn new() -> Self {
        Self {
            state: Arc::default(),
            epoch: Instant::now(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now(&self) -> UnixTime {
        at(self.epoch.elapsed())
    }

    fn replica(&self, policy: Policy, leadership: Leadership) -> Replica {
        let (skew, epoch) = (Arc::new(AtomicI64::new(0)), self.epoch);
        let of_clock = Arc::clone(&skew);
        let clock = move || {
            let ahead = of_clock.load(Ordering::Relaxed);
            let seconds = at(epoch.elapsed()).as_secs().strict_add_signed(ahead);
            UnixTime::since_unix_epoch(Duration::from_secs(seconds))
        };
        let auto = Auto {
            store: self.clone(),
            authority: Authority {
                names: names(),
                policy,
                provider: Arc::new(rustls::crypto::ring::default_provider()),
            },
            leadership,
            resolver: Arc::default(),
            expiry: IntGauge::new("expiry", "x").unwrap(),
            changed: Arc::default(),
            clock: Box::new(clock),
        };
        Replica {
            auto,
            memory: Memory::default(),
            latches: (None, None),
            skew,
        }
    }

    /// The only one, or one of those without an election.
    fn leader(&self) -> Replica {
        self.replica(USUAL, Leadership::always())
    }

    fn run(&self, policy: Policy, leadership: Leadership) -> Running {
        let auto = self.replica(policy, leadership).auto;
        let (resolver, expiry) = (Arc::clone(&auto.resolver), auto.expiry.clone());
        self.state().watches.push(Arc::clone(&auto.changed));
        let readiness = Readiness::new();
        let latches = (readiness.latch("certificate"), readiness.latch("trust"));
        let task = tokio::spawn(auto.run(latches.0, latches.1));
        Running {
            task,
            resolver,
            readiness,
            expiry,
        }
    }
}

impl Replica {
    async fn round(&mut self) {
        let round = self.auto.round(&mut self.memory, &mut self.latches).await;
        assert_eq!(round.unwrap(), Round::Settled);
    }

    fn held(&self) -> &Material {
        &self.memory.held.as_ref().unwrap().0
    }

    fn expires(&self) -> u64 {
        self.memory.held.as_ref().unwrap().1.expires
    }

    fn served(&self) -> Vec<CertificateDer<'static>> {
        self.auto.resolver.current_chain()
    }

    /// Whether an API server with this `caBundle` accepts what is served.
    fn accepted(&self, bundle: &str, now: UnixTime) -> bool {
        accepted(&self.auto.resolver, bundle, now)
    }
}

impl Resolver {
    fn current_chain(&self) -> Vec<CertificateDer<'static>> {
        self.current()
            .map(|key| key.cert.clone())
            .unwrap_or_default()
    }
}

fn accepted(resolver: &Resolver, bundle: &str, now: UnixTime) -> bool {
    let serving = Serving {
        key: resolver.current().unwrap(),
        expires: 0,
    };
    serving.check_names(&names()).unwrap();
    serving
        .check_chain(&authorities(bundle.as_bytes()), now)
        .is_ok()
}

fn follower() -> (watch::Sender<Term>, Leadership) {
    let (term, told) = watch::channel(None);
    (term, Leadership::elected(told))
}

async fn until(condition: impl Fn() -> bool) {
    // Paused time: each sleep lets the loops take their next turns at once.
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("the condition was not met");
}

#[tokio::test(start_paused = true)]
async fn two_replicas_that_start_at_once_agree() {
    let world = World::new();
    let (mut left, mut right) = (world.leader(), world.leader());
    tokio::join!(left.round(), right.round());
    assert!(left.held() == right.held());
    assert_eq!(world.state().writes, 1);
    assert_eq!(left.expires(), START + 365 * DAY);
    assert_eq!(left.auto.expiry.get() as u64, left.expires());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_lost_the_race_adopts_the_winner() {
    let world = World::new();
    let mut replica = world.leader();
    replica.round().await;
    let first = replica.held().clone();
    tokio::time::advance(days(300)).await;
    let (policy, now) = (USUAL, world.now());
    let validity = first
        .inspect(&names(), now, &rustls::crypto::ring::default_provider())
        .authority
        .unwrap();
    let winner = issue::renew_serving(&first, validity, &names(), &policy, now).unwrap();
    world.state().meanwhile = Some(winner.clone());
    replica.round().await;
    assert!(replica.held() == &winner);
    assert_eq!(world.state().writes, 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_while_all_is_well() {
    let world = World::new();
    let mut replica = world.leader();
    replica.round().await;
    let first = replica.held().clone();
    tokio::time::advance(days(200)).await;
    replica.round().await;
    assert!(replica.held() == &first);
    let state = world.state();
    assert_eq!((state.writes, state.ca_bundle_version), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn through_thirty_years_replicas_and_api_servers_may_lag_a_week() {
    let world = World::new();
    let (mut replica, mut late) = (world.leader(), world.leader());
    let mut signed = BTreeSet::new();
    let mut late_bundle = String::new();
    for week in 0..30 * 52 {
        replica.round().await;
        let now = world.now();
        assert!(replica.expires() > now.as_secs() + 7 * DAY, "week {week}");
        let bundle = world.state().ca_bundle.clone();
        if week > 0 {
            assert!(replica.accepted(&late_bundle, now), "week {week}");
            assert!(late.accepted(&bundle, now), "week {week}");
        }
        signed.insert(replica.held().current_authority().unwrap().to_vec());
        tokio::time::advance(days(7)).await;
        // Sees this week's state only now.
        let last = world.state().kept();
        late.memory.held = Some((last.clone(), replica.memory.held.clone().unwrap().1));
        late.auto
            .resolver
            .publish(&replica.memory.held.as_ref().unwrap().1);
        late_bundle = bundle;
    }
    assert!((4..=6).contains(&signed.len()), "{}", signed.len());
    let trusted = authorities(world.state().ca_bundle.as_bytes()).len();
    assert!(trusted <= 2, "{trusted} authorities are trusted in the end");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_secret_brings_a_new_authority_without_a_gap() {
    let world = World::new();
    let mut replica = world.leader();
    replica.round().await;
    let first = replica.served();
    tokio::time::advance(days(1)).await;
    // However often it is deleted, only one other is announced.
    for _ in 0..10 {
        world.state().secret = None;
        replica.round().await;
        assert!(replica.served() == first, "still served");
        assert_eq!(authorities(world.state().ca_bundle.as_bytes()).len(), 2);
    }
    tokio::time::advance(Duration::from_secs(599)).await;
    replica.round().await;
    assert!(
        replica.served() == first,
        "not every API server may know it"
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    replica.round().await;
    assert!(replica.served() != first);
    let bundle = world.state().ca_bundle.clone();
    assert_eq!(authorities(bundle.as_bytes()).len(), 2, "replicas may lag");
    assert!(replica.accepted(&bundle, world.now()));
}

/// Whatever somebody makes of the Secret: what is served goes on being trusted, and what comes is served when it has been
/// trusted for a while.
#[tokio::test(start_paused = true)]
async fn an_edited_secret_fails_no_handshake() {
    let good = made(Duration::ZERO);
    let theirs = made(Duration::ZERO);
    let edits = [
        Some(theirs.clone()),
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
            ca_crt: theirs.ca_crt.clone(),
            ..good.clone()
        }),
        Some(Material {
            tls_key: theirs.tls_key.clone(),
            ..good.clone()
        }),
        Some(Material {
            ca_key: theirs.ca_key.clone(),
            ..good.clone()
        }),
        Some(Material {
            ca_crt: theirs.ca_crt.clone(),
            ca_key: theirs.ca_key.clone(),
            ..good.clone()
        }),
    ];
    for (i, edit) in edits.into_iter().enumerate() {
        let world = World::new();
        world.state().set_secret(Some(good.clone()));
        let (mut leader, mut late) = (world.leader(), world.replica(USUAL, follower().1));
        leader.round().await;
        late.round().await;
        let first = leader.served();
        world.state().set_secret(edit);
        for minute in 0..30 {
            let known = world.state().ca_bundle.clone();
            tokio::time::advance(Duration::from_secs(60)).await;
            leader.round().await;
            let (now, bundle) = (world.now(), world.state().ca_bundle.clone());
            for replica in [&leader, &late] {
                let accepts = |bundle| replica.accepted(bundle, now);
                assert!(
                    accepts(&known) && accepts(&bundle),
                    "case {i}, minute {minute}"
                );
            }
        }
        assert!(
            leader
                .held()
                .serving(&names(), world.now(), &leader.auto.authority.provider)
                .is_ok()
        );
        assert!(world.state().kept() == *leader.held(), "case {i} settles");
        late.round().await;
        tokio::time::advance(USUAL.overlap()).await;
        late.round().await;
        assert!(late.served() == leader.served(), "case {i}");
        // Only where nothing but the serving certificate was damaged, it may be another by the same authority.
        assert!(leader.served() != first || i == 6, "case {i}");
        let writes = world.state().writes;
        leader.round().await;
        assert_eq!(world.state().writes, writes, "case {i}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_unusable_at_the_start_is_replaced() {
    let good = made(Duration::ZERO);
    let elsewhere = issue::start(
        &Names::of_service("other", "sec"),
        &USUAL,
        Vec::new(),
        at(Duration::ZERO),
    );
    let garbage = Material {
        tls_crt: "garbage".into(),
        ca_crt: "garbage".into(),
        ..good.clone()
    };
    for (i, material) in [None, Some(elsewhere.unwrap()), Some(garbage)]
        .into_iter()
        .enumerate()
    {
        let world = World::new();
        world.state().set_secret(material);
        let mut replica = world.leader();
        replica.round().await;
        replica
            .memory
            .held
            .as_ref()
            .unwrap()
            .1
            .check_names(&names())
            .unwrap();
        assert_eq!(world.state().writes, 1, "case {i}");
        assert!(world.state().kept() == *replica.held(), "case {i}");
    }
}

/// A leader that has just started, and doesn't find what the others serve: nor does it take their authority away.
#[tokio::test(start_paused = true)]
async fn a_new_leader_without_a_secret_keeps_what_api_servers_trust() {
    for lost in [true, false] {
        let world = World::new();
        let mut old = world.leader();
        old.round().await;
        world.state().secret = None;
        if !lost {
            world.state().set_secret(Some(made(Duration::ZERO)));
        }
        let mut new = world.leader();
        new.round().await;
        assert!(new.served() != old.served());
        let bundle = world.state().ca_bundle.clone();
        assert!(new.accepted(&bundle, world.now()));
        assert!(old.accepted(&bundle, world.now()), "secret lost: {lost}");
        // What somebody wrote into it is not taken over for that.
        world
            .state()
            .set_bundle(&(bundle.clone() + &made(Duration::ZERO).ca_crt));
        let mut restarted = world.leader();
        restarted.round().await;
        assert_eq!(world.state().ca_bundle, bundle);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_certificate_is_replaced() {
    let world = World::new();
    let mut replica = world.leader();
    replica.round().await;
    let first = replica.served();
    tokio::time::advance(days(400)).await;
    replica.round().await;
    assert!(replica.served() != first);
    assert_eq!(replica.expires(), START + 765 * DAY);
}

/// A clock that is set for a while does no harm to the others, nor for longer than it is wrong.
#[tokio::test(start_paused = true)]
async fn clock_steps_are_survived() {
    for step in [-2, -400, 2, 250, 400, 5000].map(|days| days * 86_400) {
        let world = World::new();
        let (mut leader, mut other) = (world.leader(), world.replica(USUAL, follower().1));
        leader.round().await;
        other.round().await;
        for seconds in [step, 0] {
            leader.skew.store(seconds, Ordering::Relaxed);
            for _ in 0..30 {
                tokio::time::advance(Duration::from_secs(60)).await;
                // Its errors are its own.
                let (memory, latches) = (&mut leader.memory, &mut leader.latches);
                let _ = leader.auto.round(memory, latches).await;
                let (memory, latches) = (&mut other.memory, &mut other.latches);
                let _ = other.auto.round(memory, latches).await;
                let bundle = world.state().ca_bundle.clone();
                assert!(other.accepted(&bundle, world.now()), "{step}, {seconds}");
            }
        }
        let bundle = world.state().ca_bundle.clone();
        assert!(leader.accepted(&bundle, world.now()), "{step}");
        assert!(leader.served() == other.served(), "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_is_left_alone() {
    let world = World::new();
    world.state().set_secret(None);
    world.state().foreign = true;
    let mut replica = world.leader();
    let (memory, latches) = (&mut replica.memory, &mut replica.latches);
    let refused = replica.auto.round(memory, latches).await;
    assert!(matches!(refused, Err(AutoError::Foreign)));
    assert_eq!(world.state().writes, 0);
}

#[tokio::test(start_paused = true)]
async fn ready_when_a_certificate_is_served_and_trusted() {
    let world = World::new();
    world.state().refuse_trust = true;
    let replica = world.run(USUAL, Leadership::always());
    until(|| replica.readiness.pending() == ["trust"]).await;
    assert!(replica.expiry.get() > 0);
    world.state().refuse_trust = false;
    until(|| replica.readiness.is_ready()).await;
    let ca_crt = world.state().ca_bundle.clone();
    assert!(ca_crt.starts_with("-----BEGIN CERTIFICATE-----"));

    // Somebody empties the caBundle, or adds to it: it comes back, and at once, since a watch tells.
    for bundle in [String::new(), made(Duration::ZERO).ca_crt + &ca_crt] {
        world.state().set_bundle(&bundle);
        tokio::time::sleep(PAUSE * 2).await;
        assert!(world.state().ca_bundle == ca_crt);
    }
    replica.task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_trusted_yet_does_not_replace_a_good_one() {
    let world = World::new();
    let replica = world.run(USUAL, Leadership::always());
    until(|| replica.readiness.is_ready()).await;
    let served = || replica.resolver.current_chain();
    let first = served();

    // Another Secret, but the API server does not take the caBundle.
    world.state().refuse_trust = true;
    world.state().set_secret(Some(made(Duration::ZERO)));
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(served() == first);
    world.state().refuse_trust = false;
    until(|| authorities(world.state().ca_bundle.as_bytes()).len() == 2).await;
    assert!(served() == first);
    until(|| served() != first).await;
    replica.task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_the_leader_and_writes_nothing() {
    let world = World::new();
    let (term, leadership) = follower();
    let replica = world.run(USUAL, leadership);
    let served = || replica.resolver.current_chain();
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(replica.readiness.pending(), ["certificate", "trust"]);
    assert!(served().is_empty());

    // The leader wrote the Secret, but not the caBundle yet.
    let (first, second) = (made(Duration::ZERO), made(Duration::ZERO));
    world.state().set_secret(Some(first.clone()));
    until(|| replica.readiness.pending() == ["trust"]).await;
    world.state().set_bundle(&first.ca_crt);
    until(|| replica.readiness.is_ready()).await;

    // Another authority and certificate at once: served when it has been trusted for the overlap, and no sooner.
    let old = served();
    world.state().set_secret(Some(second.clone()));
    tokio::time::sleep(Duration::from_secs(700)).await;
    assert!(served() == old);
    let both = second.ca_crt.clone() + &first.ca_crt;
    world.state().set_bundle(&both);
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert!(served() == old);
    until(|| served() != old).await;
    // But at once where that is the only one that is trusted.
    let new = served();
    world.state().set_secret(Some(first.clone()));
    world.state().set_bundle(&first.ca_crt);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(served() == old && served() != new);
    assert_eq!(world.state().writes, 0);
    assert!(world.state().ca_bundle == first.ca_crt);

    // As soon as it leads, it puts right what is left.
    world.state().set_bundle("");
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(world.state().ca_bundle, "");
    term.send_replace(Some(Uptime(Duration::MAX)));
    until(|| world.state().ca_bundle == first.ca_crt).await;
    replica.task.abort();
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_what_is_there_is_served() {
    let world = World::new();
    world.leader().round().await;
    let (_term, leadership) = follower();
    // Due for renewal, but good for 65 days.
    tokio::time::advance(days(300)).await;
    let mut replica = world.replica(USUAL, leadership.clone());
    replica.round().await;
    assert!(*replica.held() == world.state().kept());
    // Nothing that could be served.
    tokio::time::advance(days(66)).await;
    let mut replica = world.replica(USUAL, leadership);
    let (memory, latches) = (&mut replica.memory, &mut replica.latches);
    let round = replica.auto.round(memory, latches).await;
    assert_eq!(round.unwrap(), Round::Leader);
    assert!(replica.served().is_empty());
    assert_eq!(world.state().writes, 1);
}

/// A leader that is stopped between its check and its write for longer than its term, while another one writes.
#[tokio::test(start_paused = true)]
async fn a_late_write_of_a_former_leader_is_refused() {
    let world = World::new();
    let (term, leadership) = follower();
    term.send_replace(Some(Uptime(Duration::MAX)));
    let mut replica = world.replica(USUAL, leadership.clone());
    replica.round().await;

    // Before the Secret.
    world.state().secret = None;
    let successor = made(Duration::ZERO);
    world.state().meanwhile = Some(successor.clone());
    world.state().term = Some(term.clone());
    let (memory, latches) = (&mut replica.memory, &mut replica.latches);
    let _ = replica.auto.round(memory, latches).await.unwrap();
    assert!(world.state().kept() == successor);
    assert_eq!(world.state().writes, 1);

    // Between the Secret and the caBundle.
    let world = World::new();
    world.state().set_secret(Some(made(Duration::ZERO)));
    term.send_replace(Some(Uptime(Duration::MAX)));
    let mut replica = world.replica(USUAL, leadership);
    world.state().announced_meanwhile = Some(successor.ca_crt.clone());
    world.state().term = Some(term);
    let (memory, latches) = (&mut replica.memory, &mut replica.latches);
    let round = replica.auto.round(memory, latches).await;
    assert_eq!(round.unwrap(), Round::Leader);
    assert!(world.state().ca_bundle == successor.ca_crt);
}

/// Three replicas, one of which nobody tells of changes, and leaders that change; API servers one of which lags; the Secret is
/// deleted and damaged now and then. At no time would one of the servers refuse one of the replicas.
#[tokio::test(start_paused = true)]
async fn a_hundred_renewals_and_rotations_fail_no_handshake() {
    const TICK: Duration = Duration::from_millis(100);
    /// Less than the overlap.
    const LAG: usize = 8;
    let seconds = Duration::from_secs;
    let policy = Policy::new(seconds(45), seconds(10)).unwrap();
    assert_eq!(policy.overlap(), seconds(1));
    let world = World::new();
    let terms: Vec<_> = (0..3).map(|_| follower()).collect();
    let lead = |leader: usize| {
        for (i, (term, _)) in terms.iter().enumerate() {
            term.send_replace((i == leader).then_some(Uptime(Duration::MAX)));
        }
    };
    let replicas: Vec<_> = terms
        .iter()
        .map(|(_, leadership)| world.run(policy, leadership.clone()))
        .collect();
    world.state().watches.truncate(2);
    lead(0);
    until(|| replicas.iter().all(|replica| replica.readiness.is_ready())).await;

    let mut bundles = VecDeque::from([world.state().ca_bundle.clone()]);
    let mut verified: HashMap<(Vec<u8>, String), u64> = HashMap::new();
    let (mut served, mut signers) = (BTreeSet::new(), BTreeSet::new());
    let mut renewals = 0;
    while renewals < 100 {
        tokio::time::sleep(TICK).await;
        let now = world.now();
        bundles.push_front(world.state().ca_bundle.clone());
        bundles.truncate(LAG);
        for (i, replica) in replicas.iter().enumerate() {
            let chain = replica.resolver.current_chain();
            for bundle in [&bundles[0], &bundles[bundles.len() - 1]] {
                // Once a second is enough for the same pair.
                let last = verified.insert((chain[0].to_vec(), bundle.clone()), now.as_secs());
                if last != Some(now.as_secs()) {
                    let accepted = accepted(&replica.resolver, bundle, now);
                    assert!(accepted, "replica {i} after {renewals} renewals");
                }
            }
        }
        let kept = world
            .state()
            .secret
            .as_ref()
            .and_then(|(_, kept)| kept.clone());
        let Some(kept) = kept else { continue };
        signers.insert(kept.current_authority().unwrap().to_vec());
        if !served.insert(replicas[0].resolver.current_chain()[0].to_vec()) {
            continue;
        }
        renewals += 1;
        match renewals % 20 {
            3 => lead(renewals % 3),
            7 => world.state().secret = None,
            11 => world.state().set_secret(None),
            15 => {
                let tls_crt = "garbage".into();
                world.state().set_secret(Some(Material { tls_crt, ..kept }));
            }
            _ => {}
        }
    }
    assert!(signers.len() >= 20, "{} authorities", signers.len());
    for replica in replicas {
        let expires = u64::try_from(replica.expiry.get()).unwrap();
        let now = world.now().as_secs();
        assert!((now..=now + 10).contains(&expires), "{expires} at {now}");
        replica.task.abort();
    }
}
