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

/// What an admission counts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    requests: IntCounter,
    errors: IntCounter,
    latency: Histogram,
    admissions: IntCounterVec,
    denials: IntCounterVec,
    checks: IntCounterVec,
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
        registry.register(Box::new(metrics.certificate_expiry.clone()))?;
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
