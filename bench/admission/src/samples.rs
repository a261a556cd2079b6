//! Latencies as they were measured, and what is said of them.

use std::time::Duration;

use serde::Serialize;

/// What became of the requests of one thread, or of all of them.
#[derive(Debug, Default)]
pub struct Samples {
    /// From the moment at which a request was due until its answer was read.
    pub latencies: Vec<Duration>,
    /// How much too late the load itself sent, where the server left it the time to be punctual.
    pub late: Vec<Duration>,
    /// Requests without a good answer.
    pub failed: u64,
    /// Why the first of them had none.
    pub failure: Option<String>,
}

/// What is printed, times in microseconds.
#[derive(Debug, Serialize, PartialEq)]
pub struct Report {
    /// Requests with a good answer.
    pub answered: usize,
    /// Requests without one.
    pub failed: u64,
    /// Why the first of them had none.
    pub failure: Option<String>,
    /// From the first request's moment to the last answer.
    pub seconds: f64,
    /// Half of the answers took no longer.
    pub p50: f64,
    /// Ninety-nine of a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// How punctual the load itself was, ninety-nine times of a hundred: a p99 near this one says nothing of the server.
    pub late_p99: f64,
}

impl Samples {
    /// Adds those of another thread.
    pub fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.late.extend(other.late);
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
    }

    /// What is said of them after a run of `taken`.
    #[must_use]
    pub fn report(mut self, taken: Duration) -> Report {
        self.latencies.sort_unstable();
        self.late.sort_unstable();
        Report {
            answered: self.latencies.len(),
            failed: self.failed,
            failure: self.failure,
            seconds: taken.as_secs_f64(),
            p50: percentile(&self.latencies, 50.0),
            p99: percentile(&self.latencies, 99.0),
            max: percentile(&self.latencies, 100.0),
            late_p99: percentile(&self.late, 99.0),
        }
    }
}

/// The least of `sorted` that so many per cent don't exceed, in microseconds; 0 of nothing.
fn percentile(sorted: &[Duration], percent: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among as many samples as fit into memory"
    )]
    let rank = (sorted.len() as f64 * percent / 100.0).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .map_or(0.0, |latency| latency.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_that_were_measured() {
        let samples = |count: u64| Samples {
            latencies: (1..=count).rev().map(Duration::from_micros).collect(),
            ..Samples::default()
        };
        let mut all = samples(100);
        all.merge(samples(100));
        let report = all.report(Duration::from_secs(2));
        assert_eq!((report.p50, report.p99, report.max), (50.0, 99.0, 100.0));
        assert_eq!(
            (report.answered, report.failed, report.late_p99),
            (200, 0, 0.0)
        );
        let one = samples(1).report(Duration::ZERO);
        assert_eq!((one.p50, one.p99, one.max), (1.0, 1.0, 1.0));
    }

    #[test]
    fn the_first_failure_is_told() {
        let failed = |why: &str| Samples {
            failed: 1,
            failure: Some(why.to_owned()),
            ..Samples::default()
        };
        let mut all = Samples::default();
        all.merge(failed("first"));
        all.merge(failed("second"));
        let report = all.report(Duration::ZERO);
        assert_eq!(
            (report.failed, report.failure.as_deref()),
            (2, Some("first"))
        );
    }
}
