//! The scenarios whose results stand in `docs/throttling.md`, as tables.

use std::fmt::Write as _;

use crate::{Fleet, Policy, Shape, Steady};

/// Sizes of the fleets that are watched for a day.
const SIZES: [u32; 4] = [30, 100, 300, 1_500];
/// How many different fleets each row of a table is about.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;
/// The pods of the fleet that starts at once.
const CROWD: u32 = 1_000;

/// What all the scenarios gave.
pub struct Report {
    /// A day without changes, by size, then by policy.
    pub(crate) steady: Vec<Row>,
    /// Eight hours with new pods all the time.
    churn: Vec<(&'static str, Row)>,
    /// A crowd that starts at once.
    pub(crate) starts: Vec<Start>,
}

/// How long the pods of a crowd that starts at once wait for their first secrets.
pub(crate) struct Start {
    pub(crate) name: &'static str,
    /// The waits of the pods of all runs, in milliseconds, the shortest first.
    pub(crate) waits_ms: Vec<i64>,
    /// How many pods there were, with those that were never served.
    pub(crate) pods: usize,
}

impl Start {
    fn of(name: &'static str, policy: Policy, shape: Shape) -> Self {
        let (mut waits_ms, mut pods) = (Vec::new(), 0);
        for seed in SEEDS {
            let fleet = Fleet {
                shape,
                minutes: 60,
                ..Fleet::new(CROWD, policy)
            };
            waits_ms.extend(fleet.run(seed).first_success_ms);
            pods += usize::try_from(CROWD).unwrap_or(0);
        }
        waits_ms.sort_unstable();
        Self {
            name,
            waits_ms,
            pods,
        }
    }

    /// The wait of the pod that comes after this percentage of all; none if it waits for ever.
    fn percentile(&self, percent: usize) -> Option<i64> {
        let index = (self.pods * percent / 100).min(self.pods.saturating_sub(1));
        self.waits_ms.get(index).copied()
    }
}

/// The policies that are compared.
const POLICIES: [(Policy, &str); 3] = [
    (Policy::Slots, "slots"),
    (Policy::Jitter, "plain jitter"),
    (Policy::SdkBackOff, "SDK back-off"),
];

/// Fleets of one size and policy after their first hour.
pub(crate) struct Row {
    pub(crate) pods: u32,
    pub(crate) policy: &'static str,
    /// Throttled calls in a hundred thousand.
    pub(crate) throttled: u64,
    longest_without_ms: i64,
    mean_age_ms: i64,
}

impl Row {
    /// The mean of a few fleets; of the longest times, the longest.
    fn of(fleet: Fleet, policy: &'static str) -> Self {
        let steady: Vec<_> = SEEDS.map(|seed| fleet.run(seed).steady).collect();
        let runs = steady.len().max(1);
        let calls: u64 = steady.iter().map(|s| s.calls).sum();
        let throttled: u64 = steady.iter().map(|s| s.throttled).sum();
        let ages: i64 = steady.iter().map(Steady::mean_age_ms).sum();
        Self {
            pods: fleet.pods,
            policy,
            throttled: (throttled * 100_000).checked_div(calls).unwrap_or(0),
            longest_without_ms: steady
                .iter()
                .map(|s| s.longest_without_ms)
                .max()
                .unwrap_or(0),
            mean_age_ms: ages / i64::try_from(runs).unwrap_or(1),
        }
    }

    fn cells(&self) -> String {
        format!(
            "{}.{:02} % | {} | {}",
            self.throttled / 1_000,
            self.throttled % 1_000 / 10,
            time(self.longest_without_ms),
            time(self.mean_age_ms)
        )
    }
}

impl Report {
    /// Runs all scenarios: half a minute of work.
    #[must_use]
    pub fn make() -> Self {
        let mut steady = Vec::new();
        for pods in SIZES {
            for (policy, name) in POLICIES {
                steady.push(Row::of(Fleet::new(pods, policy), name));
            }
        }
        let mut churn = Vec::new();
        let quiet = (Policy::QuietFrames, "slots, quiet frames");
        for (each, churn_ms) in [("5 s", 5_000), ("15 s", 15_000)] {
            for pods in [30, 300, 1_500] {
                for (policy, name) in POLICIES.into_iter().chain([quiet]) {
                    let fleet = Fleet {
                        churn_ms: Some(churn_ms),
                        minutes: 8 * 60,
                        ..Fleet::new(pods, policy)
                    };
                    churn.push((each, Row::of(fleet, name)));
                }
            }
        }
        let starts = vec![
            Start::of("slots, classic shape", Policy::Slots, Shape::Classic),
            Start::of("slots, native shape", Policy::Slots, Shape::Native),
            Start::of("plain jitter", Policy::Jitter, Shape::Classic),
            Start::of("SDK back-off", Policy::SdkBackOff, Shape::Classic),
        ];
        Self {
            steady,
            churn,
            starts,
        }
    }

    /// The tables of `docs/throttling.md`.
    #[must_use]
    pub fn tables(&self) -> String {
        let columns = "throttled calls | longest without a success | mean age";
        let mut text = format!("| pods | calls by | {columns} |\n|--:|---|--:|--:|--:|\n");
        for row in &self.steady {
            let _ = writeln!(text, "| {} | {} | {} |", row.pods, row.policy, row.cells());
        }
        let _ = writeln!(text, "\n| a new pod each | pods | calls by | {columns} |");
        text.push_str("|---|--:|---|--:|--:|--:|\n");
        for (each, row) in &self.churn {
            let cells = row.cells();
            let _ = writeln!(text, "| {each} | {} | {} | {cells} |", row.pods, row.policy);
        }
        text.push_str(
            "\n| calls by | half have their secrets after | 99 % | all |\n|---|--:|--:|--:|\n",
        );
        for start in &self.starts {
            let [half, most, all] = [50, 99, 100].map(|percent| {
                let wait = start.percentile(percent);
                wait.map_or_else(|| "not within an hour".to_owned(), time)
            });
            let _ = writeln!(text, "| {} | {half} | {most} | {all} |", start.name);
        }
        text
    }
}

/// A time in words that suit its length.
fn time(ms: i64) -> String {
    let seconds = (ms + 500) / 1_000;
    match seconds {
        0..600 => format!("{seconds} s"),
        600..7_200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h", (seconds + 1_800) / 3_600),
    }
}
