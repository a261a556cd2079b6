//! Which replica acts on the cluster. All of them answer admissions; what must be done once is done by the leader.
//!
//! The order in which it acts makes a late write of a former leader harmless: read, ask [`Leadership::is_leader`], then
//! write on condition that what was read still stands. However long it was paused in between, a successor
//! that has written meanwhile is not overwritten.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Time since the machine was booted, sleep included. Nobody sets this clock, and it goes on while the process is stopped or
/// the node suspended. (Tokio's clock stands still with a suspended node.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Uptime(pub(crate) Duration);

impl Uptime {
    /// This machine's, now.
    pub(crate) fn now() -> Self {
        Self(Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default())
    }
}

/// Whether this replica is the leader. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Leadership(Option<watch::Receiver<Term>>);

/// Until when this replica may act as the leader, if at all.
pub(crate) type Term = Option<Uptime>;

impl Leadership {
    /// Where there is no election every replica acts, each write on condition that it wasn't faster or slower than another's.
    pub(crate) fn always() -> Self {
        Self(None)
    }

    /// What an election tells.
    #[cfg_attr(
        not(test),
        expect(
            dead_code,
            reason = "the election that tells it comes with the next change"
        )
    )]
    pub(crate) fn elected(term: watch::Receiver<Term>) -> Self {
        Self(Some(term))
    }

    /// Whether this replica may act now. True is true at this instant only: ask between reading and writing.
    pub(crate) fn is_leader(&self) -> bool {
        match &self.0 {
            None => true,
            Some(term) => term.borrow().is_some_and(|until| Uptime::now() < until),
        }
    }

    /// Completes when this replica may have become the leader, or may have ceased to be it.
    pub(crate) async fn changed(&mut self) {
        let told = match &mut self.0 {
            Some(term) => term.changed().await.is_ok(),
            None => false,
        };
        if !told {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_ends_by_itself() {
        assert!(Leadership::always().is_leader());
        let (term, told) = watch::channel(None);
        let leadership = Leadership::elected(told);
        assert!(!leadership.is_leader());
        term.send_replace(Some(Uptime(Uptime::now().0 + Duration::from_secs(3600))));
        assert!(leadership.is_leader());
        term.send_replace(Some(Uptime::now()));
        assert!(!leadership.is_leader(), "nobody had to say so");
    }
}
