//! The loop of one candidate: look, claim or renew, tell, wait; until it is to resign.

use std::future::{Future, pending};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::clock::Clock;
use super::election::{Election, Timing};
use super::lease::{LeaseError, Leases};
use super::{Leadership, Term};

/// Calls to give the Lease up with; more would delay nobody, but it ends by itself, too.
const RESIGN_TRIES: usize = 5;
const RESIGN_PAUSE: Duration = Duration::from_millis(200);

/// A candidate.
pub(crate) struct Elector<L> {
    lease: L,
    election: Election,
    timing: Timing,
    clock: Clock,
    term: watch::Sender<Term>,
    failing: bool,
}

impl<L: Leases> Elector<L> {
    /// One of this name, which no other one has or had; and what it tells.
    pub(crate) fn new(
        lease: L,
        identity: String,
        timing: Timing,
        clock: Clock,
    ) -> (Self, Leadership) {
        let (term, told) = watch::channel(None);
        let leadership = Leadership::by_clock(told, Clock::clone(&clock));
        let elector = Self {
            lease,
            election: Election::new(identity, timing),
            timing,
            clock,
            term,
            failing: false,
        };
        (elector, leadership)
    }

    /// Runs for ever, as a candidate until `resign` completes.
    pub(crate) async fn run(mut self, resign: impl Future<Output = ()>) {
        tokio::select! {
            () = self.compete() => {}
            () = resign => {}
        }
        self.resign().await;
        pending().await
    }

    async fn compete(&mut self) {
        loop {
            match self.round().await {
                Ok(()) => self.failing = false,
                Err(error) => {
                    self.election.doubt();
                    // Once in an outage.
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(
                            error = &error as &(dyn std::error::Error + 'static),
                            "cannot use the leader election's Lease"
                        );
                    }
                }
            }
            self.tell();
            let now = self.clock.uptime();
            let term = self.election.term(now);
            let pause = self.timing.pause(term.is_some(), fastrand::f64());
            sleep(term.map_or(pause, |until| pause.min(now.until(until)))).await;
            self.tell();
        }
    }

    /// Looks, and writes what is due. A write that is refused makes one more look.
    async fn round(&mut self) -> Result<(), LeaseError> {
        for _ in 0..2 {
            if self.election.must_read() {
                let found = self.call(self.lease.read()).await?;
                self.election.read(found, self.clock.uptime());
            }
            let begun = self.clock.uptime();
            let Some(write) = self.election.next(begun, self.clock.wall()) else {
                return Ok(());
            };
            if let Some(record) = self.call(self.lease.write(&write)).await? {
                self.election.written(record, begun, self.clock.uptime());
                return Ok(());
            }
            self.election.doubt();
        }
        Ok(())
    }

    /// Stops acting, and then lets another one begin.
    async fn resign(&mut self) {
        self.election.doubt();
        let led = self.term.send_replace(None).is_some();
        for _ in 0..RESIGN_TRIES {
            if self.give_up().await.is_ok_and(|done| done) {
                if led {
                    tracing::info!("gave up the leadership");
                }
                return;
            }
            sleep(RESIGN_PAUSE).await;
        }
        if led {
            tracing::warn!("could not give up the leadership");
        }
    }

    /// What was begun when we were told to resign may still be written: what stands there is what counts.
    async fn give_up(&mut self) -> Result<bool, LeaseError> {
        let found = self.call(self.lease.read()).await?;
        self.election.read(found, self.clock.uptime());
        match self.election.resign(self.clock.wall()) {
            Some(write) => Ok(self.call(self.lease.write(&write)).await?.is_some()),
            None => Ok(true),
        }
    }

    fn tell(&self) {
        let term = self.election.term(self.clock.uptime());
        // Who waits for a change isn't told of each renewal.
        let changed = self.term.send_if_modified(|told| {
            let before = std::mem::replace(told, term);
            before.is_some() != term.is_some()
        });
        if changed && term.is_some() {
            let transitions = self.election.transitions();
            tracing::info!(transitions, "became the leader");
        } else if changed {
            tracing::warn!("lost the leadership");
        }
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, LeaseError>>,
    ) -> Result<T, LeaseError> {
        match timeout(self.timing.call_deadline(), call).await {
            Ok(done) => done,
            Err(_) => Err(LeaseError::Deadline),
        }
    }
}
