//! The load: requests that are due at fixed moments, whatever becomes of those before (an open loop).
//!
//! A latency counts from the moment at which its request was due. So a server that stalls for a second is charged
//! with all that would have come in that second, where a client that waits for each answer would have asked less.
//!
//! Threads that sleep, each with a connection, and not one runtime with timers: those of tokio tick in milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::runtime::{Builder, Runtime};

use crate::exchange::{Connection, Target};
use crate::samples::{Report, Samples};

/// More is not needed to measure, and a mistyped number stays bounded.
const MAX_REQUESTS: u64 = 1_000_000;
const MAX_CONNECTIONS: usize = 64;
/// Failures after which a run says nothing any more.
const MAX_FAILURES: u64 = 100;

/// How fast requests come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many a second.
    Rate(f64),
    /// On each connection the next one as soon as the last one is answered.
    Maximum,
}

/// One run.
pub struct Load {
    target: Target,
    pace: Pace,
    requests: u64,
    connections: usize,
    fresh: bool,
}

impl Load {
    /// So many requests over so many connections, each used again unless they are to be `fresh`.
    ///
    /// # Errors
    /// If there are too many, or none.
    pub fn new(
        target: Target,
        pace: Pace,
        requests: u64,
        connections: usize,
        fresh: bool,
    ) -> anyhow::Result<Self> {
        ensure!(
            (1..=MAX_REQUESTS).contains(&requests),
            "from 1 to {MAX_REQUESTS} requests"
        );
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&connections),
            "from 1 to {MAX_CONNECTIONS} connections"
        );
        if let Pace::Rate(rate) = pace {
            ensure!(
                (1.0..=1e6).contains(&rate),
                "from 1 to 1,000,000 requests a second"
            );
        }
        Ok(Self {
            target,
            pace,
            requests,
            connections,
            fresh,
        })
    }

    /// Runs to its end.
    ///
    /// # Errors
    /// If the server can't be reached at all, or most requests fail.
    pub fn run(&self) -> anyhow::Result<Report> {
        let mut clients = Vec::new();
        for _ in 0..self.connections {
            clients.push(self.client()?);
        }
        let (next, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        let start = Instant::now();
        let all = thread::scope(|scope| {
            let threads: Vec<_> = clients
                .into_iter()
                .map(|client| scope.spawn(|| self.work(client, start, &next, &failures)))
                .collect();
            let mut all = Samples::default();
            for thread in threads {
                match thread.join() {
                    Ok(samples) => all.merge(samples),
                    Err(_) => bail!("a thread of the load panicked"),
                }
            }
            Ok(all)
        })?;
        let report = all.report(start.elapsed());
        ensure!(
            report.failed < MAX_FAILURES,
            "{} requests failed: {}",
            report.failed,
            report.failure.unwrap_or_default()
        );
        Ok(report)
    }

    /// A runtime and an open connection, so that no handshake is measured where connections are kept.
    fn client(&self) -> anyhow::Result<(Runtime, Connection)> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut connection = None;
        runtime
            .block_on(self.target.ask(&mut connection, !self.fresh))
            .context("the first request")?;
        Ok((runtime, connection))
    }

    fn work(
        &self,
        (runtime, mut connection): (Runtime, Connection),
        start: Instant,
        next: &AtomicU64,
        failures: &AtomicU64,
    ) -> Samples {
        let mut samples = Samples::default();
        while failures.load(Ordering::Relaxed) < MAX_FAILURES {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.requests {
                break;
            }
            let due = self.due(start, number);
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                thread::sleep(early);
                samples.late.push(due.elapsed());
            }
            match runtime.block_on(self.target.ask(&mut connection, !self.fresh)) {
                Ok(()) => samples.latencies.push(due.elapsed()),
                Err(error) => {
                    failures.fetch_add(1, Ordering::Relaxed);
                    samples.failed += 1;
                    samples.failure.get_or_insert_with(|| format!("{error:#}"));
                }
            }
        }
        samples
    }

    fn due(&self, start: Instant, number: u64) -> Instant {
        match self.pace {
            #[expect(clippy::cast_precision_loss, reason = "at most a million")]
            Pace::Rate(rate) => start + Duration::from_secs_f64(number as f64 / rate),
            Pace::Maximum => Instant::now(),
        }
    }
}
