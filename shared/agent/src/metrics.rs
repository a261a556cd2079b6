//! What the agent counts. The names are documented to users and stand without labels; detail is in metrics
//! of their own. No title, UID or path is ever a label.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::failure::{Failure, Reason};
use crate::publish::Published;
use crate::reload::Way;

/// Buckets of one call to Keeper, in seconds.
const CALL_BUCKETS: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The agent's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    refreshes: IntCounter,
    errors: IntCounter,
    failures: IntCounterVec,
    secrets: IntCounter,
    call_seconds: Histogram,
    last_success: Gauge,
    interval: Gauge,
    stale: IntGauge,
    published: IntCounterVec,
    reloads: IntCounterVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// If the registry already holds one of them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            refreshes: IntCounter::new(
                "keeper_sidecar_refresh_total",
                "Refreshes begun, the first fetch included.",
            )?,
            errors: IntCounter::new(
                "keeper_sidecar_refresh_errors_total",
                "Refreshes that did not bring every secret.",
            )?,
            failures: IntCounterVec::new(
                Opts::new(
                    "keeper_sidecar_refresh_failures_total",
                    "Failed refreshes by reason; one refresh may fail for several.",
                ),
                &["reason"],
            )?,
            secrets: IntCounter::new(
                "keeper_sidecar_secrets_fetched_total",
                "Secrets fetched and rendered.",
            )?,
            call_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "keeper_sidecar_fetch_duration_seconds",
                    "Duration of one call to Keeper.",
                )
                .buckets(CALL_BUCKETS.to_vec()),
            )?,
            last_success: Gauge::new(
                "keeper_sidecar_last_success_timestamp_seconds",
                "Time of the last refresh that brought every secret; 0 before the first.",
            )?,
            interval: Gauge::new(
                "keeper_sidecar_refresh_interval_seconds",
                "Time between two refreshes; 0 if there is nothing to refresh.",
            )?,
            stale: IntGauge::new(
                "keeper_sidecar_stale",
                "1 if the published secrets no longer count as good.",
            )?,
            published: IntCounterVec::new(
                Opts::new(
                    "keeper_sidecar_published_total",
                    "Publications, one for each directory and refresh.",
                ),
                &["result"],
            )?,
            reloads: IntCounterVec::new(
                Opts::new(
                    "keeper_sidecar_reloads_total",
                    "Attempts to tell the application of a change.",
                ),
                &["kind", "result"],
            )?,
        };
        // Children that are there from the start, so that rates see the first failure.
        for reason in Reason::ALL {
            metrics.failures.with_label_values(&[reason.label()]);
        }
        for result in ["changed", "unchanged"] {
            metrics.published.with_label_values(&[result]);
        }
        for kind in Way::LABELS {
            for result in ["ok", "failed"] {
                metrics.reloads.with_label_values(&[kind, result]);
            }
        }
        registry.register(Box::new(metrics.refreshes.clone()))?;
        registry.register(Box::new(metrics.errors.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.secrets.clone()))?;
        registry.register(Box::new(metrics.call_seconds.clone()))?;
        registry.register(Box::new(metrics.last_success.clone()))?;
        registry.register(Box::new(metrics.interval.clone()))?;
        registry.register(Box::new(metrics.stale.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.reloads.clone()))?;
        Ok(metrics)
    }

    /// States the time between two refreshes; none: nothing is refreshed.
    pub(crate) fn set_interval(&self, interval: Option<Duration>) {
        self.interval
            .set(interval.unwrap_or_default().as_secs_f64());
    }

    /// Counts a refresh that begins.
    pub(crate) fn refresh_began(&self) {
        self.refreshes.inc();
    }

    /// Counts one call to Keeper.
    pub(crate) fn called(&self, took: Duration) {
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// Counts secrets that were fetched and rendered.
    pub(crate) fn fetched(&self, secrets: usize) {
        self.secrets
            .inc_by(u64::try_from(secrets).unwrap_or(u64::MAX));
    }

    /// Counts a publication of one directory.
    pub(crate) fn published(&self, published: Published) {
        let result = match published {
            Published::Unchanged => "unchanged",
            Published::Changed(_) => "changed",
        };
        self.published.with_label_values(&[result]).inc();
    }

    /// Counts an attempt to tell the application of a change.
    pub(crate) fn reloaded(&self, way: &Way, ok: bool) {
        let result = if ok { "ok" } else { "failed" };
        self.reloads.with_label_values(&[way.label(), result]).inc();
    }

    /// Notes the time of a refresh that brought everything.
    pub(crate) fn succeeded(&self, at: SystemTime) {
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_success.set(seconds.as_secs_f64());
    }

    /// Counts a failed refresh, once for each reason; nothing without failures.
    pub(crate) fn failed(&self, failures: &[Failure]) {
        let mut reasons: Vec<Reason> = failures.iter().map(Failure::reason).collect();
        reasons.sort_unstable();
        reasons.dedup();
        if !reasons.is_empty() {
            self.errors.inc();
        }
        for reason in reasons {
            self.failures.with_label_values(&[reason.label()]).inc();
        }
    }

    /// States whether what is published still counts as good.
    pub(crate) fn set_stale(&self, stale: bool) {
        self.stale.set(i64::from(stale));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_metric_is_there_from_the_start() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        metrics.set_interval(Some(Duration::from_secs(300)));
        metrics.failed(&[]);
        let throttled = || keeper_ksm::Error::Throttled { retry_after: None }.into();
        metrics.failed(&[throttled(), throttled()]);
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "keeper_sidecar_refresh_total 0",
            "keeper_sidecar_refresh_errors_total 1",
            "keeper_sidecar_secrets_fetched_total 0",
            "keeper_sidecar_fetch_duration_seconds_count 0",
            "keeper_sidecar_refresh_failures_total{reason=\"unreachable\"} 0",
            "keeper_sidecar_refresh_failures_total{reason=\"throttled\"} 1",
            "keeper_sidecar_refresh_failures_total{reason=\"denied\"} 0",
            "keeper_sidecar_refresh_failures_total{reason=\"not_found\"} 0",
            "keeper_sidecar_refresh_failures_total{reason=\"render\"} 0",
            "keeper_sidecar_refresh_failures_total{reason=\"write\"} 0",
            "keeper_sidecar_last_success_timestamp_seconds 0",
            "keeper_sidecar_refresh_interval_seconds 300",
            "keeper_sidecar_stale 0",
            "keeper_sidecar_published_total{result=\"changed\"} 0",
            "keeper_sidecar_published_total{result=\"unchanged\"} 0",
        ] {
            assert!(text.contains(&format!("\n{line}\n")), "{line}\n{text}");
        }
    }
}
