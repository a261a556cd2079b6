//! The scenarios whose results stand in `docs/throttling.md`, as tables.

use std::fmt::Write as _;

use crate::{Fleet, Policy, Shape, Steady};

/// Sizes of the fleets that are watched for a day.
const SIZES: [u32; 4] = [30, 100, 300, 1_500];
/// The same for fleets with new pods all the time.
const CHURN_SIZES: [u32; 5] = [30, 100, 300, 600, 1_500];
/// How many different fleets each row of a table is about.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=3;
/// The pods of the fleet that starts at once.
const CROWD: u32 = 1_000;

/// What all the scenarios gave.
pub struct Report {
    /// A day without changes, by size, then by policy.
    pub(crate) steady: Vec<Row>,
    /// Eight hours with new pods all the time.
    churn: Vec<Churn>,
    /// A crowd that starts at once.
    pub(crate) starts: Vec<Start>,
}

/// Fleets in which a new pod takes the place of another all the time.
struct Churn {
    each: &'static str,
    pods: u32,
    /// One for each of [`CHURN_POLICIES`].
    rows: Vec<Row>,
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
    /// How long a new pod waits for its secrets, if any was served.
    mean_wait_ms: Option<i64>,
}

/// The policies that are compared where pods come and go.
const CHURN_POLICIES: [(Policy, &str); 4] = [
    (Policy::SlotsOfJobs, "slots of Jobs"),
    (Policy::Slots, "slots"),
    (Policy::Jitter, "plain jitter"),
    (Policy::SdkBackOff, "SDK back-off"),
];

impl Row {
    /// The mean of a few fleets; of the longest times, the longest.
    fn of(fleet: Fleet, policy: &'static str) -> Self {
        let steady: Vec<_> = SEEDS.map(|seed| fleet.run(seed).steady).collect();
        let runs = steady.len().max(1);
        let calls: u64 = steady.iter().map(|s| s.calls).sum();
        let throttled: u64 = steady.iter().map(|s| s.throttled).sum();
        let served: u64 = steady.iter().map(|s| s.served).sum();
        let waited: i64 = steady.iter().map(|s| s.waited_ms).sum();
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
            mean_wait_ms: waited.checked_div(i64::try_from(served).unwrap_or(0)),
        }
    }

    fn cells(&self) -> String {
        format!(
            "{} | {} | {}",
            percent(self.throttled),
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
        for (each, churn_ms) in [("1 s", 1_000), ("5 s", 5_000), ("15 s", 15_000)] {
            for pods in CHURN_SIZES {
                let row = |(policy, name)| {
                    let fleet = Fleet {
                        churn_ms: Some(churn_ms),
                        minutes: 8 * 60,
                        ..Fleet::new(pods, policy)
                    };
                    Row::of(fleet, name)
                };
                let rows = CHURN_POLICIES.map(row).into();
                churn.push(Churn { each, pods, rows });
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
        text.push_str("\n| a new pod each | pods |");
        for (_, name) in CHURN_POLICIES {
            let _ = write!(text, " {name} |");
        }
        text.push_str("\n|--:|--:|");
        text.push_str(&"--:|".repeat(CHURN_POLICIES.len()));
        for Churn { each, pods, rows } in &self.churn {
            let _ = write!(text, "\n| {each} | {pods} |");
            for row in rows {
                let wait = row
                    .mean_wait_ms
                    .map_or_else(|| "for ever".to_owned(), tenths);
                let _ = write!(text, " {}, {wait} |", percent(row.throttled));
            }
        }
        text.push('\n');
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

/// Hundred-thousandths in words.
fn percent(of_100_000: u64) -> String {
    format!("{}.{:02} %", of_100_000 / 1_000, of_100_000 % 1_000 / 10)
}

/// A time in words, to a tenth of a second where it is short.
fn tenths(ms: i64) -> String {
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => time(ms),
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
