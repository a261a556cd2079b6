//! Which replica acts on the cluster. All of them answer admissions; what must be done once is done by the leader.
//!
//! The election is that of client-go ([`election`]), on a Lease ([`lease`]). It is written here because the crates that were there
//! for it (kubert, kube-leader-election, kube-lease-manager, kube-coordinate) judge by the wall times of two machines, or by
//! a clock that a suspended node stops.
//!
//! The order in which a leader acts makes a late write of a former one harmless: read, ask [`Leadership::is_leader`], then
//! write on condition that what was read still stands. However long it was paused in between, a successor
//! that has written meanwhile is not overwritten.

mod clock;
mod election;
mod elector;
mod lease;
#[cfg(test)]
mod simulation;
mod traffic;

use std::fmt;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Registry};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

pub(crate) use self::clock::Uptime;
use self::clock::{Clock, System};
use self::elector::Elector;
use self::lease::KubeLease;
use self::traffic::{KubePods, Traffic};
use crate::cli::LeaderElection;

pub(crate) use self::election::Timing;
use self::election::TimingError;

/// Whether this replica is the leader. Clones share it.
#[derive(Clone)]
pub(crate) struct Leadership(Option<(watch::Receiver<Term>, Clock)>);

/// Until when this replica may act as the leader, if at all.
pub(crate) type Term = Option<Uptime>;

impl Leadership {
    /// Where there is no election every replica acts, each write on condition that no other one was faster.
    pub(crate) fn always() -> Self {
        Self(None)
    }

    /// What an election tells, by another clock than this machine's.
    fn by_clock(term: watch::Receiver<Term>, clock: Clock) -> Self {
        Self(Some((term, clock)))
    }

    /// What a test tells.
    #[cfg(test)]
    pub(crate) fn elected(term: watch::Receiver<Term>) -> Self {
        Self::by_clock(term, Arc::new(System))
    }

    /// Whether this replica may act now. True is true at this instant only: ask between reading and writing.
    pub(crate) fn is_leader(&self) -> bool {
        match &self.0 {
            None => true,
            Some((term, clock)) => term.borrow().is_some_and(|until| clock.uptime() < until),
        }
    }

    /// Completes when this replica may have become the leader, or may have ceased to be it.
    pub(crate) async fn changed(&mut self) {
        let told = match &mut self.0 {
            Some((term, _)) => term.changed().await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending().await
        }
    }

    /// Shows it as a metric.
    ///
    /// # Errors
    /// If there is one of this name.
    pub(crate) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let gauge = IntGauge::new(
            "keeper_injector_leader",
            "1 where this replica may act as the leader; without an election each may.",
        )?;
        registry.register(Box::new(Gauge {
            leadership: self.clone(),
            gauge,
        }))
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leadership")
            .field(&self.is_leader())
            .finish()
    }
}

/// Asks when it is asked: a term ends without anybody doing something.
struct Gauge {
    leadership: Leadership,
    gauge: IntGauge,
}

impl Collector for Gauge {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(self.leadership.is_leader().into());
        self.gauge.collect()
    }
}

impl Timing {
    /// That of the command line.
    ///
    /// # Errors
    /// If the durations don't fit each other.
    pub(crate) fn of(options: &LeaderElection) -> Result<Self, TimingError> {
        Self::new(
            options.lease_duration_seconds,
            options.renew_deadline_seconds,
            options.retry_period_seconds,
        )
    }
}

/// Makes this replica a candidate, in the background, until it is asked to hand over.
pub(crate) fn start(
    options: &LeaderElection,
    timing: Timing,
    client: kube::Client,
    namespace: &str,
    background: &mut JoinSet<()>,
) -> (Leadership, HandOver) {
    let name = options.pod_name.as_deref();
    // A container that was restarted is another candidate.
    let identity = format!(
        "{}_{:016x}",
        name.unwrap_or("keeper-webhook"),
        fastrand::u64(..)
    );
    let lease = KubeLease::new(client.clone(), namespace, &options.lease_name);
    let (elector, leadership) = Elector::new(lease, identity, timing, Arc::new(System));
    let (resign, resigned) = oneshot::channel::<()>();
    background.spawn(elector.run(async {
        let _ = resigned.await;
    }));
    let traffic = name.filter(|_| options.traffic_to_leader_only).map(|name| {
        let pods = KubePods::new(client, namespace, name);
        Traffic::new(pods, leadership.clone())
    });
    if let Some(traffic) = &traffic {
        background.spawn(traffic.clone().keep());
    }
    (leadership, HandOver { resign, traffic })
}

/// What is left to do before this replica ends.
pub(crate) struct HandOver {
    /// Dropped to resign.
    resign: oneshot::Sender<()>,
    traffic: Option<Traffic<KubePods>>,
}

impl HandOver {
    /// Lets another replica lead; completes when admissions need not come here any more.
    pub(crate) async fn run(self) {
        drop(self.resign);
        if let Some(traffic) = self.traffic {
            traffic.handed_over().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;

    use super::clock::Time as _;
    use super::*;

    #[test]
    fn a_term_ends_by_itself() {
        assert!(Leadership::always().is_leader());
        let (term, told) = watch::channel(None);
        let leadership = Leadership::elected(told);
        let registry = Registry::new();
        leadership.register(&registry).unwrap();
        let metric = || {
            TextEncoder::new()
                .encode_to_string(&registry.gather())
                .unwrap()
        };
        assert!(!leadership.is_leader());
        term.send_replace(Some(System.uptime().after(Duration::from_secs(3600))));
        assert!(leadership.is_leader());
        assert!(
            metric().ends_with("keeper_injector_leader 1\n"),
            "{}",
            metric()
        );
        term.send_replace(Some(System.uptime()));
        assert!(!leadership.is_leader(), "nobody had to say so");
        assert!(
            metric().ends_with("keeper_injector_leader 0\n"),
            "{}",
            metric()
        );
    }
}
