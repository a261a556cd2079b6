//! The webhook's metrics. Their names are documented to users and stay as they are.

use std::time::Duration;

use keeper_contract::{Denial, Reason};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, Result,
};

use crate::review::{CheckOutcome, Outcome};

/// Upper bounds in seconds: from 100 µs to the longest that an API server waits.
const BUCKETS: [f64; 14] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
];

/// The HTTP statuses of what is no review: see [`crate::http`].
const UNREADABLE: [&str; 5] = ["400", "408", "413", "415", "503"];

/// What an admission counts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: IntCounter,
    errors: IntCounter,
    latency: Histogram,
    admissions: IntCounterVec,
    denials: IntCounterVec,
    checks: IntCounterVec,
    unreadable: IntCounterVec,
    in_flight: IntGauge,
    /// Of the audit sink.
    pub(crate) audit: AuditMetrics,
    /// End of the served certificate's validity, in seconds since 1970.
    pub(crate) certificate_expiry: IntGauge,
}

impl Metrics {
    /// Registers all of them, the labelled ones with every value at 0: a rate over something that
    /// never happened is 0, not absent.
    ///
    /// # Errors
    /// If the registry holds one of the names already.
    pub(crate) fn new(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            requests: IntCounter::new("keeper_injector_requests_total", "Admissions seen.")?,
            errors: IntCounter::new(
                "keeper_injector_errors_total",
                "Admissions that ended in an error of the injector; a denial is not one.",
            )?,
            latency: Histogram::with_opts(
                HistogramOpts::new(
                    "keeper_injector_latency_seconds",
                    "Time to answer one admission, from the complete request on.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            admissions: IntCounterVec::new(
                Opts::new(
                    "keeper_injector_admissions_total",
                    "Admissions by how they ended.",
                ),
                &["outcome"],
            )?,
            denials: IntCounterVec::new(
                Opts::new(
                    "keeper_injector_denials_total",
                    "Denied admissions by what was wrong; one admission may count for several reasons.",
                ),
                &["reason"],
            )?,
            checks: IntCounterVec::new(
                Opts::new(
                    "keeper_injector_checks_total",
                    "Checks of Deployments and their like by how they ended; no admissions of pods.",
                ),
                &["outcome"],
            )?,
            unreadable: IntCounterVec::new(
                Opts::new(
                    "keeper_injector_unreadable_total",
                    "Requests that held no admission review to answer, by HTTP status; the API server takes each as a failure.",
                ),
                &["status"],
            )?,
            in_flight: IntGauge::new(
                "keeper_injector_in_flight",
                "Requests that are being read or answered.",
            )?,
            audit: AuditMetrics::new(registry)?,
            certificate_expiry: IntGauge::new(
                "keeper_injector_certificate_expiry_timestamp_seconds",
                "End of the serving certificate's validity, in seconds since 1970.",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.admissions.clone()))?;
        registry.register(Box::new(metrics.denials.clone()))?;
        registry.register(Box::new(metrics.checks.clone()))?;
        registry.register(Box::new(metrics.unreadable.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.certificate_expiry.clone()))?;
        for status in UNREADABLE {
            metrics.unreadable.with_label_values(&[status]);
        }
        for outcome in CheckOutcome::ALL {
            metrics.checks.with_label_values(&[outcome.as_str()]);
        }
        for outcome in Outcome::ALL {
            metrics.admissions.with_label_values(&[outcome.as_str()]);
        }
        for reason in Reason::ALL {
            metrics.denials.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }

    /// Counts one answered admission.
    pub(crate) fn answered(&self, outcome: Outcome, taken: Duration) {
        self.requests.inc();
        if outcome == Outcome::Error {
            self.errors.inc();
        }
        self.admissions.with_label_values(&[outcome.as_str()]).inc();
        self.latency.observe(taken.as_secs_f64());
    }

    /// Counts one request that got no answer but this HTTP status.
    pub(crate) fn unreadable(&self, status: u16) {
        self.unreadable
            .with_label_values(&[&status.to_string()])
            .inc();
    }

    /// Counts a request as in flight for as long as the guard lives.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Counts one check of something that makes pods.
    pub(crate) fn checked(&self, outcome: CheckOutcome) {
        self.checks.with_label_values(&[outcome.as_str()]).inc();
    }

    /// Counts each kind of problem in a denial once.
    pub(crate) fn denied(&self, denial: &Denial) {
        for reason in reasons(denial) {
            self.denials.with_label_values(&[reason]).inc();
        }
    }
}

/// One request in flight; also a task that is dropped or panics gives it back.
pub(crate) struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Why an audit entry did not reach the sink: the label of `keeper_injector_audit_dropped_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// Too many were waiting.
    QueueFull,
    /// The sink said that it will never take it.
    Refused,
    /// The process ended before.
    Shutdown,
}

impl Dropped {
    const ALL: [Self; 3] = [Self::QueueFull, Self::Refused, Self::Shutdown];

    fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What the audit sink counts.
#[derive(Debug, Clone)]
pub(crate) struct AuditMetrics {
    delivered: IntCounter,
    dropped: IntCounterVec,
    failures: IntCounter,
    queue_entries: IntGauge,
    queue_bytes: IntGauge,
}

impl AuditMetrics {
    /// Registers all of them, also where there is no sink.
    ///
    /// # Errors
    /// If the registry holds one of the names already.
    pub(crate) fn new(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            delivered: IntCounter::new(
                "keeper_injector_audit_delivered_total",
                "Audit entries that the sink took.",
            )?,
            dropped: IntCounterVec::new(
                Opts::new(
                    "keeper_injector_audit_dropped_total",
                    "Audit entries that the sink will never get; they are in the log.",
                ),
                &["reason"],
            )?,
            failures: IntCounter::new(
                "keeper_injector_audit_failures_total",
                "Requests to the audit sink that failed and are tried again.",
            )?,
            queue_entries: IntGauge::new(
                "keeper_injector_audit_queue_entries",
                "Audit entries that wait for the sink.",
            )?,
            queue_bytes: IntGauge::new(
                "keeper_injector_audit_queue_bytes",
                "Bytes of the audit entries that wait for the sink.",
            )?,
        };
        registry.register(Box::new(metrics.delivered.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.queue_entries.clone()))?;
        registry.register(Box::new(metrics.queue_bytes.clone()))?;
        for reason in Dropped::ALL {
            metrics.dropped.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }

    pub(crate) fn delivered(&self, count: usize) {
        self.delivered.inc_by(count as u64);
    }

    pub(crate) fn dropped(&self, reason: Dropped, count: usize) {
        let counter = self.dropped.with_label_values(&[reason.as_str()]);
        counter.inc_by(count as u64);
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    /// What waits now.
    pub(crate) fn queued(&self, entries: usize, bytes: usize) {
        self.queue_entries
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.queue_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    #[cfg(test)]
    pub(crate) fn dropped_for(&self, reason: Dropped) -> u64 {
        self.dropped.with_label_values(&[reason.as_str()]).get()
    }
}

/// The kinds of problems in a denial, each once.
pub(crate) fn reasons(denial: &Denial) -> Vec<&'static str> {
    let mut reasons: Vec<_> = denial
        .problems
        .iter()
        .map(|problem| problem.reason.as_str())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
}
